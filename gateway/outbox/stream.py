"""One stream's place in the outbox: its files, its numbers, and what waits for the disk. Bookkeeping only, no disk.

Law: `durable` rises only when a sync has returned; nothing above it is handed out. A number given to an event stays its
own for as long as the process lives: a failed write takes the entries back, and they are written first, to a new file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.model import Stream
from gateway.outbox.intervals import Intervals, Run
from gateway.outbox.record import LINE_OVERHEAD_BYTES
from gateway.outbox.sealing import PLAIN, Sealing, place_of

PLACES_MAX = 4  # two lanes, a resend, and what they were interrupted by; each holds some 64 KiB
FRESH_BYTES_MAX = 64 * 1024  # of payload
RUNS_MAX = 4096  # intervals in memory: messages in flight, outages and refusals stay far below it
BLOCK_BYTES = 4096

Item = tuple[int, bytes]
"""Sequence and payload."""


@dataclass(slots=True)
class Segment:
    """A file of the stream. `damaged` files are set aside instead of removed."""

    base: int
    epoch: int
    path: str
    size_bytes: int
    damaged: bool = False
    settled_ns: int | None = None  # when everything in it was first seen to be acknowledged
    leaving: bool = False  # on its way out, as soon as a synced state says that nobody needs it
    forced: bool = False  # room is needed: not even the engine's memory is waited for
    created_ms: int | None = None  # wall clock of the header, 0 where unknown or not to be trusted, None: not read yet


@dataclass(slots=True)
class Active:
    """The file that is written: everything before `offset` is synced, and before `zeroed` written once."""

    segment: Segment
    fd: int
    offset: int
    zeroed: int
    size_bytes: int
    seed: int
    empty: bool


@dataclass(slots=True)
class Place:
    """Where a reader stopped: `sequence` is the number of the line that begins at `buffer[at]`.

    `buffer` is what was read of the file from `offset` on, while everything up to `known` was durable: what lies behind
    that may have been half written then and is read again.
    """

    base: int
    epoch: int
    sequence: int
    offset: int = 0
    buffer: bytes = b""
    at: int = 0
    known: int = 0

    def move_to(self, sequence: int, offset: int) -> None:
        """Stand before line `sequence` at `offset` of the file, with nothing read."""
        self.sequence, self.offset, self.buffer, self.at, self.known = sequence, offset, b"", 0, 0


@dataclass(slots=True)
class StreamLog:
    """A stream: see the module."""

    name: Stream
    directory: str
    interval_ns: int
    segments: list[Segment] = field(default_factory=list)
    settled: Intervals = field(default_factory=Intervals)  # acknowledged, or lost and its loss durable
    named: Intervals = field(default_factory=Intervals)  # beyond reading, and the loss on the way to the disk
    unread: Intervals = field(default_factory=Intervals)  # passed over for now: the card cannot read where they stand
    lost: Intervals = field(default_factory=Intervals)  # in this life: a loss around them must count them, too
    gone: Intervals = field(default_factory=Intervals)  # of `settled`: files removed before older ones
    next: int = 1
    durable: int = 0
    pending: deque[Item] = field(default_factory=deque)
    pending_bytes: int = 0
    pending_since_ns: int | None = None
    urgent: bool = False
    naming_through: int = 0  # the last record of a loss: up to it, what waits may use what is kept back for losses
    inflight: tuple[Item, ...] = ()
    busy: bool = False  # a write is in the writer's hands
    active: Active | None = None
    places: list[Place] = field(default_factory=list)  # the one last used is last
    fresh: deque[Item] = field(default_factory=deque)  # the newest of the active file: live entries need no disk
    fresh_bytes: int = 0
    mark: int = 0  # the engine's memory, as last saved and synced, knows everything up to here
    remembered: tuple[int, Any] = (0, None)  # a durable number, and what was known of the stream's events up to it
    carried: tuple[int, Any] | None = None  # the same of what is in the writer's hands
    sealing: Sealing = PLAIN  # of all that is pushed; from then on an entry is sealed until it is read out

    @property
    def naming(self) -> bool:
        """Return whether the record of a loss waits."""
        return bool(self.pending) and self.pending[0][0] <= self.naming_through

    def push(self, payload: bytes, now_ns: int) -> int:
        """Give the next number to an event and let it wait for its commit."""
        sequence = self.next
        self.next += 1
        self.pending.append((sequence, payload))
        self.pending_bytes += len(payload)
        if self.pending_since_ns is None:
            self.pending_since_ns = now_ns
        return sequence

    def sealed(self, outbox: str, payload: bytes) -> bytes:
        """Seal what is pushed next."""
        return self.sealing.seal(payload, place_of(outbox, self.name, self.next))

    def opened(self, outbox: str, sequence: int, payload: bytes) -> bytes | None:
        """Return what was given to be recorded; None where no key opens it at this place."""
        return self.sealing.open(payload, place_of(outbox, self.name, sequence))

    def take(self, bytes_max: int) -> tuple[Item, ...]:
        """Move the oldest waiting entries into the writer's hands, one at least, `bytes_max` of lines at most."""
        if self.pending_bytes + len(self.pending) * LINE_OVERHEAD_BYTES <= bytes_max:
            self.inflight = tuple(self.pending)
            self.pending.clear()
            self.pending_bytes = 0
        else:
            items: list[Item] = []
            left = bytes_max
            while self.pending:
                payload_bytes = len(self.pending[0][1])
                left -= payload_bytes + LINE_OVERHEAD_BYTES
                if items and left < 0:
                    break
                items.append(self.pending.popleft())
                self.pending_bytes -= payload_bytes
            self.inflight = tuple(items)
        if not self.pending:
            self.pending_since_ns = None
            self.urgent = False
        return self.inflight

    def take_back(self, now_ns: int) -> None:
        """Put what a failed write held in front of everything that waits."""
        self.pending.extendleft(reversed(self.inflight))
        self.pending_bytes += sum(len(payload) for _, payload in self.inflight)
        if self.inflight:
            self.pending_since_ns = now_ns
        self.inflight = ()

    def shed(self, bytes_min: int) -> list[Run]:
        """Forget the newest waiting entries until `bytes_min` of payload are free; return the runs of their numbers.

        Numbers lost before lie between the runs, never in them: nothing is named twice.
        """
        runs: list[Run] = []
        freed = 0
        while self.pending and freed < bytes_min:
            sequence, payload = self.pending.pop()
            if runs and runs[-1][0] == sequence + 1:
                runs[-1] = (sequence, runs[-1][1])
            else:
                runs.append((sequence, sequence))
            freed += len(payload)
        self.pending_bytes -= freed
        if not self.pending:
            self.pending_since_ns = None
        return runs

    def last_of(self, index: int) -> int:
        """Return the last number that can stand in the segment."""
        return self.segments[index + 1].base - 1 if index + 1 < len(self.segments) else self.durable

    def find(self, sequence: int) -> int:
        """Return the index of the segment in whose range the number lies; -1 where it is before them all."""
        low, high = 0, len(self.segments)
        while low < high:
            middle = (low + high) // 2
            if self.segments[middle].base <= sequence:
                low = middle + 1
            else:
                high = middle
        return low - 1

    def next_open(self, sequence: int) -> int:
        """Return the first number from `sequence` on that is neither settled nor named nor passed over."""
        while True:
            found = self.unread.next_open(self.named.next_open(self.settled.next_open(sequence)))
            if found == sequence:
                return found
            sequence = found

    def open_run(self, sequence: int) -> Run:
        """Return the first run of numbers from `sequence` on that are neither settled nor named nor passed over."""
        start = self.next_open(sequence)
        ends = self.settled.open_run(start)[1], self.named.open_run(start)[1], self.unread.open_run(start)[1]
        return start, min(ends)

    def open_within(self, first: int, last: int) -> Iterator[Run]:
        """Yield the parts of `first..last` that are neither settled nor named."""
        for start, end in list(self.settled.open_within(first, last)):
            yield from self.named.open_within(start, end)

    def settle(self, first: int, last: int) -> None:
        """Take `first..last` as done with: acknowledged, or lost and durably named."""
        self.settled.add(first, last)
        if len(self.settled) > RUNS_MAX:
            self.settled.forget_smallest(RUNS_MAX, lambda run: self.gone.count(*run) > 0)
        self.durable = max(self.durable, self.settled.through)

    def backlog(self) -> int:
        """Return how many durable entries are not settled."""
        return self.durable - self.settled.count(1, self.durable)

    def freshen(self, items: tuple[Item, ...], is_new_file: bool) -> None:
        """Keep what has just become durable for those who read it at once."""
        if not items:
            follows = not is_new_file
        else:  # numbers that were shed leave a gap: then what is kept begins behind it
            whole = items[-1][0] - items[0][0] + 1 == len(items)
            follows = whole and not is_new_file and (not self.fresh or self.fresh[-1][0] + 1 == items[0][0])
            items = items if whole else ()
        if not follows:
            self.fresh.clear()
            self.fresh_bytes = 0
        self.fresh.extend(items)
        self.fresh_bytes += sum([len(payload) for _, payload in items])
        while self.fresh_bytes > FRESH_BYTES_MAX:
            self.fresh_bytes -= len(self.fresh.popleft()[1])

    def place(self, segment: Segment, sequence: int) -> Place:
        """Return where to begin to look for an entry in its segment: a reader's place, or the beginning."""
        near: Place | None = None
        for place in self.places:
            if place.base == segment.base and place.epoch == segment.epoch and place.sequence <= sequence:
                near = place if near is None or place.sequence > near.sequence else near
        if near is None:
            return Place(segment.base, segment.epoch, segment.base)
        if near.sequence == sequence:
            self.places.remove(near)
            return near
        return replace(near)

    def keep(self, place: Place) -> None:
        """Remember where a reader stopped, instead of the place not used for longest."""
        if len(self.places) >= PLACES_MAX:
            del self.places[0]
        self.places.append(place)

    def bytes(self) -> int:
        """Return what the stream takes on the disk, in whole blocks."""
        return sum(-(-segment.size_bytes // BLOCK_BYTES) * BLOCK_BYTES for segment in self.segments)
