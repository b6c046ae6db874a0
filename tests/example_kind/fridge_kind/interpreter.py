"""Temperatures into facts. Pure: it reads no clock, and time passes only as `tick` says."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.model import NS_PER_MS, NS_PER_S, Event, Instant, Reading, rfc3339
from gateway.sensors.counting import Interval
from gateway.sensors.kind import Context

from .facts import FridgeCool, FridgeMeasured, FridgeWarm
from .reading import FridgeRead
from .settings import FridgeSettings


class FridgeInterpreter:
    """One fridge."""

    def __init__(self, settings: FridgeSettings, context: Context) -> None:
        self._settings = settings
        self._timezone = context.timezone
        self._interval: Interval | None = None
        self._measured: list[float] = []  # the least and the most of the interval
        self._celsius = 0.0
        self._warm_since: Instant | None = None
        self._is_told = False

    def read(self, reading: Reading) -> Iterator[Event]:
        """Take one temperature."""
        yield from self.tick(reading.at)
        if not isinstance(reading, FridgeRead):
            return
        self._celsius = reading.celsius
        self._measured = [min([reading.celsius, *self._measured]), max([reading.celsius, *self._measured])]
        if reading.celsius > self._settings.warm_above_celsius:
            self._warm_since = self._warm_since or reading.at
        else:
            if self._is_told and self._warm_since is not None:
                warm_ms = (reading.at.boot_ns - self._warm_since.boot_ns) // NS_PER_MS
                yield Event(self._settings.id, reading.at, FridgeCool(reading.celsius, warm_ms))
            self._warm_since, self._is_told = None, False

    def tick(self, now: Instant) -> Iterator[Event]:
        """Tell what has lasted, and intervals that are over."""
        if self._interval is None:
            self._interval = Interval(now, self._settings.measured_every, self._timezone)
        while (span := self._interval.roll(now)) is not None:
            yield from self._tell_measured(*span)
        due_ns = self.due_ns()
        if due_ns is not None and due_ns <= now.boot_ns:
            self._is_told = True
            yield Event(self._settings.id, now.later(due_ns - now.boot_ns), FridgeWarm(self._celsius))

    def due_ns(self) -> int | None:
        """Return when it will have been warm for too long."""
        if self._warm_since is None or self._is_told:
            return None
        return self._warm_since.boot_ns + int(self._settings.warm_after * NS_PER_S)

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        """End the begun interval as the old clock has it; the next begins as the new one has it."""
        yield from self.tick(before)
        assert self._interval is not None
        yield from self._tell_measured(*self._interval.cut(before, after))

    def finish(self, now: Instant) -> Iterator[Event]:
        """Close the begun interval: nothing more will come."""
        yield from self.tick(now)
        assert self._interval is not None
        yield from self._tell_measured(*self._interval.cut(now, now))

    def _tell_measured(self, began: Instant, ended: Instant) -> Iterator[Event]:
        if self._measured:
            span = rfc3339(began.wall_ns), rfc3339(ended.wall_ns)
            yield Event(self._settings.id, ended, FridgeMeasured(*span, *self._measured))
        self._measured = []
