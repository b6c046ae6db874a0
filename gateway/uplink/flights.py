"""What is under way on one connection: sent, not yet acknowledged. Pure bookkeeping.

Law: a flight leaves only by its acknowledgement or with its connection. An acknowledgement that overtakes an earlier
flight shows that the link lives and that the earlier one is stuck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.model import Entry
from gateway.uplink.parcel import Parcel
from gateway.uplink.suspects import Suspect


@dataclass(slots=True)
class Flight:
    """One message under way. `acks_before` counts what was acknowledged on this connection when it was sent."""

    parcel: Parcel
    token: int
    sent_ns: int
    acks_before: int
    size: int
    suspect: Suspect | None = None

    @property
    def is_backfill(self) -> bool:
        return self.parcel.lane in ("backfill", "resend")


class Flights:
    """All flights of one connection, in the order of their sending."""

    def __init__(self, patience_ns: int) -> None:
        self._patience_ns = patience_ns
        self._flying: dict[int, Flight] = {}
        self._check_ns: int | None = None
        self._acked_token_max = 0
        self.size = 0
        self.backfill_size = 0
        self.backfill_count = 0
        self.acks = 0

    def __len__(self) -> int:
        return len(self._flying)

    @property
    def live_size(self) -> int:
        """Bytes under way that are not backfill's."""
        return self.size - self.backfill_size

    @property
    def oldest(self) -> Flight:
        return next(iter(self._flying.values()))

    def newest_first(self) -> Iterable[Flight]:
        return reversed(self._flying.values())

    def since(self, sent_ns: int) -> list[Flight]:
        """Return those sent at `sent_ns` or later."""
        return [flight for flight in self._flying.values() if flight.sent_ns >= sent_ns]

    @property
    def has_events(self) -> bool:
        """Return whether an event is under way."""
        return any(flight.parcel.entries for flight in self._flying.values())

    def has_event_of(self, topic: str, topic_of: Callable[[Entry], str]) -> bool:
        """Return whether an event of that topic is under way, on whichever lane."""
        return any(topic_of(entry) == topic for flight in self._flying.values() for entry in flight.parcel.entries)

    def has_topic(self, topic: str) -> bool:
        return any(flight.parcel.topic == topic for flight in self._flying.values())

    def start(self, token: int, parcel: Parcel, now_ns: int, suspect: Suspect | None) -> Flight:
        """A message was sent."""
        size = parcel.size
        flight = Flight(parcel, token, now_ns, self.acks, size, suspect)
        self._flying[token] = flight
        self.size += size
        if flight.is_backfill:
            self.backfill_count += 1
            self.backfill_size += size
        deadline_ns = self._deadline_ns(flight)
        if self._check_ns is None or deadline_ns < self._check_ns:
            self._check_ns = deadline_ns
        return flight

    def acknowledged(self, token: int) -> Flight | None:
        """Take out the flight that was acknowledged; None where there is none of that token (any more)."""
        flight = self._flying.pop(token, None)
        if flight is not None:
            self.size -= flight.size
            if flight.is_backfill:
                self.backfill_count -= 1
                self.backfill_size -= flight.size
            self.acks += 1
            if token > self._acked_token_max:
                self._acked_token_max = token
        return flight

    @property
    def check_ns(self) -> int | None:
        """When `late` may have something to report; None: nothing is under way."""
        return self._check_ns if self._flying else None

    def late(self, now_ns: int) -> list[Flight]:
        """Return the flights whose acknowledgement is overdue, oldest first."""
        if self._check_ns is None or now_ns < self._check_ns:
            return []
        late = [flight for flight in self._flying.values() if self._deadline_ns(flight) <= now_ns]
        if not late:
            self._check_ns = min((self._deadline_ns(flight) for flight in self._flying.values()), default=None)
        return late

    def is_overtaken(self, flight: Flight) -> bool:
        """True if something sent after it is acknowledged already."""
        return flight.token < self._acked_token_max

    def _deadline_ns(self, flight: Flight) -> int:
        # The same for each sending, also the tenth: what spares the others is the growing wait before it is sent again.
        return flight.sent_ns + self._patience_ns
