"""Readings of all sensors into events, in the order in which things happened. Pure; replay and the engine share it.

Law: before a reading at `t` is read, every interpreter has been ticked at each of its due moments up to `t`, earliest
first, sensors in the configuration's order where equal. So the same recording gives the same events at any speed. An
interpreter that raises is set aside with its fault (`interpreter_error`); the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.model import DriverFailed, DriverRecovered, Event, Instant, Reading
from gateway.sensors.kind import Faults, Interpreter

log = logging.getLogger(__name__)

DRIVER_REASONS = frozenset(
    (
        *("driver_missing", "pin_in_use", "pin_unavailable", "driver_died", "driver_hung"),
        *("adapter_missing", "adapter_off", "no_permission", "scan_refused"),
    )
)
"""Faults of drivers (contract section 4): they last until the driver reads again, whoever interprets."""
DUE_TICKS_MAX = 10_000
"""Ticks for one step at most: a broken `due_ns` that does not move must not hang the daemon."""


@dataclass(slots=True)
class Interpreted:
    """One configured sensor: its interpreter, its faults, and what was counted.

    `discarded` readings found the inbox full; `spoiled` ones were thrown away by the driver.
    """

    id: str
    interpreter: Interpreter
    faults: Faults
    readings: int = 0
    discarded: int = 0
    spoiled: int = 0
    last: Reading | None = None
    broken: bool = False
    driver_faults: set[str] = field(default_factory=set)
    due_ns: int | None = None


class Interpretation:
    """All configured sensors' interpreters, in the configuration's order."""

    def __init__(self, interpretations: Iterable[Interpreted]) -> None:
        self.by_sensor: Mapping[str, Interpreted] = {one.id: one for one in interpretations}
        self._due_ns: int | None = None
        for one in self.by_sensor.values():
            self._ask(one)

    def read(self, reading: Reading) -> Iterator[Event]:
        """Advance to the reading's moment, then interpret it. A reading of an unknown sensor is not interpreted."""
        yield from self.advance(reading.at)
        one = self.by_sensor.get(reading.sensor)
        if one is None:
            return
        if isinstance(reading, DriverFailed):
            one.driver_faults.add(reading.reason)
            yield from one.faults.fail(reading.at, reading.reason, reading.detail)
            return
        if isinstance(reading, DriverRecovered):
            # What the interpreter found wrong by itself is not over because the driver reads again.
            reasons, one.driver_faults = one.driver_faults, set()
            if reasons:
                yield from one.faults.recover(reading.at, *sorted(reasons))
            return
        one.readings += 1
        one.last = reading
        yield from self._guarded(one, reading.at, lambda: one.interpreter.read(reading))

    def advance(self, now: Instant) -> Iterator[Event]:
        """Tick every interpreter at its due moments up to and including `now`."""
        for _ in range(DUE_TICKS_MAX):
            due_ns = self._due_ns
            if due_ns is None or due_ns > now.boot_ns:
                return
            moment = now.later(due_ns - now.boot_ns)
            for one in self.by_sensor.values():
                if one.due_ns == due_ns:
                    yield from self._tick(one, moment)
        log.error("interpreters stay due at=%d", now.boot_ns)

    def tick(self, now: Instant) -> Iterator[Event]:
        """Advance to `now`, then tick every interpreter there: closes intervals whose boundary has come."""
        yield from self.advance(now)
        for one in self.by_sensor.values():
            yield from self._tick(one, now)

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        """Tell every interpreter that the wall clock was set."""
        for one in self.by_sensor.values():
            yield from self._guarded(one, after, lambda i=one.interpreter: i.clock_set(before, after))  # type: ignore[misc]

    def finish(self, now: Instant) -> Iterator[Event]:
        """Decide what is pending in every interpreter; nothing more will come."""
        yield from self.advance(now)
        for one in self.by_sensor.values():
            yield from self._guarded(one, now, lambda i=one.interpreter: i.finish(now))  # type: ignore[misc]

    def replace(self, sensor: str, interpreter: Interpreter, now: Instant, why: str) -> Iterator[Event]:
        """Put another interpreter in a sensor's place: what is pending in the old one is decided first.

        The faults that the old one told are over, `why` as their sentence; what a driver told stays. Other sensors are
        not touched.
        """
        yield from self.advance(now)
        one = self.by_sensor[sensor]
        yield from self._guarded(one, now, lambda: one.interpreter.finish(now))
        told = [reason for reason in one.faults.active if reason not in DRIVER_REASONS]
        for reason in told:
            yield from one.faults.recover(now, reason, detail=why)
        one.interpreter, one.broken = interpreter, False
        self._ask(one)
        yield from self._tick(one, now)

    def due_ns(self) -> int | None:
        """`boot_ns` of the earliest moment at which an interpreter has something to decide, or None."""
        return self._due_ns

    def _ask(self, one: Interpreted) -> None:
        """Ask an interpreter when it is due next; only the one that was called can have changed its mind."""
        before, one.due_ns = one.due_ns, None if one.broken else one.interpreter.due_ns()
        if one.due_ns is not None and (self._due_ns is None or one.due_ns <= self._due_ns):
            self._due_ns = one.due_ns
        elif before is not None and before == self._due_ns:
            self._due_ns = min((s.due_ns for s in self.by_sensor.values() if s.due_ns is not None), default=None)

    def _tick(self, one: Interpreted, now: Instant) -> Iterator[Event]:
        yield from self._guarded(one, now, lambda: one.interpreter.tick(now))

    def _guarded(self, one: Interpreted, at: Instant, work: Callable[[], Iterable[Event]]) -> Iterator[Event]:
        if one.broken:
            return
        try:
            events = list(work())
            self._ask(one)
        except Exception as error:  # the supervisor of interpreters: one broken sensor stops no other
            log.exception("interpreter failed sensor=%s", one.id)
            one.broken = True
            self._ask(one)
            detail = f"the interpreter stopped on an internal error ({type(error).__name__}: {error}); please report it"
            yield from one.faults.fail(at, "interpreter_error", detail)
        else:
            yield from events
