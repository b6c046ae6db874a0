"""The kind `door`: what the gateway knows of doors, in one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.machine.clock import Clock
from gateway.sensors.diagnosis import Evidence, Finding
from gateway.sensors.door.facts import DoorBlocked, DoorCleared, DoorCounted, DoorPassed
from gateway.sensors.door.reading import line_of, reading_of
from gateway.sensors.door.settings import DoorSettings, pins_of
from gateway.sensors.gauge import Gauge
from gateway.sensors.kind import Context, Driver, Interpreter, Kind
from gateway.sensors.simulation import Door, Part
from gateway.sensors.trial import Tools, Trial
from gateway.shown import Shown


def interpreter(settings: DoorSettings, context: Context) -> Interpreter:
    """Build the interpreter of one door."""
    from gateway.sensors.door.interpreter import DoorInterpreter

    return DoorInterpreter(settings, context)


def driver(settings: DoorSettings, clock: Clock) -> Driver:
    """Build the driver of one door's beams."""
    from gateway.sensors.door.driver import BeamDriver

    return BeamDriver(settings, clock)


REMEMBERED_BYTES_MAX = len('{"in_total":,"out_total":,"unknown_total":}') + 3 * len("999999999999")


def remember(known: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep the totals of the last recorded passage."""
    if kind != DoorPassed.type:
        return known
    return {**known, **{key: data[key] for key in ("in_total", "out_total", "unknown_total") if key in data}}


def judge(settings: DoorSettings, evidence: Evidence) -> list[Finding]:
    """Judge one door by its readings."""
    from gateway.sensors.door.diagnosis import judge_door

    return judge_door(settings, evidence)


def trial(settings: DoorSettings, tools: Tools) -> Trial:
    """Return the trial of one door."""
    from gateway.sensors.door.trial import DoorTrial

    return DoorTrial(settings, tools)


def gauge(settings: DoorSettings) -> Gauge:
    """Return how one door is watched."""
    from gateway.sensors.door.gauge import DoorGauge

    return DoorGauge(settings)


def discovery(settings: DoorSettings) -> Iterator[Shown]:
    """Yield what a home automation is shown of one door."""
    from gateway.sensors.door.shown import shown

    return shown(settings)


def simulate(settings: DoorSettings) -> Part:
    """Return what one door is in a simulated shop."""
    return Door(settings.id, settings.beams)


EXAMPLE = """\
[[door]]                             # two beams, one behind the other, tell the direction
id = "entrance"
outer_pin = 17
inner_pin = 27
# blocked_after_s = 10
# counted_every = "15 min"

[[door]]                             # a single beam counts, without direction
id = "back"
beam_pin = 22
# wiring = "beam"                    # or "reed" (door opened), "turnstile" (a pulse a turn), "mat" (steps)
# pull = "up"                        # or "down", "floating"
# broken_when = "low"                # or "high": the pin's level while the beam is broken or the contact closed
"""

KIND: Kind[DoorSettings] = Kind(
    table="door",
    stream="door",
    settings=DoorSettings,
    facts=(DoorPassed, DoorCounted, DoorBlocked, DoorCleared),
    interpreter=interpreter,
    driver=driver,
    reading_of=reading_of,
    line_of=line_of,
    pins=pins_of,
    interval_s=lambda settings: settings.counted_every,
    remember=remember,
    remembered_bytes_max=REMEMBERED_BYTES_MAX,
    judge=judge,
    trial=trial,
    gauge=gauge,
    simulate=simulate,
    discovery=discovery,
    example=EXAMPLE,
    changeable="blocked_after_s counted_every",
    on_demand="pull broken_when wiring",
)
