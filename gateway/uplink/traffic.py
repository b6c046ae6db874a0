"""What goes next, and whether it may: lanes, windows, rates and those sent alone, weighed against each other. Pure.

Law: live goes before backfill, for slots and for bytes, but one message in ten is backfill's where it has one; a fifth
of the slots is kept free of backfill. Never more under way than the window, nor larger than broker and profile take.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from random import Random

from gateway.model import Entry, Instant, LinkUp
from gateway.uplink.backlog import Backlog
from gateway.uplink.endings import Endings
from gateway.uplink.flights import Flights
from gateway.uplink.lanes import BATCH_BYTES_MAX, Lanes
from gateway.uplink.parcel import PACKET_SPARE, Parcel
from gateway.uplink.probes import Probes
from gateway.uplink.profiles import PROFILES, RATE_SHARE
from gateway.uplink.settings import BrokerSettings
from gateway.uplink.status import Reason
from gateway.uplink.suspects import (
    BUSY,
    CLOSE,
    CLOSE_ALONE,
    REFUSAL,
    SILENCE,
    Evidence,
    Suspect,
    Suspects,
    key_of,
)
from gateway.uplink.verdicts import Verdicts, is_notice
from gateway.uplink.waiting import waiting_notes
from gateway.uplink.ways import Ways
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
PASSING_MAX = 3  # tries of a batch that is refused for now, while others are taken
NEVER_NS = 1 << 62
CLOSES_AT_IT = "the broker closes the connection each time at this message"
UNANSWERED = "the broker does not acknowledge it, though it does what was sent later"

log = logging.getLogger(__name__)


class Traffic:
    """Chooses the next message of one gateway. `refuse` is called with what can never be sent, and why."""

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
        self._wire = wire
        self._profile = PROFILES[settings.profile]
        self._random = random
        self._refuse = refuse
        self._gzip = settings.backfill_compression == "gzip"
        self._batch_overhead = PACKET_SPARE + len(wire.backfill_topic)
        self.suspects = Suspects()
        self.verdicts = Verdicts(wire.event_topic)
        self.ways = Ways()
        self.endings = Endings()
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
        self._batch_learnt = BATCH_BYTES_MAX
        self._has_taken = False
        self.probes = Probes(self.verdicts, self.suspects, self.lanes, self.is_too_large)
        self.backfill_from_ns = 0
        self._live_run = 0

    def open(self, signal: LinkUp, now: Instant, backfill_from_ns: int) -> None:
        """The link is up, with the broker's limits; backfill may begin at that moment."""
        limits = (self._settings.inflight_max, signal.receive_maximum or 65_535, self._profile.inflight_max or 65_535)
        self.window = min(limits)
        self._packet_max = signal.packet_bytes_max
        self._batch_learnt = BATCH_BYTES_MAX
        self._has_taken = False
        for suspect in self.suspects.singles():
            if suspect.is_too_large:
                suspect.is_too_large = False  # this link may take it
                self.suspects.postpone(suspect, now.boot_ns)
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
        if self.verdicts.hold is not None:
            return [self.verdicts.hold.probe_ns]
        suspect = self.suspects.due()
        probes = [hold.probe_ns for _, hold in self.verdicts.held_topics()] if self.verdicts.topics else []
        dues = [bucket.due_ns(now_ns) for bucket in self._rates] if self._is_metered else []
        return [*dues, *probes, self.backfill_from_ns, 0 if suspect is None else suspect.due_ns]

    def choose(self, flights: Flights, now: Instant) -> tuple[Parcel, Suspect | None] | None:
        """Take the message that is next; None: nothing can go now."""
        self.lanes.is_behind = False
        if self.verdicts.hold is not None:
            return self.probes.of_link(flights, now)
        if self.verdicts.topics:
            probe = self.probes.of_topic(flights, now)
            self.careful = max(self.careful, int(self.probes.asks_alone))
            if probe is not None or self.probes.wants_silence:
                return probe
        while True:
            suspect = self.suspects.due() if self.suspects else None
            if suspect is not None and suspect.due_ns <= now.boot_ns:
                if suspect.is_single and self.verdicts.holds(suspect.parcel.entries[0]):
                    self.suspects.postpone(suspect, NEVER_NS)  # it goes when its topic is asked
                    continue
                suspect.parcel = self.lanes.again(suspect.parcel)
                if self._fits_live(suspect.parcel, flights):
                    if self.is_too_large(suspect.parcel):
                        self._too_large(suspect.parcel, suspect, now)
                        continue
                    return suspect.parcel, suspect
            backfill = self._backfill_that_fits(flights, now)
            if backfill is None or self._live_run < BACKFILL_EVERY - 1:
                live = None if self.suspects and self.suspects.is_full else self.lanes.live()
                if live is not None and self.is_too_large(live):
                    self.lanes.take_live()
                    self._too_large(live, None, now)
                    continue
                if live is not None and self._fits_live(live, flights):
                    self.lanes.take_live()
                    self._live_run = self._live_run + 1 if backfill is not None else 0
                    return self._by_open_way(live, flights, now), None
            if backfill is None:
                return self.probes.last_word(flights)
            self.lanes.take_backfill()
            self._live_run = 0
            if not self.is_too_large(backfill):
                return backfill, None
            if len(backfill.entries) > 1:
                self.take_apart(backfill, now)
            else:
                self._too_large(backfill, None, now)

    def _by_open_way(self, live: Parcel, flights: Flights, now: Instant) -> Parcel:
        """Return a live event as it goes: by the backfill topic where its own is shut and not to be asked now.

        Never before the backlog, for what is first sent on a topic is in ascending order there.
        """
        shut = self.ways.shut(live.topic)
        if shut is None or self.lanes.has_backfill:
            return live
        if not (shut.evidence.asks_alone and len(flights)) and shut.may_probe(now.boot_ns):
            self.careful = max(self.careful, int(shut.evidence.asks_alone))
            return live
        return self.elsewhere(live)

    def took(self, parcel: Parcel, now: Instant) -> None:
        """The broker took events: so those that it refused are tried again soon, and what is too large is so."""
        self.probes.last_taken = parcel.entries[-1]
        released = self.verdicts.took(parcel.entries, self.suspects.singles(), now)
        if released.link:
            log.warning("the broker takes events again")
        for topic in released.topics:
            self.lanes.release(topic)
        if released.link or released.topics:
            for suspect in self.suspects.singles():
                if released.link or self.verdicts.topic(suspect) in released.topics:
                    suspect.refused_on = None  # it was not that topic alone
        is_first, self._has_taken = not self._has_taken, True
        for suspect in self.suspects.waiting():
            if suspect.is_too_large and is_first:
                self._too_large(suspect.parcel, suspect, now)
            elif suspect.charges or suspect.spells or self.verdicts.topic(suspect) in released.topics:
                soon_ns = now.boot_ns + REFUSAL_BASE_NS
                if suspect.due_ns > soon_ns and not self.verdicts.holds(suspect.parcel.entries[0]):
                    self.suspects.postpone(suspect, soon_ns)

    def hold_topic_of(self, entry: Entry) -> bool:
        """Let the whole topic wait where it is held; of those sent alone one is kept, to ask with. False: it is not."""
        if not self.verdicts.holds(entry):
            return False
        topic = self.lanes.held.topic_of(entry)
        self.lanes.held.hold(topic)
        alone = [one for one in self.suspects.singles() if self.verdicts.topic(one) == topic]
        for one in sorted(alone, key=lambda one: one.parcel.entries[0].sequence)[1:]:
            self.suspects.remove(one)
            self.lanes.held.passes_over(one.parcel.entries[0])
        if self.suspects.on_trial in alone:
            self.suspects.on_trial = None
        self.lanes.held.passes_over(entry)
        return True

    def closed_at(self, parcel: Parcel, suspect: Suspect | None, now: Instant, is_alone: bool) -> None:
        """The broker closed at this single event; alone: it is no guess, and its other topic is tried next."""
        suspect = suspect or self.suspects.add(parcel, now.boot_ns)
        evidence = CLOSE_ALONE if is_alone and suspect.refused_on is not None else CLOSE
        if is_alone:
            suspect.closed_alone_ns = now.boot_ns
        if self.endings.explains(now):
            return
        if self.suspects.blame(suspect):
            self.charge(parcel, suspect, CLOSES_AT_IT, now, evidence, tries_elsewhere=True)
            return
        suspect.why = CLOSES_AT_IT
        if is_alone:
            self._try_elsewhere(suspect, parcel, evidence)
        self.verdicts.failed(CLOSES_AT_IT, now, parcel.entries[0], evidence)
        if not self.hold_topic_of(parcel.entries[0]):  # others first: they show what is taken
            self.suspects.postpone(suspect, now.boot_ns + (REFUSAL_BASE_NS << min(suspect.closes, 3)))

    def charge(
        self,
        parcel: Parcel,
        suspect: Suspect | None,
        why: str,
        now: Instant,
        evidence: Evidence = REFUSAL,
        tries_elsewhere: bool = False,
    ) -> None:
        """The broker refused a single entry for good: it is set aside, or waits until it is known who is to blame."""
        if parcel.lane == "resend":
            if parcel is self.probes.witness:
                self.verdicts.failed(why, now, parcel.entries[0], evidence)
                self.hold_topic_of(parcel.entries[0])
            self.give_up(parcel, suspect, why)
            return
        suspect = suspect if suspect is not None and not suspect.gone else self.suspects.add(parcel, now.boot_ns)
        suspect.parcel, suspect.why = parcel, why
        is_of_topic = tries_elsewhere and evidence is REFUSAL and not suspect.is_refused_beside(parcel.topic)
        if tries_elsewhere:
            self._try_elsewhere(suspect, parcel, evidence)
        if is_of_topic:  # its other topic has not refused it: that says nothing of the message
            self.verdicts.failed(why, now, parcel.entries[0], evidence)
        elif self.verdicts.refused(suspect, why, now, evidence):
            self.give_up(parcel, suspect, why)
            return
        self.hold_topic_of(parcel.entries[0])
        if suspect.gone:
            return
        if self.suspects.on_trial is suspect:
            self.suspects.on_trial = None
        self._wait_longer(suspect, now)

    def _too_large(self, parcel: Parcel, suspect: Suspect | None, now: Instant) -> None:
        """A single entry is larger than this link takes: set aside where others are taken, else it waits."""
        if parcel.lane == "resend" or (self._has_taken and not is_notice(parcel.entries[0])):
            self.give_up(parcel, suspect, self._why_too_large(parcel))
            return
        suspect = suspect or self.suspects.add(parcel, now.boot_ns)
        suspect.is_too_large = True
        self.suspects.postpone(suspect, now.boot_ns + REFUSAL_MAX_NS)

    def learn_batch_bytes(self, bytes_max: int) -> None:
        """The broker called a batch too large: until the next link none is larger than this."""
        self._batch_learnt = max(BATCH_BYTES_MIN // 4, min(self._batch_learnt, bytes_max))

    def notes(self) -> tuple[Reason, ...]:
        """Return what waits while the rest goes on, for a person; empty where nothing does."""
        return waiting_notes(self.verdicts, self.ways, self.suspects, self._wire.prefix)

    def trouble(self) -> str | None:
        """Return why no event gets through though the link is up; None: they do."""
        if self.verdicts.hold is not None:
            return self.verdicts.hold.why
        if not self._has_taken and any(one.is_too_large for one in self.suspects.singles()):
            return f"every event is larger than the packets of {self._packet_max} bytes that the broker takes"
        return None

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
        limit = min(self._batch_learnt, limit * GZIP_RATIO if self._gzip else limit)
        if self._packet_max is not None:
            limit = min(limit, self._packet_max - self._batch_overhead)
        if self._profile.payload_bytes_max is not None:
            limit = min(limit, self._profile.payload_bytes_max)
        return limit

    def is_too_large(self, parcel: Parcel) -> bool:
        """True if broker or profile will not take it."""
        if self._packet_max is not None and parcel.size > self._packet_max and parcel.exact_size() > self._packet_max:
            return True
        payload_max = self._profile.payload_bytes_max
        return payload_max is not None and len(parcel.payload) > payload_max

    def _why_too_large(self, parcel: Parcel) -> str:
        limit = self._packet_max or self._profile.payload_bytes_max
        return f"too large: {len(parcel.payload)} bytes, where the broker takes packets of {limit}"

    def take_apart(self, parcel: Parcel, now: Instant, refused: Evidence | None = None) -> None:
        """Send the entries of a batch one by one: each as a batch of its own, or, where the topic may be what was
        `refused`, on its event topic.
        """
        for entry in parcel.entries:
            if self.verdicts.holds(entry) and self.lanes.held.passes_over(entry):
                continue
            if not self.suspects.is_full and key_of(entry) not in self.suspects.keys:
                suspect = self.suspects.add(self.lanes.batch((entry,), parcel.lane), now.boot_ns)
                if refused is not None:
                    self._try_elsewhere(suspect, suspect.parcel, refused)

    def _try_elsewhere(self, suspect: Suspect, parcel: Parcel, evidence: Evidence) -> None:
        """Let a single event go on its other topic next time: there it may be taken."""
        suspect.refused_on, suspect.evidence, suspect.parcel = parcel.topic, evidence, self.elsewhere(parcel)

    def elsewhere(self, parcel: Parcel) -> Parcel:
        """Return a single entry on its other topic, live or backfill: the broker's access list may lack one."""
        if parcel.is_batch:
            return self.lanes.single(parcel.entries[0], parcel.lane)
        return self.lanes.batch(parcel.entries, parcel.lane)

    def give_up(self, parcel: Parcel, suspect: Suspect | None, why: str) -> None:
        """A single message will never be taken, whether it was suspected before or not."""
        if suspect is not None:
            self.suspects.remove(suspect)
        self.refuse(parcel, why)

    def refuse(self, parcel: Parcel, why: str) -> None:
        """A single entry is set aside; one that was asked for again was settled before, and stays so."""
        entry = parcel.entries[0]
        if parcel is self.probes.witness:
            return
        if parcel.lane == "resend":
            log.warning("resend given up stream=%s sequence=%d why=%s", entry.stream, entry.sequence, why)
        else:
            self._refuse(entry, why)

    def retry(self, parcel: Parcel, suspect: Suspect | None, code: int, why: str, now: Instant) -> None:
        """The broker refused a message for now: it goes again after a wait that doubles; where that was not the only
        one on end backfill pauses as long. A batch that is refused again while others are taken is taken apart.
        """
        if code == QUOTA_EXCEEDED:
            self.bytes.refused()
        is_single = len(parcel.entries) == 1
        refused = parcel.entries[0] if is_single and parcel.lane != "resend" else None
        self.verdicts.failed(why, now, refused, BUSY)
        if suspect is None or suspect.gone:
            suspect = self.suspects.add(parcel, now.boot_ns)
        suspect.why = why
        if is_single and self.hold_topic_of(parcel.entries[0]) and suspect.gone:
            return
        if not is_single:
            if suspect.refused_at < 0:
                suspect.refused_at = self.verdicts.taken
            elif suspect.refusals >= PASSING_MAX and self.verdicts.taken > suspect.refused_at:
                self.suspects.remove(suspect)
                self.take_apart(parcel, now)
                return
        due_ns = self._wait_longer(suspect, now)
        if self.verdicts.link.on_end > 1:
            self.backfill_from_ns = max(self.backfill_from_ns, due_ns)

    def _wait_longer(self, suspect: Suspect, now: Instant) -> int:
        longest_ns = min(REFUSAL_MAX_NS, REFUSAL_BASE_NS << min(suspect.refusals, 20))
        suspect.refusals += 1
        due_ns = now.boot_ns + int(self._random.uniform(longest_ns / 2, longest_ns))
        self.suspects.postpone(suspect, due_ns)
        return due_ns

    def unanswered(self, parcel: Parcel, suspect: Suspect | None, now: Instant, is_overtaken: bool) -> None:
        """A message was not answered: on the next connection the others go before it. A resend ends after some."""
        if parcel.lane == "control" or parcel is self.probes.witness:
            return
        if len(parcel.entries) > 1:
            self.take_apart(parcel, now)
        elif suspect is not None or not self.suspects.is_full:
            suspect = suspect or self.suspects.add(parcel, now.boot_ns)
            suspect.stuck += 1
            if parcel.lane == "resend" and suspect.stuck >= RESEND_SILENCES_MAX:
                self.give_up(parcel, suspect, "the broker never acknowledges it")
                return
            if is_overtaken and parcel.lane != "resend":
                suspect.why = UNANSWERED
                self._try_elsewhere(suspect, parcel, SILENCE)
                self.verdicts.failed(UNANSWERED, now, parcel.entries[0], SILENCE)
                if self.hold_topic_of(parcel.entries[0]) and suspect.gone:
                    return
            self.suspects.postpone(suspect, now.boot_ns + (REFUSAL_BASE_NS << min(6, suspect.stuck)))
