"""One person in a doorway, with hands and what they push or pull: how likely are the edges that two beams saw. Pure.

Law: every likelihood is a cost, minus the logarithm of a rate (1/s) times densities (1/s), one for each edge. Speed
cancels out: the shift between the beams over a trunk's time is the beams' distance over its depth, much the same for
everybody at one door.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.model import NS_PER_MS, NS_PER_S, Instant
from gateway.sensors.door.beams import Blockage
from gateway.sensors.door.sights import Sight, Way, direction_of, from_trunk_ns, order_of, unlike

Cause = Literal["walker", "two", "lingers", "turned", "common", "nobody", "hand", "pending"]

PAIR_GAP_NS = 1_200 * NS_PER_MS
"""The longest way between the beams with neither broken: 0.35 m at 0.3 m/s."""
S = 1.0 / NS_PER_S
TRUNK_SPREAD = 0.4
"""Of the time in a beam: speed 0.3 and depth 0.16, as logarithms."""
SHIFT_SPREAD, DEEPER, UNEVEN_SPREAD = 0.25, 1.4, 0.45
"""Of the shift for a trunk's time (depth, arms, coats), and between both ends of one body."""
UNLIKE = 0.5
"""Both beams see one trunk for as long as each other, but for arms and a change of speed within this factor e."""
FASTER, RATIO_LEAST = 3.0, 0.1
"""A runner's 3.6 m/s is three times the usual; 3 cm between the beams are a tenth of a trunk."""
COMPANY_PER_S, COMPANY_NS = 0.3, NS_PER_S
HAND_SHARE, HAND_AGAIN, HAND_REACH, HAND_NEAR = 0.12, 0.4, 1.6, 0.5
"""Reaches are from the trunk to the hand's far end, in depths of a trunk: usually 0.15 m, at most 0.4 m."""
HAND_LONG, HAND_MAX = 0.3, 0.7
"""A hand is 8 cm; one that swings back nearly stands in one beam, but the other one sees it for less than a trunk."""
RIGID, RIGID_COST = 0.3, 1.0
"""A swinging hand's length and distance change between the beams by more than this (a factor e, a trunk's depth)."""
FLIT_NS = 65 * NS_PER_MS
FLIT_GAP_NS, FLIT_REACH = 200 * NS_PER_MS, 1.0
WIRES, WIRED_GAP, PUSHER = 2, 4.0, 0.65
THING_SHARE, THING_LONG, THING_GAP, THING_SPREAD = 0.05, 2.6, 1.7, 0.45
PULLED_SHARE, PULLED_LONG, PULLED_SPREAD, PULLED_REACH = 0.03, 0.23, 0.25, 1.9
"""A pulled case: the stretched arm and the handle, each a quarter of a trunk's depth at most."""
TURN_SHARE = 0.05
NOBODY_PER_S = 1 / 300
CHILD, CHILD_SHARE = 0.6, 0.1
"""A child is 0.14 to 0.2 m deep."""
JITTER_S = 0.01
"""Receivers lag by some milliseconds, otherwise at breaking than at clearing."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What this door knows: the usual trunk's time in a beam, its shift over that, and traffic in and out (1/s)."""

    trunk_s: float = 0.22
    trunk_spread: float = TRUNK_SPREAD
    turn_share: float = TURN_SHARE
    nobody_rate: float = NOBODY_PER_S
    company: float = COMPANY_PER_S
    meeting: float = 1.0
    """How much oftener people meet here than chance has it."""
    ratio: float = 0.35
    ratio_spread: float = SHIFT_SPREAD
    is_ratio_known: bool = False
    rates: tuple[float, float] = (1 / 60, 1 / 60)

    def rate(self, way: Way) -> float:
        return self.rates[way == "out"]

    @property
    def shift_s(self) -> float:
        return self.ratio * self.trunk_s


@dataclass(frozen=True, slots=True)
class Told:
    """Somebody went through: `broke` is the first beam broken, `cleared` the last cleared."""

    way: Way
    broke: Instant
    cleared: Instant


