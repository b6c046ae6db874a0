"""Whose body made which blockages of two beams, and which way it went. Pure.

Law: a body is one thing in space, hands included: whoever goes through reaches the near beam first and leaves the far
beam last; who leaves the near beam last has turned back. Speed cancels out: the shift between the beams over the
blockage is the beams' distance over the trunk's depth, much the same for everybody at one door (`known_ratio`), and
several times as much for a hand.

Each understanding of some blockages has a cost, in units of a factor e of disagreement; `alignment` takes the least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

HAND_NEAR, HAND_REACH = 0.5, 1.6
"""From a hand's far end to the trunk, in depths of a trunk: 0.15 m is usual in walking, 0.4 m a stretched arm."""
HAND_MAX = 0.7
"""A hand that swings back nearly stands in one beam; the other sees it for less than this share of the trunk's time."""
HAND_COST, HAND_FAR_COST = 0.15, 0.6
"""Of a hand seen apart, and of each depth beyond HAND_NEAR. A child half as deep as people here, 0.2 m behind, costs
0.7 as a person and more as two hands."""
RIGID, RIGID_COST = 0.3, 1.0
"""A hand's length and distance change between the beams by more than this (a factor e, a trunk's depth)."""
FLIT_NS, FLIT_COST = 65 * NS_PER_MS, 1.0
"""A runner's trunk takes 80 ms; what is gone sooner flits by as a hand does."""
FLIT_GAP_NS, FLIT_REACH = 200 * NS_PER_MS, 1.0
"""So near to a trunk it is hardly anything else, also where the trunk is soon gone itself."""
PUSHED, PUSHED_GAP, PUSHER = (2.5, 4.5), 1.4, (0.5, 1.6)
"""A trolley or a pram is 0.7 to 1.2 m long, in depths of a trunk; who pushes it walks an arm's length behind it."""
PUSHED_COST = 0.3
TURNED_COST = 3.0
TURNED_DEEP_COST = 1.5
SPLIT_COST, SPLIT_WEIGHT = 0.7, 0.5
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
        # A trunk and a hand before it may be one blockage: arms are no longer for that.
        usual_ns = min(max(depth_ns, less_ns / known_ratio), 1.3 * more_ns / known_ratio)
        depth_ns = min(max(usual_ns, 0.5 * depth_ns), 1.5 * depth_ns)
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
    speed = min(unlike(outer.trunk, inner.trunk), abs(math.log(wholes)))
    uneven = UNEVEN_WEIGHT * math.log(more_ns / less_ns) if more_ns > JITTER_NS else 0.0
    cost = min(2.5, geometry) + min(1.0, 0.5 * speed + uneven) + hands
    return cost, Group(outer.parts, inner.parts, direction, ratio=ratio, sights=(outer, inner))


def unlike(one: Blockage, other: Blockage) -> float:
    """Return how differently long both are, as the logarithm of a factor."""
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
    if min((hand.ns for hand in hands if hand is not None), default=0) > HAND_MAX * depth_ns:
        return None
    outer, inner = hands
    if outer is not None and inner is not None:
        moved = unlike(outer, inner) + abs(gaps[0] - gaps[1])
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
    cost = PUSHED_COST + unlike(*things) + unlike(*people) + abs(gaps[0] - gaps[1])
    seen = Sight(wholes[0]), Sight(wholes[1])
    yield cost, Group(tuple(outer), tuple(inner), way, sights=seen)


def _joined(first: Blockage, second: Blockage) -> Blockage:
    return Blockage(first.beam, first.broke, second.cleared, first.begin_ns, second.end_ns)


def tailgaters(two: tuple[Blockage, Blockage], one: Blockage, known_ratio: float | None) -> tuple[float, int] | None:
    """Return the cost and the way (1: from `two` to `one`) of `two` being people whom the other beam saw as `one`.

    The first shows at the beginning how fast it goes, the second at the end: each must be as deep as people are.
    """
    first, second = two
    if second.broke.boot_ns - first.cleared.boot_ns > TAILGATE_GAP_NS:
        return None
    both_ns = second.end_ns - first.begin_ns
    begin_ns, end_ns = one.begin_ns - first.begin_ns, one.end_ns - second.end_ns
    way = direction_of(begin_ns, end_ns)
    if way is None or abs(both_ns - one.ns) > max(0.3 * both_ns, 100 * NS_PER_MS):
        return None
    if known_ratio is None:
        return None if unlike(first, second) > math.log(2.0) else (SPLIT_COST, 1 if way == "in" else -1)
    ratios = max(abs(begin_ns), NS_PER_MS) / first.ns, max(abs(end_ns), NS_PER_MS) / second.ns
    geometry = sum(min(2.0, abs(math.log(ratio / known_ratio))) for ratio in ratios)
    return SPLIT_COST + SPLIT_WEIGHT * geometry, 1 if way == "in" else -1


def turned_deep(near: tuple[Blockage, Blockage], far: Blockage) -> float | None:
    """Return the cost of somebody who went past the near beam into the far one and came back the same way.

    The way back mirrors the way there: the far beam is broken between the two, and the near one for as long again.
    Where the beams are farther apart than a trunk is deep, neither is broken in between.
    """
    first, second = near
    begins_ns = far.broke.boot_ns - first.broke.boot_ns
    ends_ns = second.cleared.boot_ns - far.cleared.boot_ns
    if min(begins_ns, ends_ns) <= JITTER_NS:
        return None
    if max(far.broke.boot_ns - first.cleared.boot_ns, second.broke.boot_ns - far.cleared.boot_ns) > PAIR_GAP_NS:
        return None
    return TURNED_DEEP_COST + 3.0 * unlike(first, second) + abs(math.log(begins_ns / ends_ns))


def back_until_ns(group: Group) -> int | None:
    """Return until when the first beam breaks again if this person does not go on but turns back in the second.

    The way back mirrors the way there, at half its speed at the least. None: it is not one person who goes through.
    """
    if group.sights is None or group.direction is None:
        return None
    near, far = group.sights if group.direction == "in" else reversed(group.sights)
    between_ns = max(0, far.broke_ns - near.cleared_ns)
    return far.cleared_ns + min(2 * between_ns, PAIR_GAP_NS)
