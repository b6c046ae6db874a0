"""From a change of weight to goods: which products, how many, how sure; and the shelf's level. Pure.

Law: a change is explained by the one combination of products that fits much better than any other, or by none.
Each combination is weighed as evidence: how well it fits (scale noise, the spread of one item's weight, the gain error)
times how often people do such a thing (few items, one product, one way). Confidence is the share of the best.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from annotated_types import Ge, Le

from gateway.units import Pattern
from gateway.wrong import Wrong, refuse

State = Literal["empty", "low", "ok", "over"]

UNIT_SPREAD = 0.015
"""One item's weight deviates by 1 to 2 % of it: what filling machines may do, until seen otherwise."""
SPREAD_BELIEVED = 4
"""The assumed spread weighs as much as so many changes seen."""
SPREAD_LEAST = 0.002
SURE = 0.9
GAIN_ERROR = 0.003
"""Calibration and off-centre loading: 0.3 % of the change."""
SIGMAS = 3.5
MISFIT_MAX = 0.4
"""Beyond 0.4 of a unit a change is as well the next count or something else."""
STRANGE_SHARE = 0.03
"""Of changes, about so many are none of the products: bags laid down, other shelves' goods, a rearranged fixture."""
EXTRA_PRODUCT, EXTRA_ITEM, BOTH_WAYS, TOO_MANY = 0.08, 0.75, 0.02, 0.05
SHARE_MIN = 0.8
CONFIDENCE_MIN = 0.6
"""The best combination must have four fifths of what all combinations have, and be likelier than anything strange."""
SUSPECT_SHARE = 0.05
"""What has less than a twentieth of all evidence, strange things included, is not taken for possible."""
COMBINED_ITEMS_MAX = 3
COMBINED_PRODUCTS_MAX = 3
SINGLE_ITEMS_MAX = 500


@dataclass(frozen=True, slots=True)
class Product:
    """What lies on a shelf; `capacity` and `low_below` in items, absent where they do not matter."""

    sku: Annotated[str, Pattern(r"[\s\S]{1,64}", "1 to 64 characters")]
    unit_grams: Annotated[float, Ge(0.1), Le(500_000)]
    capacity: Annotated[int, Ge(1), Le(100_000)] | None = None
    low_below: Annotated[int, Ge(0)] | None = None

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if self.capacity is not None and self.low_below is not None and self.low_below > self.capacity:
            yield Wrong("low_below", "must not be above capacity", also=("capacity",))


@dataclass(frozen=True, slots=True)
class Explanation:
    """Items by product (negative: taken), in the products' order; `confidence` that it is exactly this."""

    counts: tuple[int, ...]
    confidence: float


