"""Who went through: the order of two beams' blockages. Pure.

Law: a person who goes through breaks one beam, then the other, and clears them in the same order; who clears the first
one last has turned back. Speed cancels out: the shift between the beams over the blockage is the beams' distance over
the person's depth, the same for everybody at one door. So the door learns that ratio, and with it tells queues apart.

Blockages of the two beams are aligned in order at the least cost; people cannot overtake each other between the beams.
A pair is decided as soon as nothing that may still come can pair better.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from gateway.model import NS_PER_MS, Instant
from gateway.sensors.beams import BEAM, Beam, Blockage, Contact, Finding, FlickerBegan, Stuck

Direction = Literal["in", "out", "unknown"]

PAIR_GAP_NS = 1_200 * NS_PER_MS
"""The longest way between the beams with neither broken: 0.35 m at 0.3 m/s."""
JITTER_NS = 10 * NS_PER_MS
"""Shifts below are none: 5 cm between the beams at 2.5 m/s are 20 ms."""
ALIKE = 0.4
"""One person's speed between the beams and away from them differs by less than this factor."""
LONG_ARM_NS = 120 * NS_PER_MS
"""A hand that swings back as the body goes on stands nearly still in a beam; people behind each other leave 0.2 m."""
ARM_REACH_DEPTHS = 0.8
"""A hand swings ahead of the trunk by so many of its depths. One far ahead at both beams costs 0.8: a factor of 2.2 in
the ratio of shift and blockage. So who follows and is half as deep as people here is a child, and counts."""
TAILGATE_GAP_NS = 150 * NS_PER_MS
"""One beam may see two people pressed together as one blockage while the other still sees a gap, up to this."""
WAITING_MAX = 12
"""Blockages of a beam that wait for a partner; more than people can be between the beams."""
RATIOS_KNOWN = 2
RATIO_USUAL, RATIO_POSSIBLE = 1.0, 2.3
"""Beams 5 to 50 cm apart and people 0.22 to 0.35 m deep give 0.14 to 2.3; most doors have them 5 to 10 cm apart."""

ALONE_COST = 3.0
PENDING_COST = 1.0
TURNED_COST = 3.0
SPLIT_COST = 0.7
APART_COST = 0.3
ARM_COST, FAR_ARM_COST = 0.2, 0.4
"""In units of a factor e of disagreement. A pair that goes through (at most 3.5) beats two that stay alone, also where
the second may still find another partner."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Somebody went through: `broke` is the first beam broken, `cleared` the last cleared."""

    direction: Direction
    broke: Instant
    cleared: Instant


@dataclass(frozen=True, slots=True)
class Group:
    """Blockages that belong together: `people` went in `direction`, or (None) nobody went through."""

    outer: tuple[Blockage, ...]
    inner: tuple[Blockage, ...]
    direction: Literal["in", "out"] | None
    ratio: float | None = None
    people: int = 1

    @property
    def is_settled(self) -> bool:
        """A pair, or an arm that needs none."""
        return bool(self.outer and self.inner) or all(blockage.is_arm for blockage in self.outer + self.inner)

    @property
    def end_ns(self) -> int:
        return max(blockage.cleared.boot_ns for blockage in self.outer + self.inner)


def _shifts(outer: Blockage, inner: Blockage) -> tuple[int, int]:
    return inner.begin_ns - outer.begin_ns, inner.end_ns - outer.end_ns


def _whole_shifts(outer: Blockage, inner: Blockage) -> tuple[int, int]:
    begin_ns = inner.broke.boot_ns - outer.broke.boot_ns
    return begin_ns, inner.cleared.boot_ns - outer.cleared.boot_ns


