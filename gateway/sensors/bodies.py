"""Whose body made which blockages of two beams, and which way it went. Pure.

Law: a body is one thing in space, hands included: whoever goes through reaches the near beam first and leaves the far
beam last; who leaves the near beam last has turned back. Speed cancels out: the shift between the beams over the
blockage is the beams' distance over the trunk's depth, much the same for everybody at one door (`known_ratio`), and
several times as much for a hand. And people cannot overtake each other between the beams.

So the blockages of both beams are aligned in order at the least cost, in units of a factor e of disagreement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from gateway.model import NS_PER_MS
from gateway.sensors.beams import Blockage

Way = Literal["in", "out"]

PAIR_GAP_NS = 1_200 * NS_PER_MS
"""The longest way between the beams with neither broken: 0.35 m at 0.3 m/s."""
JITTER_NS = 10 * NS_PER_MS
"""Shifts below are none: 5 cm between the beams at 2.5 m/s are 20 ms."""
ALIKE = 0.4
"""One person's speed between the beams and away from them differs by less than this factor."""
TAILGATE_GAP_NS = 150 * NS_PER_MS
"""One beam may see two people pressed together as one blockage while the other still sees a gap, up to this."""
RATIO_LEAST, RATIO_USUAL, RATIO_POSSIBLE = 0.1, 1.0, 2.3
"""Beams 5 to 50 cm apart and people 0.22 to 0.35 m deep give 0.14 to 2.3; most doors have them 5 to 10 cm apart."""
ALIKE_DEPTHS = 0.3

HAND_NEAR, HAND_REACH = 0.5, 1.6
"""From a hand's far end to the trunk, in depths of a trunk: 0.15 m is usual in walking, 0.4 m a stretched arm."""
HAND_COST, HAND_FAR_COST = 0.15, 0.6
"""Of a hand seen apart, and of each depth beyond HAND_NEAR. A child half as deep as people here, 0.2 m behind, costs
0.7 as a person and more as two hands."""
RIGID, RIGID_COST = 0.3, 1.0
"""A hand's length and distance change between the beams by more than this (a factor e, a trunk's depth)."""
FLIT_NS, FLIT_COST = 65 * NS_PER_MS, 1.0
"""A runner's trunk takes 80 ms; what is gone sooner flits by as a hand does."""
FLIT_GAP_NS, FLIT_REACH = 200 * NS_PER_MS, 1.0
"""So near to a trunk it is hardly anything else, also where the trunk is soon gone itself."""
FLIT_ALONE_COST = 0.2
PUSHED, PUSHED_GAP, PUSHER = (2.5, 4.5), 1.4, (0.5, 1.6)
"""A trolley or a pram is 0.7 to 1.2 m long, in depths of a trunk; who pushes it walks an arm's length behind it."""
PUSHED_COST = 0.3
ALONE_COST = 3.0
PENDING_COST = 1.0
TURNED_COST = 3.0
TURNED_DEEP_COST = 1.5
SPLIT_COST = 0.7
APART_COST = 0.3
UNEVEN_WEIGHT = 0.25
"""A pair that goes through (at most 3.5) beats two that stay alone, also where the second may still find another."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one beam saw of one person: the trunk, and a hand ahead of it and one behind it that it saw apart."""

    trunk: Blockage
    ahead: Blockage | None = None
    behind: Blockage | None = None

    @property
    def broke_ns(self) -> int:
        return (self.ahead or self.trunk).broke.boot_ns

    @property
    def cleared_ns(self) -> int:
        return (self.behind or self.trunk).cleared.boot_ns

    @property
    def parts(self) -> tuple[Blockage, ...]:
        return tuple(part for part in (self.ahead, self.trunk, self.behind) if part is not None)


@dataclass(frozen=True, slots=True)
class Group:
    """Blockages that belong together: `people` went in `direction`, or (None) nobody went through.

    `sights` are the outer and the inner beam's of one person, `ratio` that of shift and blockage. `is_rest`: hands of
    somebody who was told before.
    """

    outer: tuple[Blockage, ...]
    inner: tuple[Blockage, ...]
    direction: Way | None
    people: int = 1
    ratio: float | None = None
    sights: tuple[Sight, Sight] | None = None
    is_rest: bool = False

    @property
    def is_settled(self) -> bool:
        """Both beams have said what they can of these."""
        if self.sights is not None:
            outer, inner = self.sights
            return (outer.behind is None) == (inner.behind is None)
        return bool(self.outer and self.inner)

    @property
    def end_ns(self) -> int:
        return max(blockage.cleared.boot_ns for blockage in self.outer + self.inner)

    @property
    def depth_ns(self) -> int:
        """Return for how long the trunk of the person breaks a beam."""
        return min(sight.trunk.ns for sight in self.sights) if self.sights else 0


