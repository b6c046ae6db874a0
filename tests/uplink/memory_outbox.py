"""An outbox in memory, for tests of the sending policy: everything recorded is durable at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gateway.model import STREAMS, Entry, Event, Fact, Instant, Stream
from gateway.wire import record


@dataclass(frozen=True, slots=True)
class MemoryPositions:
    recorded_through: int
    acknowledged_through: int
    backlog: int


@dataclass(frozen=True, slots=True)
class Passed(Fact):
    """A small fact for tests."""

    type = "store.door.passed"
    stream = "door"
    direction: str
    note: str | None = None


@dataclass
class MemoryOutbox:
    """Entries per stream with the set of what is not acknowledged; `refused` is what was set aside."""

    id: str = "0badcafe"
    epoch: int = 1
    memory: dict[str, Any] = field(default_factory=dict)
    refused: list[tuple[Entry, str]] = field(default_factory=list)
    saves: int = 0
    _entries: dict[Stream, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _pending: dict[Stream, dict[int, None]] = field(default_factory=lambda: defaultdict(dict))

    def append(self, stream: Stream, payload: bytes) -> int:
        sequence = len(self._entries[stream]) + 1
        self._entries[stream].append(Entry(stream, sequence, self.epoch, payload))
        self._pending[stream][sequence] = None
        return sequence

    def passed(self, now: Instant, subject: str = "entrance", stream: Stream = "door", note: str | None = None) -> int:
        """Record one passage."""
        return self.append(stream, record(Event(subject, now, Passed("in", note)), "969b0c7f"))

    def positions(self, stream: Stream) -> MemoryPositions:
        pending = self._pending[stream]
        recorded = len(self._entries[stream])
        return MemoryPositions(recorded, next(iter(pending)) - 1 if pending else recorded, len(pending))

    def read(self, stream: Stream, after: int, limit: int, bytes_max: int, through: int | None = None) -> list[Entry]:
        found: list[Entry] = []
        size = 0
        for entry in self._entries[stream][after : through if through is not None else None]:
            if entry.sequence not in self._pending[stream]:
                continue
            if len(found) == limit or (found and size + len(entry.payload) > bytes_max):
                break
            found.append(entry)
            size += len(entry.payload)
        return found

    def acknowledge(self, stream: Stream, first: int, last: int) -> None:
        for sequence in range(first, last + 1):
            assert self._entries[stream][sequence - 1]
            self._pending[stream].pop(sequence, None)

    def refuse(self, entry: Entry, why: str) -> None:
        self.refused.append((entry, why))
        self.acknowledge(entry.stream, entry.sequence, entry.sequence)

    def kept(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]:
        first, last = max(1, first), min(last, len(self._entries[stream]))
        return [(first, last)] if first <= last else []

    def read_kept(self, stream: Stream, first: int, last: int, limit: int, bytes_max: int) -> list[Entry]:
        return self._entries[stream][first - 1 : last][:limit]

    def save_soon(self) -> None:
        self.saves += 1

    @property
    def backlog(self) -> int:
        return sum(len(self._pending[stream]) for stream in STREAMS)
