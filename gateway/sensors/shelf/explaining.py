"""From a change of weight to its cause: which products, how many, how sure; or a thing of no product. Pure.

Law: every cause below is weighed as evidence, its prior times how well it fits; confidence is the share of the best.
The likeliest is told where it is likelier than all others together, else the change is of no product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from gateway.sensors.shelf.goods import Product

CAUSES = ("one", "two", "three", "more", "mixed", "swapped", "strange")
TAKEN: Mapping[str, float] = dict(zip(CAUSES, (14.0, 3.0, 1.0, 0.5, 1.5, 0.3, 0.7), strict=True))
PLACED: Mapping[str, float] = dict(zip(CAUSES, (8.0, 3.0, 1.0, 4.0, 0.3, 0.3, 4.0), strict=True))
AWAY: Mapping[str, float] = dict(zip(CAUSES, (2.0, 2.0, 2.0, 8.0, 2.0, 0.5, 1.0), strict=True))
"""While nobody weighed, many people may have come."""
"""One is commonest at tills and shelves alike (two thirds to four fifths of purchases are of one item)."""
CASES = {6: 0.3, 8: 0.06, 10: 0.08, 12: 0.35, 20: 0.06, 24: 0.15}
"""How many a case or a tray holds, and how often: what comes at once is one of these, or what two hands carry."""
CASE_SHARE = 0.5
EACH_S = 0.35
"""Nobody places item by item faster: what was there in less time came at once."""
HANDS_MAX = 3
AT_ONCE = 0.1
ITEMS_MAX = 500
HAND_SHARES = {1: 0.8, 2: 0.15, 3: 0.05}
"""How many of each of several products are moved at once."""
THREE_PRODUCTS = 0.1
TOO_MANY, OVERFULL, DUE, FIRST = 0.02, 0.2, 5.0, 60.0
"""Nobody takes more than there are; few place more than has room; a shelf is filled when it is low, and surely
when it is empty. Counts may be wrong: not zero."""

UNIT_SPREAD = 0.015
"""One item's weight deviates by 1 to 2 % of it: what filling machines may do, until told or seen otherwise."""
BY_WEIGHT_SPREAD = 0.35
SPREAD_BELIEVED = 4
"""The assumed spread weighs as much as so many changes seen."""
SPREAD_LEAST = 0.002
LEARN_SURE = 0.9
"""A spread is learned where no other items explain a change: what is doubtful would confirm itself."""
GAIN_ERROR = 0.003
"""Calibration and off-centre loading: 0.3 % of the change."""
ODD_SHARE, ODD_SPREAD, ODD_BELIEVED = 0.05, 0.12, 15
"""Some single items are 12 % off: a plate that gives way late, a wet packet, goods that differ more than was said. The
more changes of a product were as expected (or have taught its true spread), the less it is believed."""
MISFIT_UNITS, MISFIT_SIGMAS = 0.4, 2.5
"""Beyond 0.4 of an item, or what the items' own spread makes of it, it is as well the next count or nothing."""
SIGMAS = 4.5
LIGHTEST_GRAMS, HEAVIEST_GRAMS = 10.0, 20_000.0
BAG_SHARE, BAG_GRAMS, BAG_FACTOR = 0.5, 2000.0, 2.5
"""Handbags, baskets and carriers weigh 0.5 to 6 kg; the rest is anything from a flyer to a crate."""
LYING_SHARE, LYING_GRAMS, LYING_ERROR = 0.4, 1.0, 0.005
CONFIDENCE_MIN = 0.55
"""Likelier than all other causes together, with something to spare."""
SURELY_ONE, BEST_OF_ONE = 0.9, 0.3
"""Surely of one product, though not how many: the likeliest number is told, with its small confidence."""
SUSPECT_SHARE = 0.05
"""What has less than a twentieth of all evidence is not taken for possible."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A change: `grams` signed, `noise_grams` its own deviation, `took_s` from one level to the other.

    `took_s` None: the scale was off in between.
    """

    grams: float
    noise_grams: float
    took_s: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Items by product (negative: taken), in the products' order; `confidence` that it is exactly this."""

    counts: tuple[int, ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a change may be: `best` is told (None: no product explains it), `suspects` are the places that it may be of.

    `shares` are those of the causes; `is_alone` tells that no other items explain it nearly as well.
    """

    best: Explanation | None
    suspects: frozenset[int]
    shares: Mapping[str, float] = field(default_factory=dict)
    is_alone: bool = False


class Spreads:
    """How much one item's weight deviates, in grams by product, learned from changes that only it explains."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = products
        self._seen = [0.0] * len(products)
        self._squares = [0.0] * len(products)

    def grams(self, place: int) -> float:
        """Return the deviation of one item of the product at `place`."""
        product = self.products[place]
        if product.by_weight:
            return BY_WEIGHT_SPREAD * product.unit_grams
        share = UNIT_SPREAD if product.unit_spread is None else product.unit_spread
        assumed = SPREAD_BELIEVED * (share * product.unit_grams) ** 2
        learned = math.sqrt((assumed + self._squares[place]) / (SPREAD_BELIEVED + self._seen[place]))
        return max(learned, SPREAD_LEAST * product.unit_grams)

    def odd_share(self, place: int) -> float:
        """Return how many single items of the product at `place` are far beside what the others weigh."""
        return ODD_SHARE * ODD_BELIEVED / (ODD_BELIEVED + self._seen[place])

    def learn(self, explanation: Explanation, grams: float) -> None:
        """Take a change of one product alone, by how sure it is."""
        used = [place for place, n in enumerate(explanation.counts) if n]
        if len(used) == 1:
            place = used[0]
            items = explanation.counts[place]
            misfit = grams - items * self.products[place].unit_grams
            self._seen[place] += explanation.confidence
            self._squares[place] += explanation.confidence * misfit**2 / abs(items)


class Explainer:
    """Explains the changes of one shelf, and learns what its people do.

    | cause | prior when taken | when placed | fits within |
    | --- | --- | --- | --- |
    | 1, 2, 3 of one product | 14, 3, 1 of 21 | 8, 3, 1 of 21 | n items' own spread, gain, noise |
    | more of one | 0.5, by 1/n² | 4: a case of 6, 12, 24 ... at once, or one by one in time | the same |
    | of two or three products | 1.5 | 0.3 | the same |
    | one taken, another placed | 0.3 | 0.3 | the same |
    | a thing of no product | 0.7 | 4: a bag is laid down | half: 2 kg, times or by 2.5; half: 10 g to 20 kg |
    | the thing that lay here | 0.4 of all while one lies | the same, where one was lifted off | its own weight |

    The priors are so many changes believed beforehand; those seen at this shelf add to them, each by the share that it
    has of a change, so that what cannot be told apart teaches little (customers of a week outweigh them).
    """

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = products
        self.spreads = Spreads(products)
        self._done = {-1: dict(TAKEN), 1: dict(PLACED)}

    def judge(self, moved: Moved, known: Sequence[int | None], lying: Sequence[float] = ()) -> Judgement:
        """Weigh all causes of a change; `known` items are there, things of `lying` grams lie there beside them."""
        if not self.products or not moved.grams:
            return Judgement(None, frozenset(), {"strange": 1.0})
        done = AWAY if moved.took_s is None else self._done[1 if moved.grams > 0 else -1]
        whole = sum(done.values())
        sums = dict.fromkeys(CAUSES, 0.0)
        sums["strange"] = _strange(moved, done["strange"] / whole, lying)
        weighed: list[tuple[float, tuple[int, ...]]] = []
        of_one = [0.0] * len(self.products)
        for cause, prior, counts in self._hypotheses(moved):
            evidence = done[cause] / whole * prior * self._room(counts, known) * self._fit(moved, counts)
            sums[cause] += evidence
            weighed.append((evidence, counts))
            if sum(1 for n in counts if n) == 1:
                of_one[next(place for place, n in enumerate(counts) if n)] += evidence
        total = sum(sums.values())
        if not weighed or total <= 0.0:
            return Judgement(None, frozenset(), {"strange": 1.0})
        evidence, counts = max(weighed)
        confidence = evidence / total
        likeliest = max(of_one)
        if self.products[of_one.index(likeliest)].by_weight and likeliest >= CONFIDENCE_MIN * total:
            place = of_one.index(likeliest)
            evidence, counts = max(one for one in weighed if one[1][place] and sum(map(bool, one[1])) == 1)
            confidence = likeliest / total
        is_told = confidence >= CONFIDENCE_MIN or (likeliest >= SURELY_ONE * total and confidence >= BEST_OF_ONE)
        likely = (counts for evidence, counts in weighed if evidence >= SUSPECT_SHARE * total)
        suspects = frozenset(place for counts in likely for place, n in enumerate(counts) if n)
        shares = {cause: value / total for cause, value in sums.items()}
        best = Explanation(counts, round(confidence, 3)) if is_told else None
        return Judgement(best, suspects, shares, evidence >= LEARN_SURE * (total - sums["strange"]))

    def learn(self, moved: Moved, judgement: Judgement) -> None:
        """Learn from a change that was seen: each cause by its share."""
        if moved.took_s is None:
            return
        done = self._done[1 if moved.grams > 0 else -1]
        for cause, share in judgement.shares.items():
            done[cause] += share
        if judgement.best is not None and judgement.is_alone:
            self.spreads.learn(judgement.best, moved.grams)

    def _hypotheses(self, moved: Moved) -> Iterator[tuple[str, float, tuple[int, ...]]]:
        """Yield cause, prior within the cause and items of each combination that may fit."""
        places = len(self.products)
        sign = 1 if moved.grams > 0 else -1
        size = abs(moved.grams)
        for place, product in enumerate(self.products):
            nearest = size / product.unit_grams
            relative = self.spreads.grams(place) / product.unit_grams
            reach = 1 + math.ceil(3 * relative * math.sqrt(nearest) + 3 * moved.noise_grams / product.unit_grams)
            for n in range(max(1, round(nearest) - reach), min(ITEMS_MAX, round(nearest) + reach) + 1):
                cause = CAUSES[min(n, 4) - 1]
                counts = tuple(sign * n if at == place else 0 for at in range(places))
                took_s = None if product.by_weight else moved.took_s  # a crate is emptied at once
                yield cause, _number(n, sign, took_s) / places, counts
        if places < 2:
            return
        heaviest = max(product.unit_grams for product in self.products)
        reach_grams = SIGMAS * (moved.noise_grams + 3 * (UNIT_SPREAD + GAIN_ERROR) * heaviest)
        for cause, prior, counts, weight in _mixtures(tuple(product.unit_grams for product in self.products)):
            if abs(size - weight) <= reach_grams:
                yield cause, prior, tuple(sign * n for n in counts)

    def _fit(self, moved: Moved, counts: tuple[int, ...]) -> float:
        nominal = variance = 0.0
        items, lightest = 0, math.inf
        for place, n in enumerate(counts):
            if n:
                nominal += n * self.products[place].unit_grams
                variance += abs(n) * self.spreads.grams(place) ** 2
                items += abs(n)
                lightest = min(lightest, self.products[place].unit_grams)
        misfit = moved.grams - nominal
        if abs(misfit) > max(MISFIT_UNITS * lightest, MISFIT_SIGMAS * math.sqrt(variance)):
            return 0.0
        variance += moved.noise_grams**2 + (GAIN_ERROR * moved.grams) ** 2
        fit = _normal(misfit, variance)
        if items == 1:
            odd = self.spreads.odd_share(next(place for place, n in enumerate(counts) if n))
            fit = (1 - odd) * fit + odd * _normal(misfit, variance + (ODD_SPREAD * nominal) ** 2)
        return fit

    def _room(self, counts: tuple[int, ...], known: Sequence[int | None]) -> float:
        prior = 1.0
        for n, there, product in zip(counts, known, self.products, strict=True):
            if n and there is not None:
                if n < -there:
                    prior *= TOO_MANY
                elif n > 0 and product.capacity is not None and there + n > product.capacity:
                    prior *= OVERFULL
                elif n > HANDS_MAX and there <= (product.low_below or 0):
                    prior *= DUE if there else FIRST
        return prior


def _normal(misfit: float, variance: float) -> float:
    return math.exp(-0.5 * misfit * misfit / variance) / math.sqrt(2 * math.pi * variance)


def _strange(moved: Moved, share: float, lying: Sequence[float]) -> float:
    """Return the evidence that it is a thing of no product: of any weight, or what lay there goes (or comes back)."""
    size = max(abs(moved.grams), LIGHTEST_GRAMS)
    bag = _normal(math.log(size / BAG_GRAMS), math.log(BAG_FACTOR) ** 2)
    anything = (BAG_SHARE * bag + (1 - BAG_SHARE) / math.log(HEAVIEST_GRAMS / LIGHTEST_GRAMS)) / size
    going = [grams for grams in lying if grams * moved.grams < 0]
    if not going:
        return share * anything
    variance = moved.noise_grams**2 + LYING_GRAMS**2 + (LYING_ERROR * moved.grams) ** 2
    back = sum(_normal(moved.grams + grams, variance) for grams in going) / len(going)
    return max(share, LYING_SHARE) * back + share * anything


def _number(n: int, sign: int, took_s: float | None) -> float:
    """Return how likely `n` items are, where it is known only that it is one, two, three or more."""
    if n <= HANDS_MAX:
        return 1.0
    alone = 1 / n / 4.96
    if took_s is None:
        return alone
    if sign < 0:
        return 1 / n**2 / 0.284
    if n > HANDS_MAX + took_s / EACH_S:
        alone *= AT_ONCE
    return CASE_SHARE * CASES.get(n, 0.0) + (1 - CASE_SHARE) * alone


@lru_cache(maxsize=64)
def _mixtures(units: tuple[float, ...]) -> tuple[tuple[str, float, tuple[int, ...], float], ...]:
    """Return cause, prior, items and weight of each mixture of a few items that weighs more than nothing."""
    found = []
    kinds = len(units)
    sizes = (2, 3) if 3 <= kinds <= 8 else (2,)
    for size in sizes:
        share = THREE_PRODUCTS if size == 3 else 1 - THREE_PRODUCTS * (len(sizes) - 1)
        for places in itertools.combinations(range(kinds), size):
            for numbers in itertools.product(HAND_SHARES, repeat=size):
                prior = math.prod(HAND_SHARES[n] for n in numbers)
                counts = [0] * kinds
                for place, n in zip(places, numbers, strict=True):
                    counts[place] = n
                weight = sum(n * unit for n, unit in zip(counts, units, strict=True))
                found.append(("mixed", prior * share / math.comb(kinds, size), tuple(counts), weight))
    for taken, placed in itertools.permutations(range(kinds), 2):
        weight = units[placed] - units[taken]
        if weight > 0:
            counts = [(place == placed) - (place == taken) for place in range(kinds)]
            found.append(("swapped", 1 / math.comb(kinds, 2), tuple(counts), weight))
    return tuple(found)
