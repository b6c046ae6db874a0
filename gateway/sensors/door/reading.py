"""The reading of a door: a beam was broken, or is clear again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.model import Instant, Reading
from gateway.sensors.door.settings import BEAMS, BeamName


@dataclass(frozen=True, slots=True)
class BeamChanged(Reading):
    """The level of a beam; it may be repeated."""

    beam: BeamName
    broken: bool


def reading_of(sensor: str, at: Instant, line: Mapping[str, Any]) -> BeamChanged:
    """Read a recording's line; ValueError says what is wrong."""
    beam, broken = line.get("beam"), line.get("broken")
    if beam not in BEAMS:
        raise ValueError(f'"beam" must be "outer", "inner" or "only", not {beam!r}')
    if not isinstance(broken, bool):
        raise ValueError(f'"broken" must be true or false, not {broken!r}')
    return BeamChanged(sensor, at, beam, broken)


def line_of(reading: BeamChanged) -> dict[str, Any]:
    """Return what a recording's line says of the reading."""
    return {"beam": reading.beam, "broken": reading.broken}