def direction_of(begin_shift_ns: int, end_shift_ns: int) -> Way | None:
    """Return the direction that both ends agree on (one may be too close to tell), else None: turned back.

    The shifts are inner minus outer. Both too close: their sum decides, since 2 ms twice is still an order.
    """
    both = _sign(begin_shift_ns) + _sign(end_shift_ns)
    if both == 0 and _sign(begin_shift_ns) == 0 and begin_shift_ns * end_shift_ns >= 0:
        both = begin_shift_ns + end_shift_ns
    if both == 0:
        return None
    return "in" if both > 0 else "out"


def _sign(shift_ns: int) -> int:
    return 0 if abs(shift_ns) <= JITTER_NS else (1 if shift_ns > 0 else -1)


def order_of(outer: Sight, inner: Sight) -> tuple[Way | None, tuple[int, int]]:
    """Return the direction of one person whom both beams saw so (None: turned back), and the shifts that tell it.

    The order of the whole decides. It fails where one beam sees an arm that the other does not (a sleeve, a bag on a
    strap): there the trunks' own ends decide, where they are shifted alike.
    """
    whole = inner.broke_ns - outer.broke_ns, inner.cleared_ns - outer.cleared_ns
    trunks = inner.trunk.begin_ns - outer.trunk.begin_ns, inner.trunk.end_ns - outer.trunk.end_ns
    way, own = direction_of(*whole), direction_of(*trunks)
    if way is None and own is not None:
        less, more = sorted(map(abs, trunks))
        return (own, trunks) if less >= ALIKE * more else (None, whole)
    return way, trunks if own == way else whole


def person(outer: Sight, inner: Sight, known_ratio: float | None) -> tuple[float, Group] | None:
    """Return the cost and meaning of one person being seen so; None where it cannot be."""
    if max(inner.broke_ns - outer.cleared_ns, outer.broke_ns - inner.cleared_ns) > PAIR_GAP_NS:
        return None
    if outer.trunk.is_flit or inner.trunk.is_flit:
        return None
    direction, (begin_ns, end_ns) = order_of(outer, inner)
    least_ns = min(outer.trunk.ns, inner.trunk.ns)
    less_ns, more_ns = sorted((max(abs(begin_ns), NS_PER_MS), max(abs(end_ns), NS_PER_MS)))
    depth_ns = float(least_ns)
    if known_ratio is not None and direction is not None:
        depth_ns = min(max(depth_ns, less_ns / known_ratio), 1.5 * depth_ns)
    trunks = outer.trunk, inner.trunk
    ahead = hands_cost((outer.ahead, inner.ahead), trunks, depth_ns)
    behind = hands_cost((outer.behind, inner.behind), trunks, depth_ns)
    if ahead is None or behind is None:
        return None
    hands = ahead + behind
    if direction is None:
        return TURNED_COST + hands, Group(outer.parts, inner.parts, None)
    if least_ns < FLIT_NS:
        hands += FLIT_COST
    ratio = less_ns / least_ns
    if known_ratio is not None:
        geometry = abs(math.log(ratio / known_ratio))
    elif ratio <= RATIO_USUAL:
        geometry = 0.0
    else:
        geometry = APART_COST + max(0.0, 6.0 * math.log(ratio / RATIO_POSSIBLE))
    # A beam that sees hand and trunk as one saw as much as another that sees them apart.
    wholes = (outer.cleared_ns - outer.broke_ns) / (inner.cleared_ns - inner.broke_ns)
    speed = min(_unlike(outer.trunk, inner.trunk), abs(math.log(wholes)))
    uneven = UNEVEN_WEIGHT * math.log(more_ns / less_ns) if more_ns > JITTER_NS else 0.0
    cost = min(2.5, geometry) + min(1.0, 0.5 * speed + uneven) + hands
    return cost, Group(outer.parts, inner.parts, direction, ratio=ratio, sights=(outer, inner))


def _unlike(one: Blockage, other: Blockage) -> float:
    return abs(math.log(one.ns / other.ns))


Hand = Blockage | None


