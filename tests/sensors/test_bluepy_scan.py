"""The real bluepy over a scripted helper program: every failure ends in bounded time, by name, without a zombie."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.machine.clock import Clock, SystemClock
from gateway.model import NS_PER_S, DriverFailed, DriverRecovered, Instant, Reading
from gateway.sensors.scanner.drivers.bluepy_helper import Patience, true_rssi_dbm
from gateway.sensors.scanner.drivers.bluepy_scan import BluepyScan
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings

btle = pytest.importorskip("bluepy.btle")

FAKE = Path(__file__).with_name("fake_bluepy_helper.py")
PATIENCE = Patience(answer_s=0.5, quit_s=0.3, terminate_s=0.2, kill_s=0.5)
WITHIN_S = 8.0


class Air:
    """A driver, its helper program, and everything that it emitted."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.readings: list[Reading] = []
        self.changed = threading.Condition()
        self.driver: BluepyScan | None = None
        self.clock: Clock = SystemClock()
        self._tmp_path = tmp_path
        self._monkeypatch = monkeypatch

    def scan(self, mode: str, active: bool = False, silence_step_s: float = 90.0, settled_s: float = 0.2) -> BluepyScan:
        program = self._tmp_path / "helper"
        program.write_text(
            f'#!/bin/sh\necho $$ >> {self._tmp_path}/pids\nexec {sys.executable} -S -E {FAKE} {mode} "$@"\n'
        )
        program.chmod(0o755)
        return self.scan_with(str(program), active, silence_step_s, settled_s)

    def scan_with(
        self, program: str, active: bool = False, silence_step_s: float = 90.0, settled_s: float = 0.2
    ) -> BluepyScan:
        self._monkeypatch.setattr(btle, "helperExe", program)
        settings = ScannerSettings("ble", mode="active" if active else "passive")
        adapters = self._tmp_path / "adapters"
        self.driver = BluepyScan(settings, self.clock, PATIENCE, silence_step_s, settled_s, adapters)
        self.driver.start(self._emit)
        return self.driver

    def _emit(self, reading: Reading) -> None:
        with self.changed:
            self.readings.append(reading)
            self.changed.notify_all()

    def until(self, condition: Callable[[], bool]) -> None:
        limit_s = time.monotonic() + WITHIN_S
        with self.changed:
            while not condition():
                assert time.monotonic() < limit_s, f"{self.readings[-3:]} {self.driver and self.driver.counters()}"
                self.changed.wait(0.02)

    def heard(self) -> list[Advertisement]:
        return [reading for reading in self.readings if isinstance(reading, Advertisement)]

    def failures(self) -> list[DriverFailed]:
        return [reading for reading in self.readings if isinstance(reading, DriverFailed)]

    def first_failure(self) -> str:
        self.until(lambda: bool(self.failures()))
        return self.failures()[0].reason

    def count(self, name: str) -> int:
        assert self.driver is not None
        return self.driver.counters()[name]

    def pids(self) -> list[int]:
        path = self._tmp_path / "pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def close(self) -> None:
        """Close the driver in time; no helper process is left, not even as a zombie."""
        if self.driver is None:
            return
        began_s = time.monotonic()
        self.driver.close()
        assert time.monotonic() - began_s < 2.0
        assert not [t for t in threading.enumerate() if t.name == "driver-ble"]
        for pid in self.pids():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.fixture
def air(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Air]:
    air = Air(tmp_path, monkeypatch)
    yield air
    air.close()


def test_advertisements_arrive_whole(air: Air) -> None:
    air.scan("ok")
    air.until(lambda: len(air.heard()) >= 3)
    first = air.heard()[0]
    assert (first.sensor, first.address, first.address_type, first.rssi_dbm) == (
        "ble",
        "aa:bb:cc:dd:ee:ff",
        "random",
        -77,
    )
    assert first.payload.hex().startswith("02011a1aff4c000215e2c56db5")
    assert not air.failures()


