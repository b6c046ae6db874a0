"""What may have happened in a doorway with two beams: one table of causes, each with its likelihood. Pure.

A row explains some blockages that follow one another, and says how likely they are: how often such a thing comes at
this door (1/s), times a density (1/s) for each further edge, a beam broken or cleared. Explanations of the same edges
thus have the same dimension, however many people are in them, and `explaining` takes the likeliest.

| cause | how often | what its edges look like, and why |
| --- | --- | --- |
| `walker` | this door's own traffic that way | the same shift between the beams at both ends, of a trunk's time times the door's ratio. People are 0.22 to 0.35 m deep and walk 1.3 m/s within a factor 1.4 (gait tables); heavy tails are coats, rucksacks (0.12 to 0.24 m) and bags |
| + `hand` | one in eight shows one apart at a beam | arms swing 0.15 m, at most 0.4 m; the other beam sees another phase of the swing |
| + `thing` | one in twenty | prams, trolleys: 0.4 to 1.2 m long, an arm's length (0.15 to 0.5 m) before or behind; a rigid thing has the walker's own shift at both ends |
| `two` | the rates of both; one in five has company within a second (a quarter of crossings at real entrances) | each edge is made by one of them, and hidden by the other only where that one is |
| `lingers` | one in 25 | near beam first, far beam last, any time between: stands, hesitates, sways, goes on |
| `turned` | one in 20 | the same beam first and last; turning takes half a second |
| `common` | once in ten minutes | both ends within some ms: nobody is at 5 cm in less than 5 ms, so supply, light, a slammed door |
| `nobody` | once in five minutes; both beams once in an hour | insects, leaves, spray: short, or far slower than short |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway.model import NS_PER_MS, NS_PER_S, Instant
from gateway.sensors.beams import Blockage
from gateway.sensors.sights import Sight, Way, direction_of, from_trunk_ns, order_of, sights, unlike

Cause = Literal["walker", "two", "lingers", "turned", "common", "nobody", "hand", "pending"]

PAIR_GAP_NS = 1_200 * NS_PER_MS
"""The longest way between the beams with neither broken: 0.35 m at 0.3 m/s."""
S = 1.0 / NS_PER_S
TRUNK_SPREAD = 0.4
"""Of the time in a beam: speed 0.3 and depth 0.16, as logarithms."""
SHIFT_SPREAD, DEEPER, UNEVEN_SPREAD = 0.25, 1.3, 0.45
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
FLIT_COST = math.log(0.03 * 0.1 / 0.12)
"""Of a hand that flits by beside two people."""
FLIT_GAP_NS, FLIT_REACH = 200 * NS_PER_MS, 1.0
WIRES, WIRED_GAP, PUSHER = 2, 4.0, 0.65
THING_SHARE, THING_LONG, THING_GAP, THING_SPREAD = 0.05, 2.6, 1.7, 0.45
PULLED_SHARE, PULLED_LONG, PULLED_SPREAD, PULLED_REACH = 0.03, 0.23, 0.25, 1.9
"""A pulled case: the stretched arm and the handle, each a quarter of a trunk's depth at most."""
LINGER_SHARE, TURN_SHARE, TURN_S, TURN_LONG_S, MIRROR_SPREAD = 0.06, 0.03, 0.6, 2.0, 0.1
COMMON_PER_S, COMMON_S = 1 / 600, 0.006
NOBODY_PER_S, NOBODY_BOTH, NOBODY_S = 1 / 300, 1 / 12, 0.015
CHILD, CHILD_SHARE = 0.6, 0.1
"""A child is 0.14 to 0.2 m deep."""
JITTER_S = 0.01
"""Receivers lag by some milliseconds, otherwise at breaking than at clearing."""
HIDDEN_S, MERGED_S = 0.03, 0.07
TOUCH_SHARE = 0.4
REACHED = 0.6
PIECES, ORDER_PIECES, ORDER_S = 3, 5, 1.0
"""Blockages of a beam that one person makes walking, and standing about for longer than this."""


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
    broke = min(near.trunk.broke, far.trunk.broke, key=_ns)
    cleared = max(near.trunk.cleared, far.trunk.cleared, key=_ns)
    are_alike = (outer.behind is None) == (inner.behind is None)
    is_wired = max(outer.trunk.spikes, inner.trunk.spikes) >= WIRES
    is_plain = are_alike and trunk_s * NS_PER_S >= FLIT_NS and not is_wired
    told = (Told(way, broke, cleared),)
    return cost, Group("walker", outer.parts, inner.parts, told, (outer, inner), less / trunk_s, is_plain, depth_s)


