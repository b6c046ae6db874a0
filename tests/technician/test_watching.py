"""What a watcher sees: words, rates, plots in bounded memory; the view on a terminal that is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.cli.watch_view import WatchView
from gateway.engine.interpretation import Interpretation, Interpreted
from gateway.errors import GatewayError
from gateway.model import NS_PER_S, Instant, Reading
from gateway.sensors import kinds
from gateway.sensors.door.gauge import DoorGauge
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.fault import Fault, Known
from gateway.sensors.gauge import bar, plot
from gateway.sensors.kind import Context, Faults, Sensor
from gateway.sensors.scanner.gauge import ADDRESSES_MAX, ScannerGauge
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.resolving import ephemeral_id
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import EddystoneEidRule, IBeaconRule, TagRule
from gateway.sensors.shelf.gauge import POINTS_MAX, ShelfGauge
from gateway.sensors.shelf.settings import Calibration
from gateway.technician.watching import Watch
from tests.technician.shelves import SHELF, at, passage, samples

UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
STATUS: Mapping[str, Any] = {
    "link": {"up": False, "reason": "nobody listens"},
    "outbox": {"entries": 12, "degraded": None},
}
SETTINGS: Mapping[str, Any] = {
    "door": DoorSettings("entrance", outer_pin=17, inner_pin=27),
    "shelf": replace(SHELF, calibration=Calibration(84_213, 21.5)),
    "scanner": ScannerSettings("ble", tags=(TagRule("loyalty", ibeacon=IBeaconRule(UUID)),)),
}


def watch() -> Watch:
    sensors = [Sensor(kind, SETTINGS[kind.table]) for kind in kinds() if kind.table in SETTINGS]
    interpretations = []
    for sensor in sensors:
        faults = Faults(sensor.id)
        interpretations.append(
            Interpreted(sensor.id, sensor.kind.interpreter(sensor.settings, Context(faults)), faults)
        )
    return Watch(sensors, Interpretation(interpretations), 0)


def advertisement(t_s: float, address: str, rssi_dbm: int) -> Advertisement:
    payload = bytes.fromhex("0201061aff4c000215" + UUID.replace("-", "") + "00010002c5")
    return Advertisement("ble", at(t_s), address, "random", rssi_dbm, payload)


def shown() -> tuple[Watch, int]:
    watched = watch()
    readings: list[Reading] = [*samples([(500, 10), (1000, 10)]), *passage(12, "outer", "inner")]
    readings += [advertisement(t_s / 2, "c4:64:e3:00:00:01", -60) for t_s in range(40)]
    for reading in sorted(readings, key=lambda reading: reading.at.boot_ns):
        watched.take(reading, reading.at.boot_ns)
    return watched, 20 * NS_PER_S


def test_a_tag_known_by_its_key_alone_is_watched_by_name() -> None:
    key, started_s = bytes(range(16)), 1_700_000_000
    eid = EddystoneEidRule("eid", "2023-11-14T22:13:20Z", 10)
    settings = ScannerSettings("ble", tags=(TagRule("badge", irk_file="irk"), TagRule("crate", eddystone_eid=eid)))
    irk = bytes.fromhex("ec0234a357c8ad05341010a60a397d9b")  # Core Specification vol 3 part H D.7
    gauge = ScannerGauge(settings, {0: irk, 1: key})
    said = bytes.fromhex("0201060303aafe0d16aafe30c5" + ephemeral_id(key, 10, 5000))
    gauge.take(Advertisement("ble", at(1), "70:81:94:0d:fb:aa", "random", -60, b""), 0)
    gauge.take(Advertisement("ble", at(5000), "c4:64:e3:00:00:07", "random", -60, said), 0)
    assert at(0).wall_ns == started_s * NS_PER_S
    assert set(gauge.tags) == {"badge", "crate"}


def test_a_line_says_everything() -> None:
    watched, now_ns = shown()
    line = watched.line(now_ns, STATUS)
    for words in ("entrance: outer clear, inner clear", "aisle-3: 100", "9.8/s", "noise", "loyalty -60 dBm"):
        assert words in line
    assert "outbox 12 not acknowledged, link down (nobody listens)" in line
    assert "c4:64" not in line
    assert watched.to_json(now_ns, STATUS)["sensors"]["ble"]["tags"] == {"loyalty": -60}
    told = {event.fact.type for event in watched.events}
    assert {"store.door.passed", "store.shelf.changed"} <= told
    assert "store.sensor.failed" not in told


def test_a_rate_falls_when_the_sensor_falls_silent() -> None:
    watched, now_ns = shown()
    gauge = watched.gauges["aisle-3"]
    assert round(gauge.rate_hz(now_ns)) == 10
    assert gauge.rate_hz(now_ns + 10 * NS_PER_S) == 0
    assert gauge.age_s(now_ns + 10 * NS_PER_S) == 10.1


def test_memory_stays_bounded_however_long_one_watches() -> None:
    watched = watch()
    for number in range(6000):
        watched.take(advertisement(number / 100, f"{number:012x}", -60), number)
    for sample in samples([(0, 100)], rate_hz=80):
        watched.take(sample, sample.at.boot_ns)
    scanner, shelf = watched.gauges["ble"], watched.gauges["aisle-3"]
    assert isinstance(scanner, ScannerGauge)
    assert isinstance(shelf, ShelfGauge)
    assert len(scanner.addresses) == ADDRESSES_MAX
    assert len(shelf.points) == POINTS_MAX


def test_a_plot_shows_a_step_and_keeps_noise_a_thin_line() -> None:
    step = [(i * NS_PER_S // 10, 0.0 if i < 300 else 1000.0) for i in range(600)]
    lines = plot(step, 60 * NS_PER_S, 60, 6, 20.0)
    assert len(lines) == 6
    assert all(len(line) == 60 for line in lines)
    assert lines[0].startswith("1000 ")
    assert lines[-1].lstrip().startswith("0 ")
    upper, lower = lines[0][5:], lines[-1][5:]
    blank = chr(0x2800)
    assert upper[:20].strip(blank) == "" != upper[-20:].strip(blank)
    assert lower[-20:].strip(blank) == "" != lower[:20].strip(blank)
    flat = plot([(i * NS_PER_S // 10, 500 + i % 3) for i in range(600)], 60 * NS_PER_S, 60, 6, 20.0)
    assert sum(1 for line in flat if line[5:].strip(blank)) <= 2
    assert plot([], 60 * NS_PER_S, 60, 3, 1.0) == ["", "", ""]


def test_a_beams_strip_and_a_strengths_bar() -> None:
    watched, now_ns = shown()
    door = watched.gauges["entrance"]
    assert isinstance(door, DoorGauge)
    strip = door.strip("outer", now_ns, 60)
    assert len(strip) == 60
    assert 1 <= strip.count("█") <= 2
    assert (bar(-40, 10), bar(-100, 10), bar(-70, 10), bar(None, 10)) == ("█" * 10, "░" * 10, "█████░░░░░", "")


class Still:
    """A feed that says what it is given, and a clock that stands where it is put."""

    bootid = "00000000"
    origin = "daemon"

    def __init__(self, readings: list[tuple[int, Reading]]) -> None:
        self.status: Mapping[str, Any] | None = STATUS
        self.known: Mapping[str, Known] = {}
        self.error: GatewayError | None = None
        self._readings = readings

    def drain(self) -> list[tuple[int, Reading]]:
        readings, self._readings = self._readings, []
        return readings

    def now(self) -> Instant:
        return at(20)


def test_a_sensor_that_failed_is_watched_with_its_sentence() -> None:
    watched = watch()
    fault = Fault("pin_unavailable", "there are no pins here", "2026-11-22T09:00:00.000Z")
    watched.known = {"entrance": Known(faults=(fault,))}
    assert "entrance: there are no pins here, 0.0/s" in watched.line(0, None)
    assert "aisle-3: nothing yet" in watched.line(0, None)
    told = watched.to_json(0, None)["sensors"]
    assert told["entrance"]["faults"] == {"pin_unavailable": {"since": fault.since, "detail": fault.detail}}
    assert told["aisle-3"]["faults"] == {}
    for reading in passage(12, "outer", "inner"):
        watched.take(reading, reading.at.boot_ns)
    assert "clear" in watched.words(watched.gauges["entrance"], 0)
    assert "(there are no pins here)" in watched.words(watched.gauges["entrance"], 0)


def test_the_view_shows_each_sensor_holds_still_and_ends_with_q() -> None:
    readings = sorted([*samples([(500, 20)]), *passage(12, "outer", "inner")], key=lambda r: r.at.boot_ns)
    feed = Still([(reading.at.boot_ns, reading) for reading in readings])

    async def look() -> tuple[str, bool]:
        app = WatchView(watch(), feed, feed)
        async with app.run_test(size=(100, 40)) as pilot:
            await pilot.pause(0.3)
            text = "\n".join(str(panel.render()) for panel in app.query("Static"))
            await pilot.press("p")
            held = app.is_held
            await pilot.press("q")
        return text, held

    text, held = asyncio.run(look())
    assert held
    for words in ("outbox 12 not acknowledged", "outer clear", "door.passed entrance: direction in", "g, the last"):
        assert words in text


def test_the_view_ends_when_the_daemon_does() -> None:
    feed = Still([])
    feed.error = GatewayError("the daemon went away")

    async def look() -> bool:
        app = WatchView(watch(), feed, feed)
        async with app.run_test(size=(100, 40)) as pilot:
            await pilot.pause(0.3)
            return app._exit

    assert asyncio.run(look())
