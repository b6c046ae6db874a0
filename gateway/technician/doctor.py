"""`gateway doctor`: every check, with what was found, why it matters and what to do.

Law: it changes nothing, runs beside a running daemon, and always ends: each check has its time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from gateway.config import Configuration
from gateway.technician.checks import Check, Examination, broker, daemon, examined, machine, sensors

WHY = {
    "configuration": "it decides what is counted, and where it goes",
    "outbox": "what happens is recorded there before it is sent",
    "clock": "events get their time from it",
    "machine": "a weak supply or heat makes cards break and readings spoil",
    "sensors": "doors, scales and beacons are read through it",
    "broker": "events are delivered through it",
    "daemon": "it counts, records and sends",
}
"""Why a group matters, where a check does not say it better."""


def examinations(configuration: Configuration) -> Iterator[Examination]:
    """Yield every examination, in the order in which they help: what is near first, the daemon's own word last."""
    yield from machine.examinations(configuration)
    yield from sensors.examinations(configuration)
    yield from broker.examinations(configuration)
    yield from daemon.examinations(configuration)


def checks(configuration: Configuration) -> Iterator[Check]:
    """Yield each finding as soon as it is found."""
    for examination in examinations(configuration):
        for check in examined(examination):
            yield check if check.why else dataclasses.replace(check, why=WHY[check.group])


def examine(configuration: Configuration) -> dict[str, Any]:
    """Return all findings as the JSON document of contract section 9."""
    return document(tuple(checks(configuration)))


def document(found: tuple[Check, ...]) -> dict[str, Any]:
    """Return findings as JSON; `result` is the worst of them (`skipped` counts as `ok`)."""
    results = {check.result for check in found}
    worst = next((result for result in ("failed", "warning") if result in results), "ok")
    return {"checks": [dataclasses.asdict(check) for check in found], "result": worst}
