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
from collections.abc import Callable
from dataclasses import dataclass

from gateway.model import NS_PER_MS, NS_PER_S, Instant
from gateway.sensors.shelf.sizes import NOISE_MAX_COUNTS, Sizes

POINTS_PER_S = 10
WINDOW = 10
KEPT_MIN = 7
"""A window with more than 30 % outliers says nothing (hardware notes 3.5: the mean fails there)."""
SPAN_MIN_NS = 600 * NS_PER_MS
SPAN_MAX_NS = 12 * NS_PER_S
MAD_TO_SIGMA = 1.4826
OUTLIER_SIGMAS = 5.0
NOISE_MIN_COUNTS = 2.0
STEADY_POINTS = 50
"""After 5 s of rest the level moves only as fast as drift can."""


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


class Rest:
    """The level of a scale at rest: averaged at first, then following what can be drift and nothing faster."""

    def __init__(self, settled: Settled, drift_counts_per_min: float) -> None:
        self.counts = settled.counts
        self.weight = settled.kept
        self._step = drift_counts_per_min / 60 / POINTS_PER_S

    def follow(self, counts: float) -> None:
        """Take one point of the scale at rest."""
        self.weight = min(self.weight + 1, STEADY_POINTS)
        step = (counts - self.counts) / self.weight
        if self.weight == STEADY_POINTS:
            step = max(-self._step, min(self._step, step))
        self.counts += step


@dataclass(frozen=True, slots=True)
class Change:
    """The scale came to rest at another level, in counts.

    `before` is None for the first level; `left` is when the weight left the old level, `since` when it reached the new
    one, `noise` the deviation of the difference.
    """

    left: Instant
    since: Instant
    before: float | None
    after: float
    noise: float


class Balance:
    """Points in, changes between settled levels out.

    `patience` says how long (ns) a difference must have stood, by its size and noise in counts, before it is a change:
    a hand that leans on the shelf is gone by then. A weight that comes back to its old level has not changed.
    """

    FIRST_NS = 2 * NS_PER_S
    ASKED_NS = NS_PER_S

    def __init__(self, sizes: Sizes, patience: Callable[[float, float], int]) -> None:
        self.sizes = sizes
        self.patience = patience
        self.window = Window(sizes.noise_max)
        self.rest: Rest | None = None
        self.is_moving = True
        self._candidate: Settled | None = None
        self._settled: Settled | None = None
        self._patience_ns: int | None = None
        self._left: Instant | None = None
        self._near = 0
        self._learn_in = WINDOW

    def disturb(self) -> None:
        """Forget the present window: what comes next must settle anew; the old level stays what it is compared with."""
        if self.window.points:
            self.window.clear()
        self.is_moving = True
        self._candidate = self._settled = self._left = None
        self._near = 0

    def point(self, point: Point) -> Change | None:
        """Take a tenth of a second; return the change that it settles."""
        self.window.add(point)
        rest = self.rest
        noise = self.window.noise or self.sizes.noise_max
        threshold = self.sizes.threshold(noise)
        if rest is not None:
            self._note_leaving(point, rest)
            if not self.is_moving:
                if abs(self.window.middle() - rest.counts) <= threshold:
                    self._follow(point, rest, max(threshold, OUTLIER_SIGMAS * noise))
                    return None
                self.is_moving = True
                self._candidate = None
        settled = self._settled = self.window.settled(self.sizes.slack)
        if settled is None:
            self._candidate = None
            return None
        if rest is not None and abs(settled.counts - rest.counts) < threshold:
            self.is_moving = False
            return None
        if self._candidate is None or abs(settled.counts - self._candidate.counts) > threshold / 2:
            self._candidate = settled
            self._patience_ns = None
        stood_ns = point.at.boot_ns - self._candidate.since.boot_ns
        if rest is None:
            return self._settle(settled) if stood_ns >= self.FIRST_NS else None
        if self._patience_ns is None and stood_ns >= self.ASKED_NS:
            self._patience_ns = self.patience(settled.counts - rest.counts, self._noise(rest, settled))
        if self._patience_ns is None or stood_ns < self._patience_ns:
            return None
        return self._settle(settled)

    def pending(self) -> Change | None:
        """Return the change that stands, but not yet for long enough, and take it as settled."""
        if self.rest is None or self._settled is None or self._candidate is None or not self.is_moving:
            return None
        return self._settle(self._settled)

    def _settle(self, settled: Settled) -> Change:
        candidate, rest = self._candidate or settled, self.rest
        noise = settled.noise if rest is None else self._noise(rest, settled)
        left = self._left if self._left is not None else candidate.since
        change = Change(left, candidate.since, None if rest is None else rest.counts, settled.counts, noise)
        self.window.learn(settled)
        self.rest = Rest(settled, self.sizes.drift_per_min)
        self.is_moving = False
        self._candidate = self._left = None
        self._near = 0
        for point in self.window.points:
            # The next change may have begun among these, as outliers so far.
            if point.at.boot_ns > change.since.boot_ns:
                self._note_leaving(point, self.rest)
        return change

    def _noise(self, rest: Rest, settled: Settled) -> float:
        noise = max(settled.noise, self.window.noise or 0.0)
        return noise * math.sqrt(1 / rest.weight + 1 / settled.kept)

    def _note_leaving(self, point: Point, rest: Rest) -> None:
        noise = self.window.noise or self.sizes.noise_max
        threshold = self.sizes.threshold(noise)
        if abs(point.counts - rest.counts) <= max(threshold / 2, min(4 * noise, threshold)):
            self._near += 1
            if self._near >= 3:
                self._left = None
            return
        self._near = 0
        if self._left is None:
            self._left = point.at

    def _follow(self, point: Point, rest: Rest, far_counts: float) -> None:
        if abs(point.counts - rest.counts) <= far_counts:
            rest.follow(point.counts)
        self._learn_in -= 1
        if self._learn_in <= 0:
            self._learn_in = WINDOW
            if (settled := self.window.settled(self.sizes.slack)) is not None:
                self.window.learn(settled)
