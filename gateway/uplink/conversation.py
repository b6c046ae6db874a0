"""What is said over one connection while it stands: sendings, acknowledgements, and what its end teaches. Pure.

Law: what was sent is forgotten only when acknowledged or refused; when the connection ends, everything else goes back
to where it came from. The poison rule of the contract is judged here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator

from gateway.model import NS_PER_S, Disconnect, Instant, LinkDown, Message, Order
from gateway.uplink.backlog import Backlog
from gateway.uplink.flights import Flight, Flights
from gateway.uplink.parcel import Parcel, runs
from gateway.uplink.presence import Presence
from gateway.uplink.refusals import is_final_refusal, refusal_sentence
from gateway.uplink.status import Counters
from gateway.uplink.suspects import CLOSE, REFUSAL, Suspect
from gateway.uplink.traffic import CLOSES_AT_IT, Traffic

log = logging.getLogger(__name__)

POISON_NS = 5 * NS_PER_S
STOP_NS = NS_PER_S  # for the acknowledgement of the last state
ORDERS_PER_STEP = 256
BROKEN_SENDS = 2  # losses at a sending on end, before one message at a time is sent
NO_SUBSCRIBERS = 0x10
TOPIC_REFUSALS = (0x87, 0x90)
PACKET_TOO_LARGE = 0x95


class Conversation:
    """One connection from its LinkUp to its end. `answers` are those to commands, `tokens` never repeat."""

    def __init__(
        self,
        link: int,
        outbox: Backlog,
        traffic: Traffic,
        presence: Presence,
        answers: deque[Parcel],
        tokens: Iterator[int],
        counters: Counters,
        patience_ns: int,
    ) -> None:
        self._link = link
        self._outbox = outbox
        self._traffic = traffic
        self._presence = presence
        self._answers = answers
        self._tokens = tokens
        self._counters = counters
        self._trial_since_ns: int | None = None
        self._is_companion_sent = False
        self._more = False
        self._spoilt: Flight | None = None
        self.is_announcement_refused = False
        self.flights = Flights(patience_ns)
        self.events_acknowledged = 0

    def say(self, now: Instant, orders: list[Order]) -> None:
        """Order everything that may be sent now."""
        self._more = False
        traffic, flights = self._traffic, self.flights
        trial = traffic.suspects.on_trial if traffic.verdicts.hold is None else None
        if trial is not None:
            if self._trial_since_ns is None:
                if not self._is_companion_sent:  # what the broker takes before it shows who is to blame
                    self._is_companion_sent = True
                    if (companion := traffic.probes.companion()) is not None:
                        self._send(companion, now, orders)
                if flights.has_events:
                    return
                self._trial_since_ns = now.boot_ns
                self._send(traffic.lanes.again(trial.parcel), now, orders, trial)
            if now.boot_ns < self._trial_since_ns + POISON_NS:
                return
            traffic.suspects.on_trial = None
        self._presence.wake(now)
        if not self._presence.muted and now.boot_ns >= self._presence.due_ns and traffic.has_slot(flights):
            self._send_state(self._presence.online(now), now, orders)
        while self._answers and traffic.has_slot(flights) and traffic.rates_allow(now.boot_ns):
            answer = self._answers.popleft()
            if traffic.is_too_large(answer):
                self._drop(answer, "larger than the broker takes")
            else:
                self._send(answer, now, orders)
        for _ in range(ORDERS_PER_STEP):
            if not traffic.has_slot(flights) or not traffic.rates_allow(now.boot_ns):
                return
            chosen = traffic.choose(flights, now)
            if chosen is None:
                self._more = traffic.lanes.is_behind
                return
            self._send(chosen[0], now, orders, chosen[1])
        self._more = True

    def say_farewell(self, stopping_ns: int, now: Instant, orders: list[Order]) -> bool:
        """Stopping: the state `stopped`, its acknowledgement (or a second), then DISCONNECT. True: that is done."""
        presence = self._presence
        if not presence.has_told_stop and not presence.muted and self._traffic.has_slot(self.flights):
            self._send_state(presence.stopped(now), now, orders)
        is_told = presence.has_told_stop and not self.flights.has_topic(presence.topic)
        if is_told or presence.muted or now.boot_ns >= stopping_ns + STOP_NS:
            # Where `stopped` could not be published, the will may speak.
            orders.append(Disconnect(self._link, gently=presence.has_told_stop or presence.muted))
            return True
        return False

    def _send_state(self, parcel: Parcel | None, now: Instant, orders: list[Order]) -> None:
        if parcel is not None and self._traffic.is_too_large(parcel):
            self._presence.refused(f"{len(parcel.payload)} bytes are more than the broker takes", now)
        elif parcel is not None:
            self._send(parcel, now, orders)

    def _send(self, parcel: Parcel, now: Instant, orders: list[Order], suspect: Suspect | None = None) -> None:
        token = next(self._tokens)
        flight = self.flights.start(token, parcel, now.boot_ns, suspect)
        if suspect is not None:
            suspect.under_way = True
        self._traffic.spend(flight.size)
        self._counters.messages += 1
        self._counters.sent += len(parcel.entries)
        orders.append(
            Message(
                token,
                parcel.topic,
                parcel.payload,
                parcel.retain,
                parcel.content_type,
                parcel.properties,
                parcel.correlation,
            )
        )

    @property
    def is_on_trial(self) -> bool:
        """True while a message is sent alone, to see whether the broker closes at it."""
        return self._traffic.suspects.on_trial is not None

    def due_ns(self, now: Instant, stopping_ns: int | None) -> int | None:
        """What is left to time: everything else waits for an entry or an acknowledgement."""
        if self._more:
            return now.boot_ns
        check_ns = self.flights.check_ns
        dues = [] if check_ns is None else [check_ns]
        if stopping_ns is not None:
            return min([*dues, stopping_ns + STOP_NS])
        if self._trial_since_ns is not None and self._traffic.suspects.on_trial is not None:
            return min([*dues, self._trial_since_ns + POISON_NS])
        if self._traffic.has_slot(self.flights):
            dues += [*self._traffic.dues_ns(now.boot_ns), 0 if self._presence.muted else self._presence.due_ns]
        return min((due for due in dues if due > now.boot_ns), default=None)

    def acknowledged(self, token: int, reason_code: int, now: Instant) -> None:
        """Take in one PUBACK; of an unknown token it changes nothing."""
        under_way = self.flights.size
        flight = self.flights.acknowledged(token)
        if flight is None:
            return
        traffic = self._traffic
        traffic.bytes.acknowledged(flight.sent_ns, now.boot_ns, flight.size, under_way)
        if traffic.bytes.pause_ns:
            traffic.backfill_from_ns = max(traffic.backfill_from_ns, now.boot_ns + traffic.bytes.pause_ns)
        if traffic.careful:
            traffic.careful -= 1
            if not traffic.careful:
                traffic.broken_sends = 0
        if flight.suspect is traffic.suspects.on_trial:
            traffic.suspects.on_trial = None
        if reason_code >= 0x80:
            self._refused(flight, reason_code, now)
            return
        parcel = flight.parcel
        if reason_code == NO_SUBSCRIBERS:
            self._counters.no_subscriber += len(parcel.entries)
        if flight.suspect is not None:
            traffic.suspects.remove(flight.suspect)
            if flight.suspect.refused_on not in (None, parcel.topic):
                is_held = traffic.verdicts.hold is not None or traffic.verdicts.holds(parcel.entries[0])
                if not is_held and not traffic.endings.explains(now):
                    traffic.ways.went_round(flight.suspect, now)
            elif flight.suspect.closes <= 1:
                traffic.endings.innocent(flight.suspect.closed_alone_ns, now)
        traffic.ways.went_straight(parcel.topic)
        if parcel.lane == "resend":
            if parcel is not traffic.probes.witness:
                self._counters.resent += len(parcel.entries)
            traffic.took(parcel, now)
        elif parcel.lane == "control":
            self._presence.acknowledged()
        else:
            self.events_acknowledged += len(parcel.entries)
            self._counters.acknowledged += len(parcel.entries)
            traffic.took(parcel, now)
            if len(parcel.entries) == 1:
                entry = parcel.entries[0]
                self._outbox.acknowledge(entry.stream, entry.sequence, entry.sequence)
                return
            for stream, first, last in runs(parcel.entries):
                self._outbox.acknowledge(stream, first, last)

    def _refused(self, flight: Flight, code: int, now: Instant) -> None:
        """The broker took the message and said no."""
        parcel, suspect = flight.parcel, flight.suspect
        why = refusal_sentence(code)
        if parcel.lane == "control":
            if parcel.topic != self._presence.topic:
                self._drop(parcel, why)
            elif is_final_refusal(code):
                self._presence.refused(why, now)
            else:
                self._presence.put_off(why)
            return
        if not is_final_refusal(code):
            self._counters.retried += len(parcel.entries)
            self._traffic.retry(parcel, suspect, code, why, now)
            return
        if len(parcel.entries) > 1:
            if suspect is not None:
                self._traffic.suspects.remove(suspect)
            self._traffic.verdicts.failed(why, now)
            if code == PACKET_TOO_LARGE:
                self._traffic.learn_batch_bytes(len(parcel.payload) // 2)
            self._traffic.take_apart(parcel, now, REFUSAL if code in TOPIC_REFUSALS else None)
        else:
            self._traffic.charge(parcel, suspect, why, now, tries_elsewhere=code in TOPIC_REFUSALS)

    def _drop(self, answer: Parcel, why: str) -> None:
        """An answer, or an announcement (retained), is not sent (again); a lost answer is asked for again."""
        log.warning("not published topic=%s why=%s", answer.topic, why)
        self._counters.answers_dropped += 1
        self.is_announcement_refused |= answer.retain

    def given_up(self, now: Instant) -> LinkDown | None:
        """Return why the connection must be ended: an acknowledgement is overdue, so it is sent again on a new one."""
        late = self.flights.late(now.boot_ns)
        if not late:
            return None
        self._counters.unanswered += len(late)
        overtaken = [flight for flight in late if self.flights.is_overtaken(flight)]
        # Where nothing could overtake (a window of one), the oldest may still be the one; the others go before it.
        for flight in overtaken or late[:1]:
            self._traffic.unanswered(flight.parcel, flight.suspect, now, is_overtaken=bool(overtaken))
        if overtaken:
            detail = f"{len(overtaken)} of the messages sent were not acknowledged in time, later ones were"
            return LinkDown(self._link, "ack.timeout", detail, "look at the broker's log for that message")
        detail = "the broker acknowledges nothing any more"
        return LinkDown(self._link, "link.timeout", detail, "check the network and the broker")

    def is_idle(self, now: Instant) -> bool:
        """Return whether nothing was sent of late that still waits for its answer."""
        return not self.flights.since(now.boot_ns - POISON_NS)

    def blame(self, now: Instant, in_order: bool) -> bool:
        """Blame the message at whose sending the broker closed in order. True: look for it at once."""
        flights, traffic = self.flights, self._traffic
        recent = flights.since(now.boot_ns - POISON_NS)
        if not recent:
            return False
        one_at_a_time = min(len(flights), traffic.window)
        if not in_order:
            # A broker that closes with more of ours unread resets. That blames no message; sent one at a time
            # they will show which it was.
            traffic.broken_sends += len(flights) > 1
            if traffic.broken_sends >= BROKEN_SENDS:
                traffic.careful = one_at_a_time
            return False
        # Brokers work in order, so the oldest unacknowledged is the one; with more than one under way that is a
        # guess, and the next connection sends one at a time until as many are acknowledged.
        traffic.careful = one_at_a_time + len(traffic.suspects)
        oldest = flights.oldest
        if oldest is not recent[0] or oldest.acks_before < flights.acks:
            return True
        if oldest.parcel.topic == self._presence.topic:
            if not traffic.endings.explains(now):
                self._presence.closed_at(now)
        elif len(oldest.parcel.entries) > 1:
            traffic.take_apart(oldest.parcel, now, CLOSE)
        elif oldest.parcel is traffic.probes.witness:
            traffic.charge(oldest.parcel, None, CLOSES_AT_IT, now, CLOSE)
        elif oldest.parcel.entries:
            traffic.closed_at(oldest.parcel, oldest.suspect, now, is_alone=len(flights) == 1)
            if traffic.endings.explains(now):
                return True
        else:
            self._spoilt = oldest
            self._drop(oldest.parcel, "the broker closes the connection at it")
        return flights.acks > 0 or self._trial_since_ns is not None

    def lost(self, now: Instant) -> None:
        """The connection is over: what was under way goes back to where it came from."""
        lanes = self._traffic.lanes
        lanes.close()
        for flight in self.flights.newest_first():  # each goes before those that were sent after it
            if flight.parcel.lane == "resend" and flight.suspect is None:
                lanes.resend_lost(flight.parcel)
            elif flight is self._spoilt:
                continue
            elif flight.parcel.lane == "control" and flight.parcel.topic != self._presence.topic:
                self._answers.appendleft(flight.parcel)
        for batch in self._traffic.suspects.lost(now.boot_ns):
            if batch.parcel.lane == "resend":
                lanes.resend_lost(batch.parcel)