def _gait(shifts: tuple[int, int], trunk_s: float, usual: Usual) -> tuple[float, float, float]:
    """Return the cost of a trunk's time and both shifts (of an adult or a child), and the less and the more of these."""
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
    return cost + 0.5 * (max(0.0, math.log(fastest / more)) / 0.2) ** 2, less, more


def _ns(at: Instant) -> int:
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
                broke, cleared = min((b.broke for b in whole), key=_ns), max((b.cleared for b in whole), key=_ns)
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


Edges = tuple[float | None, float | None]
"""When a beam was broken and cleared by one body, where that can be seen."""


def _shares(blockages: Sequence[Blockage], origin_ns: int) -> list[tuple[Edges, Edges]]:
    """Return which of two bodies may have made which edges of one beam's one or two blockages."""
    spans = [((b.broke.boot_ns - origin_ns) * S, (b.cleared.boot_ns - origin_ns) * S) for b in blockages]
    if len(spans) == 2:
        return [(spans[0], spans[1]), (spans[1], spans[0])]
    begin, end = spans[0]
    return [
        ((begin, None), (None, end)),
        ((None, end), (begin, None)),
        ((begin, end), (None, None)),
        ((None, None), (begin, end)),
    ]


def two(outer: Sequence[Blockage], inner: Sequence[Blockage], usual: Usual, least: float) -> Iterator[Row]:
    """Yield two people who went through together, or who met, if it can cost less than `least`."""
    if not usual.is_ratio_known and len(outer) + len(inner) == 2:
        return  # a first person here may be of any depth
    peak = 2.0 * math.log(max(1.0 / (1.2 * usual.shift_s), 1.0 / (1.1 * usual.trunk_s)))
    if len(outer) == len(inner) == 1 and -math.log(max(usual.rates)) - math.log(max(usual.company, *usual.rates)) - peak > least:
        return
    origin_ns = min(outer[0].broke.boot_ns, inner[0].broke.boot_ns)
    o_shares, i_shares = _shares(outer, origin_ns), _shares(inner, origin_ns)
    spans = [
        [((b.broke.boot_ns - origin_ns) * S, (b.cleared.boot_ns - origin_ns) * S) for b in beam]
        for beam in (outer, inner)
    ]
    pairs: tuple[tuple[Way, Way], ...] = (("in", "out"), ("in", "in"), ("out", "out"))
    for ways in pairs:
        is_meeting = ways[0] != ways[1]
        if is_meeting:
            prior = -math.log(usual.rates[0]) - math.log(usual.rates[1] * usual.meeting)
        else:
            prior = -math.log(usual.rate(ways[0])) - math.log(max(usual.company, usual.rate(ways[0])))
        best: tuple[float, tuple[Edges, Edges], tuple[Edges, Edges]] | None = None
        for o in o_shares if is_meeting else o_shares[:1]:
            for i in i_shares if is_meeting else i_shares[:1]:
                cost = prior
                bodies = []
                near_far, first = ((o, i), 0) if len(outer) == 2 else ((i, o), 1)
                for n in (0, 1):
                    near, far = (o[n], i[n]) if ways[n] == "in" else (i[n], o[n])
                    found = _body(near, far, usual)
                    if found is None:
                        break
                    cost += found[0]
                    bodies.append(found[1] if ways[n] == "in" else (found[1][1], found[1][0]))
                else:
                    if is_meeting and len(outer) + len(inner) == 3 and _mirrors(*near_far, first):
                        share = usual.rate(ways[first]) * usual.turn_share / TURN_LONG_S
                        yield cost - prior - math.log(share), Group("turned", tuple(outer), tuple(inner))
                    cost += _hidden((o, i), spans, bodies)
                    if best is None or cost < best[0]:
                        best = cost, o, i
        if best is not None:
            cost, o, i = best
            yield cost, Group("two", tuple(outer), tuple(inner), _two_told(outer, inner, ways, o, i, origin_ns))