def hands_cost(hands: tuple[Hand, Hand], trunks: tuple[Blockage, Blockage], depth_ns: float) -> float | None:
    """Return the cost of what the outer and the inner beam saw (or one of them) being a hand; None: it cannot be.

    A hand swings on between the beams. What keeps its length and its distance goes at the trunk's own speed, as a child
    does; the farther apart the beams are, the less is it chance.
    """
    total, gaps = 0.0, []
    for hand, trunk in zip(hands, trunks, strict=True):
        if hand is None:
            continue
        if (cost := hand_cost(hand, trunk, depth_ns)) is None:
            return None
        total += cost
        gaps.append(_from_trunk_ns(hand, trunk)[0] / depth_ns)
    outer, inner = hands
    if outer is not None and inner is not None:
        moved = _unlike(outer, inner) + abs(gaps[0] - gaps[1])
        apart = min(1.0, abs(trunks[0].begin_ns - trunks[1].begin_ns) / depth_ns)
        far = min(1.0, 2.0 * max(0.0, min(gaps) - HAND_NEAR))
        total += RIGID_COST * max(0.0, 1.0 - moved / RIGID) * apart * far
    return total


def hand_cost(hand: Blockage, trunk: Blockage, depth_ns: float) -> float | None:
    """Return the cost of one blockage being a hand of the other, whose trunk takes `depth_ns` at its speed.

    The trunk moves evenly: the time between the hand's far end and the trunk's near end is how far the hand reaches.
    """
    if hand.ns >= trunk.ns:
        return None
    gap_ns, reach_ns = _from_trunk_ns(hand, trunk)
    reach = reach_ns / depth_ns
    if hand.ns < FLIT_NS and gap_ns <= FLIT_GAP_NS:
        reach = min(reach, FLIT_REACH)
    return None if reach > HAND_REACH else HAND_COST + HAND_FAR_COST * max(0.0, reach - HAND_NEAR)


def _from_trunk_ns(hand: Blockage, trunk: Blockage) -> tuple[int, int]:
    """Return the time between the trunk and the near end of the hand, and its far end."""
    if hand.broke.boot_ns < trunk.broke.boot_ns:
        return trunk.broke.boot_ns - hand.cleared.boot_ns, trunk.broke.boot_ns - hand.broke.boot_ns
    return hand.broke.boot_ns - trunk.cleared.boot_ns, hand.cleared.boot_ns - trunk.cleared.boot_ns


def may_be_one(first: Blockage, second: Blockage) -> bool:
    """Tell whether one may be a hand of the other."""
    hand, trunk = sorted((first, second), key=lambda blockage: blockage.ns)
    return hand_cost(hand, trunk, trunk.ns) is not None


def pushed(outer: Sequence[Blockage], inner: Sequence[Blockage], known_ratio: float) -> Iterator[tuple[float, Group]]:
    """Yield the cost and meaning of each beam's two blockages being something long and who pushes it, if they can."""
    things, people = (outer[0], inner[0]), (outer[1], inner[1])
    wholes = [_joined(*outer), _joined(*inner)]
    shifts = [inner[n].begin_ns - outer[n].begin_ns for n in (0, 1)] + [wholes[1].end_ns - wholes[0].end_ns]
    way = direction_of(shifts[0], shifts[2])
    depth_ns = sorted(map(abs, shifts))[1] / known_ratio
    if way is None or depth_ns <= 0 or direction_of(shifts[1], shifts[2]) != way:
        return
    gaps = [(second.broke.boot_ns - first.cleared.boot_ns) / depth_ns for first, second in (outer, inner)]
    if max(gaps) > PUSHED_GAP or not all(PUSHED[0] <= thing.ns / depth_ns <= PUSHED[1] for thing in things):
        return
    if not all(PUSHER[0] <= one.ns / depth_ns <= PUSHER[1] for one in people):
        return
    unlike = _unlike(*things) + _unlike(*people) + abs(gaps[0] - gaps[1])
    seen = Sight(wholes[0]), Sight(wholes[1])
    yield PUSHED_COST + unlike, Group(tuple(outer), tuple(inner), way, sights=seen)


def _joined(first: Blockage, second: Blockage) -> Blockage:
    return Blockage(first.beam, first.broke, second.cleared, first.begin_ns, second.end_ns)


