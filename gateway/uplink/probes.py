"""The one message by which a held link, or a held topic, is asked, and the witness that speaks for the others. Pure.

Law (contract section 5): who was refused and others take turns, so that it shows whom the broker refuses. A witness is
an event that the broker took before, sent once more. Where asking may end the connection it is done with nothing else
under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.model import Entry, Instant
from gateway.uplink.flights import Flights
from gateway.uplink.lanes import Lanes
from gateway.uplink.parcel import Parcel
from gateway.uplink.suspects import Suspect, Suspects
from gateway.uplink.verdicts import Verdicts


class Probes:
    """Chooses probes for `Traffic`; a due moment that was used is passed on to the hold."""

    def __init__(
        self, verdicts: Verdicts, suspects: Suspects, lanes: Lanes, is_too_large: Callable[[Parcel], bool]
    ) -> None:
        self._verdicts = verdicts
        self._suspects = suspects
        self._lanes = lanes
        self._is_too_large = is_too_large
        self._witnessed_at: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self.last_taken: Entry | None = None
        self.witness: Parcel | None = None
        """What the broker took before, when it is sent once more."""
        self.asks_alone = False
        """The last look at the held topics found one that is asked with nothing else under way, ..."""
        self.wants_silence = False
        """... and something was: nothing is to be sent until that is answered."""

    def of_link(self, flights: Flights, now: Instant) -> tuple[Parcel, Suspect | None] | None:
        """Take the one message by which a held link is asked: one taken before, one refused, a new one, in turn."""
        hold = self._verdicts.hold
        if hold is None or flights.has_events or not hold.may_probe(now.boot_ns):
            return None
        turn = hold.probes % 3
        if turn == 1 and (witness := self._called()) is not None:
            return witness, None
        refused = self._first_waiting(self._suspects.waiting())
        is_anothers_turn = refused is None or (turn == 0 and not self._suspects.is_full)
        if is_anothers_turn and (companion := self.companion()) is not None:
            return companion, None
        return None if refused is None else (refused.parcel, refused)

    def of_topic(self, flights: Flights, now: Instant) -> tuple[Parcel, Suspect | None] | None:
        """Take the one message by which a held topic is asked: one refused, and another of it, in turn."""
        self.asks_alone = self.wants_silence = False
        for topic, hold in self._verdicts.held_topics():
            if hold.probe_ns > now.boot_ns or flights.has_event_of(topic, self._lanes.held.topic_of):
                continue
            if hold.evidence.asks_alone:  # alone, so that the broker's close blames no other
                self.asks_alone = True
                if len(flights):
                    self.wants_silence = True
                    return None
            hold.may_probe(now.boot_ns)
            refused = self._first_waiting(one for one in self._suspects.waiting() if self._verdicts.topic(one) == topic)
            if refused is not None and hold.probes % 2 == 1:
                return refused.parcel, refused
            if (witness := self._called(topic)) is not None:
                return witness, None
            if (other := self._lanes.next_held(topic, self._asked.get(topic, 0))) is not None:
                self._asked[topic] = other.sequence  # each in turn: two that are refused must not hide the others
                return self._lanes.single(other, "live"), None
            if refused is not None:
                return refused.parcel, refused
        return None

    def _first_waiting(self, suspects: Iterable[Suspect]) -> Suspect | None:
        fitting = (one for one in suspects if not self._is_too_large(one.parcel))
        first = min(fitting, key=lambda one: one.due_ns, default=None)
        if first is not None:
            first.parcel = self._lanes.again(first.parcel)
        return first

    def companion(self) -> Parcel | None:
        """Take the next live event, or else one that was taken before, to be sent beside one that is suspected."""
        live = self._lanes.live()
        if live is None or self._is_too_large(live):
            return self._called()
        self._lanes.take_live()
        return live

    def last_word(self, flights: Flights) -> tuple[Parcel, Suspect | None] | None:
        """Where nothing else is to be sent, send what was taken before once more: does the broker still take that?"""
        if flights.has_events or not self._verdicts.topics:
            return None
        for topic in self._verdicts.open_topics(self._suspects.singles()):
            taken = self._verdicts.topics[topic].taken
            if self._witnessed_at.get(topic) != taken:
                self._witnessed_at[topic] = taken
                if (witness := self._called(topic)) is not None:
                    return witness, None
        return None

    def _called(self, topic: str | None = None) -> Parcel | None:
        """Return an event (of that topic) that was taken before, as a message of its own; None: none is at hand."""
        entry = self.last_taken
        if entry is None or (topic is not None and self._lanes.held.topic_of(entry) != topic):
            entry = self._lanes.find_taken(topic)
        self.witness = None if entry is None else self._lanes.single(entry, "resend")
        return self.witness
