"""Doors: beams broken and cleared into passages, quarter-hour counts, blocked and flickering beams.

Law: `outer` before `inner` is `in`; a single beam (`only`) cannot tell. A passage counts in the interval in which its
`time`, the moment the last beam cleared, lies: an interval is told when nothing before its end is undecided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.model import NS_PER_MS, NS_PER_S, Event, Instant, Reading, rfc3339
from gateway.sensors.counting import Interval
from gateway.sensors.door.beams import (
    BEAM,
    MAT,
    REED,
    TURNSTILE,
    Contact,
    Finding,
    FlickerBegan,
    FlickerEnded,
    Freed,
    Stuck,
)
from gateway.sensors.door.facts import DoorBlocked, DoorCleared, DoorCounted, DoorPassed
from gateway.sensors.door.passages import Direction, Doorway, Passage
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BEAMS, BeamName, DoorSettings, Wiring
from gateway.sensors.kind import Context

CONTACTS: Mapping[Wiring, Contact] = {"beam": BEAM, "reed": REED, "turnstile": TURNSTILE, "mat": MAT}


@dataclass(slots=True)
class Count:
    """Passages of one interval; `began` inclusive, `ended` exclusive (None: still open)."""

    began: Instant
    ended: Instant | None = None
    passages: dict[str, int] = field(default_factory=lambda: {"in": 0, "out": 0, "unknown": 0})


class DoorInterpreter:
    """One door. Totals continue from what is remembered of it."""

    def __init__(self, settings: DoorSettings, context: Context) -> None:
        self.settings = settings
        self.timezone = context.timezone
        self.faults = context.faults
        remembered = context.remembered
        self.totals = {way: int(remembered.get(f"{way}_total", 0)) for way in ("in", "out", "unknown")}
        ways: Mapping[str, Direction] = {}
        if settings.wiring == "turnstile" and settings.beam_pin is None:
            ways = {"outer": "in", "inner": "out"}
        self._doorway = Doorway(
            settings.beams, int(settings.blocked_after_s * NS_PER_S), CONTACTS[settings.wiring], ways
        )
        self._interval: Interval | None = None
        self._count: Count | None = None
        self._ended: deque[Count] = deque()  # intervals that are over but for an undecided passage
        self._flickering: set[str] = set()
        self._latest_ns = 0

    def read(self, reading: Reading) -> Iterator[Event]:
        """Take a beam's level; beams that this door does not have are passed over."""
        # Two threads tell levels: a re-read one may overtake an edge by some microseconds.
        at = reading.at.later(max(0, self._latest_ns - reading.at.boot_ns))
        yield from self.tick(at)
        if isinstance(reading, BeamChanged) and reading.beam in self._doorway.beams:
            yield from self._tell(self._doorway.change(reading.beam, reading.broken, at))
            yield from self._tell_ended(self._doorway.undecided_ns())

    def tick(self, now: Instant) -> Iterator[Event]:
        """Decide what is due and close intervals whose boundary has come, in the order of time."""
        interval, _ = self._counting(now)
        self._latest_ns = max(self._latest_ns, now.boot_ns)
        while True:
            boundary_ns = now.boot_ns + interval.until_ns - now.wall_ns
            due_ns = self._doorway.due_ns()
            moment_ns = boundary_ns if due_ns is None else min(due_ns, boundary_ns)
            if moment_ns > now.boot_ns:
                return
            yield from self._tell(self._doorway.advance(moment_ns))
            self._roll(now.later(moment_ns - now.boot_ns))
            yield from self._tell_ended(self._doorway.undecided_ns())

    def due_ns(self) -> int | None:
        return self._doorway.due_ns()

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        """Cut the begun interval: it ends as the old clock has it, and the next begins as the new one has it."""
        yield from self.tick(before)
        interval, count = self._counting(before)
        interval.cut(before, after)
        if count.began.boot_ns < before.boot_ns:
            self._end(before)
            count = Count(after)
        self._count = Count(after, passages=count.passages)
        yield from self._tell_ended(self._doorway.undecided_ns())

    def finish(self, now: Instant) -> Iterator[Event]:
        """Decide what is pending and close the begun interval."""
        yield from self.tick(now)
        yield from self._tell(self._doorway.finish(now.boot_ns))
        _, count = self._counting(now)
        if count.began.boot_ns < now.boot_ns or any(count.passages.values()):
            self._end(now)
        self._interval = self._count = None
        yield from self._tell_ended(None)

    def _counting(self, now: Instant) -> tuple[Interval, Count]:
        if self._interval is None or self._count is None:
            self._interval = Interval(now, self.settings.counted_every, self.timezone)
            self._count = Count(now)
        return self._interval, self._count

    def _end(self, ended: Instant) -> None:
        assert self._count is not None
        self._count.ended = ended
        self._ended.append(self._count)

    def _roll(self, now: Instant) -> None:
        interval, _ = self._counting(now)
        while (span := interval.roll(now)) is not None:
            self._end(span[1])
            self._count = Count(span[1])

    def _tell_ended(self, undecided_ns: int | None) -> Iterator[Event]:
        """Tell the intervals that ended before the earliest passage which may still be decided."""
        while self._ended:
            count = self._ended[0]
            assert count.ended is not None
            if undecided_ns is not None and undecided_ns < count.ended.boot_ns:
                return
            self._ended.popleft()
            passed = count.passages
            span = rfc3339(count.began.wall_ns), rfc3339(count.ended.wall_ns)
            fact = DoorCounted(*span, passed["in"], passed["out"], passed["unknown"])
            yield Event(self.settings.id, count.ended, fact)

    def _tell(self, findings: Iterator[Passage | Finding]) -> Iterator[Event]:
        for found in findings:
            match found:
                case Passage():
                    yield from self._passed(found)
                case Stuck(beam, broke):
                    yield Event(self.settings.id, broke, DoorBlocked(_named(beam)))
                case Freed(beam, broke, cleared):
                    blocked_ms = (cleared.boot_ns - broke.boot_ns) // NS_PER_MS
                    yield Event(self.settings.id, cleared, DoorCleared(_named(beam), blocked_ms))
                case FlickerBegan(beam, at):
                    self._flickering.add(beam)
                    detail = (
                        f"the {beam} beam changes faster than people can pass; it is not counted until it is calm "
                        "(check its alignment, its supply and sunlight on the receiver)"
                    )
                    yield from self.faults.fail(at, "flickering", detail)
                case FlickerEnded(beam, at):
                    self._flickering.discard(beam)
                    if not self._flickering:
                        yield from self.faults.recover(at, "flickering", detail=f"the {beam} beam is calm again")

    def _passed(self, passage: Passage) -> Iterator[Event]:
        at = passage.cleared
        _, current = self._counting(at)
        if at.boot_ns >= current.began.boot_ns:  # else the clock may have been set since, and `at` is on the old one
            self._roll(at)
        # Passages are decided in the order in which they ended: what ended before this one is complete.
        yield from self._tell_ended(at.boot_ns)
        _, current = self._counting(at)
        count = next((c for c in self._ended if c.ended is not None and at.boot_ns < c.ended.boot_ns), current)
        count.passages[passage.direction] += 1
        self.totals[passage.direction] += 1
        duration_ms = (at.boot_ns - passage.broke.boot_ns) // NS_PER_MS
        totals = self.totals["in"], self.totals["out"], self.totals["unknown"]
        yield Event(self.settings.id, at, DoorPassed(passage.direction, duration_ms, *totals))


def _named(beam: str) -> BeamName:
    return next(name for name in BEAMS if name == beam)