def _mirrors(near: tuple[Edges, Edges], far: tuple[Edges, Edges], first: int) -> bool:
    """Tell whether the body that came first at the near beam broke the far one, and the other left it."""
    return near[first] < near[1 - first] and far[first][0] is not None and far[first][1] is None  # type: ignore[operator]


def _two_told(
    outer: Sequence[Blockage],
    inner: Sequence[Blockage],
    ways: tuple[Way, Way],
    o: tuple[Edges, Edges],
    i: tuple[Edges, Edges],
    origin_ns: int,
) -> tuple[Told, ...]:
    """Return both people: each from the blockage that it broke first to the one that it left last."""
    told = []
    for n, way in enumerate(ways):
        mine = [
            beam[-1 if len(beam) == 2 and share[n] > share[1 - n] else 0] for beam, share in ((outer, o), (inner, i))
        ]  # type: ignore[operator]
        near, far = mine if way == "in" else reversed(mine)
        told.append(Told(way, near.broke, far.cleared))
    return tuple(sorted(told, key=lambda one: one.cleared.boot_ns))


Span = tuple[float, float]


def _body(near: Edges, far: Edges, usual: Usual) -> tuple[float, tuple[Span, Span]] | None:
    """Return the cost of the edges that are seen of one body, and when it must have been in both beams."""
    (nb, ne), (fb, fe) = near, far
    ratio, trunk, shift = usual.ratio, usual.trunk_s, usual.shift_s
    cost = 0.0
    if nb is not None and ne is not None:
        own = max(0.02, ne - nb)
        cost += near_s(own, trunk, usual.trunk_spread)
        if fb is None and fe is None:
            moved = ratio * own
        else:
            seen = [far_s - near_s for near_s, far_s in ((nb, fb), (ne, fe)) if far_s is not None]
            if min(seen) <= 0:
                return None
            cost += sum(near_s(one, ratio * own, SHIFT_SPREAD + 0.1) for one in seen)
            moved = sum(seen) / len(seen)
        begin = nb
    elif fb is not None and fe is not None:
        own = max(0.02, fe - fb)
        cost += near_s(own, trunk, usual.trunk_spread)
        moved = ratio * own
        if nb is not None:
            moved = fb - nb
        elif ne is not None:
            moved = fe - ne
        if moved <= 0:
            return None
        if nb is not None or ne is not None:
            cost += near_s(moved, ratio * own, SHIFT_SPREAD + 0.1)
        begin = fb - moved
    elif nb is not None and fb is not None:
        moved = fb - nb
        if moved <= 0:
            return None
        cost += near_s(moved, shift, usual.trunk_spread + 0.1)
        own, begin = math.sqrt(moved / ratio * trunk), nb
    elif ne is not None and fe is not None:
        moved = fe - ne
        if moved <= 0:
            return None
        cost += near_s(moved, shift, usual.trunk_spread + 0.1)
        own = math.sqrt(moved / ratio * trunk)
        begin = ne - own
    elif nb is not None and fe is not None:
        whole = fe - nb
        if whole <= 0:
            return None
        cost += near_s(whole, trunk + shift, usual.trunk_spread)
        own = whole / (1 + ratio)
        moved, begin = ratio * own, nb
    elif ne is not None and fb is not None:
        between, spread = ne - fb, 0.4 * trunk + 0.3 * shift
        cost += 0.5 * ((between - trunk + shift) / spread) ** 2 + math.log(2.5 * spread)
        own = between / (1 - ratio) if ratio < 0.7 else trunk
        own = min(max(own, 0.5 * trunk), 2.0 * trunk)
        moved, begin = ratio * own, ne - own
    else:
        return None
    near_span = begin, ne if ne is not None else begin + own
    far_begin = fb if fb is not None else begin + moved
    return cost, (near_span, (far_begin, fe if fe is not None else near_span[1] + moved))


def _hidden(
    shares: tuple[tuple[Edges, Edges], tuple[Edges, Edges]],
    spans: list[list[Span]],
    bodies: list[tuple[Span, Span]],
) -> float:
    """Return the cost of edges that are not seen: they must lie within the blockage, and both bodies must fill it."""
    cost = 0.0
    for beam in (0, 1):
        if len(spans[beam]) != 1:
            continue
        begin, end = spans[beam][0]
        one, other = bodies[0][beam], bodies[1][beam]
        beyond = sum(max(0.0, begin - body[0]) + max(0.0, body[1] - end) for body in (one, other))
        apart = max(0.0, max(one[0], other[0]) - min(one[1], other[1]) - MERGED_S)
        cost += 0.5 * (beyond / HIDDEN_S) ** 2 + 0.5 * (apart / HIDDEN_S) ** 2
    return min(cost, 50.0)


