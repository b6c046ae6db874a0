"""From raw counts to settled levels: outliers cut, movement told from rest, drift followed slowly. Pure.

Law: only a settled level is a weight. Settled means: of one second of samples at least 70 % agree within their own
noise, without trend, and they are not all the same number (a converter that converts has noise; a frozen one has none).
The noise is learned from the signal at rest.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from dataclasses import dataclass

from gateway.model import NS_PER_MS, NS_PER_S, Instant
from gateway.sensors.shelf.sizes import NOISE_MAX_COUNTS

POINTS_PER_S = 10
WINDOW = 10
KEPT_MIN = 7
"""A window with more than 30 % outliers says nothing (hardware notes 3.5: the mean fails there)."""
SPAN_MIN_NS = 600 * NS_PER_MS
SPAN_MAX_NS = 12 * NS_PER_S
MAD_TO_SIGMA = 1.4826
OUTLIER_SIGMAS = 5.0
NOISE_MIN_COUNTS = 2.0


@dataclass(frozen=True, slots=True)
class Point:
    """One tenth of a second: the median of its samples."""

    at: Instant
    counts: float


@dataclass(frozen=True, slots=True)
class Settled:
    """The mean of the samples that agree, in counts, since `since`; `noise` is the deviation of one point."""

    since: Instant
    counts: float
    noise: float
    kept: int


class Blocks:
    """Gathers samples into points of a tenth of a second, so that 80 samples a second cost little more than 10."""

    def __init__(self, rate_hz: int) -> None:
        self.size = max(1, rate_hz // POINTS_PER_S)
        self._samples: list[int] = []
        self._at: Instant | None = None

    def add(self, at: Instant, counts: int) -> Point | None:
        """Take a sample; return the point that it completes."""
        if self._at is None or at.boot_ns - self._at.boot_ns > NS_PER_S:
            self._samples.clear()
            self._at = at
        self._samples.append(counts)
        if len(self._samples) < self.size:
            return None
        point = Point(self._at, float(statistics.median(self._samples)))
        self.clear()
        return point

    def clear(self) -> None:
        self._samples.clear()
        self._at = None


def roughness(counts: list[float]) -> float:
    """Return the noise of one value from successive differences: trend and a step hardly enter it."""
    steps = sorted(abs(after - before) for before, after in itertools.pairwise(counts))
    return steps[len(steps) // 2] * MAD_TO_SIGMA / math.sqrt(2)


class Window:
    """The last second of points, and what it says."""

    def __init__(self, noise_max_counts: float = NOISE_MAX_COUNTS) -> None:
        self.noise_max = noise_max_counts
        self.points: deque[Point] = deque(maxlen=WINDOW)
        self.noise: float | None = None  # learned; None until the first settled window

    def clear(self) -> None:
        self.points.clear()

    def add(self, point: Point) -> None:
        self.points.append(point)

    def middle(self) -> float:
        """Return the median of the last five points: two spikes among them change nothing."""
        recent = sorted(point.counts for point in list(self.points)[-5:])
        return recent[len(recent) // 2]

    def settled(self, slack_counts: float) -> Settled | None:
        """Return the level if the window is at rest; `slack_counts` is a deviation too small to matter here."""
        points = self.points
        if len(points) < WINDOW or not SPAN_MIN_NS <= points[-1].at.boot_ns - points[0].at.boot_ns <= SPAN_MAX_NS:
            return None
        ordered = sorted(point.counts for point in points)
        median = (ordered[WINDOW // 2 - 1] + ordered[WINDOW // 2]) / 2
        deviations = sorted(abs(value - median) for value in ordered)
        limit = OUTLIER_SIGMAS * MAD_TO_SIGMA * max(deviations[WINDOW // 2], NOISE_MIN_COUNTS / 2)
        kept = [point for point in points if abs(point.counts - median) <= limit]
        if len(kept) < KEPT_MIN:
            return None
        values = [point.counts for point in kept]
        if len(set(values)) < 3:
            return None  # a frozen converter
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        noise = self.noise if self.noise is not None else max(NOISE_MIN_COUNTS, min(self.noise_max, spread))
        if spread > 2.2 * noise + slack_counts:
            return None
        half = len(values) // 2
        trend = abs(sum(values[half:]) / (len(values) - half) - sum(values[:half]) / half)
        # Two means of five differ by 0.63 of the noise; 3.2 times that happens once in a thousand windows.
        if trend > 2.0 * max(noise, min(spread, 1.5 * noise)) + slack_counts:
            return None
        return Settled(kept[0].at, mean, noise, len(kept))

    def learn(self, settled: Settled) -> None:
        """Learn the noise from this window, which is at rest as `settled`.

        Nine steps from point to point can come out at a third of the truth: the first estimate is not below the spread.
        """
        seen = max(NOISE_MIN_COUNTS, min(self.noise_max, roughness([point.counts for point in self.points])))
        self.noise = max(seen, settled.noise) if self.noise is None else self.noise + 0.02 * (seen - self.noise)
