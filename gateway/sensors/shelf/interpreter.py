"""Shelves: weight into what was picked, placed or changed, the shelf's level, and the scale's faults.

Law: only a settled difference is a change, and only one combination of products explains it, else it is `changed`. A
faulty scale tells its fault and never grams; afterwards it settles anew and only a real difference is a change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.model import NS_PER_S, Event, Instant, Reading, rfc3339
from gateway.sensors.kind import Context
from gateway.sensors.shelf.ailments import WORD_MAX, WORD_MIN, Ailments
from gateway.sensors.shelf.balance import Balance, Change
from gateway.sensors.shelf.explaining import Explainer, Judgement, Moved
from gateway.sensors.shelf.facts import ShelfChanged, ShelfLevel, ShelfPicked, ShelfPlaced
from gateway.sensors.shelf.goods import State, shares, state_of
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings
from gateway.sensors.shelf.sizes import sizes_of
from gateway.sensors.shelf.stock import BELOW_COUNTS, Stock
from gateway.sensors.shelf.weighing import Blocks

PICKED_NS = 1_200 * NS_PER_S // 1000
MANY = 3
MANY_NS = 2_500 * NS_PER_S // 1000
"""Some placed, or many picked: also what a hand on the shelf could look like, and nobody waits for it."""
MANY_PLACED_NS = 3_400 * NS_PER_S // 1000
"""A hand that leans weighs kilogrammes, and those are some number of items as well; staff bring an armful every 4 s."""
UNEXPLAINED_NS = 5 * NS_PER_S
AWAY_COUNTS, AWAY_UNITS = 300.0, 0.5
"""A converter that was off begins 250 to 900 counts beside its old zero, and the room is warmer or colder."""
BELOW_ZERO = (
    "it weighs less than nothing: it was tared with goods on it, or something lifts it; empty it and tare again"
)


@dataclass(slots=True)
class Standing:
    """A product's state: what was told, and what holds now since when, as it was when reached."""

    told: State | None = None
    now: State | None = None
    since: Instant | None = None
    fact: ShelfLevel | None = None


def _rounded(grams: float) -> float:
    return round(grams, 1) + 0.0  # + 0.0 makes -0.0 plain zero