def orders(outer: tuple[Blockage, ...], inner: tuple[Blockage, ...], usual: Usual) -> Iterator[Row]:
    """Yield who lingered or turned back in both beams, and what fell or flew: only first and last edges are asked."""
    begins = (inner[0].broke.boot_ns - outer[0].broke.boot_ns) * S
    ends = (inner[-1].cleared.boot_ns - outer[-1].cleared.boot_ns) * S
    first = min(outer[0].broke, inner[0].broke, key=_ns)
    last = max(outer[-1].cleared, inner[-1].cleared, key=_ns)
    took = (last.boot_ns - first.boot_ns) * S
    pieces = len(outer) + len(inner) - 2
    # How long it took, and every edge in between: anywhere in that time; as often twice as once.
    within = math.log(4.0 * took) + pieces * (2.0 * math.log(took + 0.1) + math.log(2.0))
    shift = usual.shift_s
    if begins * ends > 0:
        way: Way = "in" if begins > 0 else "out"
        cost = -math.log(usual.rate(way) * LINGER_SHARE) + within + max(0.0, 3.0 * math.log(0.6 / took))
        cost += off_s(abs(begins), shift * 1.5, 0.7) + off_s(abs(ends), shift * 1.5, 0.7)
        yield cost, Group("lingers", outer, inner, (Told(way, first, last),))
    else:
        way = "in" if begins - ends > 0 else "out"
        cost = -math.log(usual.rate(way) * usual.turn_share) + within + max(0.0, 1.5 * math.log(TURN_S / took))
        # The way back mirrors the way there.
        there, back = max(abs(begins), 0.001), max(abs(ends), 0.001)
        cost += off_s(there, shift * 1.2, 0.5) + off(math.log(back / there), MIRROR_SPREAD) + math.log(back)
        yield cost, Group("turned", outer, inner)
    if not pieces:
        length = min(outer[0].ns, inner[0].ns) * S
        if begins * ends > 0 and length < REACHED * usual.trunk_s:
            cost = -math.log(usual.rate(way) * usual.turn_share) + off_s(length, HAND_LONG * usual.trunk_s, 0.5)
            cost += off_s(abs(begins), shift * 1.5, 0.8) + off_s(abs(ends), shift * 1.5, 0.8)
            yield cost, Group("turned", outer, inner)
        bell = 0.5 * ((begins / COMMON_S) ** 2 + (ends / COMMON_S) ** 2) + 2.0 * math.log(2.5 * COMMON_S)
        yield -math.log(COMMON_PER_S) + bell + math.log(4.0 * took), Group("common", outer, inner)
        cost = -math.log(NOBODY_BOTH * usual.nobody_rate) + length / 0.03 + math.log(0.03) + math.log(2.0)
        if begins * ends > 0:
            cost += off_s(abs(begins), 0.2, 0.8) + off(math.log(ends / begins), 0.3) + math.log(abs(ends))
            yield cost, Group("nobody", outer, inner)


def alone(blockage: Blockage, usual: Usual, *, is_outer: bool, may_find_partner: bool) -> Row:
    """Return what a blockage is that only one beam saw: nobody, somebody who turned, or who has yet to reach the other."""
    length = max(blockage.ns, NS_PER_MS) * S
    outer, inner = ((blockage,), ()) if is_outer else ((), (blockage,))
    rate = usual.rate("in" if is_outer else "out")
    nobody = -math.log(usual.nobody_rate) + length / NOBODY_S + math.log(NOBODY_S)
    turned = (
        -math.log(rate * usual.turn_share) + math.log(4.0 * max(0.1, length)) + max(0.0, 2.0 * math.log(0.3 / length))
    )
    if may_find_partner and not blockage.is_flit:
        cost = -math.log(rate) + off_s(length, usual.trunk_s, usual.trunk_spread)
        if cost < min(nobody, turned):
            return cost, Group("pending", outer, inner)
    return min((nobody, Group("nobody", outer, inner)), (turned, Group("turned", outer, inner)), key=lambda row: row[0])


