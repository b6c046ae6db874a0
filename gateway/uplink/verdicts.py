"""When a broker's refusals condemn a message, and when they are the link's own fault. Pure.

Law (contract section 5): a message is set aside only where others fare well: it was refused, another event was taken,
and it was refused again. Where all fare alike nothing is set aside: sending is held, and one message at a time asks
whether that is over. A record of a loss is never set aside, for that would be a loss to be recorded.

| the link is | until | what is sent |
| --- | --- | --- |
| open | `HELD_AFTER` refusals on end, no event taken between them | everything; who was refused, alone and later |
| held | an event is taken | one message after 2 s, 4 s, ... 60 s: one that was refused, and a new one, in turn |

Refusals that pass (quota, busy, unknown codes) count alike, but hold the link only after `PASSING_NS` of them on end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.model import NS_PER_S, Entry, Instant
from gateway.uplink.suspects import Suspect

log = logging.getLogger(__name__)

HELD_AFTER = 8
CHARGES_MAX = 2
SPELLS_MAX = 4
PASSING_NS = 30 * NS_PER_S
"""A broker that is busy for a moment is none that takes nothing."""
PROBE_BASE_NS, PROBE_MAX_NS = 2 * NS_PER_S, 60 * NS_PER_S
_NOTICE = b"store.gateway.events_dropped"


def is_notice(entry: Entry) -> bool:
    """Tell whether the entry is the record of a loss."""
    return entry.stream == "gateway" and _NOTICE in entry.payload


@dataclass(slots=True)
class Hold:
    """Sending is held: what the broker said, since when, and when the next message asks (`boot_ns`)."""

    why: str
    since: Instant
    probe_ns: int
    probes: int = 0


class Verdicts:
    """Counts what the broker takes and refuses. `taken` is the number of events taken so far.

    | a message is | becomes |
    | --- | --- |
    | unsuspected | charged, where it is refused and the link is open |
    | charged | acquitted, where it is taken, or where the refusals led to the link being held |
    | charged | set aside, where it is refused again and another event was taken since |
    | refused in spite of `SPELLS_MAX` events taken between | set aside: many bad messages on end look like a bad link |
    """

    def __init__(self) -> None:
        self.taken = 0
        self.hold: Hold | None = None
        self._on_end = 0
        self._began_ns = 0

    def refused(self, suspect: Suspect, why: str, now: Instant) -> bool:
        """Take note that the broker refused a single event; True: set it aside."""
        if suspect.refused_at != self.taken:
            suspect.spells += 1
            suspect.charges += self.hold is None
            suspect.refused_at = self.taken
        self.failed(why, now)
        if self.hold is not None or is_notice(suspect.parcel.entries[0]):
            return False
        return suspect.charges >= CHARGES_MAX or suspect.spells >= SPELLS_MAX

    def failed(self, why: str, now: Instant, passes: bool = False) -> None:
        """Take note of a refusal that blames no single event: a batch's, the line closed, one that `passes`."""
        self._on_end += 1
        if self._on_end == 1:
            self._began_ns = now.boot_ns
        has_lasted = not passes or now.boot_ns - self._began_ns >= PASSING_NS
        if self.hold is None and self._on_end >= HELD_AFTER and has_lasted:
            self.hold = Hold(why, now, now.boot_ns + PROBE_BASE_NS)
            log.error("sending is held: the broker refuses every event, none is set aside why=%s", why)

    def is_open(self, suspects: Iterable[Suspect]) -> bool:
        """Tell whether a charge waits for somebody else to be taken: that alone would settle it."""
        return any(one.charges and one.refused_at == self.taken and not one.under_way for one in suspects)

    def took(self, count: int, suspects: Iterable[Suspect]) -> bool:
        """Take note that the broker took events; True: sending was held, and is not any more."""
        self._on_end = 0
        was_held, self.hold = self.hold is not None, None
        if was_held:
            for suspect in suspects:
                if suspect.refused_at == self.taken:
                    suspect.charges = 0
        self.taken += count
        return was_held

    def may_probe(self, now_ns: int) -> bool:
        """Tell whether a held link may be asked now; if so, the next time is later."""
        assert self.hold is not None
        if now_ns < self.hold.probe_ns:
            return False
        self.hold.probes += 1
        self.hold.probe_ns = now_ns + min(PROBE_MAX_NS, PROBE_BASE_NS << min(self.hold.probes, 10))
        return True