def tailgaters(two: tuple[Blockage, Blockage], one: Blockage) -> Way | None:
    """Tell whether `one` is what a beam saw of two people whom the other beam saw apart; as if `two` were outer."""
    first, second = two
    if max(first.ns, second.ns) > 2 * min(first.ns, second.ns):
        return None
    if second.broke.boot_ns - first.cleared.boot_ns > TAILGATE_GAP_NS:
        return None
    both_ns = second.end_ns - first.begin_ns
    if abs(both_ns - one.ns) > max(0.3 * both_ns, 100 * NS_PER_MS):
        return None
    return direction_of(one.begin_ns - first.begin_ns, one.end_ns - second.end_ns)


def turned_deep(near: tuple[Blockage, Blockage], far: Blockage) -> float | None:
    """Return the cost of somebody who went past the near beam into the far one and came back the same way.

    The way back mirrors the way there: the far beam is broken between the two, and the near one for as long again.
    """
    first, second = near
    begins_ns = far.broke.boot_ns - first.broke.boot_ns
    ends_ns = second.cleared.boot_ns - far.cleared.boot_ns
    if min(begins_ns, ends_ns) <= JITTER_NS:
        return None
    if far.broke.boot_ns > first.cleared.boot_ns + PAIR_GAP_NS or far.cleared.boot_ns < second.broke.boot_ns:
        return None
    return TURNED_DEEP_COST + _unlike(first, second) + 0.5 * abs(math.log(begins_ns / ends_ns))


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

    def alone(blockage: Blockage) -> float:
        if blockage.is_flit:
            return FLIT_ALONE_COST
        return PENDING_COST if now_ns < blockage.cleared.boot_ns + PAIR_GAP_NS else ALONE_COST

    @cache
    def best(i: int, j: int) -> tuple[float, tuple[Group, ...]]:
        found: tuple[float, tuple[Group, ...]] | None = None
        for cost, group in choices(i, j):
            rest_cost, others = best(i + len(group.outer), j + len(group.inner))
            if found is None or cost + rest_cost < found[0] - 1e-9:
                found = (cost + rest_cost, (group, *others))
        return found or (0.0, ())

    def choices(i: int, j: int) -> Iterator[tuple[float, Group]]:
        if i < len(outer):
            yield alone(outer[i]), Group((outer[i],), (), None)
        if j < len(inner):
            yield alone(inner[j]), Group((), (inner[j],), None)
        if i == j == 0 and before is not None:
            yield from rests(outer, inner, before)
        if i == len(outer) or j == len(inner):
            return
        for one in sights(outer, i):
            for other in sights(inner, j):
                if (found := person(one, other, known_ratio)) is not None:
                    yield found
        if i + 1 < len(outer):
            yield from _two(outer[i], outer[i + 1], inner[j], is_outer=True)
        if j + 1 < len(inner):
            yield from _two(inner[j], inner[j + 1], outer[i], is_outer=False)
        two, others = outer[i : i + 2], inner[j : j + 2]
        if known_ratio is not None and len(two) == len(others) == 2:
            yield from pushed(two, others, known_ratio)

    return list(best(0, 0)[1])


def _two(first: Blockage, second: Blockage, one: Blockage, *, is_outer: bool) -> Iterator[tuple[float, Group]]:
    """Yield what two blockages of one beam and one of the other can be together but one person who goes through."""
    if first.is_flit or second.is_flit or one.is_flit:
        return
    two = (first, second)
    outer, inner = (two, (one,)) if is_outer else ((one,), two)
    if (way := tailgaters(two, one)) is not None:
        turned: Way = "out" if way == "in" else "in"
        yield SPLIT_COST, Group(outer, inner, way if is_outer else turned, people=2)
    if (cost := turned_deep(two, one)) is not None:
        yield cost, Group(outer, inner, None)


def ratio_among(outer: Sequence[Blockage], inner: Sequence[Blockage]) -> float | None:
    """Return the ratio of the deepest whom both beams saw alike: a guess while the door does not know its own."""
    trunk = max(outer, key=lambda blockage: blockage.ns, default=None)
    if trunk is None or trunk.is_flit:
        return None
    alike = [other for other in inner if _unlike(other, trunk) <= ALIKE_DEPTHS]
    if not alike:
        return None
    other = min(alike, key=lambda blockage: abs(blockage.begin_ns - trunk.begin_ns))
    shifts = other.begin_ns - trunk.begin_ns, other.end_ns - trunk.end_ns
    ratio = min(map(abs, shifts)) / trunk.ns
    is_person = direction_of(*shifts) is not None and RATIO_LEAST <= ratio <= RATIO_USUAL
    return ratio if is_person else None
