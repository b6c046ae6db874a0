"""When a scale is at rest, and what it then reads: for taring, calibrating and commissioning. Pure.

Law: a weight is given only where several seconds in a row agree within the scale's own noise and nothing ails the
converter. A hand on the shelf, a swinging load, saturation or a frozen converter give no weight but a sentence.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from gateway.model import Instant, Reading
from gateway.sensors.kind import Faults
from gateway.sensors.shelf.ailments import ALL_ONES, DETAILS, WORD_MAX, WORD_MIN, Ailments
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.weighing import NOISE_MIN_COUNTS, POINTS_PER_S, WINDOW, Blocks, Window, roughness

WINDOWS = 3
"""Seconds that must agree: three means of a second each fix the level to a fifth of the noise."""
AGREE_SIGMAS = 1.5
"""Two means of ten differ by 0.45 of the noise; 1.5 times it happens once in a thousand."""
SWAY_SIGMAS = 3.5
"""A spread so far above the step from one point to the next is a slow sway, not noise."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A settled level: `counts`; `noise_counts`, the deviation of a tenth of a second; how many of these, `points`."""

    counts: float
    noise_counts: float
    points: int

    @property
    def error_counts(self) -> float:
        """The standard error of `counts`."""
        return self.noise_counts / math.sqrt(self.points)


class Weighing:
    """Samples of one scale in, weights out. `away_from` is a level that does not count: the one before a change."""

    def __init__(self, rate_hz: int, windows: int = WINDOWS, away_from: Weight | None = None) -> None:
        self._faults = Faults("scale")
        self._ailments = Ailments(rate_hz, self._faults)
        self._blocks = Blocks(rate_hz)
        self._window = Window()
        self._agreed: deque[tuple[float, float]] = deque(maxlen=windows)
        self._windows = windows
        self._away_from = away_from
        self._fresh = 0
        self.samples = 0

    def take(self, reading: Reading) -> Weight | None:
        """Take a reading of this shelf; what is no sample is passed over. Returns as `add`."""
        return self.add(reading.at, reading.counts) if isinstance(reading, ScaleSampled) else None

    def add(self, at: Instant, counts: int) -> Weight | None:
        """Take a sample; return the weight where this second completes one."""
        self.samples += 1
        for _ in self._ailments.sample(at, counts):
            self._begin_anew()
        if self._ailments.is_frozen or counts in (WORD_MAX, WORD_MIN, ALL_ONES):
            return None
        point = self._blocks.add(at, counts)
        if point is None:
            return None
        for _ in self._ailments.point(point):
            self._begin_anew()
        self._window.add(point)
        self._fresh += 1
        if self._fresh < WINDOW or not self._ailments.is_sound:
            return None
        self._fresh = 0
        return self._second()

    def why(self) -> str:
        """Say why there is no weight yet, as a sentence without its full stop."""
        if not self.samples:
            return "no sample came from the scale"
        if self._faults.active:
            return "; ".join(DETAILS.get(reason, reason) for reason in self._faults.active)
        if self._away_from is not None and self._agreed and self._is_old(self._agreed[-1]):
            return "the weight has not changed"
        return "the reading has not come to rest: a hand, a draught or a swinging load moves it"

    def _begin_anew(self) -> None:
        self._blocks.clear()
        self._window.clear()
        self._agreed.clear()
        self._fresh = 0

    def _second(self) -> Weight | None:
        settled = self._window.settled(0.0)
        noise = max(NOISE_MIN_COUNTS, roughness([point.counts for point in self._window.points]))
        if settled is None or settled.noise > SWAY_SIGMAS * noise + 1.5 * NOISE_MIN_COUNTS:
            self._agreed.clear()
            return None
        noise = max(noise, settled.noise)
        if self._agreed and abs(settled.counts - self._agreed[0][0]) > AGREE_SIGMAS * noise + NOISE_MIN_COUNTS:
            self._agreed.clear()
        self._agreed.append((settled.counts, noise))
        if len(self._agreed) < self._windows or self._is_old(self._agreed[-1]):
            return None
        counts = sum(mean for mean, _ in self._agreed) / len(self._agreed)
        noise = math.sqrt(sum(one * one for _, one in self._agreed) / len(self._agreed))
        return Weight(counts, noise, len(self._agreed) * POINTS_PER_S)

    def _is_old(self, level: tuple[float, float]) -> bool:
        old = self._away_from
        return old is not None and abs(level[0] - old.counts) <= 10 * max(level[1], old.noise_counts)
