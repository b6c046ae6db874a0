"""How many of each product are there, and what lies there beside them. Pure.

Law: a count and a weight that are told together agree. One product alone is counted by its changes as long as the
settled weight bears it out within an item, else anew from the weight; it has no count while a thing of no product lies
there, or where no count explains the weight. Several products are counted from the moment the shelf was empty until a
change may be of one or another. Where the shelf weighs less than nothing, its zero is wrong and nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.model import NS_PER_S
from gateway.sensors.shelf.explaining import GAIN_ERROR, Judgement, Spreads
from gateway.sensors.shelf.goods import Product

EMPTY_UNITS = 0.25
COUNTED_UNITS = 0.25
"""A weight is a number of items within a quarter of one and what their own spread adds up to."""
KEPT_UNITS = 0.9
"""A count by changes stands until the weight contradicts it by nearly an item."""
RECOUNTED_UNITS, RECOUNTED_ITEMS = 0.15, 2
"""A change that no product explains was of goods nevertheless where the shelf then weighs a whole number of them."""
BELOW_UNITS, BELOW_COUNTS = 0.5, 600.0
"""Below zero by half an item, and by more than a board wanders: it was tared with goods on it."""
LYING_NS = 1_800 * NS_PER_S
"""Nobody's bag lies there for half an hour."""
SURE = 0.8
"""Less sure than this, nobody knows of which product a change was, and none that it may be of is counted on."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A thing of no product that was laid down (or lifted off: negative)."""

    grams: float
    since_ns: int


class Stock:
    """What is on one shelf. `below_grams` is how far below zero its zero may wander."""

    def __init__(self, products: Sequence[Product], spreads: Spreads, below_grams: float = 0.0) -> None:
        self.products = products
        self.spreads = spreads
        self.counts: list[int | None] = [None] * len(products)
        self.lying: list[Lying] = []
        self.grams = 0.0
        self.is_below_zero = False
        self._is_zero_wrong = False
        units = [product.unit_grams for product in products]
        self._lightest = min(units, default=0.0)
        self._below_grams = max(BELOW_UNITS * self._lightest, below_grams)

    @property
    def remaining_grams(self) -> float | None:
        """The weight of what is there, None where the zero is wrong."""
        return None if self._is_zero_wrong or self.is_below_zero else self.grams

    def remaining_count(self, place: int) -> int | None:
        """Return how many are there, None while that is not known."""
        if self.remaining_grams is None or self.products[place].by_weight:
            return None
        if len(self.products) == 1 and self.lying:
            return None
        return self.counts[place]

    def items(self, place: int) -> int | None:
        """Return how many are there for the shelf's level: of one product also what its weight comes to, rounded.

        None where that is not known, or while a thing of no product lies there.
        """
        if self.remaining_grams is None or (len(self.products) == 1 and self.lying):
            return None
        if len(self.products) > 1 or (self.counts[place] is not None and not self.products[place].by_weight):
            return self.counts[place]
        return max(0, round(self.grams / self._lightest))

    def change(self, judgement: Judgement, grams: float, now_ns: int) -> None:
        """Take a change as it was judged."""
        best = judgement.best
        if best is None:
            self._strange(grams, now_ns)
            self._doubt(judgement.suspects)
            return
        for place, n in enumerate(best.counts):
            there = self.counts[place]
            if there is not None:
                self.counts[place] = max(0, there + n)
        if best.confidence < SURE:
            self._doubt(judgement.suspects)

    def settle(self, grams: float, now_ns: int) -> None:
        """Take the weight at rest after a change, or the first one."""
        self.grams = grams
        self.lying = [thing for thing in self.lying if now_ns - thing.since_ns < LYING_NS]
        self.is_below_zero = bool(self.products) and grams < -self._below_grams
        if self.is_below_zero and not any(thing.grams < 0 for thing in self.lying):
            self._is_zero_wrong = True
        if not self.products or self._is_zero_wrong or self.is_below_zero:
            return
        if abs(grams) < EMPTY_UNITS * self._lightest:
            self.counts = [0] * len(self.products)
            self.lying = []
        elif len(self.products) == 1:
            self._count(grams)

    def _count(self, grams: float) -> None:
        unit, there = self._lightest, self.counts[0]
        n = max(0, round(grams / unit))
        misfit = abs(grams - n * unit)
        if self.lying:
            near = there is not None and abs(n - there) <= RECOUNTED_ITEMS
            if near and misfit <= RECOUNTED_UNITS * unit:
                self.counts[0], self.lying = n, []
        elif there is None or abs(grams - there * unit) > KEPT_UNITS * unit:
            self.counts[0] = n if misfit <= COUNTED_UNITS * unit + self._error_grams(n) else None

    def _error_grams(self, items: int) -> float:
        """Return two sigmas of what so many items weigh together, beyond their number."""
        return 2 * (self.spreads.grams(0) * math.sqrt(items) + GAIN_ERROR * items * self._lightest)

    def _strange(self, grams: float, now_ns: int) -> None:
        for thing in self.lying:
            if abs(thing.grams + grams) <= max(0.1 * abs(grams), 0.3 * self._lightest):
                self.lying.remove(thing)
                return
        self.lying.append(Lying(grams, now_ns))

    def _doubt(self, places: Iterable[int]) -> None:
        """Take that one of these, nobody knows which, was taken or placed.

        One product alone is still counted: what it lacks is seen in the weight.
        """
        if len(self.products) > 1:
            for place in places:
                self.counts[place] = None
