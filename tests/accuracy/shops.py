"""A whole shop of `gateway/simulated/shop.py`, its own truth against what its sensors were told to have seen."""

from __future__ import annotations

from typing import Any

from gateway.model import Reading, data_of
from gateway.sensors.door.kind import KIND as DOOR
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.kind import Sensor
from gateway.sensors.scanner.kind import KIND as SCANNER
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import IBeaconRule, TagRule
from gateway.sensors.shelf.goods import Product
from gateway.sensors.shelf.kind import KIND as SHELF
from gateway.sensors.shelf.settings import Calibration, ShelfSettings
from gateway.sensors.simulation import Door, Goods, Habits, Said, Scanner, Shelf, Tag, Truth
from gateway.simulated.shop import Shop
from tests.accuracy.labelled import Measures, at, interpret

UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
MARGIN_S = 40.0
"""What happened so shortly before the end may not be decided: left out on both sides."""


def measure(seed: str, until_s: float) -> Measures:
    """Run a shop with one door, one shelf and one scanner; compare what was told with the truth."""
    made = Shop(
        seed,
        [Door("door")],
        [Shelf("shelf", (Goods("jar", 330.0, 24, 2.0),))],
        [Scanner("ble", (Tag("loyalty", "ibeacon", UUID),))],
        Habits(arrivals_per_hour=120.0),
    )
    sensors: list[Sensor[Any]] = [
        Sensor(DOOR, DoorSettings("door", outer_pin=17, inner_pin=27)),
        Sensor(
            SHELF,
            ShelfSettings(
                "shelf",
                data_pin=5,
                clock_pin=6,
                products=(Product("jar", 330.0, 24, 6),),
                calibration=Calibration(84_213.0, 21.5),
            ),
        ),
        Sensor(SCANNER, ScannerSettings("ble", tags=(TagRule("loyalty", ibeacon=IBeaconRule(UUID)),))),
    ]
    readers = {sensor.id: sensor.kind.reading_of for sensor in sensors}
    readings: list[Reading] = []
    truths: list[Truth] = []
    for happening in made.happenings():
        if happening.t_s > until_s:
            break
        if isinstance(happening, Said):
            readings.append(readers[happening.sensor](happening.sensor, at(happening.t_s), happening.values))
        else:
            truths.append(happening)
    told = [decided.event for decided in interpret(sensors, readings, until_s)]
    end_s = until_s - MARGIN_S
    passed = sum(truth.what in ("passed_in", "passed_out") and truth.t_s < end_s for truth in truths)
    moved = sum(
        truth.count * (1 if truth.what == "placed" else -1)
        for truth in truths
        if truth.what in ("picked", "placed") and truth.t_s < end_s
    )
    handled = sum(t.count for t in truths if t.what in ("picked", "placed") and t.t_s < end_s)
    own = {truth.name for truth in truths if truth.what == "came"}
    passed_told = net_told = strangers = 0
    for event in told:
        kind, t_s, data = event.fact.type, event.at.boot_ns / 1e9, data_of(event.fact)
        if kind == "store.door.passed" and t_s < end_s:
            passed_told += 1
        elif kind in ("store.shelf.picked", "store.shelf.placed") and t_s < end_s:
            net_told += data["count"] if kind.endswith("placed") else -data["count"]
        elif kind == "store.beacon.arrived" and data.get("identity") not in own:
            strangers += 1
    measures = {"bias": passed_told / passed - 1, "strangers identified": float(strangers)}
    if handled:
        measures["items amiss of those handled"] = abs(net_told - moved) / handled
    return measures