@dataclass(frozen=True, slots=True)
class Group:
    """Blockages that one cause explains, who went through in it, and what a single walker looked like."""

    cause: Cause
    outer: tuple[Blockage, ...]
    inner: tuple[Blockage, ...]
    people: tuple[Told, ...] = ()
    sights: tuple[Sight, Sight] | None = None
    ratio: float | None = None
    is_plain: bool = False
    depth_s: float = 0.0
    """For how long a trunk as deep as usual here breaks a beam at this one's speed."""

    @property
    def end_ns(self) -> int:
        return max(blockage.cleared.boot_ns for blockage in self.outer + self.inner)

    @property
    def took_ns(self) -> int:
        return self.end_ns - min(blockage.broke.boot_ns for blockage in self.outer + self.inner)

    @property
    def depth_ns(self) -> int:
        """Return for how long the trunk of the person breaks a beam."""
        return min(sight.trunk.ns for sight in self.sights) if self.sights else 0

    @property
    def way(self) -> Way | None:
        return self.people[0].way if self.people else None


Row = tuple[float, Group]


def off(logarithm: float, spread: float) -> float:
    """Return minus the logarithm of a density of Student's t (3 degrees): most are near, but some are far off."""
    return 2.0 * math.log(1.0 + (logarithm / spread) ** 2 / 3.0) + math.log(2.72 * spread)


def off_s(time_s: float, usual_s: float, spread: float) -> float:
    """Return that of a time (1/s) whose logarithm spreads about the usual one's."""
    time_s = max(time_s, 0.001)
    return off(math.log(time_s / usual_s), spread) + math.log(time_s)


def near_s(time_s: float, usual_s: float, spread: float) -> float:
    """Return that of a time (1/s) of whom nothing unusual is believed: two causes at once are rare enough."""
    time_s = max(time_s, 0.001)
    return 0.5 * (math.log(time_s / usual_s) / spread) ** 2 + math.log(2.5 * spread) + math.log(time_s)


def walker(outer: Sight, inner: Sight, usual: Usual) -> Row | None:
    """Return one person who walked through; None where it cannot be."""
    if max(inner.broke_ns - outer.cleared_ns, outer.broke_ns - inner.cleared_ns) > PAIR_GAP_NS:
        return None
    if outer.trunk.is_flit or inner.trunk.is_flit:
        return None
    way, shifts = order_of(outer, inner)
    if way is None:
        return None
    trunk_s = min(outer.trunk.ns, inner.trunk.ns) * S
    cost, less, more = _gait(shifts, trunk_s, usual)
    whole = inner.broke_ns - outer.broke_ns, inner.cleared_ns - outer.cleared_ns
    if whole != shifts and direction_of(*whole) == way:
        cost, less, more = min((cost, less, more), _gait(whole, trunk_s, usual))
    cost += 0.5 * (max(0.0, unlike(outer.trunk, inner.trunk) - UNLIKE) / UNLIKE) ** 2 - math.log(usual.rate(way))
    depth_s = trunk_s
    if usual.is_ratio_known:
        # A trunk and a hand before it may be one blockage: arms are no longer for that.
        whole_s = min(max(trunk_s, less / usual.ratio), 1.3 * more / usual.ratio)
        depth_s = min(max(whole_s, 0.5 * trunk_s), 1.5 * trunk_s)
    trunks = outer.trunk, inner.trunk
    for hands in ((outer.ahead, inner.ahead), (outer.behind, inner.behind)):
        if hands != (None, None):
            if (hand := hands_cost(hands, trunks, depth_s)) is None:
                return None
            cost += hand
    near, far = (outer, inner) if way == "in" else (inner, outer)
    broke = min(near.trunk.broke, far.trunk.broke, key=earlier)
    cleared = max(near.trunk.cleared, far.trunk.cleared, key=earlier)
    are_alike = (outer.behind is None) == (inner.behind is None)
    is_wired = max(outer.trunk.spikes, inner.trunk.spikes) >= WIRES
    is_plain = are_alike and trunk_s * NS_PER_S >= FLIT_NS and not is_wired
    told = (Told(way, broke, cleared),)
    return cost, Group("walker", outer.parts, inner.parts, told, (outer, inner), less / trunk_s, is_plain, depth_s)


