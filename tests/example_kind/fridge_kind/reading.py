"""The reading of a fridge: a temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.model import Instant, Reading

from .settings import CELSIUS_MAX, CELSIUS_MIN


@dataclass(frozen=True, slots=True)
class FridgeRead(Reading):
    """One conversion of the thermometer."""

    celsius: float


def reading_of(sensor: str, at: Instant, line: Mapping[str, Any]) -> FridgeRead:
    """Read a recording's line; ValueError says what is wrong."""
    celsius = line.get("celsius")
    if isinstance(celsius, bool) or not isinstance(celsius, int | float) or not CELSIUS_MIN <= celsius <= CELSIUS_MAX:
        raise ValueError(f'"celsius" must be a number from {CELSIUS_MIN:g} to {CELSIUS_MAX:g}, not {celsius!r}')
    return FridgeRead(sensor, at, float(celsius))


def line_of(reading: FridgeRead) -> dict[str, Any]:
    """Return what a recording's line says of the reading."""
    return {"celsius": reading.celsius}
