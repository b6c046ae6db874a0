"""The poison rule: when bad answers condemn a message, and when they are the fault of a topic, or of the link. Pure.

Law (contract section 5): nothing is set aside where all fare alike, and a record of a loss never is.

| who | is | until | and then |
| --- | --- | --- | --- |
| message | unsuspected | refused, closed at, or overtaken unanswered | goes alone, later, on its other topic (`ways`) |
| message | closed at `CLOSES_MAX` times | it is closed at alone behind a companion | charged, as refused |
| message | charged | refused again, another of its topic taken since | set aside; also at `SPELLS_MAX` |
| message | charged | taken, or its topic or the link held | acquitted |
| topic | open | `HELD_AFTER` on end (by `Evidence.weight`), others taken | held: one asks (`probes`) |
| topic | held | one of it is taken | open: what waited follows on the backfill lane |
| link | open | `HELD_AFTER` on end, no event taken; passing ones for `PASSING_NS` | held: one asks |
| link | held | an event is taken | open |
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from gateway.model import NS_PER_S, Entry, Instant
from gateway.uplink.suspects import HELD_AFTER, REFUSAL, Evidence, Suspect

log = logging.getLogger(__name__)

CHARGES_MAX = 2
SPELLS_MAX = 4
PASSING_NS = 30 * NS_PER_S
"""A broker that is busy for a moment is none that takes nothing."""
PROBE_BASE_NS = 2 * NS_PER_S
_NOTICE = b"store.gateway.events_dropped"


def is_notice(entry: Entry) -> bool:
    """Return whether the entry is the record of a loss."""
    return entry.stream == "gateway" and _NOTICE in entry.payload


@dataclass(slots=True)
class Hold:
    """Sending is held: what the broker said, since when, and when the next message asks (`boot_ns`)."""

    why: str
    since: Instant
    probe_ns: int
    evidence: Evidence = REFUSAL
    probes: int = 0

    def may_probe(self, now_ns: int) -> bool:
        """Return whether the broker may be asked now; if so, the next time is later."""
        if now_ns < self.probe_ns:
            return False
        self.probes += 1
        self.probe_ns = now_ns + min(self.evidence.probe_max_ns, PROBE_BASE_NS << min(self.probes, 10))
        return True


@dataclass(slots=True)
class Acceptance:
    """How the events of one topic fare, or (the link's) of all. `taken` so far, refused `on_end` (weighed)."""

    taken: int = 0
    on_end: int = 0
    began_ns: int = 0
    others_taken: int = 0
    hold: Hold | None = None

    def failed(self, now: Instant, taken_by_all: int, passes: bool, weight: int = 1) -> bool:
        """Count a refusal; True: enough of them came on end, for long enough where each `passes`."""
        if self.on_end == 0:
            self.began_ns, self.others_taken = now.boot_ns, taken_by_all
        self.on_end += weight
        has_lasted = not passes or now.boot_ns - self.began_ns >= PASSING_NS
        return self.hold is None and self.on_end >= HELD_AFTER and has_lasted

    def took(self, count: int) -> bool:
        """Count what was taken; True: it was held until now."""
        was_held, self.hold = self.hold is not None, None
        self.on_end = 0
        self.taken += count
        return was_held


@dataclass(slots=True)
class Released:
    """What one acknowledgement has opened again."""

    link: bool = False
    topics: list[str] = field(default_factory=list)


class Verdicts:
    """Counts what the broker takes and refuses, in all and by topic (`topics`: those that it refused of late)."""

    def __init__(self, topic_of: Callable[[Entry], str]) -> None:
        self._topic_of = topic_of
        self.link = Acceptance()
        self.topics: dict[str, Acceptance] = {}

    @property
    def hold(self) -> Hold | None:
        """Why nothing at all is sent; None: it is."""
        return self.link.hold

    @property
    def taken(self) -> int:
        return self.link.taken

    def topic(self, suspect: Suspect) -> str:
        """Return the topic of a single event, on whichever lane it goes."""
        return self._topic_of(suspect.parcel.entries[0])

    def holds(self, entry: Entry) -> bool:
        """Return whether the entry's topic is held."""
        acceptance = self.topics.get(self._topic_of(entry)) if self.topics else None
        return acceptance is not None and acceptance.hold is not None

    def held_topics(self) -> list[tuple[str, Hold]]:
        """Return the topics that are held."""
        return [(topic, acceptance.hold) for topic, acceptance in self.topics.items() if acceptance.hold is not None]

    def refused(self, suspect: Suspect, why: str, now: Instant, evidence: Evidence = REFUSAL) -> bool:
        """Take note that the broker refused a single event; True: set it aside."""
        entry = suspect.parcel.entries[0]
        acceptance = self.topics.setdefault(self._topic_of(entry), Acceptance())
        is_held = self.hold is not None or acceptance.hold is not None
        if suspect.refused_at != acceptance.taken:
            suspect.spells += 1
            suspect.charges += not is_held
            suspect.refused_at = acceptance.taken
        self.failed(why, now, entry, evidence)
        if self.hold is not None or acceptance.hold is not None or is_notice(entry):
            return False
        return suspect.charges >= CHARGES_MAX or suspect.spells >= SPELLS_MAX

    def failed(self, why: str, now: Instant, entry: Entry | None = None, evidence: Evidence = REFUSAL) -> None:
        """Take note of a refusal: of a single event, or (None) of a batch, which blames no topic."""
        first_ns = now.boot_ns + PROBE_BASE_NS
        if entry is not None and self.hold is None:
            topic = self._topic_of(entry)
            acceptance = self.topics.setdefault(topic, Acceptance())
            is_enough = acceptance.failed(now, self.taken, evidence.passes, evidence.weight)
            if is_enough and self.taken > acceptance.others_taken:
                acceptance.hold = Hold(why, now, first_ns, evidence)
                log.error("the broker refuses every event of a topic, they are held topic=%s why=%s", topic, why)
            if acceptance.hold is not None:
                return
        if self.link.failed(now, self.taken, evidence.passes):
            self.link.hold = Hold(why, now, first_ns)
            log.error("sending is held: the broker refuses every event, none is set aside why=%s", why)

    def open_topics(self, suspects: Iterable[Suspect]) -> set[str]:
        """Return the topics of which a charge waits for somebody else's to be taken: that alone would settle it."""
        waiting = (one for one in suspects if one.charges and not one.under_way)
        return {
            topic for one in waiting if self.topics[topic := self.topic(one)].taken == one.refused_at
        }  # charged is only what has a acceptance

    def took(self, entries: Collection[Entry], suspects: Collection[Suspect], now: Instant) -> Released:
        """Take note that the broker took events; return what was held, and is not any more."""
        released = Released(self.link.took(len(entries)))
        if not self.topics:
            return released
        if released.link:
            self._acquit(suspects, None)
            for _, hold in self.held_topics():
                hold.probe_ns = min(hold.probe_ns, now.boot_ns)
        for topic, count in Counter(map(self._topic_of, entries)).items():
            acceptance = self.topics.get(topic)
            if acceptance is None:
                continue
            if acceptance.hold is not None:
                released.topics.append(topic)
                log.warning("the broker takes the events of a topic again topic=%s", topic)
                self._acquit(suspects, topic)
            acceptance.took(count)
            if not any(self.topic(one) == topic for one in suspects):
                del self.topics[topic]
        return released

    def _acquit(self, suspects: Collection[Suspect], topic: str | None) -> None:
        for one in suspects:
            acceptance = self.topics.get(self.topic(one))
            if acceptance is not None and topic in (None, self.topic(one)) and one.refused_at == acceptance.taken:
                one.charges = 0
