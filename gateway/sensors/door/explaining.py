"""The likeliest explanation of the blockages of two beams: a search over the table of `hypotheses`. Pure.

Law: groups follow one another at each beam, so the likeliest sequence is found by dynamic programming over how many
blockages of either beam are explained. Work is bounded by `ORDER_PIECES` blockages a group and by the caller's limit of
blockages that wait; what a group may be is worked out once.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.sensors.door.beams import Blockage
from gateway.sensors.door.hypotheses import ORDER_PIECES, alone, company, rests, rows
from gateway.sensors.door.walking import PAIR_GAP_NS, Group, Row, Usual

State = tuple[int, int, bool]
"""Blockages explained of the outer and of the inner beam, and whether one of them still waits for the other beam."""


class Explainer:
    """Explains what waits; remembers what it worked out as long as the same blockages wait."""

    def __init__(self) -> None:
        self._known: dict[tuple[float, int, int, int, int], list[Row]] = {}

    def forget(self) -> None:
        """Pass over what was worked out: what is usual here has changed, or what waited is told."""
        self._known.clear()

    def explain(
        self,
        outer: Sequence[Blockage],
        inner: Sequence[Blockage],
        usuals: Sequence[tuple[float, Usual]],
        now_ns: int,
        before: Group | None = None,
    ) -> list[Group]:
        """Return all blockages in groups, in order: the likeliest explanation at `now_ns` by any of `usuals`.

        `before` is who was told last: what comes first may be that person's hand.
        """
        found = [(cost, *self._best(outer, inner, usual, now_ns, before)) for cost, usual in usuals]
        return min(found, key=lambda one: one[0] + one[1])[2]

    def _best(
        self,
        outer: Sequence[Blockage],
        inner: Sequence[Blockage],
        usual: Usual,
        now_ns: int,
        before: Group | None,
    ) -> tuple[float, list[Group]]:
        best: dict[State, tuple[float, State | None, Group | None]] = {(0, 0, False): (0.0, None, None)}
        for i in range(len(outer) + 1):
            for j in range(len(inner) + 1):
                pairs = None
                for is_pending in (False, True):
                    state = i, j, is_pending
                    if state not in best:
                        continue
                    cost = best[state][0]
                    if pairs is None:
                        pairs = self._rows(outer, inner, i, j, usual)
                    choices = list(pairs) if not is_pending else []
                    for beam, at in ((outer, i), (inner, j)):
                        if at < len(beam):
                            may = now_ns < beam[at].cleared.boot_ns + PAIR_GAP_NS
                            choices.append(alone(beam[at], usual, is_outer=beam is outer, may_find_partner=may))
                    if before is not None and (not i + j or (best[state][2] or before).cause == "hand"):
                        choices += rests(outer[i:], inner[j:], before)
                    previous = best[state][2] or before
                    for more, group in choices:
                        more -= company(previous, group, usual)
                        after = i + len(group.outer), j + len(group.inner), is_pending or group.cause == "pending"
                        if after not in best or cost + more < best[after][0] - 1e-9:
                            best[after] = cost + more, state, group
        ends = [(i, j, p) for (i, j, p) in best if i == len(outer) and j == len(inner)]
        last = min(ends, key=lambda end: best[end][0])
        total, step = best[last][0], best[last]
        groups: list[Group] = []
        while step[1] is not None and step[2] is not None:
            groups.append(step[2])
            step = best[step[1]]
        return total, groups[::-1]

    def _rows(self, outer: Sequence[Blockage], inner: Sequence[Blockage], i: int, j: int, usual: Usual) -> list[Row]:
        o, n = outer[i : i + ORDER_PIECES], inner[j : j + ORDER_PIECES]
        if (
            not o
            or not n
            or max(n[0].broke.boot_ns - o[0].cleared.boot_ns, o[0].broke.boot_ns - n[0].cleared.boot_ns) > PAIR_GAP_NS
        ):
            return []
        key = usual.ratio, o[0].broke.boot_ns, len(o), n[0].broke.boot_ns, len(n)
        if (found := self._known.get(key)) is None:
            best: dict[tuple[int, int], Row] = {}
            for row in rows(o, n, usual):
                size = len(row[1].outer), len(row[1].inner)
                if size not in best or row[0] < best[size][0]:
                    best[size] = row
            found = self._known[key] = list(best.values())
        return found
