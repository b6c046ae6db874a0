"""Two people in a doorway at the same time, the same way or opposite ways: how likely are the edges. Pure.

Law: each edge is made by one of the two; an edge of the other is hidden where that one is in the beam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gateway.sensors.door.beams import Blockage
from gateway.sensors.door.sights import Way
from gateway.sensors.door.walking import COMPANY_PER_S, SHIFT_SPREAD, Group, Row, S, Told, Usual, near_s

TURN_LONG_S = 2.0
"""Within this time who goes past the near beam has turned round."""
HIDDEN_S, MERGED_S = 0.03, 0.07

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
    if (
        len(outer) == len(inner) == 1
        and -math.log(max(usual.rates)) - math.log(max(COMPANY_PER_S, *usual.rates)) - peak > least
    ):
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
            prior = -math.log(usual.rate(ways[0])) - math.log(
                max(min(usual.company, COMPANY_PER_S), usual.rate(ways[0]))
            )
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
    """Return whether the body that came first at the near beam broke the far one, and the other left it."""
    return near[first] < near[1 - first] and far[first][0] is not None and far[first][1] is None


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
        ]
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
