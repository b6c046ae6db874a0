"""The reading of a shelf: one conversion of its scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.model import Instant, Reading
from gateway.sensors.shelf.ailments import WORD_MAX, WORD_MIN


@dataclass(frozen=True, slots=True)
class ScaleSampled(Reading):
    """One conversion of the HX711: `counts` is its signed 24-bit value."""

    counts: int


def reading_of(sensor: str, at: Instant, line: Mapping[str, Any]) -> ScaleSampled:
    """Read a recording's line; ValueError says what is wrong."""
    counts = line.get("counts")
    if isinstance(counts, bool) or not isinstance(counts, int) or not WORD_MIN <= counts <= WORD_MAX:
        raise ValueError(f'"counts" must be an integer from -8388608 to 8388607, not {counts!r}')
    return ScaleSampled(sensor, at, counts)


def line_of(reading: ScaleSampled) -> dict[str, Any]:
    """Return what a recording's line says of the reading."""
    return {"counts": reading.counts}
