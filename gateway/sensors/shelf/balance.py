"""From settled levels to changes: a step is a change, a ramp is not; what lies beneath is followed. Pure.

Law: a change is the step alone, measured from where the weight was just before it. What creeps in between (drift, a
flyer laid down, a shelf that gives back a tenth over half a minute) moves the level from which the next step is taken,
and is told only where it comes to most of an item faster than this board ever wanders by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway.model import NS_PER_S, Instant
from gateway.sensors.shelf.sizes import Sizes
from gateway.sensors.shelf.weighing import OUTLIER_SIGMAS, POINTS_PER_S, WINDOW, Point, Settled, Window

STEADY_POINTS = 30
"""A level at rest is the average of its last 3 s: long against noise, short against drift."""
LATE_SHARE, LATE_NS = 0.12, 30 * NS_PER_S
"""A plate and its cell give back up to a tenth of a change late, within half a minute."""
MINUTE_POINTS = 60 * POINTS_PER_S
WANDER_COUNTS, WANDER_BELIEVED = 80.0, 0.05
"""Boards at rest move by 100 to 200 counts a minute (coffee scales measured at 10 samples a second)."""
WANDER_SIGMAS = 2.5
WANDER_AT_ONCE = 1.1
"""Four sigmas of what a walk with this move a minute does in 3 s."""
RAMP_OVER_NS = 30 * NS_PER_S


class Wander:
    """How far this board moves by itself in a minute of rest, in counts, on average: learned."""

    def __init__(self) -> None:
        self.per_min = WANDER_COUNTS
        self._from: float | None = None
        self._points = 0

    def clear(self) -> None:
        self._from, self._points = None, 0

    def add(self, counts: float) -> None:
        """Take the level at rest, once a point; what goods can do in a minute is not believed at once."""
        if self._from is None:
            self._from = counts
        self._points += 1
        if self._points >= MINUTE_POINTS:
            seen = min(abs(counts - self._from), 2 * self.per_min + 50)
            self.per_min += WANDER_BELIEVED * (seen - self.per_min)
            self._from, self._points = counts, 0


class Rest:
    """The level of a scale at rest, and `slow`: what it has moved since by more than the board's own wander."""

    def __init__(self, settled: Settled, before: Rest | None) -> None:
        self.counts: float = settled.counts
        self.weight = settled.kept
        self.slow: float = 0.0
        self.ramp_from = self.ramp_last = settled.since
        self.ramp_counts: float = settled.counts
        self._late: float = 0.0
        if before is not None:
            change = settled.counts - before.counts
            self.slow, self.ramp_from, self.ramp_counts = before.slow, before.ramp_from, before.ramp_counts + change
            self._late = LATE_SHARE * abs(change)
        self._late_from_ns = settled.since.boot_ns
        self._peak = 0.0

    def late(self, now_ns: int) -> float:
        """Return what may still come late of the change that led here."""
        since_ns = now_ns - self._late_from_ns
        return self._late * (1 - since_ns / LATE_NS) if since_ns < LATE_NS else 0.0

    def follow(self, point: Point, allowed_per_min: float, ramp: float) -> None:
        """Take one point of the scale at rest; `ramp` is the slow change that matters."""
        is_steady = self.weight >= STEADY_POINTS
        self.weight = min(self.weight + 1, STEADY_POINTS)
        step = (point.counts - self.counts) / self.weight
        self.counts += step
        if is_steady:
            self.slow += step
        allowed = allowed_per_min / MINUTE_POINTS
        self.slow -= max(-allowed, min(allowed, self.slow))
        if abs(self.slow) < 0.1 * ramp:
            self.ramp_from, self.ramp_counts, self._peak = point.at, self.counts, 0.0
        if (moved := abs(self.counts - self.ramp_counts)) > self._peak + 0.05 * ramp:
            self.ramp_last, self._peak = point.at, moved