class Spreads:
    """How much one item's weight deviates, in grams by product, learned from changes of which one is sure."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = products
        self._seen = [0] * len(products)
        self._squares = [0.0] * len(products)

    def grams(self, place: int) -> float:
        """Return the deviation of one item of the product at `place`."""
        unit = self.products[place].unit_grams
        assumed = SPREAD_BELIEVED * (UNIT_SPREAD * unit) ** 2
        learned = math.sqrt((assumed + self._squares[place]) / (SPREAD_BELIEVED + self._seen[place]))
        return max(learned, SPREAD_LEAST * unit)

    def learn(self, explanation: Explanation, grams: float) -> None:
        """Take a change of one product alone."""
        used = [place for place, n in enumerate(explanation.counts) if n]
        if len(used) == 1 and explanation.confidence >= SURE:
            place = used[0]
            items = explanation.counts[place]
            self._seen[place] += 1
            self._squares[place] += (grams - items * self.products[place].unit_grams) ** 2 / abs(items)


def explain(
    grams: float,
    noise_grams: float,
    products: Sequence[Product],
    known: Sequence[int | None],
    spreads: Spreads | None = None,
) -> Explanation | None:
    """Return the one combination of items that explains a change of `grams`, or None.

    `noise_grams` is the deviation of the change itself; `known` the items that are there, where that is known.
    """
    weighed = _weighed(grams, noise_grams, products, known, spreads)
    best = max(weighed, key=lambda one: one[0], default=None)
    if best is None or best[2] > 1.0:
        return None
    total = sum(evidence for evidence, _, _ in weighed)
    smallest = min(product.unit_grams for product in products)
    share = best[0] / (total + STRANGE_SHARE / smallest)
    if best[0] / total < SHARE_MIN or share < CONFIDENCE_MIN:
        return None
    return Explanation(best[1], round(share, 3))


def suspects(
    grams: float,
    noise_grams: float,
    products: Sequence[Product],
    known: Sequence[int | None],
    spreads: Spreads | None = None,
) -> frozenset[int]:
    """Return the places of the products of which an unexplained change may be; none of a strange thing."""
    weighed = _weighed(grams, noise_grams, products, known, spreads)
    smallest = min((product.unit_grams for product in products), default=1.0)
    likely = SUSPECT_SHARE * (sum(evidence for evidence, _, _ in weighed) + STRANGE_SHARE / smallest)
    fitting = (counts for evidence, counts, misfit in weighed if misfit <= 1.0 and evidence >= likely)
    return frozenset(place for counts in fitting for place, n in enumerate(counts) if n)


def _weighed(
    grams: float,
    noise_grams: float,
    products: Sequence[Product],
    known: Sequence[int | None],
    spreads: Spreads | None,
) -> list[tuple[float, tuple[int, ...], float]]:
    """Return the evidence of each combination, its items, and its misfit (above 1.0: it does not fit)."""
    learned = Spreads(products) if spreads is None else spreads
    variances = [learned.grams(place) ** 2 for place in range(len(products))]
    weighed: list[tuple[float, tuple[int, ...], float]] = []
    for counts in dict.fromkeys(_combinations(grams, noise_grams, products)):
        misfit = grams - sum(n * product.unit_grams for n, product in zip(counts, products, strict=True))
        spread = sum(abs(n) * variance for n, variance in zip(counts, variances, strict=True))
        sigma = math.sqrt(noise_grams**2 + spread + (GAIN_ERROR * grams) ** 2)
        evidence = _prior(counts, known) * math.exp(-0.5 * (misfit / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        unit = min(p.unit_grams for n, p in zip(counts, products, strict=True) if n)
        weighed.append((evidence, counts, abs(misfit) / min(SIGMAS * sigma, MISFIT_MAX * unit)))
    return weighed


def _prior(counts: tuple[int, ...], known: Sequence[int | None]) -> float:
    used = [n for n in counts if n]
    prior = EXTRA_PRODUCT ** (len(used) - 1)
    if len(used) > 1:
        prior *= EXTRA_ITEM ** (sum(abs(n) for n in used) - len(used))
    if any(n > 0 for n in used) and any(n < 0 for n in used):
        prior *= BOTH_WAYS
    if any(there is not None and n < -there for n, there in zip(counts, known, strict=True)):
        prior *= TOO_MANY
    return prior


def _combinations(grams: float, noise_grams: float, products: Sequence[Product]) -> Iterator[tuple[int, ...]]:
    places = len(products)
    for place, product in enumerate(products):
        nearest = round(grams / product.unit_grams)
        for n in range(max(-SINGLE_ITEMS_MAX, nearest - 1), min(SINGLE_ITEMS_MAX, nearest + 1) + 1):
            if n:
                yield tuple(n if at == place else 0 for at in range(places))
    if places < 2:
        return
    reach = 4 * (noise_grams + (UNIT_SPREAD + GAIN_ERROR) * max(p.unit_grams for p in products) * 3)
    units = tuple(product.unit_grams for product in products)
    for counts, weight in _mixtures(units):
        if abs(grams - weight) <= reach:
            yield counts


@lru_cache(maxsize=64)
def _mixtures(units: tuple[float, ...]) -> tuple[tuple[tuple[int, ...], float], ...]:
    """All mixtures of two or three products with a few items of each, and their weights."""
    found: list[tuple[tuple[int, ...], float]] = []
    few = [n for n in range(-COMBINED_ITEMS_MAX, COMBINED_ITEMS_MAX + 1) if n]
    sizes = range(2, COMBINED_PRODUCTS_MAX + 1) if len(units) <= 8 else range(2, 3)
    for size in sizes:
        for places in itertools.combinations(range(len(units)), size):
            for numbers in itertools.product(few, repeat=size):
                counts = [0] * len(units)
                for place, n in zip(places, numbers, strict=True):
                    counts[place] = n
                found.append((tuple(counts), sum(n * unit for n, unit in zip(counts, units, strict=True))))
    return tuple(found)


def state_of(count: int, product: Product, before: State | None) -> State:
    """Return the state at `count`; `low` is entered below `low_below` and left above it."""
    if count <= 0:
        return "empty"
    if product.low_below is not None and (
        count < product.low_below or (before == "low" and count == product.low_below)
    ):
        return "low"
    if product.capacity is not None and count > product.capacity:
        return "over"
    return "ok"


def shares(explanation: Explanation, products: Sequence[Product], grams: float) -> Mapping[int, float]:
    """Split the measured change over the products by place: the nominal weights, the misfit in their proportion."""
    nominal = {place: n * products[place].unit_grams for place, n in enumerate(explanation.counts) if n}
    misfit = grams - sum(nominal.values())
    whole = sum(abs(weight) for weight in nominal.values())
    return {place: weight + misfit * abs(weight) / whole for place, weight in nominal.items()}


class Stock:
    """How many of each product are there; None while unknown.

    One product alone is counted from the weight at first, then by changes: many items' spread adds up in the weight,
    not in the changes. Several products are known from the moment the shelf was empty until a change
    may be of one or another.
    """

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = products
        self.counts: list[int | None] = [None] * len(products)

    def settle(self, grams: float) -> None:
        """Take the first weight, or the weight after changes: an empty shelf is empty, whatever was counted."""
        if not self.products:
            return
        lightest = min(product.unit_grams for product in self.products)
        if abs(grams) < 0.25 * lightest:
            self.counts = [0] * len(self.products)
        elif len(self.products) == 1:
            uncounted = self.counts[0] is None or (self.counts[0] == 0 and grams > 0.75 * lightest)
            if uncounted and grams > -0.5 * lightest:
                self.counts[0] = round(grams / lightest)

    def doubt(self, places: Iterable[int]) -> None:
        """Take that one of these, nobody knows which, was taken or placed: how many are there is not known any more.

        One product alone is still counted by its changes: what it lacks is seen in the weight.
        """
        if len(self.products) > 1:
            for place in places:
                self.counts[place] = None

    def change(self, counts: Sequence[int]) -> None:
        """Take the items that were taken (negative) or placed."""
        for place, n in enumerate(counts):
            there = self.counts[place]
            if there is not None:
                self.counts[place] = max(0, there + n)
