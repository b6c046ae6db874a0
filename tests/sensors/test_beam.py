"""The beams' driver on gpiozero's mock pins: edges with their time, lost edges, faults by name, nothing left behind."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gpiozero.pins.mock import MockFactory

from gateway.machine.clock import SystemClock
from gateway.model import DriverFailed, DriverRecovered, Reading
from gateway.sensors.door.driver import BeamDriver
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.drivers import DriverError
from gateway.sensors.drivers.pins import Claim, shared_factory
from tests.daemon import wait_for

WITHIN_S = 10.0


class Heard:
    """Collects what a driver emits; `until` waits for something to be heard."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.breaks = False
        self._heard = threading.Condition()

    def __call__(self, reading: Reading) -> None:
        if self.breaks:
            raise RuntimeError("the inbox is broken")
        with self._heard:
            self.readings.append(reading)
            self._heard.notify_all()

    def until(self, count: int) -> list[Any]:
        with self._heard:
            enough = self._heard.wait_for(lambda: len(self.readings) >= count, WITHIN_S)
        assert enough, self.readings
        return list(self.readings)


class Bench:
    """A door on mock pins: `light` and `dark` move a beam's pin as its receiver does."""

    def __init__(self, **settings: Any) -> None:
        settings = {"outer_pin": 17, "inner_pin": 27, **settings}
        self.factory = MockFactory()
        self.heard = Heard()
        self.driver = BeamDriver(DoorSettings("entrance", **settings), SystemClock(), self.factory, reread_s=0.05)

    def starts(self, beams: int = 2) -> Bench:
        """Start, and wait until the levels are told and the edges are listened for."""
        self.driver.start(self.heard)
        self.heard.until(beams)
        wait_for(self.driver.is_settled, WITHIN_S, "the pins to be listened to")
        return self


@pytest.fixture
def made() -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**settings: Any) -> Bench:
        benches.append(Bench(**settings))
        return benches[-1]

    yield make
    for bench in benches:
        bench.driver.close()


def levels(readings: list[Reading]) -> list[tuple[str, bool]]:
    return [(reading.beam, reading.broken) for reading in readings if isinstance(reading, BeamChanged)]


def test_the_levels_are_told_at_the_start_and_every_edge_after(made: Callable[..., Bench]) -> None:
    bench = made().starts()
    bench.factory.pin(17).drive_low()
    bench.factory.pin(27).drive_low()
    bench.factory.pin(17).drive_high()
    readings = bench.heard.until(5)
    assert levels(readings) == [
        ("outer", False),
        ("inner", False),
        ("outer", True),
        ("inner", True),
        ("outer", False),
    ]
    assert bench.driver.counters()["edges"] == 3


@pytest.mark.parametrize(("broken_when", "pull", "rests"), [("low", "up", True), ("high", "down", False)])
def test_the_wiring_says_which_level_is_broken(
    made: Callable[..., Bench], broken_when: str, pull: str, rests: bool
) -> None:
    bench = made(outer_pin=None, inner_pin=None, beam_pin=4, broken_when=broken_when, pull=pull).starts(1)
    pin = bench.factory.pin(4)
    assert pin.state is rests
    (pin.drive_low if rests else pin.drive_high)()
    assert levels(bench.heard.until(2)) == [("only", False), ("only", True)]


def test_an_edge_has_the_time_at_which_it_happened_not_at_which_it_was_told(made: Callable[..., Bench]) -> None:
    bench = made().starts()
    with Claim("other", {}, bench.factory) as claim:
        clock = SystemClock()
        before = clock.now().boot_ns
        instant = claim.instant(time.monotonic() - 0.25, clock)
        assert -0.01e9 <= before - 0.25e9 - instant.boot_ns <= 0.01e9
        ahead = claim.instant(time.monotonic() + 100, clock)
        assert ahead.boot_ns >= before, "a time from across a suspend is not believed"
        assert claim.instant(time.monotonic() - 100, clock).boot_ns >= before


def test_callbacks_live_on_though_gpiozero_holds_them_weakly(made: Callable[..., Bench]) -> None:
    bench = made().starts()
    gc.collect()
    bench.factory.pin(17).drive_low()
    assert levels(bench.heard.until(3))[-1] == ("outer", True)
    assert bench.factory.pin(17).bounce is None


def test_nothing_leaves_a_callback(made: Callable[..., Bench]) -> None:
    bench = made().starts()
    bench.heard.breaks = True
    bench.factory.pin(17).drive_low()
    bench.heard.breaks = False
    assert bench.driver.counters()["callbacks_failed"] == 1
    bench.factory.pin(27).drive_low()
    assert ("inner", True) in levels(bench.heard.until(3))


def test_a_lost_edge_is_made_good_by_reading_the_level_again(made: Callable[..., Bench]) -> None:
    bench = made().starts()
    bench.factory.pin(17)._change_state(False)
    assert levels(bench.heard.until(3))[-1] == ("outer", True)
    assert bench.driver.counters()["levels_resynced"] == 1


def test_rereading_shows_progress(made: Callable[..., Bench]) -> None:
    bench = made().starts()
    first = bench.driver.progress_ns()
    assert first is not None
    bench.factory.pin(17)._change_state(False)
    bench.heard.until(3)
    assert (bench.driver.progress_ns() or 0) > first


def test_a_pin_of_another_sensor_fails_by_name_and_recovers_when_it_is_free(made: Callable[..., Bench]) -> None:
    bench = made()
    assert not bench.driver.is_settled()
    with Claim("aisle-3", {"data_pin": 27}, bench.factory):
        bench.driver.start(bench.heard)
        (failed,) = bench.heard.until(1)
        assert isinstance(failed, DriverFailed)
        assert failed.reason == "pin_in_use"
        assert "inner_pin = 27" in failed.detail
        assert "aisle-3" in failed.detail
        wait_for(bench.driver.is_settled, WITHIN_S, "the first attempt to be over")
    readings = bench.heard.until(4)
    assert levels(readings) == [("outer", False), ("inner", False)]
    assert isinstance(readings[-1], DriverRecovered)


def test_closing_ends_the_thread_and_gives_the_pins_back(made: Callable[..., Bench]) -> None:
    bench = made().starts()
    bench.driver.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "driver-entrance"]
    heard = len(bench.heard.readings)
    bench.factory.pin(17).drive_low()
    assert len(bench.heard.readings) == heard
    with Claim("next", {"outer_pin": 17, "inner_pin": 27}, bench.factory):
        pass


def test_a_missing_library_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiozero.devices", None)
    with pytest.raises(DriverError, match=r"store-gateway\[pi\]") as told:
        shared_factory()
    assert told.value.reason == "driver_missing"


def test_a_machine_without_a_header_is_told_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # lgpio makes its FIFO in the working directory
    monkeypatch.setattr("gpiozero.devices.Device.pin_factory", None)
    with pytest.raises(DriverError) as told:
        shared_factory()
    assert told.value.reason in ("pin_unavailable", "driver_missing")
    assert len(str(told.value)) > 20


def test_a_pin_that_the_header_does_not_have_is_unavailable() -> None:
    with pytest.raises(DriverError, match="no such pin") as told:
        Claim("s", {"beam_pin": 99}, MockFactory())
    assert told.value.reason == "pin_unavailable"