def _gait(shifts: tuple[int, int], trunk_s: float, usual: Usual) -> tuple[float, float, float]:
    """Return the cost of a trunk's time and both shifts (of an adult or a child), and the less and more of these."""
    less, more = sorted(max(abs(shift) * S, 0.001) for shift in shifts)
    # Some take far longer than usual; nobody is far faster.
    cost = (off_s if trunk_s > usual.trunk_s else near_s)(trunk_s, usual.trunk_s, usual.trunk_spread)
    unusual = math.log(less / trunk_s / usual.ratio)
    cost += off(unusual, usual.ratio_spread * (DEEPER if unusual < 0 else 1.0))
    if unusual > 0:
        child = near_s(trunk_s, CHILD * usual.trunk_s, usual.trunk_spread) - math.log(CHILD_SHARE)
        child += 0.5 * ((unusual + math.log(CHILD)) / usual.ratio_spread) ** 2 + math.log(2.5 * usual.ratio_spread)
        cost = min(cost, child)
    cost += math.log(less) + off(math.log((more + JITTER_S) / (less + JITTER_S)), UNEVEN_SPREAD) - math.log(2.0)
    cost += math.log(max(more, 0.01))
    # Nobody is so fast, however their arms swing: 3.6 m/s, or beams nearer than 3 cm.
    fastest = usual.shift_s / FASTER if usual.is_ratio_known else RATIO_LEAST * trunk_s
    return cost + 0.5 * (max(0.0, math.log(fastest / more)) / 0.12) ** 2, less, more


def earlier(at: Instant) -> int:
    return at.boot_ns


Hands = tuple[Blockage | None, Blockage | None]


def hands_cost(hands: Hands, trunks: tuple[Blockage, Blockage], depth_s: float) -> float | None:
    """Return the cost of what the outer and the inner beam saw (or one of them) being a hand; None: it cannot be.

    A hand swings on between the beams. What keeps its length and its distance goes at the trunk's own speed, as a child
    does; the farther apart the beams are, the less is it chance.
    """
    seen = [(hand, trunk) for hand, trunk in zip(hands, trunks, strict=True) if hand is not None]
    if any(hand.ns >= trunk.ns for hand, trunk in seen) or min(hand.ns for hand, _ in seen) * S > HAND_MAX * depth_s:
        return None
    gaps = [from_trunk_ns(hand, trunk)[0] * S / depth_s for hand, trunk in seen]
    swung, reaches = -math.log(HAND_SHARE), []
    for hand, trunk in seen:
        gap_ns, reach_ns = from_trunk_ns(hand, trunk)
        reach = reach_ns * S / depth_s
        if hand.ns < FLIT_NS and gap_ns <= FLIT_GAP_NS:
            reach = min(reach, FLIT_REACH)
        reaches.append(reach)
        # Its length and its distance: each somewhere within its usual size.
        swung += 1.2 * max(0.0, reach - HAND_NEAR) + off_s(hand.ns * S, HAND_LONG * depth_s, 0.5)
        swung += math.log(0.5 * depth_s)
    total = swung if max(reaches) <= HAND_REACH else math.inf
    if len(seen) == 2:
        (outer, outer_trunk), (inner, inner_trunk) = seen
        moved = abs(math.log(outer.ns / inner.ns)) + abs(gaps[0] - gaps[1])
        apart = min(1.0, abs(outer_trunk.begin_ns - inner_trunk.begin_ns) * S / depth_s)
        far = min(1.0, 2.0 * max(0.0, min(gaps) - HAND_NEAR))
        total += -math.log(HAND_AGAIN) + RIGID_COST * max(0.0, 1.0 - moved / RIGID) * apart * far
        if outer.broke.boot_ns > outer_trunk.broke.boot_ns and max(reaches) <= PULLED_REACH:
            shifts = inner_trunk.begin_ns - outer_trunk.begin_ns, inner_trunk.end_ns - outer_trunk.end_ns
            shift_s = max(0.002, math.sqrt(max(1, abs(shifts[0])) * max(1, abs(shifts[1]))) * S)
            own = inner.broke.boot_ns - outer.broke.boot_ns, inner.cleared.boot_ns - outer.cleared.boot_ns
            solid_s = min(outer.solid_ns or outer.ns, inner.solid_ns or inner.ns) * S
            pulled = -math.log(PULLED_SHARE) + math.log(THING_GAP * depth_s)
            pulled += near_s(solid_s, PULLED_LONG * depth_s, PULLED_SPREAD)
            total = min(total, pulled + sum(off_s(abs(shift) * S, shift_s, 0.25) for shift in own))
    return None if total == math.inf else total


