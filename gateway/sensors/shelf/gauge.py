"""How a shelf is watched: its weight, its noise, and its last minute as a plot."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterator
from typing import Any

from gateway.model import Reading
from gateway.sensors.gauge import Gauge, Tone, plot
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings

POINTS_MAX = 4_800
"""A minute of a scale at 80 samples a second."""
LEAST_GRAMS, LEAST_COUNTS = 20.0, 400.0
"""The least range a plot shows: a scale's noise stays a thin line."""


class ShelfGauge(Gauge):
    """One shelf as it is watched; `points` holds moments and weights, in `unit`."""

    def __init__(self, settings: ShelfSettings) -> None:
        super().__init__(settings)
        self.calibration = settings.calibration
        self.points: deque[tuple[int, float]] = deque(maxlen=POINTS_MAX)
        self.counts: int | None = None

    def show(self, reading: Reading, now_ns: int) -> None:
        if isinstance(reading, ScaleSampled):
            self.counts = reading.counts
            self.points.append((now_ns, self.value(reading.counts)))

    def latest(self, now_ns: int) -> str:
        if self.counts is None:
            return super().latest(now_ns)
        grams = "" if self.calibration is None else f"{self.calibration.grams(self.counts):.1f} g, "
        return f"{grams}{self.counts} counts{self._noise_words()}"

    def figures(self, now_ns: int) -> dict[str, Any]:
        if self.counts is None:
            return {}
        grams = {} if self.calibration is None else {"grams": round(self.calibration.grams(self.counts), 2)}
        return {"counts": self.counts, **grams}

    def picture(self, now_ns: int, width: int, height: int) -> Iterator[tuple[str, Tone]]:
        yield f"  ({self.unit}, the last minute)", "quiet"
        least = LEAST_GRAMS if self.calibration is not None else LEAST_COUNTS
        for line in plot(self.points, now_ns, width, height, least):
            yield "\n" + line, "series"

    def value(self, counts: int) -> float:
        """Return what is plotted of a sample: grams where calibrated, else counts."""
        return float(counts) if self.calibration is None else self.calibration.grams(counts)

    @property
    def unit(self) -> str:
        return "counts" if self.calibration is None else "g"

    def _noise_words(self) -> str:
        recent = [value for _, value in list(self.points)[-20:]]
        return f", noise {statistics.stdev(recent):.1f} {self.unit}" if len(recent) >= 10 else ""
