"""The kind `shelf`: what the gateway knows of shelves, in one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.machine.clock import Clock
from gateway.sensors.check import Checked
from gateway.sensors.diagnosis import Evidence, Finding
from gateway.sensors.gauge import Gauge
from gateway.sensors.kind import Context, Driver, Interpreter, Kind
from gateway.sensors.shelf.facts import ShelfChanged, ShelfLevel, ShelfPicked, ShelfPlaced
from gateway.sensors.shelf.reading import line_of, reading_of
from gateway.sensors.shelf.settings import ShelfSettings, pins_of
from gateway.sensors.simulation import Part
from gateway.sensors.trial import Tools, Trial
from gateway.shown import Shown


def interpreter(settings: ShelfSettings, context: Context) -> Interpreter:
    """Build the interpreter of one shelf."""
    from gateway.sensors.shelf.interpreter import ShelfInterpreter

    return ShelfInterpreter(settings, context)


REMEMBERED_BYTES_MAX = len('{"grams":}') + len("-167772160000.0")
"""The whole range of a converter at the least counts that a gram may have."""


def remember(known: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep the last weight that a recorded event tells; none where it tells that the weight is not known."""
    if kind == ShelfLevel.type:
        return {"grams": data["grams"]}
    return {"grams": data["remaining_grams"]} if "remaining_grams" in data else {}


def driver(settings: ShelfSettings, clock: Clock) -> Driver:
    """Build the driver of one shelf's converter."""
    from gateway.sensors.shelf.drivers.chosen import driver_for

    return driver_for(settings, clock)


def judge(settings: ShelfSettings, evidence: Evidence) -> list[Finding]:
    """Judge one shelf by its readings."""
    from gateway.sensors.shelf.diagnosis import judge_scale

    return judge_scale(settings, evidence)


def trial(settings: ShelfSettings, tools: Tools) -> Trial:
    """Return the trial of one shelf."""
    from gateway.sensors.shelf.trial import ScaleTrial

    return ScaleTrial(settings, tools)


def gauge(settings: ShelfSettings) -> Gauge:
    """Return how one shelf is watched."""
    from gateway.sensors.shelf.gauge import ShelfGauge

    return ShelfGauge(settings)


def check(settings: ShelfSettings) -> Iterator[Checked]:
    """Yield what is found about what one shelf hangs on."""
    from gateway.sensors.shelf.drivers.check import check as look

    return look(settings)


def discovery(settings: ShelfSettings) -> Iterator[Shown]:
    """Yield what a home automation is shown of one shelf."""
    from gateway.sensors.shelf.shown import shown

    return shown(settings)


def simulate(settings: ShelfSettings) -> Part:
    """Return what one shelf is in a simulated shop."""
    from gateway.sensors.shelf.simulated import simulated

    return simulated(settings)


EXAMPLE = """\
[[shelf]]
id = "aisle-3"
driver = "hx711"
data_pin = 5
clock_pin = 6
rate_hz = 10                         # the chip's RATE pin: 10 or 80
products = [{ sku = "4006381333931", unit_grams = 330.0, capacity = 24, low_below = 6 }]
calibration = { offset_counts = 84213, counts_per_gram = 21.5 }
"""

KIND: Kind[ShelfSettings] = Kind(
    table="shelf",
    stream="shelf",
    settings=ShelfSettings,
    facts=(ShelfPicked, ShelfPlaced, ShelfChanged, ShelfLevel),
    interpreter=interpreter,
    driver=driver,
    remember=remember,
    remembered_bytes_max=REMEMBERED_BYTES_MAX,
    reading_of=reading_of,
    line_of=line_of,
    pins=pins_of,
    judge=judge,
    trial=trial,
    gauge=gauge,
    simulate=simulate,
    check=check,
    discovery=discovery,
    ranges={"confidence": (0, 1)},
    example=EXAMPLE,
    changeable="products level_dwell_s",
    on_demand="driver rate_hz calibration",
    calibrates=True,
)
