"""How much may be under way: messages, bytes, and so many a second. Pure.

Law: never above the broker's Receive Maximum or the profile. Bytes queued in the network are what delays a live event,
so the byte window follows the round trip: it grows while an acknowledgement takes less than 1.5 times the shortest of
the last minutes, and halves, once a round trip, above twice that. At its floor it asks backfill to pause instead: where
ten thousand gateways share a broker that is full, one batch of each is too much already. The slack keeps a short round
trip (a broker in the shop) from being judged by the jitter of two threads.
"""

from __future__ import annotations

from gateway.model import NS_PER_MS, NS_PER_S

BYTES_FLOOR = 4 * 1024  # 10 plain events: 33 ms on 1 Mbit/s
BYTES_START = 16 * 1024
BYTES_CEILING = 1024 * 1024  # 20,000 plain events a second at 100 ms
GROW_SLACK_NS = 30 * NS_PER_MS
SHRINK_SLACK_NS = 60 * NS_PER_MS
SHORTEST_OVER_NS = 300 * NS_PER_S  # two such halves; shorter, and a queue that stands is soon taken for the line
LATE_NS = NS_PER_S
"""Late in itself: who connects when the queue stands already takes it for the line. No pause by this alone."""
PAUSE_ROUND_TRIPS = 8  # so that backfill keeps a tenth of its pace
PAUSE_MAX_NS = 20 * NS_PER_S


class ByteWindow:
    """Bytes under way at most: `size`. Fixed where a number is given."""

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._halves: list[int | None] = [None, None]
        self._turned_ns = 0
        self._starting = True
        self._calm_until_ns = 0
        self.size = BYTES_START if fixed is None else fixed
        self.round_trip_ns: int | None = None
        self.pause_ns = 0
        """How long backfill should rest after the last acknowledgement."""

    def restart(self) -> None:
        """A new connection may run over another line."""
        self._halves = [None, None]
        self._starting = True
        if self._fixed is None:
            self.size = BYTES_START

    def acknowledged(self, sent_ns: int, now_ns: int, size: int, in_use: int) -> None:
        """A message of `size` bytes sent at `sent_ns` was acknowledged, when `in_use` bytes were under way.

        A window that is not half used says nothing about the line, so it does not grow.
        """
        took = max(1, now_ns - sent_ns)
        self.round_trip_ns = took if self.round_trip_ns is None else (7 * self.round_trip_ns + took) // 8
        if now_ns - self._turned_ns >= SHORTEST_OVER_NS:
            self._halves = [None, self._halves[0]]
            self._turned_ns = now_ns
        self._halves[0] = took if self._halves[0] is None else min(took, self._halves[0])
        self.pause_ns = 0
        if self._fixed is not None:
            return
        shortest = min(half for half in self._halves if half is not None)
        is_slower = took > 2 * shortest + SHRINK_SLACK_NS
        if is_slower or took > LATE_NS:
            if is_slower and self.size == BYTES_FLOOR:
                self.pause_ns = min(PAUSE_MAX_NS, PAUSE_ROUND_TRIPS * took)
            if sent_ns >= self._calm_until_ns:  # one halving for all that was under way when it began
                self._calm_until_ns = now_ns
                self._starting = False
                self.size = max(BYTES_FLOOR, self.size // 2)
        elif took < shortest * 3 // 2 + GROW_SLACK_NS and 2 * in_use >= self.size:
            grown = size if self._starting else max(1, BYTES_FLOOR * size // self.size)
            self.size = min(BYTES_CEILING, self.size + grown)

    def refused(self) -> None:
        """The broker asked for less (quota exceeded)."""
        if self._fixed is None:
            self._starting = False
            self.size = max(BYTES_FLOOR, self.size // 2)


class TokenBucket:
    """So many a second, with a burst of one second's worth; `rate` None: no limit."""

    def __init__(self, rate_per_s: float | None) -> None:
        self._rate = rate_per_s
        self._held = rate_per_s or 0.0
        self._filled_ns: int | None = None

    def allows(self, now_ns: int) -> bool:
        """True if the next may go now. What goes is then spent, also above what is held: the debt is waited for."""
        if self._rate is None:
            return True
        if self._filled_ns is not None:
            self._held = min(self._rate, self._held + (now_ns - self._filled_ns) * self._rate / NS_PER_S)
        self._filled_ns = now_ns
        return self._held >= min(1.0, self._rate)

    def spend(self, amount: float) -> None:
        """Take `amount` away."""
        if self._rate is not None:
            self._held -= amount

    def due_ns(self, now_ns: int) -> int:
        """`boot_ns` at which the next may go."""
        if self._rate is None or self.allows(now_ns):
            return now_ns
        return now_ns + int((min(1.0, self._rate) - self._held) / self._rate * NS_PER_S) + 1
