"""When to try again: full jitter, so that ten thousand gateways never return in one second. Pure.

Law: after the n-th failure the wait is uniform in 0..min(cap, 2 s * 2^n), never less than a second after the last
attempt (services meter connects per client). From the fourth failure on end at a broker that others share it is uniform
in 0..two thirds of the cap at least: then the broker is down, not this shop's line, ten thousand wait for it, and only
attempts spread over 100 s and more stay below 100 a second (doubling alone: 440 a second after half a minute). The
count starts anew only after a minute's stable link and one acknowledgement: a link that is accepted and then dropped
does not count as good.
"""

from __future__ import annotations

from random import Random

from gateway.model import NS_PER_S

BASE_S = 2.0
STABLE_S = 60.0
QUICK_FAILURES = 3  # 2, 4 and 8 s: a broker that only restarts is back by then
SHARED_CAP_SHARE = 2 / 3


class Backoff:
    """The wait before the next attempt. `due_ns` is when it may be made."""

    def __init__(self, random: Random, cap_s: float, base_s: float = BASE_S, spacing_s: float = 1.0) -> None:
        self._random = random
        self._cap_s = cap_s
        self._base_s = min(base_s, cap_s)
        self._spacing_ns = int(spacing_s * NS_PER_S)
        self.failures = 0
        self.due_ns = 0
        self._attempt_ns: int | None = None

    def attempted(self, now_ns: int) -> None:
        """An attempt was made."""
        self._attempt_ns = now_ns

    def stood(self, up_ns: int, acknowledged: int) -> bool:
        """A link ended that was up for `up_ns` with `acknowledged` messages acknowledged. True: it was a good one."""
        good = up_ns >= STABLE_S * NS_PER_S and acknowledged > 0
        if good:
            self.failures = 0
        return good

    def fail(self, now_ns: int, is_shared: bool = False) -> None:
        """The link is down: wait longer than last time. `is_shared`: at a broker that a whole fleet may wait for."""
        longest_s = self._base_s * 2.0 ** min(self.failures, 30)
        if is_shared and self.failures >= QUICK_FAILURES:
            longest_s = max(longest_s, self._cap_s * SHARED_CAP_SHARE)
        self.failures += 1
        self._wait(now_ns, self._random.uniform(0, min(self._cap_s, longest_s)))

    def fail_for_a_person(self, now_ns: int) -> None:
        """Only a person can mend it (credentials): wait half the cap to the whole of it."""
        self.failures = 30
        self._wait(now_ns, self._random.uniform(self._cap_s / 2, self._cap_s))

    def again(self, now_ns: int) -> None:
        """Try again soon, without counting a failure: the link was ended by us, to find or to pass a bad message."""
        self._wait(now_ns, self._random.uniform(0, self._base_s / 2))

    def hurry(self, now_ns: int) -> None:
        """Cut the wait short."""
        self.due_ns = self._spaced(now_ns)

    def _wait(self, now_ns: int, wait_s: float) -> None:
        self.due_ns = self._spaced(now_ns + int(wait_s * NS_PER_S))

    def _spaced(self, due_ns: int) -> int:
        spacing = 0 if self._attempt_ns is None else self._attempt_ns + self._spacing_ns
        return max(due_ns, spacing)
