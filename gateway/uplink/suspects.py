"""Messages that are sent alone: again after a passing refusal, or because the link broke at them. Pure.

Law (contract section 5): a message at whose sending the broker three times running closes the connection in order,
within 5 s and with nothing acknowledged since, is tried once more, first and alone on a new connection; if that is
closed in the same way it is refused (`verdicts` says what follows). Resets, time-outs and lost links never count. A
batch is taken apart before any of its entries is blamed. What is held here is out of the lanes, so that the rest flows
on; it is bounded.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass

from gateway.model import NS_PER_S, Entry, Stream
from gateway.uplink.parcel import Parcel

CLOSES_MAX = 3
SUSPECTS_MAX = 512
HELD_AFTER = 8
PROBE_MAX_NS, COSTLY_PROBE_MAX_NS = 60 * NS_PER_S, 600 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Evidence:
    """One kind of bad answer: what it weighs against a topic, how rarely that is then asked, and whether alone."""

    weight: int = 1
    probe_max_ns: int = PROBE_MAX_NS
    asks_alone: bool = False
    passes: bool = False


REFUSAL = Evidence()
BUSY = Evidence(passes=True)
CLOSE = Evidence(1, COSTLY_PROBE_MAX_NS, asks_alone=True)
"""More was under way: the oldest is a guess."""
CLOSE_ALONE = Evidence(HELD_AFTER // 2, COSTLY_PROBE_MAX_NS, asks_alone=True)
"""Nothing else was, and it had closed before, alone too, on the event's other topic. A wrong verdict costs 2 s."""
SILENCE = Evidence(HELD_AFTER // 2, COSTLY_PROBE_MAX_NS)
"""Not acknowledged, while what was sent later is."""

Key = tuple[Stream, int]


def key_of(entry: Entry) -> Key:
    return entry.stream, entry.sequence


@dataclass(slots=True)
class Suspect:
    """One parcel that waits to be sent again at `due_ns`.

    Of `verdicts` are `charges`, `spells` (how often it was refused with an event taken since) and `refused_at` (the
    events taken when it was). `is_too_large`: this link's limit keeps it back. `closed_alone_ns`: when the broker
    closed with nothing else under way. `refused_on`: on which of its two topics it was refused last, and by
    which `evidence`.
    """

    parcel: Parcel
    due_ns: int
    closes: int = 0
    refusals: int = 0
    stuck: int = 0
    charges: int = 0
    spells: int = 0
    refused_at: int = -1
    is_too_large: bool = False
    why: str = ""
    closed_alone_ns: int | None = None
    refused_on: str | None = None
    evidence: Evidence = REFUSAL
    under_way: bool = False
    gone: bool = False

    def is_refused_beside(self, topic: str) -> bool:
        """Return whether the other of its two topics refused it, too; one that only did not answer has not."""
        return self.refused_on not in (None, topic) and self.evidence is not SILENCE

    @property
    def is_single(self) -> bool:
        return len(self.parcel.entries) == 1


class Suspects:
    """What is sent alone, by due moment. `keys` names the single entries, which the lanes must leave out."""

    def __init__(self) -> None:
        self.keys: dict[Key, Suspect] = {}
        self._batches: list[Suspect] = []
        self._due: list[tuple[int, int, Suspect]] = []
        self._count = 0
        self.on_trial: Suspect | None = None

    def __len__(self) -> int:
        return len(self.keys) + len(self._batches)

    def singles(self) -> Collection[Suspect]:
        """Return all that hold a single entry."""
        return self.keys.values()

    def waiting(self) -> list[Suspect]:
        """Return the singles that are not under way."""
        return [one for one in self.keys.values() if not one.under_way]

    @property
    def is_full(self) -> bool:
        return len(self) >= SUSPECTS_MAX

    def add(self, parcel: Parcel, due_ns: int) -> Suspect:
        """Hold a parcel until `due_ns`; one that is held already keeps its history."""
        suspect = self.keys.get(key_of(parcel.entries[0])) if len(parcel.entries) == 1 else None
        if suspect is None:
            suspect = Suspect(parcel, due_ns)
            if suspect.is_single:
                self.keys[key_of(parcel.entries[0])] = suspect
            else:
                self._batches.append(suspect)
        suspect.parcel = parcel
        self.postpone(suspect, due_ns)
        return suspect

    def postpone(self, suspect: Suspect, due_ns: int) -> None:
        """It waits (again) until `due_ns`."""
        suspect.due_ns = due_ns
        suspect.under_way = False
        self._count += 1
        heapq.heappush(self._due, (due_ns, self._count, suspect))

    def remove(self, suspect: Suspect) -> None:
        """It is acknowledged or given up."""
        suspect.gone = True
        if suspect.is_single:
            self.keys.pop(key_of(suspect.parcel.entries[0]), None)
        elif suspect in self._batches:
            self._batches.remove(suspect)
        if self.on_trial is suspect:
            self.on_trial = None

    def due(self) -> Suspect | None:
        """Return the one that is due first, also where that is later."""
        while self._due:
            due_ns, _, suspect = self._due[0]
            if not suspect.gone and not suspect.under_way and due_ns == suspect.due_ns:
                return suspect
            heapq.heappop(self._due)
        return None

    def lost(self, now_ns: int) -> list[Suspect]:
        """The link ended: singles that were under way wait again, batches go back to the lanes and are returned."""
        batches, self._batches = self._batches, []
        for suspect in batches:
            suspect.gone = True
        for suspect in self.keys.values():
            if suspect.under_way:
                self.postpone(suspect, now_ns)
        return batches

    def blame(self, suspect: Suspect) -> bool:
        """The broker closed in order at this single message. True: that is a refusal."""
        if suspect is self.on_trial:
            return True
        suspect.closes += 1
        if suspect.closes >= CLOSES_MAX:
            self.on_trial = suspect
        return False
