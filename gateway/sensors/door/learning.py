"""What is usual at one door: how long a trunk is in a beam, the shift between the beams, and its traffic. Pure."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from gateway.model import NS_PER_MS, NS_PER_S
from gateway.sensors.door.hypotheses import are_company, have_met
from gateway.sensors.door.walking import COMPANY_PER_S, NOBODY_PER_S, TRUNK_SPREAD, TURN_SHARE, Group, Usual

RATIOS_KNOWN, RATIOS_AGREE = 2, 1.5
RATIOS, RATIO_SPREAD = ((0.25, 0.0), (0.5, 0.4), (1.0, 0.7), (1.9, 1.0)), 0.4
"""Beams 5 to 50 cm apart and people 0.22 to 0.35 m deep give 0.14 to 2.3; most doors have them 5 to 10 cm apart."""
TURNS_BEFORE = 20
"""People whose share of turning back is believed before it is seen."""
RETURN_SHARE = 0.3
"""Who comes in goes out again: a door is hardly for one way only."""
MEETINGS_BEFORE, MEETING_S = 1.5, 1.5
"""People meet as often as chance has it, until this door shows otherwise; so near counts as met."""
TURN_SURE_NS = 400 * NS_PER_MS
"""Two who meet are through sooner."""
TURNS_KNOWN, TURN_LEAST = 200, 0.05
TRAFFIC_S = 1200.0
"""Traffic is that of the last twenty minutes or so: it changes over a day, not within a minute."""
TRAFFIC_BEFORE_S, TRAFFIC_BEFORE = 60.0, 1.0
"""Before anything is known: one a minute each way, worth one person."""


class Learning:
    """Learns from groups that are decided; `usual` says what is known."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=9)
        self._trunks_s: deque[float] = deque(maxlen=25)
        self._seen = [TRAFFIC_BEFORE, TRAFFIC_BEFORE]
        self._seen_s = TRAFFIC_BEFORE_S
        self._nobodies = NOBODY_PER_S * TRAFFIC_BEFORE_S
        self._turned = TURN_SHARE * TURNS_BEFORE
        self._people = float(TURNS_BEFORE)
        self._company = COMPANY_PER_S * TURNS_BEFORE
        self._met = self._met_expected = MEETINGS_BEFORE
        self._before: Group | None = None
        self._latest_ns: int | None = None

    def usual(self, now_ns: int) -> Sequence[tuple[float, Usual]]:
        """Return what may be usual here at `now_ns`, with its cost: several ratios before two people showed theirs."""
        self._fade(now_ns)
        rates = self._seen[0] / self._seen_s, self._seen[1] / self._seen_s
        known = len(self._ratios) > RATIOS_KNOWN or (
            len(self._ratios) == RATIOS_KNOWN and max(self._ratios) <= RATIOS_AGREE * min(self._ratios)
        )
        prior = Usual()
        trunks = sorted([*self._trunks_s, *([prior.trunk_s] * 3)])
        usual = Usual(
            trunk_s=statistics.median(trunks),
            trunk_spread=self._trunk_spread(),
            turn_share=max(TURN_LEAST, self._turned / self._people),
            ratio=statistics.median(self._ratios) if known else prior.ratio,
            is_ratio_known=known,
            meeting=self._met / self._met_expected,
            company=self._company / self._people,
            nobody_rate=max(self._nobodies / self._seen_s, NOBODY_PER_S),
            rates=(max(rates[0], RETURN_SHARE * rates[1]), max(rates[1], RETURN_SHARE * rates[0])),
        )
        if known:
            return [(0.0, usual)]
        return [(cost, replace(usual, ratio=ratio, ratio_spread=RATIO_SPREAD)) for ratio, cost in RATIOS]

    def note(self, group: Group, *, is_alone: bool) -> None:
        """Learn from a decided group; its depth and shift only where nobody was near."""
        for one in group.people:
            self._seen[one.way == "out"] += 1
        self._nobodies += group.cause == "nobody"
        if group.people or (group.cause == "turned" and group.outer and group.inner and group.took_ns > TURN_SURE_NS):
            kept = 1.0 - 1.0 / TURNS_KNOWN
            self._people = self._people * kept + 1.0
            self._turned = self._turned * kept + (not group.people)
            is_two = len({one.way for one in group.people}) < len(group.people)
            self._company = self._company * kept + (is_two or are_company(self._before, group))
            self._met = self._met * kept + have_met(self._before, group)
            for one in group.people:
                other = self._seen[one.way == "in"] / self._seen_s
                self._met_expected = self._met_expected * kept + other * MEETING_S
            self._before = group if group.people else self._before
        if group.ratio is not None and is_alone:
            self._ratios.append(group.ratio)
            self._trunks_s.append(group.depth_ns / NS_PER_S)

    def _trunk_spread(self) -> float:
        if len(self._trunks_s) < 8:
            return TRUNK_SPREAD
        low, _, high = statistics.quantiles((math.log(trunk) for trunk in self._trunks_s), n=4)
        return max(TRUNK_SPREAD, (high - low) / 1.35)

    def _fade(self, now_ns: int) -> None:
        if self._latest_ns is not None and now_ns > self._latest_ns:
            passed_s = (now_ns - self._latest_ns) / NS_PER_S
            left = math.exp(-passed_s / TRAFFIC_S)
            self._seen_s = self._seen_s * left + TRAFFIC_S * (1 - left)
            self._nobodies *= left
            self._seen = [max(0.05, seen * left) for seen in self._seen]
        self._latest_ns = now_ns if self._latest_ns is None else max(now_ns, self._latest_ns)