def order_of(outer: Blockage, inner: Blockage) -> tuple[Literal["in", "out"] | None, tuple[int, int]]:
    """Return the direction of one person who made both blockages (None: turned back), and the shifts that tell it.

    Whoever goes through, with whatever swings at beam height, comes to the first beam first and leaves it first: so the
    order of the whole blockages decides. It fails where one beam sees an arm that the other does not (a sleeve, a bag
    on a strap): there the trunks' own ends decide, where they are shifted alike.
    """
    whole, trunks = _whole_shifts(outer, inner), _shifts(outer, inner)
    way, own = direction_of(*whole), direction_of(*trunks)
    if way is None and own is not None:
        less, more = sorted(map(abs, trunks))
        return (own, trunks) if less >= ALIKE * more else (None, whole)
    return way, trunks if own == way else whole


def _sign(shift_ns: int) -> int:
    return 0 if abs(shift_ns) <= JITTER_NS else (1 if shift_ns > 0 else -1)


def direction_of(begin_shift_ns: int, end_shift_ns: int) -> Literal["in", "out"] | None:
    """Return the direction that both ends agree on (one may be too close to tell), else None: turned back.

    The shifts are inner minus outer. Both too close: their sum decides, since 2 ms twice is still an order.
    """
    both = _sign(begin_shift_ns) + _sign(end_shift_ns)
    if both == 0 and _sign(begin_shift_ns) == 0 and begin_shift_ns * end_shift_ns >= 0:
        both = begin_shift_ns + end_shift_ns
    if both == 0:
        return None
    return "in" if both > 0 else "out"


def pair(outer: Blockage, inner: Blockage, known_ratio: float | None) -> tuple[float, Group] | None:
    """Return the cost and meaning of one person making both blockages; None where they lie too far apart."""
    gap_ns = max(inner.broke.boot_ns - outer.cleared.boot_ns, outer.broke.boot_ns - inner.cleared.boot_ns)
    if gap_ns > PAIR_GAP_NS:
        return None
    direction, (begin_ns, end_ns) = order_of(outer, inner)
    if direction is None:
        return TURNED_COST, Group((outer,), (inner,), None)
    ratio = max(min(abs(begin_ns), abs(end_ns)), NS_PER_MS) / min(outer.ns, inner.ns)
    if known_ratio is not None:
        geometry = abs(math.log(ratio / known_ratio))
    elif ratio <= RATIO_USUAL:
        geometry = 0.0
    else:
        geometry = APART_COST + max(0.0, 6.0 * math.log(ratio / RATIO_POSSIBLE))
    speed = abs(math.log(outer.ns / inner.ns))
    return min(2.5, geometry) + min(1.0, 0.5 * speed), Group((outer,), (inner,), direction, ratio)


def tailgaters(two: tuple[Blockage, Blockage], one: Blockage) -> Literal["in", "out"] | None:
    """Tell whether `one` is what a beam saw of two people whom the other beam saw apart; as if `two` were outer."""
    first, second = two
    if first.is_arm or second.is_arm or one.is_arm:
        return None
    if second.broke.boot_ns - first.cleared.boot_ns > TAILGATE_GAP_NS:
        return None
    both = Blockage(first.beam, first.broke, second.cleared, first.begin_ns, second.end_ns)
    if abs(both.ns - one.ns) > max(0.3 * both.ns, 100 * NS_PER_MS):
        return None
    return direction_of(*_shifts(both, one))


def joined(first: Blockage, second: Blockage) -> tuple[float, Blockage] | None:
    """Return both as one person's and what that costs, where one is an arm or may be one; the longer is the trunk."""
    arm, trunk = sorted((first, second), key=lambda blockage: (not blockage.is_arm, blockage.ns))
    if trunk.is_arm:
        return None
    whole = Blockage(first.beam, first.broke, second.cleared, trunk.begin_ns, trunk.end_ns)
    if arm.is_arm:
        return 0.0, whole
    gap_ns = second.broke.boot_ns - first.cleared.boot_ns
    if 2 * arm.ns > trunk.ns or gap_ns > reach_ns(trunk):
        return None
    return (ARM_COST if max(arm.ns, gap_ns) <= LONG_ARM_NS else FAR_ARM_COST), whole