def rests(outer: Sequence[Blockage], inner: Sequence[Blockage], before: Group) -> Iterator[Row]:
    """Yield what of the first blockages may be a hand of who was told last."""
    if before.sights is None:
        return
    trunks = before.sights[0].trunk, before.sights[1].trunk
    first = [
        blockages[0] if blockages and sight.behind is None else None
        for blockages, sight in zip((outer, inner), before.sights, strict=True)
    ]
    choices: tuple[Hands, ...] = ((first[0], None), (None, first[1]), (first[0], first[1]))
    for hands in choices:
        parts = [() if hand is None else (hand,) for hand in hands]
        if any(parts) and (cost := hands_cost(hands, trunks, before.depth_s)) is not None:
            yield cost, Group("hand", parts[0], parts[1])


def are_company(before: Group | None, group: Group) -> bool:
    """Tell whether somebody goes right behind `before`, the same way."""
    if before is None or group.cause != "walker" or before.way != group.way or group.way is None:
        return False
    return group.people[0].broke.boot_ns - before.people[-1].cleared.boot_ns <= COMPANY_NS


def have_met(before: Group | None, group: Group) -> bool:
    """Tell whether two people went opposite ways at about the same time."""
    ways = {one.way for one in group.people}
    if len(ways) == 2:
        return True
    if before is None or not ways or before.people[-1].way in ways:
        return False
    return group.people[0].broke.boot_ns - before.people[-1].cleared.boot_ns <= COMPANY_NS


def company(before: Group | None, group: Group, usual: Usual) -> float:
    """Return by how much likelier somebody is (a logarithm) right behind `before`, who goes the same way."""
    if group.way is None or not are_company(before, group):
        return 0.0
    return math.log(max(1.0, usual.company / usual.rate(group.way)))


def rows(outer: Sequence[Blockage], inner: Sequence[Blockage], usual: Usual) -> list[Row]:
    """Return everything that the first of both beams' blockages may be together."""
    found = [row for one in sights(outer) for other in sights(inner) if (row := walker(one, other, usual)) is not None]
    found += things(outer, inner, usual)
    for m in range(1, len(outer) + 1):
        for n in range(1, len(inner) + 1):
            o, i = tuple(outer[:m]), tuple(inner[:n])
            if not _is_one_scene(o, i):
                break
            if max(m, n) > PIECES and _took_s(o, i) < ORDER_S:
                continue
            found += orders(o, i, usual)
            trunks = [[b for b in beam if not b.is_flit] for beam in (o, i)]
            if max(m, n) <= PIECES and 1 <= len(trunks[0]) <= 2 and 1 <= len(trunks[1]) <= 2:
                flits = m + n - len(trunks[0]) - len(trunks[1])
                if flits and not all(_flits_beside(*beams) for beams in zip((o, i), trunks, strict=True)):
                    continue
                least = min(
                    (row[0] for row in found if len(row[1].outer) == m and len(row[1].inner) == n), default=99.0
                )
                for cost, group in two(trunks[0], trunks[1], usual, least - flits * FLIT_COST):
                    found.append((cost + flits * FLIT_COST, replace(group, outer=o, inner=i)))
    return found


def _is_one_scene(outer: tuple[Blockage, ...], inner: tuple[Blockage, ...]) -> bool:
    spans = sorted((b.broke.boot_ns, b.cleared.boot_ns) for b in (*outer, *inner))
    until = spans[0][1]
    for begin, end in spans[1:]:
        if begin - until > PAIR_GAP_NS:
            return False
        until = max(until, end)
    return True


def _flits_beside(beam: tuple[Blockage, ...], trunks: list[Blockage]) -> bool:
    return all(any(from_trunk_ns(flit, trunk)[0] <= FLIT_GAP_NS for trunk in trunks) for flit in beam if flit.is_flit)


def _took_s(outer: tuple[Blockage, ...], inner: tuple[Blockage, ...]) -> float:
    begins = min(outer[0].broke.boot_ns, inner[0].broke.boot_ns)
    return (max(outer[-1].cleared.boot_ns, inner[-1].cleared.boot_ns) - begins) * S
