"""Blockages of two beams aligned: which belong together, in order, at the least cost. Pure.

Law: people cannot overtake each other between the beams, so what one beam saw first belongs to what the other saw
first, or to nothing. What may still find a partner costs less alone than what never will; and nobody finds one any more
of whom a pair stands behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache

from gateway.sensors.beams import Blockage
from gateway.sensors.bodies import (
    PAIR_GAP_NS,
    RATIO_LEAST,
    RATIO_USUAL,
    Group,
    Hand,
    Sight,
    direction_of,
    hands_cost,
    person,
    pushed,
    tailgaters,
    turned_deep,
    unlike,
)

ALONE_COST, PENDING_COST = 3.0, 1.0
"""A pair that goes through (at most 3.5) beats two that stay alone, also where the second may still find another."""
FLIT_ALONE_COST = 0.2
ALIKE_DEPTHS = 0.3


def align(
    outer: Sequence[Blockage],
    inner: Sequence[Blockage],
    known_ratio: float | None,
    now_ns: int,
    before: Group | None = None,
) -> list[Group]:
    """Return all blockages in groups, in order, at the least cost. What may still find a partner costs little alone.

    `before` is who was told last: what comes first may be that person's hand.
    """
    known_ratio = known_ratio or ratio_among(outer, inner)

    def alone(blockage: Blockage, has_pair_behind: bool) -> float:
        if blockage.is_flit:
            return FLIT_ALONE_COST
        is_pending = not has_pair_behind and now_ns < blockage.cleared.boot_ns + PAIR_GAP_NS
        return PENDING_COST if is_pending else ALONE_COST

    @cache
    def best(i: int, j: int, has_pair: bool) -> tuple[float, tuple[Group, ...]]:
        """Return the least cost of the rest and its groups, of which at least one (`has_pair`) or none is a pair."""
        if i == len(outer) and j == len(inner):
            return (math.inf if has_pair else 0.0), ()
        found: tuple[float, tuple[Group, ...]] = (math.inf, ())
        for cost, group in choices(i, j, has_pair):
            after = i + len(group.outer), j + len(group.inner)
            is_pair = bool(group.outer and group.inner) and not group.is_rest
            for others_pair in (True, False) if is_pair else (has_pair,):
                rest_cost, others = best(*after, others_pair)
                if cost + rest_cost < found[0] - 1e-9:
                    found = (cost + rest_cost, (group, *others))
        return found

    def choices(i: int, j: int, has_pair: bool) -> Iterator[tuple[float, Group]]:
        if i < len(outer):
            yield alone(outer[i], has_pair), Group((outer[i],), (), None)
        if j < len(inner):
            yield alone(inner[j], has_pair), Group((), (inner[j],), None)
        if i == j == 0 and before is not None:
            yield from rests(outer, inner, before)
        if not has_pair or i == len(outer) or j == len(inner):
            return
        for one in sights(outer, i):
            for other in sights(inner, j):
                if (found := person(one, other, known_ratio)) is not None:
                    yield found
        if i + 1 < len(outer):
            yield from _two(outer[i], outer[i + 1], inner[j], known_ratio, is_outer=True)
        if j + 1 < len(inner):
            yield from _two(inner[j], inner[j + 1], outer[i], known_ratio, is_outer=False)
        two, others = outer[i : i + 2], inner[j : j + 2]
        if known_ratio is not None and len(two) == len(others) == 2:
            yield from pushed(two, others, known_ratio)

    return list(min(best(0, 0, True), best(0, 0, False), key=lambda found: found[0])[1])


def sights(blockages: Sequence[Blockage], at: int) -> Iterator[Sight]:
    """Yield what one person may have made of the blockages from `at` on: a trunk, a hand ahead, a hand behind."""
    parts = blockages[at : at + 3]
    for count in range(1, len(parts) + 1):
        trunk = max(range(count), key=lambda n: parts[n].ns)
        if count < 3 or trunk == 1:
            yield Sight(parts[trunk], parts[0] if trunk else None, parts[count - 1] if trunk < count - 1 else None)


def rests(outer: Sequence[Blockage], inner: Sequence[Blockage], before: Group) -> Iterator[tuple[float, Group]]:
    """Yield what of the first blockages may be a hand of who was told last."""
    if before.sights is None:
        return
    trunks = before.sights[0].trunk, before.sights[1].trunk
    first: list[Hand] = [
        blockages[0] if blockages and sight.behind is None else None
        for blockages, sight in zip((outer, inner), before.sights, strict=True)
    ]
    for hands in ((first[0], None), (None, first[1]), (first[0], first[1])):
        parts = [() if hand is None else (hand,) for hand in hands]
        if any(parts) and (cost := hands_cost(hands, trunks, before.depth_ns)) is not None:
            yield cost, Group(parts[0], parts[1], None, is_rest=True)


def _two(
    first: Blockage, second: Blockage, one: Blockage, known_ratio: float | None, *, is_outer: bool
) -> Iterator[tuple[float, Group]]:
    """Yield what two blockages of one beam and one of the other can be together but one person who goes through."""
    if first.is_flit or second.is_flit or one.is_flit:
        return
    two = (first, second)
    outer, inner = (two, (one,)) if is_outer else ((one,), two)
    if (found := tailgaters(two, one, known_ratio)) is not None:
        cost, way = found
        yield cost, Group(outer, inner, "in" if (way > 0) == is_outer else "out", people=2)
    if (deep := turned_deep(two, one)) is not None:
        yield deep, Group(outer, inner, None)


def ratio_among(outer: Sequence[Blockage], inner: Sequence[Blockage]) -> float | None:
    """Return the ratio of the deepest whom both beams saw alike: a guess while the door does not know its own."""
    trunk = max(outer, key=lambda blockage: blockage.ns, default=None)
    if trunk is None or trunk.is_flit:
        return None
    alike = [other for other in inner if unlike(other, trunk) <= ALIKE_DEPTHS]
    if not alike:
        return None
    other = min(alike, key=lambda blockage: abs(blockage.begin_ns - trunk.begin_ns))
    shifts = other.begin_ns - trunk.begin_ns, other.end_ns - trunk.end_ns
    ratio = min(map(abs, shifts)) / trunk.ns
    is_person = direction_of(*shifts) is not None and RATIO_LEAST <= ratio <= RATIO_USUAL
    return ratio if is_person else None
