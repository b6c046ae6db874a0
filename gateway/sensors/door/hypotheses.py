"""What may have happened in a doorway with two beams: one table of causes, each with its likelihood. Pure.

A row explains some blockages that follow one another, and says how likely they are: how often such a thing comes at
this door (1/s), times a density (1/s) for each further edge, a beam broken or cleared. Explanations of the same edges
thus have the same dimension, however many people are in them, and `explaining` takes the likeliest.
The table of causes stands at `rows`; `walking` and `meeting` hold the numbers of people, with their sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gateway.model import NS_PER_MS
from gateway.sensors.door.beams import Blockage
from gateway.sensors.door.meeting import two
from gateway.sensors.door.sights import Way, from_trunk_ns, sights
from gateway.sensors.door.walking import (
    COMPANY_NS,
    FLIT_GAP_NS,
    HAND_LONG,
    PAIR_GAP_NS,
    Group,
    Hands,
    Row,
    S,
    Told,
    Usual,
    earlier,
    hands_cost,
    off,
    off_s,
    things,
    walker,
)

LINGER_SHARE = 0.06
TURN_S, MIRROR_SPREAD = 0.6, 0.06
"""Turning round takes half a second and more, and who goes back goes as fast as they came."""
NOBODY_BOTH, NOBODY_S = 1 / 12, 0.015
COMMON_PER_S, COMMON_S = 1 / 600, 0.006
REACHED = 0.6
PIECES, ORDER_PIECES, ORDER_S = 3, 5, 1.0
"""Blockages of a beam that one person makes walking, and standing about for longer than this."""
FLIT_COST = math.log(0.03 * 0.1 / 0.12)
"""Of a hand that flits by beside two people."""


def orders(outer: tuple[Blockage, ...], inner: tuple[Blockage, ...], usual: Usual) -> Iterator[Row]:
    """Yield who lingered or turned back in both beams, and what fell or flew: only first and last edges are asked."""
    begins = (inner[0].broke.boot_ns - outer[0].broke.boot_ns) * S
    ends = (inner[-1].cleared.boot_ns - outer[-1].cleared.boot_ns) * S
    first = min(outer[0].broke, inner[0].broke, key=earlier)
    last = max(outer[-1].cleared, inner[-1].cleared, key=earlier)
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
    """Return what one beam alone saw: nobody, somebody who turned, or who has yet to reach the other beam."""
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
    """Return whether somebody goes right behind `before`, the same way."""
    if before is None or group.cause != "walker" or before.way != group.way or group.way is None:
        return False
    return group.people[0].broke.boot_ns - before.people[-1].cleared.boot_ns <= COMPANY_NS


def have_met(before: Group | None, group: Group) -> bool:
    """Return whether two people went opposite ways at about the same time."""
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
    """Return everything that the first of both beams' blockages may be together: the table of causes.

    `walker` (this door's own traffic that way): the same shift between the beams at both ends, a trunk's time times
        the door's ratio. People are 0.22 to 0.35 m deep, a child 0.14 to 0.2 m, and walk 1.3 m/s within a factor of
        1.4 (gait and anthropometry tables); rucksacks (0.12 to 0.24 m) and coats give heavy tails. With it go: a
        `hand` (one in eight shows one apart: arms swing 0.15 m, at most 0.4 m, in another phase at the other beam);
        a thing pushed or pulled (one in twenty: prams and trolleys are 0.4 to 1.2 m long, 0.15 to 0.5 m away;
        rigid, with the walker's own shift).
    `two` (the rates of both; a quarter of crossings at real entrances are in company, and as often as this door
        shows): each edge is made by one, and hidden by the other only where that one is.
    `lingers` (one in 17): near beam first, far beam last, anything in between: stands, hesitates, sways, goes on.
    `turned` (one in 20, and as often as this door shows): the same beam first and last; turning takes half a
        second.
    `common` (once in ten minutes): both ends within some ms. Nobody is at 5 cm in less than 5 ms: it is supply or
        light.
    `nobody` (once in five minutes, and as often as this door shows; both beams a twelfth of that): insects, leaves:
        short.
    `pending`: somebody who has yet to reach the other beam.
    """
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