@dataclass(frozen=True, slots=True)
class Change:
    """The scale came to rest at another level, in counts.

    `before` is None for the first level; `left` is when the weight left the old level, `since` when it reached the new
    one, `sure` when that was certain, `noise` the deviation of the difference.
    """

    left: Instant
    since: Instant
    sure: Instant
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
        self.wander = Wander()
        self._creep_per_min, self._ramp_counts = sizes.creep_per_min, sizes.ramp
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
        self.wander.clear()

    def point(self, point: Point) -> Change | None:
        """Take a tenth of a second; return the change that it settles."""
        self.window.add(point)
        rest = self.rest
        noise = self.window.noise or self.sizes.noise_max
        threshold = self._threshold(point, rest)
        if rest is not None:
            self._note_leaving(point, rest, threshold)
            if not self.is_moving:
                if abs(self.window.middle() - rest.counts) <= threshold:
                    self._follow(point, rest, max(threshold, OUTLIER_SIGMAS * noise))
                    return self._ramp(point, rest)
                self.is_moving = True
                self._candidate = None
                self.wander.clear()
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
            return self._settle(settled, point.at) if stood_ns >= self.FIRST_NS else None
        if self._patience_ns is None and stood_ns >= self.ASKED_NS:
            self._patience_ns = self.patience(settled.counts - rest.counts, self._noise(rest, settled))
        if self._patience_ns is None or stood_ns < self._patience_ns:
            return None
        return self._settle(settled, point.at)

    def pending(self) -> Change | None:
        """Return the change that stands, but not yet for long enough, and take it as settled."""
        if self.rest is None or self._settled is None or self._candidate is None or not self.is_moving:
            return None
        return self._settle(self._settled, self.window.points[-1].at)

    def _threshold(self, point: Point, rest: Rest | None) -> float:
        noise = self.window.noise or self.sizes.noise_max
        late = 0.0 if rest is None else rest.late(point.at.boot_ns)
        return self.sizes.threshold(noise, WANDER_AT_ONCE * self.wander.per_min, late)

    def _ramp(self, point: Point, rest: Rest) -> Change | None:
        """Return a slow change that has ended and comes to most of an item, as one change."""
        if abs(rest.slow) < self._ramp_counts or point.at.boot_ns - rest.ramp_last.boot_ns < RAMP_OVER_NS:
            return None
        noise = (self.window.noise or self.sizes.noise_max) * math.sqrt(2 / STEADY_POINTS)
        change = Change(rest.ramp_from, rest.ramp_last, point.at, rest.ramp_counts, rest.counts, noise)
        rest.slow = 0.0
        return change

    def _settle(self, settled: Settled, now: Instant) -> Change:
        candidate, rest = self._candidate or settled, self.rest
        noise = settled.noise if rest is None else self._noise(rest, settled)
        left = self._left if self._left is not None else candidate.since
        change = Change(left, candidate.since, now, None if rest is None else rest.counts, settled.counts, noise)
        self.window.learn(settled)
        self.rest = Rest(settled, rest)
        self.is_moving = False
        self._candidate = self._left = None
        self._near = 0
        for point in self.window.points:
            # The next change may have begun among these, as outliers so far.
            if point.at.boot_ns > change.since.boot_ns:
                self._note_leaving(point, self.rest, self._threshold(point, self.rest))
        return change

    def _noise(self, rest: Rest, settled: Settled) -> float:
        noise = max(settled.noise, self.window.noise or 0.0)
        return noise * math.sqrt(1 / rest.weight + 1 / settled.kept)

    def _note_leaving(self, point: Point, rest: Rest, threshold: float) -> None:
        if abs(point.counts - rest.counts) <= threshold:
            self._near += 1
            if self._near >= 3:
                self._left = None
            return
        self._near = 0
        if self._left is None:
            self._left = point.at

    def _follow(self, point: Point, rest: Rest, far_counts: float) -> None:
        if abs(point.counts - rest.counts) <= far_counts:
            allowed_per_min = max(WANDER_SIGMAS * self.wander.per_min, self._creep_per_min)
            rest.follow(point, allowed_per_min, self._ramp_counts)
            self.wander.add(rest.counts)
        self._learn_in -= 1
        if self._learn_in <= 0:
            self._learn_in = WINDOW
            if (settled := self.window.settled(self.sizes.slack)) is not None:
                self.window.learn(settled)
