"""When the state is saved, what is in it, and which slot it goes to.

Law: what the memory keeps of a stream's events goes to the disk together with the number (`mark`) of the last one that
it knows of, and only once that is durable: so after a power cut memory + `recorded_since_memory` is exactly what was
recorded, never more. A commit carries what was known at it, so that no save waits for another stream's events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.model import NS_PER_S, Loss, Stream
from gateway.outbox.intervals import Run
from gateway.outbox.memory import Memory
from gateway.outbox.sealing import PLAIN, Sealing, memory_place
from gateway.outbox.state import SavedState, StreamState, encode_state
from gateway.outbox.stream import Segment, StreamLog

UNSYNCED_EVERY_NS = NS_PER_S  # acknowledgements that a kill may forget
UNSYNCED_ACKS_MAX = 256
SYNCED_EVERY_NS = 10 * NS_PER_S  # acknowledgements that a power cut may forget


@dataclass(frozen=True, slots=True)
class Remembered:
    """The engine's memory as JSON text, and the last sequence of each stream that it knows of."""

    text: str = "{}"
    marks: Mapping[Stream, int] = field(default_factory=dict)


@dataclass(slots=True)
class Saver:
    """The state of `logs` over time. `wanted` asks for a synced save as soon as may be."""

    logs: Mapping[Stream, StreamLog]
    synced_slot: int
    generation: int
    remembered: Remembered
    synced: Remembered  # what the last synced state carries
    wanted: bool = False
    dirty: bool = False
    acks: int = 0
    unsynced_ns: int = 0
    synced_ns: int = 0
    saving: bool = False
    going: list[tuple[StreamLog, Segment]] = field(default_factory=list)
    sealing: Sealing = PLAIN
    keys: frozenset[str] = frozenset()

    def due(self, now_ns: int) -> bool | None:
        """Return True for a synced save, False for an un-synced one, None for none yet."""
        if self.saving:
            return None
        if self.wanted or (self.dirty and now_ns - self.synced_ns >= SYNCED_EVERY_NS):
            return True
        if self.acks and (self.acks >= UNSYNCED_ACKS_MAX or now_ns - self.unsynced_ns >= UNSYNCED_EVERY_NS):
            return False
        return None

    def due_ns(self) -> int | None:
        """Return when a save is due by the clock alone."""
        if self.saving:
            return None
        if self.wanted:
            return 0
        times = [self.synced_ns + SYNCED_EVERY_NS] if self.dirty else []
        return min([*times, self.unsynced_ns + UNSYNCED_EVERY_NS]) if self.acks else min(times, default=None)

    def snapshot(self, memory: Memory) -> None:
        """Take the memory for the next saves: of each stream what is known of its durable events, of the rest all."""
        for log in self.logs.values():
            if not log.pending and not log.inflight:
                log.remembered = (log.durable, memory.streams.get(log.name))
        known = {name: log.remembered[1] for name, log in self.logs.items() if log.remembered[1] is not None}
        marks: dict[Stream, int] = {name: log.remembered[0] for name, log in self.logs.items()}
        self.remembered = Remembered(memory.text(known), marks)

    def compose(
        self,
        outbox: str,
        epoch: int,
        counters: Mapping[str, int],
        told: tuple[tuple[int, Loss], ...],
        clean: bool = False,
        certain: Mapping[Stream, int] | None = None,
        owed: Mapping[Stream, tuple[Run, ...]] = MappingProxyType({}),
    ) -> tuple[int, bytes]:
        """Return the slot and the text of the next save.

        `certain` is where less than `durable` may be said, `owed` which numbers nothing on the disk names.
        """
        self.generation += 1
        streams: dict[Stream, StreamState] = {}
        for name, log in self.logs.items():
            mark = self.remembered.marks.get(name, 0)
            acked, gone = tuple(log.settled.runs), tuple(log.gone.runs)
            damaged = tuple(segment.base for segment in log.segments if segment.damaged)
            durable = log.durable if certain is None else certain.get(name, log.durable)
            through = log.settled.through
            streams[name] = StreamState(durable + 1, through, acked, gone, mark, damaged, owed.get(name, ()))
        memory = json.loads(self.sealing.seal(self.remembered.text.encode(), memory_place(outbox)))
        keys = tuple(sorted(self.keys | self.sealing.used))
        text = encode_state(SavedState(self.generation, outbox, epoch, clean, streams, memory, counters, told, keys))
        return 1 - self.synced_slot, text

    def saved(self, slot: int, synced: bool) -> None:
        """Take note that a save went well."""
        self.saving = False
        if synced:
            self.synced_slot = slot
            self.synced = self.remembered
            for name, log in self.logs.items():
                log.mark = self.synced.marks.get(name, 0)