def reach_ns(trunk: Blockage) -> int:
    """Return how long before or after a trunk its own arm can be."""
    return max(LONG_ARM_NS, int(ARM_REACH_DEPTHS * trunk.ns))


def persons(blockages: Sequence[Blockage], at: int) -> Iterator[tuple[float, tuple[Blockage, ...], Blockage]]:
    """Yield what one person may have made of the blockages from `at` on: (cost, blockages, as one)."""
    if at < len(blockages) and not blockages[at].is_arm:
        yield 0.0, (blockages[at],), blockages[at]
    if at + 1 < len(blockages):
        two = (blockages[at], blockages[at + 1])
        if (found := joined(*two)) is not None:
            cost, whole = found
            yield cost, two, whole


def align(outer: Sequence[Blockage], inner: Sequence[Blockage], known_ratio: float | None, now_ns: int) -> list[Group]:
    """Return all blockages in groups, in order, at the least cost. What may still find a partner costs little alone."""

    def alone(blockage: Blockage) -> float:
        if blockage.is_arm:
            return 0.0
        return PENDING_COST if now_ns < blockage.cleared.boot_ns + PAIR_GAP_NS else ALONE_COST

    @cache
    def best(i: int, j: int) -> tuple[float, tuple[Group, ...]]:
        choices: list[tuple[float, Group, int, int]] = []
        if i < len(outer):
            choices.append((alone(outer[i]), Group((outer[i],), (), None), i + 1, j))
        if j < len(inner):
            choices.append((alone(inner[j]), Group((), (inner[j],), None), i, j + 1))
        if i < len(outer) and j < len(inner):
            for outer_cost, outers, outer_whole in persons(outer, i):
                for inner_cost, inners, inner_whole in persons(inner, j):
                    if (paired := pair(outer_whole, inner_whole, known_ratio)) is not None:
                        cost, one = paired
                        group = Group(outers, inners, one.direction, one.ratio)
                        choices.append((outer_cost + inner_cost + cost, group, i + len(outers), j + len(inners)))
            if i + 1 < len(outer):
                two = (outer[i], outer[i + 1])
                if (way := tailgaters(two, inner[j])) is not None:
                    choices.append((SPLIT_COST, Group(two, (inner[j],), way, people=2), i + 2, j + 1))
            if j + 1 < len(inner):
                two = (inner[j], inner[j + 1])
                if (way := tailgaters(two, outer[i])) is not None:
                    turned: Literal["in", "out"] = "out" if way == "in" else "in"
                    choices.append((SPLIT_COST, Group((outer[i],), two, turned, people=2), i + 1, j + 2))
        if not choices:
            return 0.0, ()
        found: tuple[float, tuple[Group, ...]] | None = None
        for cost, group, after_i, after_j in choices:
            rest_cost, rest = best(after_i, after_j)
            if found is None or cost + rest_cost < found[0] - 1e-9:
                found = (cost + rest_cost, (group, *rest))
        assert found is not None
        return found

    return list(best(0, 0)[1])


def passages_of(group: Group) -> Iterator[Passage]:
    """Tell who went through in a group: nobody, one, or two who went close together."""
    if group.direction is None:
        return
    firsts, lasts = (group.outer, group.inner) if group.direction == "in" else (group.inner, group.outer)
    if group.people == 1:
        first = next((one for one in firsts if not one.is_arm), firsts[0])
        last = next((one for one in reversed(lasts) if not one.is_arm), lasts[-1])
        yield Passage(group.direction, first.broke, last.cleared)
    elif len(firsts) == 2:
        # The second beam saw no gap: the first of the two left it as long before its end as at the first beam.
        apart_ns = firsts[1].cleared.boot_ns - firsts[0].cleared.boot_ns
        yield Passage(group.direction, firsts[0].broke, lasts[0].cleared.later(-apart_ns))
        yield Passage(group.direction, firsts[1].broke, lasts[0].cleared)
    else:
        apart_ns = lasts[1].broke.boot_ns - lasts[0].broke.boot_ns
        yield Passage(group.direction, firsts[0].broke, lasts[0].cleared)
        yield Passage(group.direction, firsts[0].broke.later(apart_ns), lasts[1].cleared)


