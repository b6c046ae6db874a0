"""What ails a scale: saturated, unplugged, stuck, noisy, wrong rate, silent. Pure.

Law: a fault is told within 15 s of its beginning, with the moment it began, and while it lasts nothing is a weight. A
single odd word is no fault: a few per cent of bit errors are daily bread on long wires, and the filter removes them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.model import NS_PER_S, Event, Instant
from gateway.sensors.kind import Faults
from gateway.sensors.shelf.sizes import NOISE_MAX_COUNTS
from gateway.sensors.shelf.weighing import (
    KEPT_MIN,
    MAD_TO_SIGMA,
    OUTLIER_SIGMAS,
    WINDOW,
    Point,
    roughness,
)

WORD_MAX, WORD_MIN, ALL_ONES = 0x7FFFFF, -0x800000, -1

SILENT_NS = 5 * NS_PER_S
WORD_NS, WORD_COUNT = 2 * NS_PER_S, 5
"""A saturated or all-ones word that comes again for 2 s is a state, not a bit error."""
STUCK_NS, STUCK_COUNT = 10 * NS_PER_S, 20
"""21 counts of noise never repeat a value twenty times; 10 s leave time to tell it within 15."""
STRAY_SHARE = 0.2
GOOD_COUNT, GOOD_NS = 5, NS_PER_S
RATE_NS = 10 * NS_PER_S
RATE_LOW, RATE_HIGH = 0.5, 2.0
"""The chip's own clock is within some per cent; a third of frames spoiled is bit-banging, not the RATE pin."""
NOISY_WINDOWS, CALM_WINDOWS = 10, 3
ALTERNATING = -0.25
"""Successive steps of noise are correlated by -0.5; those of a hand, which moves below 3 Hz, are not."""
SPIKES_SLOTS, SPIKES_SHARE, SPIKES_CALM, CALM_SLOTS = 10, 0.2, 0.05, 3
"""A fifth of the words spoiled, 10 s long, is more than the filter holds (hardware notes 3.5)."""
SPIKE_COUNTS, SPIKE_SIGMAS = 100.0, 10.0
UNHEARD_REASONS = ("silent", "driver_missing", "pin_in_use", "pin_unavailable", "driver_died", "driver_hung")

DETAILS = {
    "saturated": "the converter is at its end of scale: overloaded, or a load cell wire is loose or swapped",
    "unplugged": "the converter answers all ones: it is not connected, not powered, or its data wire is broken",
    "stuck": "the converter repeats one value: it no longer converts; interrupt its power",
    "noisy": "the reading is far noisier than a sound scale's: check the cable's shield, the supply and the load cell",
    "spikes": "many of its words are spoiled (spikes): shorten the data wires, keep them off mains, DVDD at 3.3 V",
    "wrong_rate": "samples do not come at the configured rate_hz: compare it with the chip's RATE pin",
    "silent": "no sample for 5 s: the converter is not powered, or its clock or data wire is broken",
}


@dataclass(slots=True)
class Run:
    """One value that comes again and again, but for single strays."""

    value: int
    began: Instant
    count: int = 1
    strays: int = 0
    was_stray: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """One second of points; `together` over `power` is how successive steps are correlated."""

    at: Instant
    is_rough: bool
    median: float
    rough: float
    together: float
    power: float


class Spikes:
    """Counts words that stand alone, far from both neighbours, which agree: what no load and no hand can do."""

    def __init__(self) -> None:
        self.far_counts = SPIKE_COUNTS  # how far an odd word is at least
        self._before = self._last = 0
        self._seconds: deque[tuple[int, int]] = deque(maxlen=SPIKES_SLOTS)  # words and odd ones of each
        self._words = self._odd = 0
        self._until_ns = 0

    def add(self, at_ns: int, counts: int) -> bool:
        """Take a word; return whether a second is over, and there is something new to judge."""
        before, last = self._before, self._last
        self._before, self._last = last, counts
        off, back = last - before, last - counts
        if abs(off) > self.far_counts < abs(back) and (off > 0) == (back > 0) and 4 * abs(counts - before) < abs(off):
            self._odd += 1
        self._words += 1
        if at_ns < self._until_ns:
            return False
        if self._until_ns:
            self._seconds.append((self._words, self._odd))
        self._words = self._odd = 0
        self._until_ns = at_ns + NS_PER_S
        return True

    def clear(self) -> None:
        self._seconds.clear()
        self._words = self._odd = self._until_ns = 0

    @property
    def are_many(self) -> bool:
        """Ten seconds of spoiled words."""
        words, odd = (sum(numbers) for numbers in zip(*self._seconds, strict=True)) if self._seconds else (0, 0)
        steady = sum(1 for _, odd_ones in self._seconds if odd_ones)
        return len(self._seconds) == SPIKES_SLOTS and odd > SPIKES_SHARE * words and steady >= SPIKES_SLOTS - 2

    @property
    def are_few(self) -> bool:
        """Three seconds nearly without."""
        recent = list(self._seconds)[-CALM_SLOTS:]
        words, odd = (sum(numbers) for numbers in zip(*recent, strict=True)) if recent else (0, 0)
        return len(recent) == CALM_SLOTS and odd <= SPIKES_CALM * words