def things(outer: Sequence[Blockage], inner: Sequence[Blockage], usual: Usual) -> Iterator[Row]:
    """Yield walkers with a long rigid thing ahead or behind that both beams saw apart, perhaps with its handle."""
    for m in (2, 3):
        for n in (2, 3):
            if m > len(outer) or n > len(inner):
                continue
            o, i = tuple(outer[:m]), tuple(inner[:n])
            for is_ahead in (True, False):
                trunks, long = ((o[-1], i[-1]), (o[0], i[0])) if is_ahead else ((o[0], i[0]), (o[-1], i[-1]))
                if max(o[1].ns if m == 3 else 0, i[1].ns if n == 3 else 0) > FLIT_NS:
                    continue
                if (found := walker(Sight(trunks[0]), Sight(trunks[1]), usual)) is None:
                    continue
                is_wired = all(max(part.spikes for part in beam[1:]) >= WIRES for beam in (o, i))
                if (cost := _thing(trunks, long, found[1], usual, is_ahead=is_ahead, is_wired=is_wired)) is None:
                    continue
                handles = (m - 2) + (n - 2)
                cost += found[0] + handles * 2.0 * math.log(0.03)
                told = found[1].people[0]
                whole = (*o, *i)
                broke, cleared = (
                    min((b.broke for b in whole), key=earlier),
                    max((b.cleared for b in whole), key=earlier),
                )
                yield (
                    cost,
                    Group("walker", o, i, (Told(told.way, broke, cleared),), found[1].sights, depth_s=found[1].depth_s),
                )


def _thing(
    trunks: tuple[Blockage, Blockage],
    long: tuple[Blockage, Blockage],
    person: Group,
    usual: Usual,
    *,
    is_ahead: bool,
    is_wired: bool,
) -> float | None:
    """Return the cost of the thing beside its person; of one of wires, the beams see the goods alone for long."""
    shifts = [trunks[1].begin_ns - trunks[0].begin_ns, trunks[1].end_ns - trunks[0].end_ns]
    whole = long[1].broke.boot_ns - long[0].broke.boot_ns, long[1].cleared.boot_ns - long[0].cleared.boot_ns
    solid = long[1].begin_ns - long[0].begin_ns, long[1].end_ns - long[0].end_ns
    choices = [own for own in {whole, solid} if direction_of(*own) == person.way]
    if not choices:
        return None
    shift_s = max(0.002, math.sqrt(max(1, abs(shifts[0])) * max(1, abs(shifts[1]))) * S)
    trunk_s = shift_s / usual.ratio if usual.is_ratio_known else min(trunk.ns for trunk in trunks) * S
    gap_s = max(from_trunk_ns(thing, trunk)[0] for thing, trunk in zip(long, trunks, strict=True)) * S
    length_s = min(thing.ns for thing in long) * S
    if usual.is_ratio_known and min(trunk.ns for trunk in trunks) * S < PUSHER * trunk_s:
        return None  # a child behind its parent
    longest_s, least_s = (WIRED_GAP, 0.2) if is_wired else (THING_GAP, 1.2)
    if not 0 < gap_s < longest_s * trunk_s or length_s < least_s * trunk_s:
        return None
    cost = -math.log(THING_SHARE if is_ahead else 0.4 * THING_SHARE) + math.log(THING_GAP * trunk_s)
    cost += off_s(length_s, THING_LONG * trunk_s, THING_SPREAD)
    return cost + min(sum(off_s(abs(shift) * S, shift_s, 0.25) for shift in own) for own in choices)