class SteppingClock(SystemClock):
    """The machine's clock, but that its wall clock is set back by an hour again and again."""

    def now(self) -> Instant:
        now = super().now()
        return Instant(now.boot_ns, now.wall_ns - now.boot_ns // 50_000_000 * 3600 * NS_PER_S, now.clock)


def test_a_wall_clock_that_steps_back_holds_nothing_up(air: Air) -> None:
    air.clock = SteppingClock()
    driver = air.scan("ok")
    air.until(lambda: len(air.heard()) >= 3 and air.heard()[-1].at.wall_ns < air.heard()[0].at.wall_ns)
    began_s = time.monotonic()
    driver.close()
    assert time.monotonic() - began_s < 2.0


def test_a_burst_is_not_held_back_until_the_next_byte(air: Air) -> None:
    air.scan("burst")
    air.until(lambda: len(air.heard()) == 20)


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (-77, -77),
        (-129, None),
        (-251, 5),
        (-256, 0),
        (-4294967169, None),
        (-4294967291, 5),
        (-127, None),
        (0, 0),
        (99, None),
    ],
)
def test_rssi_as_the_helper_writes_it(told: int, meant: int | None) -> None:
    assert true_rssi_dbm(told) == meant


@pytest.mark.parametrize(("mode", "expected"), [("rssi_passive", [None, 5, 0]), ("rssi_active", [None, 5])])
def test_rssi_that_is_not_available_is_none(air: Air, mode: str, expected: list[int | None]) -> None:
    air.scan(mode, active=mode == "rssi_active")
    air.until(lambda: len(air.heard()) == len(expected))
    assert [reading.rssi_dbm for reading in air.heard()] == expected


def test_an_address_that_changes_its_type_ends_nothing(air: Air) -> None:
    air.scan("flip")
    air.until(lambda: len(air.heard()) == 3)
    assert [reading.address_type for reading in air.heard()] == ["public", "random", None]


def test_data_that_is_broken_or_absent(air: Air) -> None:
    air.scan("bad_data")
    air.until(lambda: air.count("lines_bad") == 3)
    assert [reading.payload.hex() for reading in air.heard()] == ["ff4c00", "00000000", "0201", "", ""]


@pytest.mark.parametrize(("mode", "bad"), [("junk", 11), ("long_line", 1), ("half_line", 0)])
def test_lines_that_mean_nothing_are_counted_and_survived(air: Air, mode: str, bad: int) -> None:
    air.scan(mode)
    air.until(lambda: len(air.heard()) == 1)
    assert air.count("lines_bad") >= bad
    assert not air.failures()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("off", "adapter_off"),
        ("blocked", "adapter_off"),
        ("no_permission", "no_permission"),
        ("no_mgmt", "adapter_missing"),
        ("bad_index", "adapter_missing"),
        ("refused", "scan_refused"),
        ("rejected", "scan_refused"),
        ("always_busy", "scan_refused"),
        ("fought_over", "scan_refused"),
        ("dies", "driver_died"),
        ("dies_at_once", "driver_died"),
        ("mute", "driver_hung"),
        ("mute_on_scan", "driver_hung"),
        ("babbles", "driver_hung"),
    ],
)
def test_failure_by_name(air: Air, mode: str, reason: str) -> None:
    air.scan(mode)
    assert air.first_failure() == reason
    assert air.failures()[0].detail


def test_switched_off_in_active_mode(air: Air) -> None:
    air.scan("off", active=True)
    assert air.first_failure() == "adapter_off"


def test_no_management_though_the_adapter_is_there(air: Air, tmp_path: Path) -> None:
    (tmp_path / "adapters" / "hci0").mkdir(parents=True)
    air.scan("no_mgmt")
    assert air.first_failure() == "no_permission"


def test_without_the_helper_program(air: Air, tmp_path: Path) -> None:
    air.scan_with(str(tmp_path / "nowhere"))
    assert air.first_failure() == "driver_missing"


