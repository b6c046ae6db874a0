"""Random histories of an outbox on the model disk, judged against a ledger.

The ledger knows every event that was appended, which of them were told to be durable, delivered, acknowledged, and
every loss that was named. Invariants (storage notes 4.2): D1 durable is kept, D2 exact, D3 always opens, D4
ascending, D5 and D10 every number delivered or named (after a
stop whatever the disk did not take, too), D6 an id names one event and nothing un-synced is handed out,
D7 a synced acknowledgement is final, D8 bounded; and the engine's memory + what was recorded since is exactly what
was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from gateway.machine.disk import Disk
from gateway.model import STREAMS, Entry, Instant, Loss, Stream
from gateway.outbox.outbox import Outbox
from gateway.outbox.sealing import PLAIN, Sealing
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import STATE_NAME, read_slots
from gateway.outbox.writing import InlineWriter
from tests.simulation.disk import ModelDisk, PowerCut

DIRECTORY = "/outbox"
WALL_NS = 1_763_800_000_000_000_000


class Violation(AssertionError):
    """A guarantee was broken."""


def describe_loss(outbox: str, loss: Loss, now: Instant) -> bytes:
    """Write a loss as the gateway does."""
    where = {"outbox": outbox, "stream": loss.stream, "reason": loss.reason}
    numbers = {"first_sequence": loss.first, "last_sequence": loss.last, "count": loss.count}
    said = {"type": "store.gateway.events_dropped", "data": {**where, **numbers}}
    return json.dumps(said, separators=(",", ":")).encode()


def demand(holds: bool, what: str) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(what)


@dataclass(frozen=True, slots=True)
class Troubles:
    """What the disk does besides losing power."""

    sync_error_chance: float = 0.0
    write_error_chance: float = 0.0
    capacity_bytes: int | None = None
    bytes_max: int = 256 << 10
    payload_bytes: int = 700
    calls_max: int = 120  # until the power cut
    hurried: bool = False  # time flies and acknowledgements come: many saves of the state


@dataclass(slots=True)
class Ledger:
    """What is known to everybody outside the outbox."""

    outbox: str = ""
    given: dict[tuple[Stream, int], set[bytes]] = field(default_factory=dict)
    durable: dict[tuple[Stream, int], bytes] = field(default_factory=dict)
    ids: dict[tuple[str, int, Stream, int], bytes] = field(default_factory=dict)
    delivered: set[tuple[Stream, int]] = field(default_factory=set)
    acked: set[tuple[Stream, int]] = field(default_factory=set)
    final: set[tuple[Stream, int]] = field(default_factory=set)
    named: dict[tuple[Stream, int], tuple[str, int]] = field(default_factory=dict)
    heard: set[tuple[int, bytes]] = field(default_factory=set)
    promised: dict[Stream, int] = field(default_factory=dict)

    def deliver(self, outbox: Outbox, entries: list[Entry], after: int, described: set[bytes]) -> None:
        """Judge what was read behind `after`."""
        through = outbox.positions(entries[0].stream).recorded_through if entries else 0
        for entry in entries:
            key = (entry.stream, entry.sequence)
            place = (outbox.id, entry.epoch, *key)
            is_said = entry.payload in self.given.get(key, ()) or (
                entry.stream == "gateway" and entry.payload in described
            )
            if not after < entry.sequence:
                raise Violation(f"D4: {key} does not ascend")
            if entry.sequence > through:
                raise Violation(f"D6: {key} is not durable")
            if not is_said:
                raise Violation(f"D2: {key} was never appended so")
            if self.durable.get(key, entry.payload) != entry.payload:
                raise Violation(f"D1: {key} is another event")
            if self.ids.setdefault(place, entry.payload) != entry.payload:
                raise Violation(f"D6: {key} of epoch {entry.epoch} named two events")
            if key in self.final:
                raise Violation(f"D7: {key} came again after a synced acknowledgement")
            after = entry.sequence
            self.delivered.add(key)
            if (
                entry.stream == "gateway"
                and (entry.sequence, entry.payload) not in self.heard
                and b"events_dropped" in entry.payload
            ):
                self.heard.add((entry.sequence, entry.payload))
                self.hear(json.loads(entry.payload)["data"], entry.sequence)

    def hear(self, said: dict[str, Any], sequence: int) -> None:
        """Take note of a named loss."""
        for number in range(said["first_sequence"], said["last_sequence"] + 1):
            lost = (said["stream"], number)
            before = self.named.get(lost)
            twice = before is not None and before[0] == said["reason"] == "corrupt" and before[1] != sequence
            demand(not twice, f"D5: {lost} was named twice")
            self.named[lost] = (said["reason"], sequence)


class History:
    """One random life of an outbox: runs, power cuts and re-openings, from a seed."""

    def __init__(
        self, seed: int, troubles: Troubles, wrap: Callable[[ModelDisk], Disk] = lambda disk: disk, runs: int = 4
    ) -> None:
        self.random = Random(seed)
        self.troubles, self.runs = troubles, runs
        self.model = ModelDisk(self.random, troubles.capacity_bytes)
        self.disk = wrap(self.model)
        self.ledger = Ledger()
        self.sealing = Sealing(bytes(32), chance=Random(seed).randbytes) if seed % 4 == 3 else PLAIN
        self.now = Instant(0, WALL_NS)
        self.settings = OutboxSettings(bytes_max=troubles.bytes_max, keep_acknowledged=self.random.choice((0.0, 5.0)))
        self.after: dict[Stream, int] = {}
        self.volatile: dict[tuple[Stream, int], bytes] = {}
        self.described: set[bytes] = set()
        self.epoch = 0
        self.count = 0

    def run(self) -> None:
        """Live, and in the end prove completeness on a disk without trouble."""
        for _ in range(self.runs):
            self.model.sync_error_chance = self.troubles.sync_error_chance
            self.model.write_error_chance = self.troubles.write_error_chance
            span = 12 if self.random.random() < 0.3 else self.troubles.calls_max
            self.model.cut_at = self.model.calls + 1 + self.random.randrange(span)
            try:
                outbox = self.open()
                while True:
                    self.act(outbox)
            except PowerCut:
                if self.random.random() < 0.25:
                    self.model.kill()  # what was not synced is still there to be read, until the power goes too
                    self.model.cut_at = None
                else:
                    self.model.power_cut()
        self.model.sync_error_chance = self.model.write_error_chance = 0.0
        self.model.capacity_bytes = None
        self.prove()

    def open(self) -> Outbox:
        writer = InlineWriter(self.disk)
        outbox = Outbox.open(DIRECTORY, self.settings, self.disk, writer, self.now, self.describe, sealing=self.sealing)
        demand(outbox.epoch > self.epoch, f"D6: epoch {outbox.epoch} after {self.epoch}")
        if outbox.status().trouble is None:  # what a failed write in the opening raised it to is in no file yet
            state = read_slots(self.model, f"{DIRECTORY}/{STATE_NAME}").state
            self.epoch = state.epoch if state is not None else 0
        if self.ledger.outbox != outbox.id:
            demand(not self.ledger.durable, f"D3: the outbox was given up: {outbox.created}")
            self.ledger = Ledger(outbox.id)
            self.epoch = 0
        self.after = dict.fromkeys(STREAMS, 0)
        self.volatile = {}
        self.ledger.acked = set(self.ledger.final)
        self.check_memory(outbox)
        self.note_durable(outbox)
        self.note_promised(outbox)
        return outbox

    def describe(self, outbox: str, loss: Loss, now: Instant) -> bytes:
        payload = describe_loss(outbox, loss, now)
        self.described.add(payload)
        return payload

    def check_memory(self, outbox: Outbox) -> None:
        since: dict[str, list[int]] = {name: [] for name in STREAMS}
        for entry in outbox.recorded_since_memory():
            since[entry.stream].append(entry.sequence)
        for name in STREAMS:
            known = outbox.memory.streams.get(name, 0)
            recorded = max([outbox.positions(name).recorded_through, *since[name]])
            demand(known <= recorded, f"memory knows of {name} {known}, recorded are {recorded}")
            there = [n for n in range(known + 1, recorded + 1) if (name, n) in self.ledger.durable]
            events = (n for n in there if b"events_dropped" not in self.ledger.durable[name, n])
            shed = [n for n in events if n not in since[name]]
            if self.troubles.capacity_bytes is None and self.troubles.bytes_max >= 1 << 20:
                demand(not shed, f"memory {known} of {name} misses {shed}")
            outbox.memory.streams[name] = recorded

    def act(self, outbox: Outbox) -> None:
        dice = self.random.random()
        if self.troubles.hurried and self.random.random() < 0.5:
            dice = self.random.choice((0.55, 0.8, 0.8, 0.96))
        stream: Stream = self.random.choice(STREAMS)
        if dice < 0.5:
            for _ in range(self.random.choice((1, 1, 2, 5))):
                self.append(outbox, stream)
        elif dice < 0.62:
            steps_ms = (1100,) if self.troubles.hurried else (10, 60, 300, 1100, 12_000)
            self.now = self.now.later(self.random.choice(steps_ms) * 1_000_000)
            outbox.step(self.now)
        elif dice < 0.74:
            outbox.commit(self.now)
        elif dice < 0.94:
            self.take(outbox, stream)
        elif dice < 0.98:
            acked = set(self.ledger.acked)
            outbox.save_soon()
            generation = outbox._saver.generation
            outbox.step(self.now)
            saver = outbox._saver
            if (
                saver.generation > generation
                and not saver.wanted
                and outbox._committer.trouble is None
                and not saver.dirty
            ):
                self.ledger.final |= acked
        elif self.random.random() < 0.2:
            outbox.close(self.now)
            if outbox.remembers:  # a record of a loss that waited has no number yet
                self.ledger.promised = {name: outbox.next_sequence(name) - 1 for name in STREAMS if name != "gateway"}
            self.model.kill()
            self.now = self.now.later(1_000_000_000)
            self.note_durable(outbox)
            raise PowerCut
        self.note_durable(outbox)
        self.check_state(outbox)
        demand(
            self.model.used_bytes() <= self.settings.bytes_max,
            f"D8: {self.model.used_bytes()} bytes of {self.settings.bytes_max}",
        )

    def note_promised(self, outbox: Outbox) -> None:
        """Take the newest of what the opening says is recorded at its word: after a kill it may be in memory only."""
        for name in STREAMS:
            through = outbox.positions(name).recorded_through
            for entry in outbox.read_kept(name, max(1, through - 9), through, 10, 1 << 20):
                self.ledger.durable.setdefault((name, entry.sequence), entry.payload)

    def check_state(self, outbox: Outbox) -> None:
        if self.random.random() < 0.95:
            return
        state = read_slots(self.model, f"{DIRECTORY}/{STATE_NAME}").state
        for name, place in state.streams.items() if state is not None else ():
            recorded = outbox.positions(name).recorded_through
            demand(place.next <= recorded + 1, f"D10: the state skips {name} {recorded + 1} to {place.next - 1}")

    def append(self, outbox: Outbox, stream: Stream) -> None:
        self.count += 1
        size = self.random.choice((0, 40, 300, 700 if stream == "gateway" else self.troubles.payload_bytes))
        payload = b'{"type":"t","n":%d,"x":"%b"}' % (self.count, b"x" * self.random.randrange(size + 1))
        number = outbox._logs[stream].next
        self.ledger.given.setdefault((stream, number), set()).add(payload)
        given = outbox.append(stream, payload, self.now)
        demand(given in (None, number), "a number was skipped")
        outbox.memory.streams[stream] = number
        self.volatile[stream, number] = payload

    def note_durable(self, outbox: Outbox) -> None:
        if not self.volatile:
            return
        recorded = {name: outbox.positions(name).recorded_through for name in STREAMS}
        waiting: dict[Stream, set[int]] = {}
        for name, number in [key for key in self.volatile if key[1] <= recorded[key[0]]]:
            payload = self.volatile.pop((name, number))
            log = outbox._logs[name]
            if log.next_open(number) == number:
                if name not in waiting:
                    waiting[name] = {sequence for sequence, _ in (*log.inflight, *log.pending)}
                demand(number not in waiting[name], f"D6: {name} {number} waits and is durable")
                self.ledger.durable[name, number] = payload

    def take(self, outbox: Outbox, stream: Stream) -> None:
        after = self.after[stream] if self.random.random() < 0.7 else self.random.randrange(self.after[stream] + 1)
        entries = outbox.read(stream, after, self.random.randrange(1, 6), self.random.choice((100, 10_000)))
        self.ledger.deliver(outbox, entries, after, self.described)
        if entries:
            self.after[stream] = max(self.after[stream], entries[-1].sequence)
            self.random.shuffle(entries)
            for entry in entries[: self.random.randrange(len(entries) + 1)]:
                outbox.acknowledge(stream, entry.sequence, entry.sequence)
                self.ledger.acked.add((stream, entry.sequence))

    def prove(self) -> None:
        """Open once more, drain everything, and account for every number."""
        outbox = self.open()
        for _ in range(5):  # reading finds holes, whose names then have to be read as well
            for name in STREAMS:
                after = 0
                while entries := outbox.read(name, after, 100, 1 << 20):
                    self.ledger.deliver(outbox, entries, after, self.described)
                    after = entries[-1].sequence
            self.now = self.now.later(2_000_000_000)
            outbox.commit(self.now)
        for name in STREAMS:
            through = max(outbox.positions(name).recorded_through, self.ledger.promised.get(name, 0))
            for number in range(1, through + 1):
                key = (name, number)
                demand(
                    key in self.ledger.delivered or key in self.ledger.named,
                    f"D10: {key} is neither delivered nor named",
                )
        for key, (reason, _) in self.ledger.named.items():
            if reason == "corrupt":
                demand(key not in self.ledger.durable, f"D1: durable {key} was lost")
        for key in self.ledger.durable:
            demand(key in self.ledger.delivered or key in self.ledger.named, f"D1: {key} was durable")


POLITE = Troubles(bytes_max=1 << 20, payload_bytes=3000)
BOUNDED = Troubles(payload_bytes=9000, calls_max=300)
FAILING = Troubles(sync_error_chance=0.1, write_error_chance=0.02, bytes_max=1 << 20)
FULL = Troubles(capacity_bytes=80 << 10, payload_bytes=3000)
HURRIED = Troubles(bytes_max=1 << 20, calls_max=80, hurried=True)
ALL = (POLITE, BOUNDED, FAILING, FULL, HURRIED)


def run_history(
    seed: int, troubles: Troubles | None = None, wrap: Callable[[ModelDisk], Disk] = lambda disk: disk
) -> None:
    """Run the history of a seed; Violation (or any error of the outbox) tells that it broke a guarantee."""
    history = History(seed, ALL[seed % len(ALL)] if troubles is None else troubles, wrap)
    history.run()
