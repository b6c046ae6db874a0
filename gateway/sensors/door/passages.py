"""Who went through a door: level changes of its beams in, passages and beam faults out. Pure.

Law: a passage is decided as soon as nothing that may still come can belong to it or explain it better: at once where
somebody went through as everybody does here, else when an arm's reach, or the way between the beams, has passed. What
is usual here (`usual`) is learnt from those whom nobody was near.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gateway.model import NS_PER_S, Instant
from gateway.sensors.door.beams import BEAM, Beam, Blockage, Contact, Finding, FlickerBegan, Freed, Stuck
from gateway.sensors.door.explaining import Explainer
from gateway.sensors.door.hands import Hands
from gateway.sensors.door.learning import Learning
from gateway.sensors.door.walking import HAND_REACH, PAIR_GAP_NS, Group

Direction = Literal["in", "out", "unknown"]

WAITING_MAX = 8
"""Blockages of a beam that wait for a partner; more than people can be between the beams. More are told as they are."""
THIN, LONG = math.log(1.7), math.log(1.3)
"""Who is so much less deep than people here may be a hand, and who is so much deeper several, or a thing pushed."""
STAND_NS, SWAY_NS = 60 * NS_PER_S, 3 * NS_PER_S
"""Who stands in a beam for longer than it counts as blocked is waited for so long, and sways out of the other one."""
RATIO_PLAIN = 0.2, 0.6
"""Before the door knows its ratio: beams 5 to 15 cm apart and a trunk, but hardly a hand."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Somebody went through: `broke` is the first beam broken, `cleared` the last cleared."""

    direction: Direction
    broke: Instant
    cleared: Instant


def back_until_ns(group: Group) -> int | None:
    """Return until when the first beam breaks again if this person does not go on but turns back in the second.

    The way back mirrors the way there, at half its speed at the least. None: it is not one person who goes through.
    """
    if group.sights is None:
        return None
    near, far = group.sights if group.way == "in" else reversed(group.sights)
    between_ns = max(0, far.broke_ns - near.cleared_ns)
    return far.cleared_ns + min(2 * between_ns, PAIR_GAP_NS)


def stands_until_ns(beam: Beam) -> int:
    """Return until when somebody may stand in a beam that is told blocked; -1 where it is not."""
    return beam.broke.boot_ns + beam.blocked_after_ns + STAND_NS if beam.stuck and beam.broke is not None else -1


def may_be_one(first: Blockage, second: Blockage) -> bool:
    """Return whether one may be a hand of the other."""
    hand, trunk = sorted((first, second), key=lambda blockage: blockage.ns)
    return hand.ns < trunk.ns and second.broke.boot_ns - first.cleared.boot_ns + hand.ns <= HAND_REACH * trunk.ns


