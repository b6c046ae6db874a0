"""Interpreters are ticked in the order of time, and one that breaks is set aside alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest

from gateway.engine.interpretation import Interpretation, Interpreted
from gateway.model import DriverFailed, DriverRecovered, Event, Fact, Instant, Reading, Stream, data_of
from gateway.sensors.kind import Faults


@dataclass(frozen=True, slots=True)
class Rang(Fact):
    type: ClassVar[str] = "store.bell.rang"
    stream: ClassVar[Stream] = "door"
    at_ns: int


class Alarm:
    """Rings `after_ns` after each reading; breaks on demand."""

    def __init__(self, sensor: str, after_ns: int, breaks: bool = False) -> None:
        self.sensor, self.after_ns, self.breaks = sensor, after_ns, breaks
        self.rings_at_ns: int | None = None

    def read(self, reading: Reading) -> Iterator[Event]:
        if self.breaks:
            raise ZeroDivisionError("a programmer's error")
        self.rings_at_ns = reading.at.boot_ns + self.after_ns
        return iter(())

    def tick(self, now: Instant) -> Iterator[Event]:
        if self.rings_at_ns is not None and self.rings_at_ns <= now.boot_ns:
            yield Event(self.sensor, now, Rang(now.boot_ns))
            self.rings_at_ns = None

    def due_ns(self) -> int | None:
        return self.rings_at_ns

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        return iter(())

    def finish(self, now: Instant) -> Iterator[Event]:
        return iter(())


def shop(*alarms: Alarm) -> Interpretation:
    return Interpretation(Interpreted(alarm.sensor, alarm, Faults(alarm.sensor)) for alarm in alarms)


def reading(sensor: str, t_ns: int) -> Reading:
    return Reading(sensor, Instant(t_ns, t_ns))


def told(events: Iterator[Event]) -> list[tuple[str, int]]:
    return [(event.subject, event.at.boot_ns) for event in events]


def test_what_falls_due_before_a_reading_comes_before_it_in_the_order_of_time() -> None:
    house = shop(Alarm("late", 50), Alarm("early", 20))
    assert told(house.read(reading("late", 0))) == []
    assert told(house.read(reading("early", 10))) == []
    assert told(house.read(reading("early", 1000))) == [("early", 30), ("late", 50)]


def test_equal_moments_come_in_the_configurations_order() -> None:
    house = shop(Alarm("first", 20), Alarm("second", 10))
    list(house.read(reading("first", 0)))
    list(house.read(reading("second", 10)))
    assert told(house.advance(Instant(99, 99))) == [("first", 20), ("second", 20)]


def test_an_interpreter_that_raises_is_set_aside_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    house = shop(Alarm("broken", 5, breaks=True), Alarm("good", 5))
    failed = list(house.read(reading("broken", 0)))
    assert [(event.fact.type, data_of(event.fact)["reason"]) for event in failed] == [
        ("store.sensor.failed", "interpreter_error")
    ]
    assert list(house.read(reading("broken", 1))) == []
    list(house.read(reading("good", 2)))
    assert told(house.advance(Instant(10, 10))) == [("good", 7)]


def test_a_drivers_fault_is_told_once_and_its_end_with_how_long_it_lasted() -> None:
    house = shop(Alarm("bell", 5))
    failed = DriverFailed("bell", Instant(0, 0), "adapter_off", "the radio is off")
    again = DriverFailed("bell", Instant(1_000_000, 1_000_000), "adapter_off", "still off")
    recovered = DriverRecovered("bell", Instant(5_000_000, 5_000_000))
    events = [event for item in (failed, again, recovered, recovered) for event in house.read(item)]
    assert [data_of(event.fact) for event in events] == [
        {"reason": "adapter_off", "detail": "the radio is off"},
        {"reason": "adapter_off", "detail": "reads again", "failed_ms": 5},
    ]
    assert house.by_sensor["bell"].readings == 0


def test_a_reading_of_an_unknown_sensor_only_lets_time_pass() -> None:
    house = shop(Alarm("bell", 5))
    list(house.read(reading("bell", 0)))
    assert told(house.read(reading("stranger", 10))) == [("bell", 5)]
