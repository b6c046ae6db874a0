"""Virtual time: the agenda of what will happen, the machine's two clocks, and the trace of what did.

Law: nothing here waits. True time (`Agenda.now_ns`) moves only forward, from one happening to the next; boot time
counts from the last boot; the wall clock is true time plus an error that lasts until somebody sets it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from gateway.model import NS_PER_MS, NS_PER_S, ClockTrust, Instant

BEGAN_WALL_NS = 1_795_338_000 * NS_PER_S  # 2026-11-22T09:00:00Z
STORM = 20_000
"""Happenings at one moment: beyond it the simulator itself is caught in a loop."""


class Agenda:
    """What will happen, in the order of time, first come first served where equal."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._items: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, at_ns: int, act: Callable[..., object], *arguments: Any) -> None:
        """Let `act(*arguments)` happen at `at_ns` of true time, or now where that has passed."""
        self._count += 1
        heapq.heappush(self._items, (max(at_ns, self.now_ns), self._count, act, arguments))

    def after(self, in_ns: int, act: Callable[..., object], *arguments: Any) -> None:
        """Let `act(*arguments)` happen `in_ns` from now."""
        self.at(self.now_ns + in_ns, act, *arguments)

    def next_ns(self) -> int | None:
        return self._items[0][0] if self._items else None

    def move_to(self, at_ns: int) -> None:
        self.now_ns = max(self.now_ns, at_ns)

    def happen(self) -> bool:
        """Do all that is due now; tell whether there was anything. What it raises leaves the rest for the next call."""
        for count in range(STORM):
            if not self._items or self._items[0][0] > self.now_ns:
                return count > 0
            _, _, act, arguments = heapq.heappop(self._items)
            act(*arguments)
        raise AssertionError("the simulator does not get on in time")


class SimulatedClock:
    """The machine's clocks (a machine.clock.Clock). `shown` keeps what each boot's wall clock has told."""

    def __init__(self, agenda: Agenda, random: Random) -> None:
        self._agenda, self._random = agenda, random
        self._booted_ns = 0
        self._offset_ns = 0
        self._trust: ClockTrust = "unsynced"
        self.bootid = ""
        self.shown: dict[tuple[str, ClockTrust], set[int]] = {}
        self.boot()

    @property
    def is_synced(self) -> bool:
        return self._trust == "synced"

    def boot(self) -> None:
        """A new boot: no real-time clock, so the wall clock goes on at some moment of the past, unsynced."""
        self.bootid = f"{self._random.getrandbits(32):08x}"
        self._booted_ns = self._agenda.now_ns - self._random.randint(3 * NS_PER_S, 30 * NS_PER_S)
        self._trust = "unsynced"
        behind_ns = self._random.choice((0, 60, 86_400, 50 * 365 * 86_400)) * NS_PER_S
        self._set(BEGAN_WALL_NS - behind_ns - self._random.randint(0, 1000 * NS_PER_S))

    def synchronise(self) -> None:
        """The time service finds the true time."""
        self._trust = "synced"
        self._set(BEGAN_WALL_NS)

    def doubt(self) -> None:
        """The kernel no longer calls the clock synchronised; it goes on as before."""
        self._trust = "unsynced"
        self._note()

    def step(self, by_ns: int) -> None:
        """Somebody sets the wall clock, wrongly or rightly."""
        self._offset_ns += by_ns
        self._note()

    def now(self) -> Instant:
        boot_ns = self._agenda.now_ns - self._booted_ns
        return Instant(boot_ns, boot_ns + self._offset_ns, self._trust)

    def to_true_ns(self, boot_ns: int) -> int:
        return boot_ns + self._booted_ns

    @property
    def offset_ms(self) -> int:
        """Wall minus boot, as an anchor has it."""
        return self._offset_ns // NS_PER_MS

    def _set(self, wall_at_zero_ns: int) -> None:
        """Let the wall clock show `wall_at_zero_ns` + true time."""
        self._offset_ns = wall_at_zero_ns + self._booted_ns
        self._note()

    def _note(self) -> None:
        self.shown.setdefault((self.bootid, self._trust), set()).add(self.offset_ms)


class Trace:
    """What happened, newest last; only what a reader of a failure wants to see."""

    def __init__(self, agenda: Agenda, length: int = 5_000, aloud: bool = False) -> None:
        self._agenda, self._aloud = agenda, aloud
        self._lines: deque[tuple[int, str]] = deque(maxlen=length)

    def say(self, line: str) -> None:
        self._lines.append((self._agenda.now_ns, line))
        if self._aloud:
            print(self._line(self._agenda.now_ns, line))

    def tail(self, count: int) -> str:
        return "\n".join(self._line(*told) for told in list(self._lines)[-count:])

    @staticmethod
    def _line(at_ns: int, line: str) -> str:
        minutes, ns = divmod(at_ns, 60 * NS_PER_S)
        return f"{minutes // 60:3d}:{minutes % 60:02d}:{ns / NS_PER_S:09.6f}  {line}"