class ShelfInterpreter:
    """One shelf."""

    def __init__(self, settings: ShelfSettings, context: Context) -> None:
        self.settings = settings
        self.faults = context.faults
        self._per_gram = 1.0 if settings.calibration is None else settings.calibration.counts_per_gram
        self._explainer = Explainer(settings.products)
        self.stock = Stock(settings.products, self._explainer.spreads, BELOW_COUNTS / abs(self._per_gram))
        self._remembered = context.remembered
        self._blocks = Blocks(settings.rate_hz)
        self._standings = [Standing() for _ in settings.products]
        self._is_waiting = False  # a state differs from what was told
        self._dwell_ns = int(settings.level_dwell_s * NS_PER_S)
        self._latest_ns = 0
        sizes = sizes_of(settings)
        self._ailments = Ailments(settings.rate_hz, context.faults, sizes.noise_max)
        self._balance = Balance(sizes, self._patience_ns)

    def read(self, reading: Reading) -> Iterator[Event]:
        """Take one sample."""
        behind_ns = self._latest_ns - reading.at.boot_ns
        at = reading.at.later(behind_ns) if behind_ns > 0 else reading.at
        yield from self.tick(at)
        if not isinstance(reading, ScaleSampled):
            return
        yield from self._ailments.sample(at, reading.counts)
        if self.settings.calibration is None:
            detail = "the scale is not calibrated: run gateway calibrate, or give calibration in the configuration"
            yield from self.faults.fail(at, "not_calibrated", detail)
            return
        if reading.counts in (WORD_MAX, WORD_MIN) or self._ailments.is_frozen:
            if self._ailments.is_frozen:
                self._blocks.clear()
                self._balance.disturb()
            return
        point = self._blocks.add(at, reading.counts)
        if point is None:
            return
        yield from self._ailments.point(point)
        if not self._ailments.is_sound:
            self._balance.disturb()
            return
        change = self._balance.point(point)
        if change is not None:
            yield from self._changed(change)
        yield from self._tell_levels(at)

    def tick(self, now: Instant) -> Iterator[Event]:
        """Tell silence, and levels that have lasted."""
        self._latest_ns = max(self._latest_ns, now.boot_ns)
        if (due_ns := self._level_due_ns()) is not None and due_ns <= now.boot_ns:
            yield from self._tell_levels(now)
        was_silent = "silent" in self.faults.active
        yield from self._ailments.tick(now)
        if not was_silent and "silent" in self.faults.active:
            self._blocks.clear()
            self._balance.disturb()

    def due_ns(self) -> int | None:
        dues = (self._ailments.due_ns(), self._level_due_ns())
        return min((due for due in dues if due is not None), default=None)

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        """Nothing here hangs on the wall clock."""
        yield from ()

    def finish(self, now: Instant) -> Iterator[Event]:
        """Tell a change that stands already and that a product explains."""
        yield from self.tick(now)
        calibration = self.settings.calibration
        if calibration is not None and self._ailments.is_sound and (change := self._balance.pending()) is not None:
            yield from self._changed(change, is_last=True)
            yield from self._tell_levels(now)

    def _patience_ns(self, difference: float, noise: float) -> int:
        moved = Moved(difference / self._per_gram, noise / abs(self._per_gram))
        found = self._judge(moved).best
        if found is None:
            return UNEXPLAINED_NS
        is_many = sum(abs(n) for n in found.counts) > MANY
        if all(n <= 0 for n in found.counts):
            return MANY_NS if is_many else PICKED_NS
        return MANY_PLACED_NS if is_many else MANY_NS

    def _judge(self, moved: Moved) -> Judgement:
        return self._explainer.judge(moved, self.stock.counts, [thing.grams for thing in self.stock.lying])

    def _changed(self, change: Change, *, is_last: bool = False) -> Iterator[Event]:
        calibration = self.settings.calibration
        assert calibration is not None
        after = calibration.grams(change.after)
        noise_grams = change.noise / abs(self._per_gram)
        if change.before is None:
            self.stock.settle(after, change.since.boot_ns)
            yield from self._zero(change.since)
            if (moved := self._away(after, noise_grams)) is not None:
                yield from self._tell(moved, self._judge(moved), change.since, change.sure)
        else:
            took_s = (change.since.boot_ns - change.left.boot_ns) / NS_PER_S
            moved = Moved(after - calibration.grams(change.before), noise_grams, took_s)
            judgement = self._judge(moved)
            if is_last and judgement.best is None:
                return
            self._explainer.learn(moved, judgement)
            self.stock.change(judgement, moved.grams, change.since.boot_ns)
            self.stock.settle(after, change.since.boot_ns)
            yield from self._zero(change.since)
            yield from self._tell(moved, judgement, change.left, change.sure)
        self._note_states(change.since)

    def _away(self, grams: float, noise_grams: float) -> Moved | None:
        """Return what changed between the last weight of an earlier run and the first of this, if anything did."""
        remembered = self._remembered.get("grams")
        if remembered is None or not self.settings.products:
            return None
        moved = Moved(grams - float(remembered), math.hypot(noise_grams, AWAY_COUNTS / abs(self._per_gram)), None)
        lightest = min(product.unit_grams for product in self.settings.products)
        return moved if abs(moved.grams) >= max(AWAY_UNITS * lightest, 3 * moved.noise_grams) else None

    def _zero(self, at: Instant) -> Iterator[Event]:
        """Tell that the shelf weighs less than nothing, or does no more."""
        if self.stock.is_below_zero:
            yield from self.faults.fail(at, "below_zero", BELOW_ZERO)
        else:
            yield from self.faults.recover(at, "below_zero", detail="it weighs something again")

    def _tell(self, moved: Moved, judgement: Judgement, at: Instant, sure: Instant) -> Iterator[Event]:
        products = self.settings.products
        grams = self.stock.remaining_grams
        left = None if grams is None else _rounded(grams)
        settled, away = rfc3339(sure.wall_ns), True if moved.took_s is None else None
        if judgement.best is None:
            yield Event(self.settings.id, at, ShelfChanged(_rounded(moved.grams), left, settled, away))
            return
        for place, share in shares(judgement.best.counts, products, moved.grams).items():
            n = judgement.best.counts[place]
            product, weight = products[place], _rounded(share)
            if product.by_weight:
                yield Event(self.settings.id, at, ShelfChanged(weight, left, settled, away, product.sku))
                continue
            kind = ShelfPicked if n < 0 else ShelfPlaced
            there, confidence = self.stock.remaining_count(place), judgement.best.confidence
            fact = kind(product.sku, abs(n), abs(weight), there, left, confidence, settled, away)
            yield Event(self.settings.id, at, fact)

    def _note_states(self, since: Instant) -> None:
        for place, (product, standing) in enumerate(zip(self.settings.products, self._standings, strict=True)):
            items = self.stock.items(place)
            if items is None:
                continue
            state = state_of(items, product, standing.now)
            if state != standing.now:
                standing.now, standing.since = state, since
            elif state == standing.told:
                continue
            count = self.stock.remaining_count(place)
            standing.fact = ShelfLevel(state, product.sku, count, product.capacity, _rounded(self.stock.grams))
        self._is_waiting = any(standing.now != standing.told for standing in self._standings)

    def _level_due_ns(self) -> int | None:
        if not self._is_waiting or self._balance.is_moving or not self._ailments.is_sound:
            return None
        waiting = (s for s in self._standings if s.now != s.told and s.since is not None)
        return min((self._told_at_ns(standing) for standing in waiting), default=None)

    def _told_at_ns(self, standing: Standing) -> int:
        assert standing.since is not None
        return standing.since.boot_ns + (self._dwell_ns if standing.told is not None else 0)

    def _tell_levels(self, now: Instant) -> Iterator[Event]:
        if not self._is_waiting or self._balance.is_moving or not self._ailments.is_sound:
            return
        for standing in self._standings:
            if standing.now == standing.told or standing.since is None or standing.fact is None:
                continue
            if self._told_at_ns(standing) <= now.boot_ns:
                standing.told = standing.now
                yield Event(self.settings.id, standing.since, standing.fact)
        self._is_waiting = any(standing.now != standing.told for standing in self._standings)