class Ailments:
    """Watches one scale's samples. `is_sound` tells whether they can be weights at present."""

    def __init__(self, rate_hz: int, faults: Faults, noise_max_counts: float = NOISE_MAX_COUNTS) -> None:
        self.faults = faults
        self.rate_hz = rate_hz
        self.noise_max_counts = noise_max_counts
        self.last: Instant | None = None  # of the last sample
        self._run: Run | None = None
        self._frozen: str | None = None  # saturated, unplugged or stuck
        self._frozen_value = 0
        self._good: deque[int] = deque(maxlen=GOOD_COUNT)
        self._good_since: Instant | None = None
        self._noisy = False
        self._is_spiky = False
        self._spikes = Spikes()
        self._points: list[Point] = []
        self._judged: deque[Judged] = deque(maxlen=NOISY_WINDOWS)
        self._rate_from: Instant | None = None
        self._rate_count = 0

    @property
    def is_sound(self) -> bool:
        return self._frozen is None and not self._noisy and not self._is_spiky

    @property
    def is_frozen(self) -> bool:
        return self._frozen is not None

    def sample(self, at: Instant, counts: int) -> Iterator[Event]:
        """Judge one sample."""
        if "silent" in self.faults.active:
            yield from self.faults.recover(at, "silent", detail="samples come again")
        if self.last is None or at.boot_ns - self.last.boot_ns >= SILENT_NS:
            self._rate_from, self._rate_count = at, 0
            self._run = None
            self._spikes.clear()
        self.last = at
        yield from self._words(at, counts)
        if self._frozen is None and self._spikes.add(at.boot_ns, counts):
            yield from self._spoiled(at)
        yield from self._rate(at)

    def point(self, point: Point) -> Iterator[Event]:
        """Judge one tenth of a second."""
        self._points.append(point)
        if len(self._points) < WINDOW:
            return
        points, self._points = self._points, []
        self._judged.append(_judge(points, self.noise_max_counts))
        if self._noisy:
            recent = list(self._judged)[-CALM_WINDOWS:]
            if not any(judged.is_rough for judged in recent):
                self._noisy = False
                self._judged.clear()
                yield from self._calm(recent[0].at)
        elif sum(judged.is_rough for judged in self._judged) == NOISY_WINDOWS:
            # A hand that rummages moves the middle, and moves on in the same direction; noise does neither.
            medians = [judged.median for judged in self._judged]
            stays = max(medians) - min(medians) <= 3 * max(judged.rough for judged in self._judged)
            together = sum(judged.together for judged in self._judged)
            if stays and together <= ALTERNATING * sum(judged.power for judged in self._judged):
                self._noisy = True
                yield from self.faults.fail(self._judged[0].at, "noisy", DETAILS["noisy"])

    def tick(self, now: Instant) -> Iterator[Event]:
        """Tell silence after samples; of a scale that never gave one, the driver tells it."""
        due_ns = self.due_ns()
        if self.last is not None and due_ns is not None and due_ns <= now.boot_ns:
            self._points.clear()
            yield from self.faults.fail(self.last, "silent", DETAILS["silent"])

    def due_ns(self) -> int | None:
        """Return when silence is a fault; None while it is one, or while the driver has told a worse one."""
        active = self.faults.active
        if self.last is None or (active and not active.keys().isdisjoint(UNHEARD_REASONS)):
            return None
        return self.last.boot_ns + SILENT_NS

    def _words(self, at: Instant, counts: int) -> Iterator[Event]:
        run = self._run
        if run is None:
            run = self._run = Run(counts, at)
        elif counts == run.value:
            run.count += 1
            run.was_stray = False
        elif run.was_stray or run.strays + 1 > STRAY_SHARE * run.count:
            run = self._run = Run(counts, at)
        else:
            run.strays += 1
            run.was_stray = True
        lasted_ns = at.boot_ns - run.began.boot_ns
        reason = "unplugged" if run.value == ALL_ONES else "saturated"
        if run.value not in (ALL_ONES, WORD_MAX, WORD_MIN):
            if lasted_ns >= STUCK_NS and run.count >= STUCK_COUNT:
                yield from self._freeze("stuck", run.began)
        elif lasted_ns >= WORD_NS and run.count >= WORD_COUNT:
            yield from self._freeze(reason, run.began)
        if self._frozen is None:
            return
        if counts in (ALL_ONES, WORD_MAX, WORD_MIN, self._frozen_value):
            self._good.clear()
            self._good_since = None
            return
        since = self._good_since = self._good_since or at
        self._good.append(counts)
        if len(self._good) == GOOD_COUNT and len(set(self._good)) >= 3 and at.boot_ns - since.boot_ns >= GOOD_NS:
            reason, self._frozen = self._frozen, None
            yield from self.faults.recover(since, reason, detail="the reading is alive again")

    def _spoiled(self, at: Instant) -> Iterator[Event]:
        spikes = self._spikes
        # Spikes roughen the seconds that they fall into: the calmest of the last ones shows the noise between them.
        noise = min((judged.rough for judged in self._judged), default=self.noise_max_counts)
        spikes.far_counts = max(SPIKE_COUNTS, SPIKE_SIGMAS * noise)
        if not self._is_spiky and spikes.are_many:
            self._is_spiky = True
            yield from self.faults.fail(at.later(-SPIKES_SLOTS * NS_PER_S), "noisy", DETAILS["spikes"])
        elif self._is_spiky and spikes.are_few:
            self._is_spiky = False
            spikes.clear()
            yield from self._calm(at)

    def _calm(self, at: Instant) -> Iterator[Event]:
        if not self._noisy and not self._is_spiky:
            yield from self.faults.recover(at, "noisy", detail="the reading is calm again")

    def _freeze(self, reason: str, began: Instant) -> Iterator[Event]:
        if self._frozen == reason:
            return
        self._frozen_value = self._run.value if self._run is not None else 0
        if self._frozen is not None:
            yield from self.faults.recover(began, self._frozen, detail=f"it is {reason} now")
        self._frozen = reason
        self._good.clear()
        self._good_since = None
        self._points.clear()
        self._spikes.clear()
        yield from self.faults.fail(began, reason, DETAILS[reason])

    def _rate(self, at: Instant) -> Iterator[Event]:
        if self._rate_from is None:
            self._rate_from, self._rate_count = at, 0
            return
        self._rate_count += 1
        lasted_ns = at.boot_ns - self._rate_from.boot_ns
        if lasted_ns < RATE_NS:
            return
        rate_hz = self._rate_count * NS_PER_S / lasted_ns
        if RATE_LOW <= rate_hz / self.rate_hz <= RATE_HIGH:
            yield from self.faults.recover(self._rate_from, "wrong_rate", detail=f"{rate_hz:.0f} samples a second")
        else:
            detail = f"{DETAILS['wrong_rate']} ({rate_hz:.1f} a second instead of {self.rate_hz})"
            yield from self.faults.fail(self._rate_from, "wrong_rate", detail)
        self._rate_from, self._rate_count = at, 0


def _judge(points: list[Point], noise_max_counts: float) -> Judged:
    counts = [point.counts for point in points]
    ordered = sorted(counts)
    median = ordered[len(ordered) // 2]
    deviations = sorted(abs(value - median) for value in ordered)
    limit = OUTLIER_SIGMAS * MAD_TO_SIGMA * max(deviations[len(deviations) // 2], 1.0)
    rough = roughness(counts)
    if sum(1 for value in counts if abs(value - median) <= limit) < KEPT_MIN:
        return Judged(points[0].at, True, median, rough, 0.0, 0.0)
    steps = [after - before for before, after in itertools.pairwise(counts)]
    power = sum(step * step for step in steps)
    together = sum(before * after for before, after in itertools.pairwise(steps))
    return Judged(points[0].at, rough > noise_max_counts, median, rough, together, power)
