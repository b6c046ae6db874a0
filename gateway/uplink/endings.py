"""Connections that the broker ends again and again though nothing was wrong with what was sent: two clients, one id.

A broker has room for one client of a name: who connects last stays. So a copied card, or a second gateway under the
same id, and this one end each other's connection in turn. MQTT 5 says so (DISCONNECT 0x8E); 3.1.1 only closes. Law:
reported while it goes on and `TOLD_NS` after, also while the link happens to be up. Pure.
"""

from __future__ import annotations

from collections import deque

from gateway.model import NS_PER_S, Instant, LinkDown, rfc3339
from gateway.uplink.status import Reason

TAKEN_OVER, CLOSED = "link.taken_over", "broker.closed"
CLOSES_MIN = 3  # a broker that restarts, or a limit of connection time, closes once
SOON_NS = 60 * NS_PER_S
TOLD_NS = 1800 * NS_PER_S  # six of the longest waits between two connects
ENDINGS_MAX = 100
ADVICE = "stop the other one; give each gateway a card and a site.gateway (or broker.client_id) of its own"


class Endings:
    """The ends of the last half hour that no message and no asking of ours explains; `explains`: so will the next be.

    What was sent alone when the broker closed, and was taken at the next try, did not make it close.
    """

    def __init__(self) -> None:
        self._ends: deque[tuple[Instant, str]] = deque(maxlen=ENDINGS_MAX)

    def explains(self, now: Instant) -> bool:
        """Return whether the broker closes for a reason of its own, so that it blames no message."""
        return bool(self.notes(now))

    def innocent(self, closed_ns: int | None, now: Instant) -> None:
        """A message at which alone the broker closed once (at `closed_ns`; None: it did not) was taken now."""
        if closed_ns is not None and now.boot_ns - closed_ns < SOON_NS:
            self._ends.append((now, CLOSED))

    def ended(self, signal: LinkDown, is_idle: bool, now: Instant) -> None:
        """A connection that was up ended; `is_idle`: nothing had been sent just before that was not answered."""
        if signal.code == TAKEN_OVER or (signal.code == CLOSED and is_idle):
            self._ends.append((now, signal.code))

    def notes(self, now: Instant | None) -> tuple[Reason, ...]:
        """Return what that looks like, for a person; empty where it happened too seldom, or long ago."""
        while now is not None and self._ends and self._ends[0][0].boot_ns < now.boot_ns - TOLD_NS:
            self._ends.popleft()
        if not self._ends:
            return ()
        taken_over = sum(code == TAKEN_OVER for _, code in self._ends)
        first, last = (rfc3339(self._ends[index][0].wall_ns) for index in (0, -1))
        if taken_over:
            times = "once" if taken_over == 1 else f"{taken_over} times"
            said = f"another client connected with our client id, {times}, last at {last}: a copied card?"
            return (Reason(TAKEN_OVER, said, ADVICE),)
        if len(self._ends) < CLOSES_MIN:
            return ()
        said = f"the broker closed {len(self._ends)} connections without a reason, from {first} to {last}: "
        said += "two clients with one client id do that to each other (a copied card?)"
        return (Reason("link.closed_in_turn", said, f"see the broker's log; is it another client: {ADVICE}"),)