class Doorway:
    """The beams of one door: level changes in, passages and beam faults out.

    Call `advance(at)` before `change(.., at)`. With one beam every blockage of a person is a passage of unknown
    direction; so it is with two while the other one is out of service. `ways` is for contacts that tell the direction
    by themselves.
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
        self._hands = {name: Hands(contact) for name in beams}
        self._waiting: dict[str, list[Blockage]] = {name: [] for name in beams}
        self._explainer = Explainer()
        self._learning = Learning()
        self._before: Group | None = None  # who was told last
        self._standing: dict[str, int] = {}  # when who stands in the other beam for too long was last seen in this one
        self._evaluated_ns = -1
        self._held_until_ns = -1  # somebody may yet turn back until then
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
        dues += [due for name in self.beams if (due := self._hands[name].due_ns(self._is_broken(name))) is not None]
        for blockages in self._waiting.values():
            ends = (blockage.cleared.boot_ns + PAIR_GAP_NS for blockage in blockages)
            dues.extend(end for end in ends if end > self._evaluated_ns)
        if any(self._waiting.values()):
            dues += [until for beam in self.beams.values() if (until := stands_until_ns(beam)) > self._evaluated_ns]
        if self._held_until_ns > self._evaluated_ns:
            dues.append(self._held_until_ns)
        return min(dues, default=None)

    def undecided_ns(self) -> int | None:
        """Return the earliest clearing that may still become a passage's."""
        waiting = (blockage for blockages in self._waiting.values() for blockage in blockages)
        ends = [blockage.cleared.boot_ns for blockage in waiting if not blockage.is_flit]
        ends += [end for beam in self.beams.values() if (end := beam.undecided_ns()) is not None]
        ends += [end for hands in self._hands.values() if (end := hands.undecided_ns()) is not None]
        return min(ends, default=None)

    def _is_broken(self, name: str) -> bool:
        return self.beams[name].broke is not None and self.beams[name].out_of_service is None

    def _take(self, findings: list[Finding], now_ns: int, *, is_last: bool = False) -> Iterator[Passage | Finding]:
        yield from self._taken(findings, now_ns, is_last=is_last)
        self._is_due_known = False

    def _taken(self, findings: list[Finding], now_ns: int, *, is_last: bool) -> Iterator[Passage | Finding]:
        self._is_due_known = False
        for found in findings:
            if isinstance(found, Blockage):
                if self._is_standing(found):
                    self._stands(found)
                elif not self._counts_alone(found):
                    self._waiting[found.beam].append(found)
                elif not found.is_flit:
                    yield from map(self._alone, self._hands[found.beam].take(found))
                continue
            if isinstance(found, FlickerBegan):
                waiting = self._waiting[found.beam]
                waiting[:] = [b for b in waiting if b.broke.boot_ns < found.at.boot_ns]
                self._hands[found.beam].forget()
            if isinstance(found, FlickerBegan | Stuck):
                # What waits can no longer find its partner there, but where somebody stands in both beams.
                yield from map(self._alone, self._hands[found.beam].finish())
                if isinstance(found, FlickerBegan) or not self._may_stand(found, now_ns):
                    yield from self._decide(now_ns, is_last=True)
            yield found
            if isinstance(found, Freed):
                self._standing.clear()
                if self._is_left_for_other(found):
                    ends = found.broke.boot_ns, found.cleared.boot_ns
                    self._waiting[found.beam].append(Blockage(found.beam, found.broke, found.cleared, *ends))
        for name, hands in self._hands.items():
            yield from map(self._alone, hands.finish() if is_last else hands.advance(now_ns, self._is_broken(name)))
        if not self.is_single:
            yield from self._decide(now_ns, is_last=is_last)

    def _others(self, name: str) -> list[Beam]:
        return [] if self.is_single else [beam for beam in self.beams.values() if beam.name != name]

    def _may_stand(self, stuck: Stuck, now_ns: int) -> bool:
        """Return whether the other beam has seen of late who has stood in this one for too long."""
        for other in self._others(stuck.beam):
            waiting = self._waiting[other.name]
            if other.broke is not None and not other.flickering:
                self._standing[other.name] = now_ns
            elif waiting and waiting[-1].cleared.boot_ns >= now_ns - SWAY_NS:
                self._standing[other.name] = waiting[-1].cleared.boot_ns
        return bool(self._standing)

    def _is_standing(self, blockage: Blockage) -> bool:
        seen_ns = self._standing.get(blockage.beam)
        return seen_ns is not None and blockage.broke.boot_ns <= seen_ns + SWAY_NS

    def _stands(self, blockage: Blockage) -> None:
        """Take what one beam saw of somebody who stands in the other: one blockage, however they sway."""
        self._standing[blockage.beam] = blockage.cleared.boot_ns
        waiting, first = self._waiting[blockage.beam], blockage
        if waiting and any(
            beam.broke is not None and waiting[-1].cleared.boot_ns > beam.broke.boot_ns
            for beam in self._others(blockage.beam)
        ):
            first = waiting.pop()
        waiting.append(Blockage(first.beam, first.broke, blockage.cleared, first.begin_ns, blockage.end_ns))

    def _is_left_for_other(self, freed: Freed) -> bool:
        """Return whether somebody who stood in this beam for too long was in the other one after: they may go on."""
        begun = [beam.broke for beam in self._others(freed.beam) if beam.broke is not None and not beam.flickering]
        begun += [one.broke for beam in self._others(freed.beam) for one in self._waiting[beam.name]]
        return any(broke.boot_ns > freed.broke.boot_ns for broke in begun) or any(
            one.cleared.boot_ns > freed.broke.boot_ns
            for beam in self._others(freed.beam)
            for one in self._waiting[beam.name]
        )

    def _alone(self, blockage: Blockage) -> Passage:
        return Passage(self.ways.get(blockage.beam, "unknown"), blockage.broke, blockage.cleared)

    def _counts_alone(self, blockage: Blockage) -> bool:
        if self.is_single:
            return True
        others = (beam for beam in self.beams.values() if beam.name != blockage.beam)
        return any(o.out_of_service is not None and o.out_of_service <= blockage.broke.boot_ns for o in others)

    def _decide(self, now_ns: int, *, is_last: bool) -> Iterator[Passage]:
        self._evaluated_ns, self._held_until_ns = max(self._evaluated_ns, now_ns), -1
        outer, inner = (self._waiting[name] for name in ("outer", "inner")) if not self.is_single else ([], [])
        if not outer and not inner:
            return
        usuals = self._learning.usual(now_ns)
        known = usuals[0][1].ratio if len(usuals) == 1 else None
        until_ns = now_ns if not is_last else now_ns + PAIR_GAP_NS
        groups = self._explainer.explain(outer, inner, usuals, until_ns, self._before)
        is_crowded = max(len(outer), len(inner)) > WAITING_MAX
        if (
            is_last
            or is_crowded
            or (
                self._is_quiet()
                and all(self._is_sure(group, known) for group in groups)
                and not self._may_turn_back(groups, len(groups) - 1, now_ns)
            )
        ):
            final = len(groups)
        else:
            final = 0
            while (
                final < len(groups)
                and (known is not None or all(self._is_over(group, now_ns) for group in groups))
                and self._is_over(groups[final], now_ns)
                and not self._may_turn_back(groups, final, now_ns)
            ):
                final += 1
            for index in range(final, len(groups)):
                if (
                    self._is_plain(groups[index], groups, known)
                    and not self._may_have_hands(groups, index)
                    and not self._may_turn_back(groups, index, now_ns)
                ):
                    final = index + 1
        are_alone = known is None or len(outer) == len(inner) == 1
        told: list[Passage] = []
        for group in groups[:final]:
            self._learning.note(group, is_alone=are_alone)
            if group.sights is not None:
                self._before = group
            del outer[: len(group.outer)], inner[: len(group.inner)]
            told += (Passage(one.way, one.broke, one.cleared) for one in group.people)
        if final:
            self._explainer.forget()
        yield from sorted(told, key=lambda passage: passage.cleared.boot_ns)

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
            beam.broke is not None
            and (beam.out_of_service is None or now_ns < stands_until_ns(beam))
            and beam.broke.boot_ns <= until_ns
            for beam in self.beams.values()
        )

    def _is_sure(self, group: Group, known: float | None) -> bool:
        """Return whether nobody's hand or trunk is missing in the group, nor what is pushed or who pushes it."""
        if group.ratio is None or not group.is_plain:
            return group.cause == "common" or (group.cause == "two" and len({one.way for one in group.people}) == 2)
        return (
            RATIO_PLAIN[0] <= group.ratio <= RATIO_PLAIN[1]
            if known is None
            else -LONG <= math.log(group.ratio / known) <= THIN
        )

    def _may_turn_back(self, groups: list[Group], index: int, now_ns: int) -> bool:
        """Return whether this person may yet come back out of the second beam through the first one.

        Who follows breaks the first beam as well, but then the second too: that is waited for.
        """
        group = groups[index]
        until_ns = back_until_ns(group)
        if until_ns is None:
            return False
        name, near = ("outer", group.outer[-1]) if group.way == "in" else ("inner", group.inner[-1])
        for later in groups[index + 1 :]:
            mine, others = (later.outer, later.inner) if name == "outer" else (later.inner, later.outer)
            if mine:
                if others or mine[0].is_flit or mine[0].broke.boot_ns > until_ns:
                    return False
                return now_ns < mine[0].cleared.boot_ns + PAIR_GAP_NS
        beam = self.beams[name]
        if beam.out_of_service is not None:
            return False
        if beam.broke is not None:
            return near.cleared.boot_ns < beam.broke.boot_ns <= until_ns
        if now_ns < until_ns:
            self._held_until_ns = max(self._held_until_ns, until_ns)
            return True
        return False

    def _may_have_hands(self, groups: list[Group], index: int) -> bool:
        """Return whether a beam says, or has just said, what may yet turn out to be this person's hand."""
        group = groups[index]
        for name, own in (("outer", group.outer), ("inner", group.inner)):
            beam = self.beams[name]
            if beam.out_of_service is not None or beam.broke is None or not own:
                continue
            if beam.broke.boot_ns - own[-1].cleared.boot_ns <= HAND_REACH * max(own[-1].ns, group.depth_ns):
                return True
        if index == 0 or groups[index - 1].is_plain:
            return False
        before = groups[index - 1]
        sides = ((before.outer, group.outer), (before.inner, group.inner))
        return any(a and b and may_be_one(a[-1], b[0]) for a, b in sides)

    def _is_plain(self, group: Group, groups: list[Group], known: float | None) -> bool:
        """Return whether a pair goes through just as everybody does here; nothing to come can then fit better."""
        if group.ratio is None or not group.is_plain:
            return False
        if known is not None:
            return -LONG <= math.log(group.ratio / known) <= THIN
        if len(groups) > 1 or not RATIO_PLAIN[0] <= group.ratio <= RATIO_PLAIN[1]:
            return False
        return not any(self._is_broken(name) for name in self.beams)  # who comes now may be the trunk to this hand