class Doorway:
    """The beams of one door: level changes in, passages and beam faults out.

    Call `advance(at)` before `change(.., at)`. With one beam every blockage is a passage of unknown direction; so it is
    with two while the other one is out of service. `ways` is for contacts that tell the direction by themselves.
    """

    def __init__(
        self,
        beams: tuple[str, ...],
        blocked_after_ns: int,
        contact: Contact = BEAM,
        ways: Mapping[str, Direction] = MappingProxyType({}),
    ) -> None:
        self.beams = {name: Beam(name, blocked_after_ns, contact) for name in beams}
        self.ways = ways
        self.is_single = len(beams) == 1 or bool(ways)
        self._waiting: dict[str, list[Blockage]] = {name: [] for name in beams}
        self._ratios: deque[float] = deque(maxlen=9)
        self._evaluated_ns = -1
        self._due_ns: int | None = None
        self._is_due_known = True  # asked several times a reading, and changed by few

    def change(self, beam: str, broken: bool, at: Instant) -> Iterator[Passage | Finding]:
        """Take a beam's level; levels may be repeated."""
        findings = list(self.beams[beam].change(broken, at))
        self._is_due_known = False
        yield from self._take(findings, at.boot_ns)
        yield from self.advance(at.boot_ns)

    def advance(self, now_ns: int) -> Iterator[Passage | Finding]:
        """Decide everything due up to and including `now_ns`, in the order in which it falls due."""
        while (due_ns := self.due_ns()) is not None and due_ns <= now_ns:
            findings = [f for beam in self.beams.values() for f in beam.advance(due_ns)]
            yield from self._take(findings, due_ns)

    def finish(self, now_ns: int) -> Iterator[Passage | Finding]:
        """Decide what is pending."""
        yield from self.advance(now_ns)
        findings = [f for beam in self.beams.values() for f in beam.finish()]
        yield from self._take(findings, now_ns, is_last=True)

    def due_ns(self) -> int | None:
        """Return when `advance` next has something to decide."""
        if not self._is_due_known:
            self._due_ns, self._is_due_known = self._find_due_ns(), True
        return self._due_ns

    def _find_due_ns(self) -> int | None:
        dues = [due for beam in self.beams.values() if (due := beam.due_ns()) is not None]
        for blockages in self._waiting.values():
            ends = (blockage.cleared.boot_ns + PAIR_GAP_NS for blockage in blockages)
            dues.extend(end for end in ends if end > self._evaluated_ns)
        return min(dues, default=None)

    def undecided_ns(self) -> int | None:
        """Return the earliest clearing that may still become a passage's."""
        waiting = (blockage for blockages in self._waiting.values() for blockage in blockages)
        ends = [blockage.cleared.boot_ns for blockage in waiting if not blockage.is_arm]
        ends += [end for beam in self.beams.values() if (end := beam.undecided_ns()) is not None]
        return min(ends, default=None)

    def _take(self, findings: list[Finding], now_ns: int, *, is_last: bool = False) -> Iterator[Passage | Finding]:
        yield from self._taken(findings, now_ns, is_last=is_last)
        self._is_due_known = False

    def _taken(self, findings: list[Finding], now_ns: int, *, is_last: bool) -> Iterator[Passage | Finding]:
        self._is_due_known = False
        for found in findings:
            if isinstance(found, Blockage):
                if self._counts_alone(found):
                    if found.is_arm:
                        continue
                    yield Passage(self.ways.get(found.beam, "unknown"), found.broke, found.cleared)
                else:
                    self._waiting[found.beam].append(found)
                continue
            if isinstance(found, FlickerBegan):
                waiting = self._waiting[found.beam]
                waiting[:] = [b for b in waiting if b.broke.boot_ns < found.at.boot_ns]
            if isinstance(found, FlickerBegan | Stuck):
                # What waits can no longer find its partner there.
                yield from self._decide(now_ns, is_last=True)
            yield found
        if not self.is_single:
            yield from self._decide(now_ns, is_last=is_last)

    def _counts_alone(self, blockage: Blockage) -> bool:
        if self.is_single:
            return True
        others = (beam for beam in self.beams.values() if beam.name != blockage.beam)
        return any(o.out_of_service is not None and o.out_of_service <= blockage.broke.boot_ns for o in others)

    def _decide(self, now_ns: int, *, is_last: bool) -> Iterator[Passage]:
        self._evaluated_ns = max(self._evaluated_ns, now_ns)
        outer, inner = (self._waiting[name] for name in ("outer", "inner")) if not self.is_single else ([], [])
        if not outer and not inner:
            return
        known = statistics.median(self._ratios) if len(self._ratios) >= RATIOS_KNOWN else None
        groups = align(outer, inner, known, now_ns if not is_last else now_ns + PAIR_GAP_NS)
        is_crowded = max(len(outer), len(inner)) > WAITING_MAX
        if is_last or is_crowded or (self._is_quiet() and all(group.is_settled for group in groups)):
            final = len(groups)
        else:
            final = 0
            while final < len(groups) and self._is_over(groups[final], now_ns):
                final += 1
            for index in range(final, len(groups)):
                if self._is_plain(groups[index], groups, known) and not self._may_have_arms(groups, index):
                    final = index + 1
        are_alone = all(sum(not b.is_arm for b in waiting) == 1 for waiting in (outer, inner))
        for group in groups[:final]:
            if group.ratio is not None and are_alone:
                self._ratios.append(group.ratio)
            del outer[: len(group.outer)], inner[: len(group.inner)]
            yield from passages_of(group)

    def _is_quiet(self) -> bool:
        return all(
            beam.broke is None and beam.undecided_ns() is None
            for beam in self.beams.values()
            if beam.out_of_service is None
        )

    def _is_over(self, group: Group, now_ns: int) -> bool:
        """Nothing that begins now, and nothing that is going on, can belong to this group."""
        until_ns = group.end_ns + PAIR_GAP_NS
        return now_ns >= until_ns and not any(
            beam.broke is not None and beam.out_of_service is None and beam.broke.boot_ns <= until_ns
            for beam in self.beams.values()
        )

    def _may_have_arms(self, groups: list[Group], index: int) -> bool:
        """Tell whether a beam says, or has just said, what may yet turn out to be this person's arm."""
        for name, own in (("outer", groups[index].outer), ("inner", groups[index].inner)):
            beam = self.beams[name]
            if beam.out_of_service is not None or beam.broke is None or not own:
                continue
            if beam.broke.boot_ns - own[-1].cleared.boot_ns <= reach_ns(own[-1]):
                return True
        if index == 0 or groups[index - 1].is_settled:
            return False
        before, group = groups[index - 1], groups[index]
        sides = ((before.outer, group.outer), (before.inner, group.inner))
        return any(a and b and joined(a[-1], b[0]) is not None for a, b in sides)

    def _is_plain(self, group: Group, groups: list[Group], known: float | None) -> bool:
        """Tell whether a pair goes through just as everybody does here; nothing to come can then fit better."""
        if group.ratio is None:
            return False
        if known is not None:
            return abs(math.log(group.ratio / known)) <= math.log(2.2)
        if len(groups) > 1:
            return False
        return not any(
            beam.broke is not None and beam.broke.boot_ns <= group.end_ns
            for beam in self.beams.values()
            if beam.out_of_service is None
        )
