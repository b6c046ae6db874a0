"""When silence means a deaf radio, and what to try about it. Pure; time is an argument.

A quiet room is not a dead radio. After 90 s without an advertisement the scan is begun anew, after 180 s the helper:
both are cheap and do no harm, and the helper is begun anew every 15 minutes from then on. Only a silence that this room
does not have, longer than four times the longest gap of the last day, makes the adapter's power be cycled, and where
that does not help either the fault `silent` be told.
"""

from __future__ import annotations

from typing import Literal

from gateway.model import NS_PER_S

Rung = Literal["scan", "helper", "power", "silent"]

STEP_S = 90.0
"""As habluetooth's SCANNER_WATCHDOG_TIMEOUT."""
AGAIN_STEPS = 10
UNUSUAL_GAPS = 4
UNUSUAL_STEPS_MIN = 3
UNLEARNT_STEPS_MIN = 10
LEARNT_STEPS = 40
"""An hour of listening: before, a silence must last 15 minutes to be unusual."""
HOURS_KEPT = 24
HOUR_NS = 3600 * NS_PER_S


class Silence:
    """The ladder of one scanner; `step_s` is the time of a rung."""

    def __init__(self, now_ns: int, step_s: float = STEP_S) -> None:
        self._step_ns = int(step_s * NS_PER_S)
        self._began_ns = now_ns
        self._last_ns = now_ns
        self._gaps_ns: dict[int, int] = {}  # longest gap by the hour
        self._next: list[Rung] = []
        self._due_ns = 0
        self._waited_steps = 0
        self.is_told = False
        self.climb(now_ns)

    def heard(self, now_ns: int) -> None:
        """Note an advertisement: the ladder begins again, and this room's longest gap is learnt."""
        hour = now_ns // HOUR_NS
        gap_ns = now_ns - self._last_ns
        if gap_ns > self._gaps_ns.get(hour, -1):
            self._gaps_ns[hour] = gap_ns
            for old in [kept for kept in self._gaps_ns if kept <= hour - HOURS_KEPT]:
                del self._gaps_ns[old]
        self._last_ns = now_ns
        self.is_told = False
        self.climb(now_ns)

    def climb(self, now_ns: int) -> None:
        """Stand at the foot of the ladder."""
        self._next = ["scan", "helper", "power", "silent"]
        self._due_ns = now_ns + self._step_ns
        self._waited_steps = 0

    def step(self, now_ns: int) -> Rung | None:
        """Return what is to be tried now, if anything."""
        if now_ns < self._due_ns:
            return None
        rung: Rung = self._next[0] if self._next else "helper"
        if rung in ("power", "silent") and not self.is_unusual(now_ns):
            self._due_ns = now_ns + self._step_ns
            self._waited_steps = (self._waited_steps + 1) % AGAIN_STEPS
            return None if self._waited_steps else "helper"
        if self._next:
            self._next.pop(0)
        self._due_ns = now_ns + self._step_ns * (1 if self._next else AGAIN_STEPS)
        if rung == "silent":
            self.is_told = True
        return rung

    def is_unusual(self, now_ns: int) -> bool:
        """Say whether this silence is longer than this room's."""
        is_learnt = now_ns - self._began_ns >= LEARNT_STEPS * self._step_ns
        least_ns = (UNUSUAL_STEPS_MIN if is_learnt else UNLEARNT_STEPS_MIN) * self._step_ns
        longest_ns = max(self._gaps_ns.values(), default=0)
        return now_ns - self._last_ns >= max(least_ns, UNUSUAL_GAPS * longest_ns)

    def silence_s(self, now_ns: int) -> int:
        return (now_ns - self._last_ns) // NS_PER_S
