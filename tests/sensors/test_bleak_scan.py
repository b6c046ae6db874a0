"""The driver on bleak against a scripted org.bluez on a real bus: what it hears, and what it says of each trouble.

No radio was used: D-Bus, dbus-fast and bleak are real, BlueZ is `fake_bluez`.
"""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.machine.clock import SystemClock
from gateway.model import DriverFailed, DriverRecovered, Reading
from gateway.sensors.scanner.advertisement import EddystoneUid, IBeacon, decode
from gateway.sensors.scanner.drivers.bleak_scan import BleakScan, advertising_data
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings

FAKE = Path(__file__).with_name("fake_bluez.py")
SETTINGS = ScannerSettings("ble", driver="bleak")

pytest.importorskip("bleak")
needs_bus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon on the PATH")

BUS_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow own="*"/><allow eavesdrop="false"/></policy></busconfig>
"""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bus of our own in the system bus' place."""
    path = tmp_path / "bus"
    configuration = tmp_path / "bus.conf"
    configuration.write_text(BUS_CONFIGURATION.format(path=path))
    daemon = subprocess.Popen(["dbus-daemon", f"--config-file={configuration}", "--nofork"], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 5
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
    yield path
    daemon.terminate()
    daemon.wait(5)


class FakeBluez:
    """The scripted bluetoothd as a process, and what it was asked."""

    def __init__(self, mode: str) -> None:
        self.calls: list[str] = []
        self.process = subprocess.Popen([sys.executable, FAKE, mode], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.calls.append(line.strip())

    def ends(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def bluez(bus: Path) -> Iterator[Callable[[str], FakeBluez]]:
    running: list[FakeBluez] = []

    def begin(mode: str) -> FakeBluez:
        running.append(FakeBluez(mode))
        return running[-1]

    yield begin
    for one in running:
        one.ends()


class Scan:
    """A started driver and what it emitted."""

    def __init__(self, **limits: float) -> None:
        self.readings: queue.Queue[Reading] = queue.Queue()
        self.driver = BleakScan(SETTINGS, SystemClock(), **limits)
        self.driver.start(self.readings.put)

    def next(self, kind: type[Reading], within_s: float = 8.0) -> Reading:
        until = time.monotonic() + within_s
        while True:
            reading = self.readings.get(timeout=max(0.01, until - time.monotonic()))
            if isinstance(reading, kind):
                return reading

    def closes(self) -> None:
        began = time.monotonic()
        self.driver.close()
        assert time.monotonic() - began < 2.0
        assert not [thread for thread in threading.enumerate() if thread.name == "driver-ble"]


@needs_bus
def test_every_device_is_heard_with_its_strength_and_the_frames_that_it_sent(
    bluez: Callable[[str], FakeBluez],
) -> None:
    fake = bluez("talks")
    scan = Scan()
    heard: dict[str, Advertisement] = {}
    while len(heard) < 2 or scan.driver.counters()["advertisements"] < 6:
        found = scan.next(Advertisement)
        assert isinstance(found, Advertisement)
        heard[found.address] = found
    scan.closes()
    first, second = heard["c4:64:e3:00:00:01"], heard["c4:64:e3:00:00:02"]
    assert (first.address_type, second.address_type) == ("random", "public")
    assert first.rssi_dbm in (-60, -61)
    assert decode(first.payload) == (IBeacon("f7826da6-4fa2-4e98-8024-bc5b71e0893e", 1, 7, -59),)
    assert decode(second.payload) == (EddystoneUid("edd1ebeac04e5defa017", "000000000001", -66),)
    assert "filter duplicates=True" in fake.calls, "repetitions are wanted"
    until = time.monotonic() + 3
    while "stop" not in fake.calls and time.monotonic() < until:
        time.sleep(0.01)
    assert "stop" in fake.calls, "the scan is ended when the driver is"


@needs_bus
@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("off", "adapter_off"),
        ("denied", "no_permission"),
        ("busy", "scan_refused"),
        ("no-adapter", "adapter_missing"),
        ("mute", "driver_hung"),
    ],
)
def test_each_trouble_is_told_by_its_name_and_ends_in_bounded_time(
    bluez: Callable[[str], FakeBluez], mode: str, reason: str
) -> None:
    bluez(mode)
    scan = Scan(answer_s=0.5)
    failed = scan.next(DriverFailed)
    assert isinstance(failed, DriverFailed)
    assert (failed.reason, bool(failed.detail)) == (reason, True)
    scan.closes()


@needs_bus
def test_without_bluetoothd_or_without_a_bus_the_driver_says_what_is_missing(bus: Path) -> None:
    scan = Scan()
    failed = scan.next(DriverFailed)
    assert isinstance(failed, DriverFailed)
    assert failed.reason == "driver_missing"
    assert "bluetoothd" in failed.detail
    scan.closes()


def test_without_a_bus_the_driver_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nothing")
    scan = Scan()
    failed = scan.next(DriverFailed)
    assert isinstance(failed, DriverFailed)
    assert failed.reason == "driver_missing"
    assert "D-Bus" in failed.detail
    scan.closes()


@needs_bus
def test_silence_restarts_the_scan_then_the_connection(bluez: Callable[[str], FakeBluez]) -> None:
    fake = bluez("quiet")
    scan = Scan(silence_step_s=0.4)
    until = time.monotonic() + 8
    while not scan.driver.counters()["connections_renewed"] and time.monotonic() < until:
        time.sleep(0.05)
    counters = scan.driver.counters()
    scan.closes()
    assert counters["scans_restarted"] >= 1
    assert counters["connections_renewed"] >= 1
    assert fake.calls.count("start") >= 2


@needs_bus
def test_bluetoothd_that_comes_back_is_told_as_recovered(bluez: Callable[[str], FakeBluez]) -> None:
    bluez("off").ends()
    scan = Scan()
    scan.next(DriverFailed)
    bluez("talks")
    scan.next(DriverRecovered)
    scan.closes()


def test_structures_are_rebuilt_for_the_common_decoder() -> None:
    said = advertising_data(
        "cart",
        {0x4C: bytes.fromhex("0215") + bytes(21)},
        {
            "0000fcd2-0000-1000-8000-00805f9b34fb": b"\x40\x01\x64",
            "12345678-0000-1000-8000-00805f9b34fb": b"x",
            "edd1ebea-c04e-5def-a017-0123456789ab": b"y",
        },
    )
    assert said[:6] == b"\x05\x09cart"
    assert b"\x1a\xff\x4c\x00\x02\x15" in said
    assert b"\x06\x16\xd2\xfc\x40\x01\x64" in said
    assert b"\x06\x20\x78\x56\x34\x12x" in said
    assert b"\x12\x21" + bytes.fromhex("edd1ebeac04e5defa0170123456789ab")[::-1] + b"y" in said
    assert advertising_data(None, {}, {}) == b""
    assert advertising_data(None, {1: bytes(300)}, {}) == b"", "no structure holds that"
