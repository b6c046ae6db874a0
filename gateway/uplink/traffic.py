"""What goes next, and whether it may: lanes, windows, rates and those sent alone, weighed against each other. Pure.

Law: live goes before backfill, for slots and for bytes, but one message in ten is backfill's where it has one; a fifth
of the slots is kept free of backfill. Never more under way than the window, nor larger than broker and profile take.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from random import Random

from gateway.model import Entry, Instant, LinkUp
from gateway.uplink.flights import Flights
from gateway.uplink.lanes import BATCH_BYTES_MAX, PACKET_SPARE, Backlog, Lanes, Parcel
from gateway.uplink.profiles import PROFILES, RATE_SHARE
from gateway.uplink.settings import BrokerSettings
from gateway.uplink.suspects import Suspect, Suspects, key_of
from gateway.uplink.window import ByteWindow, TokenBucket
from gateway.wire import Wire

BACKFILL_EVERY = 10
LIVE_RESERVE = 5
BATCHES_PER_WINDOW = 4  # or the line would idle between one batch and the next
BATCH_BYTES_MIN = 2048
GZIP_RATIO = 8  # measured: 100 plain events compress to a tenth
REFUSAL_BASE_NS = 1_000_000_000
REFUSAL_MAX_NS = 300_000_000_000
RESEND_SILENCES_MAX = 3
QUOTA_EXCEEDED = 0x97

log = logging.getLogger(__name__)


class Traffic:
    """Chooses the next message of one gateway. `refuse` is told what can never be sent, and why."""

    def __init__(
        self,
        settings: BrokerSettings,
        outbox: Backlog,
        wire: Wire,
        random: Random,
        anchors: Mapping[str, int],
        refuse: Callable[[Entry, str], None],
    ) -> None:
        self._settings = settings
        self._profile = PROFILES[settings.profile]
        self._random = random
        self._refuse = refuse
        self._gzip = settings.backfill_compression == "gzip"
        self._batch_overhead = PACKET_SPARE + len(wire.backfill_topic)
        self.suspects = Suspects()
        self.lanes = Lanes(
            outbox, wire, anchors, self.suspects.keys, in_order=settings.resync == "in-order", gzip=self._gzip
        )
        fixed = settings.inflight_bytes_max
        self.bytes = ByteWindow(None if fixed == "adaptive" else fixed)
        rates = (self._profile.messages_per_s, self._profile.bytes_per_s)
        self._rates = [TokenBucket(None if rate is None else rate * RATE_SHARE) for rate in rates]
        self._is_metered = rates != (None, None)
        self.careful = 0
        """Messages still to be acknowledged one at a time, after the link broke at a sending."""
        self.broken_sends = 0
        """Connections on end that broke, not in order, just after a sending."""
        self.window = 1
        self._packet_max: int | None = None
        self.backfill_from_ns = 0
        self._live_run = 0

    def open(self, signal: LinkUp, now: Instant, backfill_from_ns: int) -> None:
        """The link is up, with the broker's limits; backfill may begin at that moment."""
        limits = (self._settings.inflight_max, signal.receive_maximum or 65_535, self._profile.inflight_max or 65_535)
        self.window = min(limits)
        self._packet_max = signal.packet_bytes_max
        self.bytes.restart()
        self.backfill_from_ns = backfill_from_ns
        self._live_run = 0
        self.lanes.open(now)

    def has_slot(self, flights: Flights) -> bool:
        return len(flights) < (1 if self.careful else self.window)

    def rates_allow(self, now_ns: int) -> bool:
        return not self._is_metered or all(bucket.allows(now_ns) for bucket in self._rates)

    def spend(self, size: int) -> None:
        """A message of so many bytes was sent."""
        if self._is_metered:
            self._rates[0].spend(1)
            self._rates[1].spend(size)

    def dues_ns(self, now_ns: int) -> list[int]:
        """Return the moments, past or to come, at which more may go."""
        suspect = self.suspects.due()
        dues = [bucket.due_ns(now_ns) for bucket in self._rates] if self._is_metered else []
        return [*dues, self.backfill_from_ns, 0 if suspect is None else suspect.due_ns]

    def choose(self, flights: Flights, now: Instant) -> tuple[Parcel, Suspect | None] | None:
        """Take the message that is next; None: nothing can go now."""
        while True:
            suspect = self.suspects.due() if self.suspects else None
            if suspect is not None and suspect.due_ns <= now.boot_ns and self._fits_live(suspect.parcel, flights):
                if self.is_too_large(suspect.parcel):
                    self.give_up(suspect, self._why_too_large(suspect.parcel))
                    continue
                return suspect.parcel, suspect
            backfill = self._backfill_that_fits(flights, now)
            if backfill is None or self._live_run < BACKFILL_EVERY - 1:
                live = None if self.suspects and self.suspects.is_full else self.lanes.live()
                if live is not None and self.is_too_large(live):
                    self.lanes.take_live()
                    self._refuse(live.entries[0], self._why_too_large(live))
                    continue
                if live is not None and self._fits_live(live, flights):
                    self.lanes.take_live()
                    self._live_run = self._live_run + 1 if backfill is not None else 0
                    return live, None
            if backfill is None:
                return None
            self.lanes.take_backfill()
            self._live_run = 0
            if not self.is_too_large(backfill):
                return backfill, None
            if len(backfill.entries) > 1:
                self.take_apart(backfill, now)
            else:
                self.refuse(backfill, self._why_too_large(backfill))

    def _fits_live(self, parcel: Parcel, flights: Flights) -> bool:
        """Live messages share the byte window with each other, not with what backfill has under way."""
        return flights.live_size == 0 or flights.live_size + parcel.size <= self.bytes.size

    def _backfill_that_fits(self, flights: Flights, now: Instant) -> Parcel | None:
        """The next batch, if slots and bytes are left for it beside the live lane's share."""
        if not self.lanes.has_backfill or now.boot_ns < self.backfill_from_ns or self.suspects.is_full:
            return None
        if flights.backfill_count >= max(1, self.window - max(1, self.window // LIVE_RESERVE)):
            return None
        if flights.backfill_count and flights.size >= self.bytes.size:
            return None  # spares the making of a batch that cannot go
        parcel = self.lanes.backfill(self._batch_bytes_max())
        if parcel is None or (flights.backfill_count and flights.size + parcel.size > self.bytes.size):
            return None
        return parcel

    def _batch_bytes_max(self) -> int:
        limit = max(BATCH_BYTES_MIN, self.bytes.size // BATCHES_PER_WINDOW)
        limit = min(BATCH_BYTES_MAX, limit * GZIP_RATIO if self._gzip else limit)
        if self._packet_max is not None:
            limit = min(limit, self._packet_max - self._batch_overhead)
        if self._profile.payload_bytes_max is not None:
            limit = min(limit, self._profile.payload_bytes_max)
        return limit

    def is_too_large(self, parcel: Parcel) -> bool:
        """True if broker or profile will not take it."""
        if self._packet_max is not None and parcel.size > self._packet_max:
            return True
        payload_max = self._profile.payload_bytes_max
        return payload_max is not None and len(parcel.payload) > payload_max

    def _why_too_large(self, parcel: Parcel) -> str:
        limit = self._packet_max or self._profile.payload_bytes_max
        return f"too large: {len(parcel.payload)} bytes, where the broker takes packets of {limit}"

    def take_apart(self, parcel: Parcel, now: Instant) -> None:
        """Send the entries of a batch one by one, each as a batch of its own."""
        for entry in parcel.entries:
            if not self.suspects.is_full and key_of(entry) not in self.suspects.keys:
                self.suspects.add(self.lanes.batch((entry,), parcel.lane), now.boot_ns)

    def try_elsewhere(self, parcel: Parcel, now: Instant) -> None:
        """Send a single entry on its event topic: the broker's access list may lack the backfill topic."""
        self.suspects.add(self.lanes.single(parcel.entries[0], parcel.lane), now.boot_ns)

    def give_up(self, suspect: Suspect, why: str) -> None:
        """A single message will never be taken."""
        self.suspects.remove(suspect)
        self.refuse(suspect.parcel, why)

    def refuse(self, parcel: Parcel, why: str) -> None:
        """A single entry is set aside; one that was asked for again was settled before, and stays so."""
        entry = parcel.entries[0]
        if parcel.lane == "resend":
            log.warning("resend given up stream=%s sequence=%d why=%s", entry.stream, entry.sequence, why)
        else:
            self._refuse(entry, why)

    def retry(self, parcel: Parcel, suspect: Suspect | None, code: int, now: Instant) -> None:
        """The broker refused a message for now: it goes again after a wait that doubles, backfill pauses as long."""
        if code == QUOTA_EXCEEDED:
            self.bytes.refused()
        if suspect is None:
            suspect = self.suspects.add(parcel, now.boot_ns)
        longest_ns = min(REFUSAL_MAX_NS, REFUSAL_BASE_NS << min(suspect.refusals, 20))
        suspect.refusals += 1
        due_ns = now.boot_ns + int(self._random.uniform(longest_ns / 2, longest_ns))
        self.suspects.postpone(suspect, due_ns)
        self.backfill_from_ns = max(self.backfill_from_ns, due_ns)

    def hold_for_silence(self, parcel: Parcel, suspect: Suspect | None, now: Instant) -> None:
        """A message was not answered: on the next connection the others go before it. A resend ends after some."""
        if parcel.lane == "control":
            return
        if len(parcel.entries) > 1:
            self.take_apart(parcel, now)
        elif suspect is not None or not self.suspects.is_full:
            suspect = suspect or self.suspects.add(parcel, now.boot_ns)
            suspect.stuck += 1
            if parcel.lane == "resend" and suspect.stuck >= RESEND_SILENCES_MAX:
                self.give_up(suspect, "the broker never acknowledges it")
                return
            self.suspects.postpone(suspect, now.boot_ns + (REFUSAL_BASE_NS << min(6, suspect.stuck)))