def test_without_bluepy(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bluepy", None)
    air.scan("ok")
    assert air.first_failure() == "driver_missing"


def test_a_scan_that_goes_on_from_before_is_ended_first(air: Air) -> None:
    air.scan("busy_once")
    air.until(lambda: len(air.heard()) >= 1)
    assert not air.failures()


def test_a_scan_that_the_kernel_ends_is_renewed(air: Air) -> None:
    air.scan("ends_itself", active=True)
    air.until(lambda: air.count("scans_renewed") >= 3)
    assert len(air.heard()) >= 3
    assert len(air.pids()) == 1


def test_after_a_death_the_next_helper_is_heard_and_the_recovery_told(air: Air, tmp_path: Path) -> None:
    air.scan("dies_later")
    assert air.first_failure() == "driver_died"
    (tmp_path / "helper").write_text((tmp_path / "helper").read_text().replace("dies_later", "ok"))
    air.until(lambda: any(isinstance(reading, DriverRecovered) for reading in air.readings))
    assert len(air.pids()) == 2


def test_one_that_keeps_dying_is_not_told_as_recovered(air: Air) -> None:
    air.scan("dies_later", silence_step_s=0.05, settled_s=10.0)
    air.until(lambda: len(air.failures()) >= 2)
    assert air.heard()
    assert not [reading for reading in air.readings if isinstance(reading, DriverRecovered)]


@pytest.mark.parametrize(
    ("mode", "counter"),
    [("ignores_quit", "helpers_terminated"), ("ignores_term", "helpers_killed"), ("mute_on_end", "advertisements")],
)
def test_one_that_will_not_end_is_ended(air: Air, mode: str, counter: str) -> None:
    driver = air.scan(mode)
    air.until(lambda: len(air.heard()) >= 1)
    air.close()
    assert driver.counters()[counter] >= 1
    assert driver.counters()["helpers_killed"] == (mode == "ignores_term")


def test_close_does_not_wait_for_an_answer(air: Air) -> None:
    air.scan("mute")
    air.until(lambda: len(air.pids()) == 1)


class TestSilence:
    def test_the_ladder_is_climbed_and_a_person_called(
        self, air: Air, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("rfkill", "hciconfig"):
            (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/tools.log\n')
            (tools / name).chmod(0o755)
        monkeypatch.setattr("gateway.sensors.scanner.drivers.adapter_power.TOOL_PATH", str(tools))
        air.scan("deaf", silence_step_s=0.1)
        assert air.first_failure() == "silent"
        assert "reboot" in air.failures()[0].detail
        assert (air.count("scans_restarted"), air.count("power_cycled")) == (1, 1)
        assert (tmp_path / "tools.log").read_text().split("\n")[:3] == [
            "rfkill unblock bluetooth",
            "hciconfig hci0 down",
            "hciconfig hci0 up",
        ]

    def test_tools_that_are_missing_or_refuse_are_counted(
        self, air: Air, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.sensors.scanner.drivers.adapter_power.TOOL_PATH", str(tmp_path))
        air.scan("deaf", silence_step_s=0.1)
        assert air.first_failure() == "silent"
        assert air.count("power_refused") == 1

    def test_a_radio_that_hears_again_is_told_as_recovered(
        self, air: Air, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.sensors.scanner.drivers.adapter_power.TOOL_PATH", str(tmp_path))
        air.scan("deaf", silence_step_s=0.1)
        assert air.first_failure() == "silent"
        (tmp_path / "helper").write_text((tmp_path / "helper").read_text().replace(" deaf ", " ok "))
        air.until(lambda: any(isinstance(reading, DriverRecovered) for reading in air.readings))


def test_the_thread_shows_progress(air: Air) -> None:
    driver = air.scan("ok")
    before = driver.progress_ns()
    assert before is not None
    air.until(lambda: (driver.progress_ns() or 0) > before)
