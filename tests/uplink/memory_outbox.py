"""An outbox in memory, for tests of the sending policy: everything recorded is durable at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from gateway.model import STREAMS, Entry, Event, Fact, Instant, Stream
from gateway.outbox.memory import Memory
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
    """Entries per stream with the set of what is not acknowledged; `refused` is what was set aside.

    `uncertain` counts the last of a stream that are there but not recorded: so may an opening find them.
    """

    id: str = "0badcafe"
    epoch: int = 1
    memory: Memory = field(default_factory=Memory)
    refused: list[tuple[Entry, str]] = field(default_factory=list)
    saves: int = 0
    reads: int = 0
    uncertain: dict[Stream, int] = field(default_factory=lambda: defaultdict(int))
    stopped_short: bool = False
    held: set[Stream] = field(default_factory=set)
    unread: dict[Stream, set[int]] = field(default_factory=lambda: defaultdict(set))
    _recovered: list[tuple[Stream, int, int]] = field(default_factory=list)
    _entries: dict[Stream, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _pending: dict[Stream, set[int]] = field(default_factory=lambda: defaultdict(set))
    _through: dict[Stream, int] = field(default_factory=lambda: defaultdict(int))

    def append(self, stream: Stream, payload: bytes) -> int:
        sequence = len(self._entries[stream]) + 1
        self._entries[stream].append(Entry(stream, sequence, self.epoch, payload))
        self._pending[stream].add(sequence)
        return sequence

    def passed(self, now: Instant, subject: str = "entrance", stream: Stream = "door", note: str | None = None) -> int:
        """Record one passage."""
        return self.append(stream, record(Event(subject, now, Passed("in", note)), "969b0c7f"))

    def pending(self, stream: Stream) -> set[int]:
        return self._pending[stream]

    def positions(self, stream: Stream) -> MemoryPositions:
        pending = self._pending[stream]
        recorded = len(self._entries[stream]) - self.uncertain[stream]
        while self._through[stream] < recorded and self._through[stream] + 1 not in pending:
            self._through[stream] += 1
        return MemoryPositions(recorded, self._through[stream], len(pending))

    def next_sequence(self, stream: Stream) -> int:
        return len(self._entries[stream]) + 1

    def read(self, stream: Stream, after: int, limit: int, bytes_max: int, through: int | None = None) -> list[Entry]:
        self.reads += 1
        self.stopped_short = stream in self.held
        if self.stopped_short:
            return []
        found: list[Entry] = []
        size = 0
        entries, pending = self._entries[stream], self._pending[stream]
        start = max(after, self._through[stream])
        recorded = len(entries) - self.uncertain[stream]
        for index in range(start, recorded if through is None else min(through, recorded)):
            entry = entries[index]
            if entry.sequence not in pending or entry.sequence in self.unread[stream]:
                continue
            if len(found) == limit or (found and size + len(entry.payload) > bytes_max):
                break
            found.append(entry)
            size += len(entry.payload)
        return found

    def take_recovered(self) -> list[tuple[Stream, int, int]]:
        recovered, self._recovered = self._recovered, []
        return recovered

    def mend(self) -> None:
        """Let everything be read again."""
        self.held.clear()
        self._recovered += [(stream, n, n) for stream, numbers in self.unread.items() for n in sorted(numbers)]
        self.unread.clear()

    def acknowledge(self, stream: Stream, first: int, last: int) -> None:
        for sequence in range(first, last + 1):
            assert self._entries[stream][sequence - 1]
            self._pending[stream].discard(sequence)

    def refuse(self, entry: Entry, why: str) -> None:
        self.refused.append((entry, why))
        self.acknowledge(entry.stream, entry.sequence, entry.sequence)

    def kept(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]:
        first, last = max(1, first), min(last, len(self._entries[stream]))
        return [(first, last)] if first <= last else []

    def read_kept(self, stream: Stream, first: int, last: int, limit: int, bytes_max: int) -> list[Entry]:
        return self._entries[stream][first - 1 : last][:limit]

    trouble: str | None = None
    not_kept: str | None = None
    unreadable: str | None = None

    def save_soon(self) -> None:
        self.saves += 1

    @property
    def backlog(self) -> int:
        return sum(len(self._pending[stream]) for stream in STREAMS)
