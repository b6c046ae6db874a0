"""The sending policy: what goes out when, and what an answer means. Pure; the only word on retries, lanes and windows.

Law: nothing is sent that the outbox did not hand out as durable; never more under way than the window in messages
(Receive Maximum, profile, configuration) and in bytes; what was sent is forgotten only when acknowledged or refused.
Drained means drained: as long as something is unacknowledged and the link is up, something is under way or has a moment
at which it will be. It opens no socket and reads no clock: orders out, signals and time in.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from gateway.backoff import Backoff
from gateway.broker import BrokerSettings
from gateway.fallback import Protocol, ProtocolChoice
from gateway.lanes import BATCH_BYTES_MAX, PACKET_SPARE, Backlog, Lanes, Parcel, runs
from gateway.link_reasons import is_final_refusal, refusal_sentence
from gateway.model import (
    NS_PER_MS,
    NS_PER_S,
    STREAMS,
    Acknowledged,
    Connect,
    Disconnect,
    Entry,
    Instant,
    LinkDown,
    LinkUp,
    Message,
    Order,
    Stream,
    rfc3339,
)
from gateway.profiles import PROFILES, RATE_SHARE
from gateway.suspects import Suspect, Suspects, key_of
from gateway.window import ByteWindow, TokenBucket
from gateway.wire import STATE_CONTENT_TYPE, Wire

log = logging.getLogger(__name__)

CONNECT_NS = 60 * NS_PER_S  # the link's own limits are tighter; this one catches a resolver that hangs
POISON_NS = 5 * NS_PER_S
STATE_NS = 60 * NS_PER_S
STOP_NS = NS_PER_S  # for the acknowledgement of the last state
REFUSAL_BASE_NS = NS_PER_S
REFUSAL_MAX_NS = 300 * NS_PER_S
ORDERS_PER_STEP = 256
ANSWERS_MAX = 64
BACKFILL_EVERY = 10  # one message in ten at least is backfill's, where it has one
LIVE_RESERVE = 5  # a fifth of the slots is kept from backfill
AGAIN_MAX = 8  # quick reconnects on end, to find a message that breaks the link
FOR_A_PERSON = ("connack.bad_credentials", "connack.not_authorized", "connack.banned", "tls.client_certificate_refused")
TOPIC_REFUSALS = (0x87, 0x90)

BATCHES_PER_WINDOW = 4
BATCH_BYTES_MIN = 2048
GZIP_RATIO = 8  # measured: 100 plain events compress to a tenth
BROKEN_SENDS = 2  # losses at a sending on end, before one message at a time is sent
Phase = Literal["off", "down", "connecting", "up", "stopped"]


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the policy; tests in real time shorten them."""

    acknowledge_within_s: float = 10.0
    connect_spacing_s: float = 1.0
    backfill_delay_max_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the link is as it is: a stable dotted code and sentences for a person."""

    code: str
    detail: str
    advice: str = ""


@dataclass(slots=True)
class Counters:
    """Since the process started, in events where not said otherwise."""

    sent: int = 0
    messages: int = 0
    acknowledged: int = 0
    resent: int = 0
    refused: int = 0
    no_subscriber: int = 0
    retried: int = 0
    unanswered: int = 0
    connects: int = 0
    reconnects: int = 0
    answers_dropped: int = 0


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """A picture of the uplink. `since_ms` is UTC; `next_attempt_ms` is from now, None unless the link is down."""

    phase: Phase
    up: bool
    since_ms: int | None
    reason: Reason | None
    protocol: Protocol | None
    in_flight: int
    in_flight_bytes: int
    window: int
    window_bytes: int
    round_trip_ms: float | None
    next_attempt_ms: int | None
    held_back: int
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Flight:
    parcel: Parcel
    token: int
    sent_ns: int
    size: int
    acks_before: int
    suspect: Suspect | None = None


class Uplink:
    """Sends entries until they are acknowledged. All calls from one thread.

    `describe_state` gives `version`, `config_sha256` and `sensors` of the state topic; `memory` is a JSON object that
    the outbox keeps over restarts; `anchors` maps boot ids to wall minus boot in milliseconds, read at each sending.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        outbox: Backlog,
        wire: Wire,
        random: Random,
        describe_state: Callable[[], Mapping[str, Any]],
        memory: dict[str, Any],
        anchors: Mapping[str, int],
        pace: Pace = Pace(),
    ) -> None:
        self._settings = settings
        self._profile = PROFILES[settings.profile]
        self._outbox = outbox
        self._wire = wire
        self._random = random
        self._describe_state = describe_state
        self._pace = pace
        self._ack_ns = int(pace.acknowledge_within_s * NS_PER_S)
        self._backoff = Backoff(random, settings.reconnect_max_s, spacing_s=pace.connect_spacing_s)
        self._choice = ProtocolChoice(settings.protocol, settings.url or "", memory, outbox.save_soon)
        self._suspects = Suspects()
        self._in_order = settings.resync == "in-order"
        self._lanes = Lanes(
            outbox, wire, anchors, self._suspects.keys, self._in_order, settings.backfill_compression == "gzip"
        )
        fixed = settings.inflight_bytes_max
        self._bytes = ByteWindow(None if fixed == "adaptive" else fixed)
        rates = (self._profile.messages_per_s, self._profile.bytes_per_s)
        self._rates = [TokenBucket(None if rate is None else rate * RATE_SHARE) for rate in rates]
        self.counters = Counters()
        self._reason: Reason | None = None
        self._since_ms: int | None = None
        self._phase: Phase = "off" if settings.url is None else "down"
        self._link = 0
        self._protocol: Protocol = "5"
        self._retain = self._profile.retain_available
        self._token = 0
        self._answers: deque[Parcel] = deque()
        self._stopping_ns: int | None = None
        self._final: list[Order] = []
        self._again = 0
        self._careful = 0
        self._broken_sends = 0
        self._state_closes = 0
        self._state_muted = False
        self._told: dict[str, Any] | None = None
        self._due_ns: int | None = 0
        self._clear_link()

    def _clear_link(self) -> None:
        """Forget everything that belonged to one connection."""
        self._flights: dict[int, _Flight] = {}
        self._in_flight_bytes = 0
        self._backfill_flights = 0
        self._backfill_bytes = 0
        self._up_ns = 0
        self._acks = 0
        self._acked_token_max = 0
        self._check_ns: int | None = None
        self._backfill_from_ns = 0
        self._state_due_ns = 0
        self._live_run = 0
        self._window = 1
        self._packet_max: int | None = None
        self._trial_since_ns: int | None = None
        self._more = False

    # What the engine calls.

    def handle(self, signal: LinkUp | LinkDown | Acknowledged, now: Instant) -> None:
        """Take in what the link says. A word of an earlier connection, or of an unknown token, changes nothing."""
        if signal.link != self._link or self._phase not in ("connecting", "up"):
            return
        self._due_ns = 0
        if isinstance(signal, Acknowledged):
            self._acknowledged(signal, now)
        elif isinstance(signal, LinkUp):
            self._link_up(signal, now)
        else:
            self._link_down(signal, now)

    def step(self, now: Instant) -> list[Order]:
        """Return the orders for the link that are due now, in order; they must all be obeyed."""
        orders: list[Order] = []
        self._more = False
        if self._final:
            orders, self._final = self._final, []
        if self._phase == "up":
            self._check_acknowledgements(now, orders)
        elif self._phase == "connecting" and now.boot_ns >= self._up_ns + CONNECT_NS:
            orders.append(Disconnect(self._link, gently=False))
            detail = "the broker's address could not be reached within a minute"
            self._down(LinkDown(self._link, "connect.timeout", detail, "check the name server and the network"), now)
        if self._phase in ("down", "connecting"):
            self._lanes.observe(now)
        if self._phase == "down":
            if self._stopping_ns is not None:
                self._phase = "stopped"
            elif now.boot_ns >= self._backoff.due_ns:
                orders.append(self._connect(now))
        if self._phase == "up":
            self._pump(now, orders)
        self._due_ns = self._next_due_ns(now)
        return orders

    def due_ns(self) -> int | None:
        """`boot_ns` at which `step` has something to do without any signal; None: nothing will be due by time alone."""
        return self._due_ns

    def resend(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]:
        """Deliver `first..last` again on the backfill lane; return the ranges that are still kept and were queued."""
        self._due_ns = 0
        return self._lanes.resend(stream, first, last)

    def answer(self, topic: str, payload: bytes, correlation: bytes | None = None) -> bool:
        """Send a command's answer, not recorded: lost where the process ends. False: too many wait, or no link."""
        if self._phase != "up" or len(self._answers) >= ANSWERS_MAX:
            self.counters.answers_dropped += 1
            return False
        self._due_ns = 0
        self._answers.append(Parcel("control", topic, payload, STATE_CONTENT_TYPE, correlation=correlation))
        return True

    def hurry(self, now: Instant) -> None:
        """Cut the back-off short: the network came up, or a technician asks."""
        self._due_ns = 0
        self._backoff.hurry(now.boot_ns)

    def stop(self, now: Instant) -> None:
        """Stop cleanly: the next steps send the state `stopped`, wait a second for its acknowledgement, disconnect."""
        if self._stopping_ns is not None:
            return
        self._stopping_ns = now.boot_ns
        self._due_ns = 0
        self._told = None
        if self._phase == "connecting":
            self._final.append(Disconnect(self._link))
            self._phase = "stopped"
        elif self._phase in ("off", "down"):
            self._phase = "stopped"

    @property
    def is_stopped(self) -> bool:
        """True once `stop` is done and its orders are handed out: the link may be closed."""
        return self._phase == "stopped" and not self._final

    def drained(self) -> bool:
        """True if everything recorded is acknowledged."""
        return not any(self._outbox.positions(stream).backlog for stream in STREAMS)

    def status(self, now: Instant | None = None) -> UplinkStatus:
        """Return a picture for `gateway status`."""
        waits = None
        if now is not None and self._phase == "down":
            waits = max(0, self._backoff.due_ns - now.boot_ns) // NS_PER_MS
        trip_ns = self._bytes.round_trip_ns
        return UplinkStatus(
            phase=self._phase,
            up=self._phase == "up",
            since_ms=self._since_ms,
            reason=self._reason,
            protocol=self._protocol if self._phase == "up" else None,
            in_flight=len(self._flights),
            in_flight_bytes=self._in_flight_bytes,
            window=self._window,
            window_bytes=self._bytes.size,
            round_trip_ms=None if trip_ns is None else trip_ns / NS_PER_MS,
            next_attempt_ms=waits,
            held_back=len(self._suspects),
            counters={name: getattr(self.counters, name) for name in Counters.__slots__},
        )

    # The link's life.

    def _connect(self, now: Instant) -> Connect:
        self._link += 1
        self._clear_link()
        self._phase = "connecting"
        self._up_ns = now.boot_ns  # of the attempt, until it is up
        self._backoff.attempted(now.boot_ns)
        self.counters.connects += 1
        self._protocol = self._choice.protocol(now.wall_ns // NS_PER_MS)
        document = {
            "state": "lost",
            "outbox": self._outbox.id,
            "epoch": str(self._outbox.epoch),
            "time": rfc3339(now.wall_ns),
        }
        will = Message(0, self._wire.state_topic, _dump(document), self._retain, STATE_CONTENT_TYPE)
        return Connect(self._link, self._protocol, will, self._wire.command_filter)

    def _link_up(self, signal: LinkUp, now: Instant) -> None:
        if self._phase != "connecting":
            return
        self._phase = "up"
        self._up_ns = now.boot_ns
        self._since_ms = now.wall_ns // NS_PER_MS
        self._reason = None
        self._protocol = signal.protocol
        self._choice.up(signal.protocol, now.wall_ns // NS_PER_MS)
        self._retain = self._profile.retain_available and signal.retain_available
        limits = (self._settings.inflight_max, signal.receive_maximum or 65_535, self._profile.inflight_max or 65_535)
        self._window = min(limits)
        self._packet_max = signal.packet_bytes_max
        self._bytes.restart()
        self._told = None
        self._state_due_ns = now.boot_ns
        delay_s = self._random.uniform(0, self._pace.backfill_delay_max_s)
        self._backfill_from_ns = now.boot_ns + int(delay_s * NS_PER_S)
        self._lanes.open(now)
        if self.counters.connects > 1:
            self.counters.reconnects += 1
        log.info("link up link=%d protocol=%s window=%d", self._link, signal.protocol, self._window)

    def _link_down(self, signal: LinkDown, now: Instant) -> None:
        if self._phase == "connecting" and self._choice.down(signal, self._protocol):
            self._down(signal, now, at_once=True)
        else:
            self._down(signal, now)

    def _down(self, signal: LinkDown, now: Instant, at_once: bool = False) -> None:
        """The link is lost, by whoever's will: what was under way is unsent again."""
        was_up = self._phase == "up"
        self._phase = "down"
        if self._since_ms is None or was_up or self._reason is None or self._reason.code != signal.code:
            log.warning("link down link=%d code=%s detail=%s", self._link, signal.code, signal.detail)
            self._since_ms = now.wall_ns // NS_PER_MS
        self._reason = Reason(signal.code, signal.detail, signal.advice)
        if signal.connack == 0x9A:  # retain not supported: the will asks for it
            self._retain = False
        looked_for = was_up and self._find_the_poison(now, signal.in_order)
        self._lanes.close()
        for flight in reversed(self._flights.values()):  # each goes before those that were sent after it
            if flight.parcel.lane == "resend" and flight.suspect is None:
                self._lanes.resend_lost(flight.parcel)
            elif flight.parcel.lane == "control" and flight.parcel.topic != self._wire.state_topic:
                self._answers.appendleft(flight.parcel)
        for batch in self._suspects.lost(now.boot_ns):
            if batch.parcel.lane == "resend":
                self._lanes.resend_lost(batch.parcel)
        if was_up and self._backoff.stood(now.boot_ns - self._up_ns, self._acks):
            self._broken_sends = 0
        self._again = self._again + 1 if at_once or looked_for else 0
        if self._again and self._again <= AGAIN_MAX:
            self._backoff.again(now.boot_ns)
        elif signal.code in FOR_A_PERSON:
            self._backoff.fail_for_a_person(now.boot_ns)
        else:
            self._backoff.fail(now.boot_ns)
        self._clear_link()

    def _find_the_poison(self, now: Instant, in_order: bool) -> bool:
        """Blame the message at whose sending the broker closed in order. True: look for it at once."""
        recent = [f for f in self._flights.values() if now.boot_ns - f.sent_ns <= POISON_NS]
        if not recent:
            return False
        if not in_order:
            # A broker that closes with more of ours unread resets. That blames nobody; but one at a time will tell.
            self._broken_sends += len(self._flights) > 1
            if self._broken_sends >= BROKEN_SENDS:
                self._careful = min(len(self._flights), self._window)
            return False
        # Brokers work in order, so the oldest unacknowledged is the one; with more than one under way that is a
        # guess, and the next connection sends one at a time until as many are acknowledged.
        self._careful = min(len(self._flights), self._window) + len(self._suspects)
        oldest = next(iter(self._flights.values()))
        if oldest is not recent[0] or oldest.acks_before < self._acks:
            return True
        parcel = oldest.parcel
        if parcel.lane == "control":
            self._state_closes += parcel.topic == self._wire.state_topic
            if self._state_closes > 3 and not self._state_muted:
                self._state_muted = True
                log.error("state topic refused: the broker closes the connection at it topic=%s", parcel.topic)
        elif len(parcel.entries) > 1:
            self._take_apart(parcel, now)
        else:
            suspect = oldest.suspect or self._suspects.add(parcel, now.boot_ns)
            if self._suspects.blame(suspect):
                self._give_up(suspect, "the broker closes the connection each time at this message")
                del self._flights[next(iter(self._flights))]
        return self._acks > 0 or self._trial_since_ns is not None

    def _take_apart(self, parcel: Parcel, now: Instant) -> None:
        """Send the entries of a batch one by one, each as a batch of its own. A resend is given up instead."""
        if parcel.lane == "resend":
            return
        for entry in parcel.entries:
            if not self._suspects.is_full and key_of(entry) not in self._suspects.keys:
                single = self._lanes.batch((entry,), parcel.lane)
                self._suspects.add(single, now.boot_ns)

    def _give_up(self, suspect: Suspect, why: str) -> None:
        self._suspects.remove(suspect)
        if suspect.parcel.lane != "resend":
            self._refuse(suspect.parcel.entries[0], why)

    def _refuse(self, entry: Entry, why: str) -> None:
        log.error("entry refused stream=%s sequence=%d why=%s", entry.stream, entry.sequence, why)
        self._outbox.refuse(entry, why)
        self.counters.refused += 1

    # Acknowledgements.

    def _acknowledged(self, signal: Acknowledged, now: Instant) -> None:
        flight = self._land(signal.token)
        if flight is None:
            return
        in_use = self._in_flight_bytes + flight.size
        self._bytes.acknowledged(flight.sent_ns, now.boot_ns, flight.size, in_use)
        self._acks += 1
        self._acked_token_max = max(self._acked_token_max, signal.token)
        if self._careful:
            self._careful -= 1
            self._broken_sends = 0 if not self._careful else self._broken_sends
        if flight.suspect is self._suspects.on_trial:
            self._suspects.on_trial = None
        if signal.reason_code >= 0x80:
            self._refused(flight, signal.reason_code, now)
            return
        parcel = flight.parcel
        if signal.reason_code == 0x10:
            self.counters.no_subscriber += len(parcel.entries)
        if flight.suspect is not None:
            self._suspects.remove(flight.suspect)
        if parcel.lane == "resend":
            self.counters.resent += len(parcel.entries)
        elif parcel.lane != "control":
            self._again = 0
            self.counters.acknowledged += len(parcel.entries)
            for stream, first, last in runs(parcel.entries):
                self._outbox.acknowledge(stream, first, last)
        else:
            self._state_closes = 0

    def _land(self, token: int) -> _Flight | None:
        flight = self._flights.pop(token, None)
        if flight is not None:
            self._in_flight_bytes -= flight.size
            if flight.parcel.lane in ("backfill", "resend"):
                self._backfill_flights -= 1
                self._backfill_bytes -= flight.size
        return flight

    def _refused(self, flight: _Flight, code: int, now: Instant) -> None:
        """The broker took the message and said no."""
        parcel, suspect = flight.parcel, flight.suspect
        why = refusal_sentence(code)
        if parcel.lane == "control":
            if parcel.topic == self._wire.state_topic and is_final_refusal(code):
                self._state_muted = True
                log.error("state topic refused topic=%s why=%s", parcel.topic, why)
            return
        if not is_final_refusal(code):
            self.counters.retried += len(parcel.entries)
            if code == 0x97:
                self._bytes.refused()
            if suspect is None:
                suspect = self._suspects.add(parcel, now.boot_ns)
            longest_ns = min(REFUSAL_MAX_NS, REFUSAL_BASE_NS << min(suspect.refusals, 20))
            suspect.refusals += 1
            wait_ns = int(self._random.uniform(longest_ns / 2, longest_ns))
            self._suspects.postpone(suspect, now.boot_ns + wait_ns)
            self._backfill_from_ns = max(self._backfill_from_ns, now.boot_ns + wait_ns)
            return
        if suspect is not None:
            self._suspects.remove(suspect)
        if parcel.lane == "resend":
            log.warning("resend refused why=%s", why)
        elif len(parcel.entries) > 1:
            self._take_apart(parcel, now)
        elif parcel.is_batch and code in TOPIC_REFUSALS:
            # The backfill topic may be missing in the broker's access list: the event topic is tried before giving up.
            self._suspects.add(self._lanes.single(parcel.entries[0], parcel.lane), now.boot_ns)
        else:
            self._refuse(parcel.entries[0], why)

    def _check_acknowledgements(self, now: Instant, orders: list[Order]) -> None:
        """An acknowledgement that does not come within 10 s: send again on a new connection."""
        if self._check_ns is None or now.boot_ns < self._check_ns:
            return
        late = [f for f in self._flights.values() if self._deadline_ns(f) <= now.boot_ns]
        if not late:
            self._check_ns = min((self._deadline_ns(f) for f in self._flights.values()), default=None)
            return
        self.counters.unanswered += len(late)
        overtaken = [flight for flight in late if flight.token < self._acked_token_max]
        # Where nothing could overtake (a window of one), the oldest may still be the one; the others go before it.
        for flight in overtaken or late[:1]:
            self._held_for_silence(flight, now)
        orders.append(Disconnect(self._link, gently=bool(overtaken)))
        if overtaken:
            detail = f"{len(overtaken)} of the messages sent were not acknowledged within 10 s, later ones were"
            signal = LinkDown(self._link, "ack.timeout", detail, "look at the broker's log for that message")
        else:
            detail = "the broker acknowledged nothing for 10 s"
            signal = LinkDown(self._link, "link.timeout", detail, "check the network and the broker")
        self._down(signal, now, at_once=self._acks > 0)

    def _deadline_ns(self, flight: _Flight) -> int:
        # From the fourth time on a message that is never answered is waited for longer: a reconnect for each costs
        # the others their place, too.
        stuck = flight.suspect.stuck if flight.suspect is not None else 0
        return flight.sent_ns + (self._ack_ns << min(5, max(0, stuck - 2)))

    def _held_for_silence(self, flight: _Flight, now: Instant) -> None:
        parcel = flight.parcel
        if parcel.lane in ("control", "resend"):
            return
        if len(parcel.entries) > 1:
            self._take_apart(parcel, now)
        elif flight.suspect is not None or not self._suspects.is_full:
            suspect = flight.suspect or self._suspects.add(parcel, now.boot_ns)
            suspect.stuck += 1
            self._suspects.postpone(suspect, now.boot_ns + (NS_PER_S << min(6, suspect.stuck)))

    # Sending.

    def _pump(self, now: Instant, orders: list[Order]) -> None:
        if self._stopping_ns is not None:
            self._pump_the_last(now, orders)
            return
        trial = self._suspects.on_trial
        if trial is not None:
            if self._trial_since_ns is None:
                self._trial_since_ns = now.boot_ns
                self._send(trial.parcel, now, orders, trial)
            if now.boot_ns < self._trial_since_ns + POISON_NS:
                return
            self._suspects.on_trial = None
        if not self._state_muted and now.boot_ns >= self._state_due_ns and self._has_slot():
            self._send_state(now, orders)
        while self._answers and self._has_slot() and self._rates_allow(now):
            self._send(self._answers.popleft(), now, orders)
        for _ in range(ORDERS_PER_STEP):
            if not self._has_slot() or not self._rates_allow(now) or not self._send_next(now, orders):
                return
        self._more = True

    def _pump_the_last(self, now: Instant, orders: list[Order]) -> None:
        """Stopping: the state `stopped`, its acknowledgement (or a second), then DISCONNECT."""
        assert self._stopping_ns is not None
        waiting = any(f.parcel.topic == self._wire.state_topic for f in self._flights.values())
        told = self._told is not None and self._told.get("state") == "stopped"
        if not told and self._has_slot() and not self._state_muted:
            self._send_state(now, orders, "stopped")
            return
        if (told and not waiting) or self._state_muted or now.boot_ns >= self._stopping_ns + STOP_NS:
            # Where `stopped` could not be told, the will may speak.
            orders.append(Disconnect(self._link, gently=told or self._state_muted))
            self._phase = "stopped"
            self._reason = Reason("stopped", "the gateway stopped the link itself")
            self._since_ms = now.wall_ns // NS_PER_MS

    def _has_slot(self) -> bool:
        return len(self._flights) < (1 if self._careful else self._window)

    def _rates_allow(self, now: Instant) -> bool:
        return all(bucket.allows(now.boot_ns) for bucket in self._rates)

    def _send_next(self, now: Instant, orders: list[Order]) -> bool:
        """Send the one message that is next. False: nothing can go."""
        suspect = self._suspects.due()
        if suspect is not None and suspect.due_ns <= now.boot_ns and self._fits_live(suspect.parcel):
            self._send(suspect.parcel, now, orders, suspect)
            return True
        backfill = self._backfill_that_fits(now)
        if backfill is not None and self._live_run >= BACKFILL_EVERY - 1:
            return self._send_backfill(backfill, now, orders)
        if self._suspects.is_full:
            return False
        live = self._lanes.live()
        if live is not None and self._is_too_large(live):
            self._lanes.take_live()
            self._refuse_too_large(live)
            return True
        if live is not None and self._fits_live(live):
            self._lanes.take_live()
            self._live_run = self._live_run + 1 if backfill is not None else 0
            self._send(live, now, orders)
            return True
        return backfill is not None and self._send_backfill(backfill, now, orders)

    def _send_backfill(self, parcel: Parcel, now: Instant, orders: list[Order]) -> bool:
        self._lanes.take_backfill()
        self._live_run = 0
        if not self._is_too_large(parcel):
            self._send(parcel, now, orders)
        elif len(parcel.entries) > 1:
            self._take_apart(parcel, now)
        elif parcel.lane != "resend":
            self._refuse_too_large(parcel)
        return True

    def _fits_live(self, parcel: Parcel) -> bool:
        """Live messages share the byte window with each other, not with what backfill has under way."""
        live_bytes = self._in_flight_bytes - self._backfill_bytes
        return live_bytes == 0 or live_bytes + parcel.size <= self._bytes.size

    def _backfill_that_fits(self, now: Instant) -> Parcel | None:
        """The next batch, if slots and bytes are left for it beside the live lane's share."""
        if now.boot_ns < self._backfill_from_ns or self._suspects.is_full:
            return None
        if self._backfill_flights >= max(1, self._window - max(1, self._window // LIVE_RESERVE)):
            return None
        if self._backfill_flights and self._in_flight_bytes >= self._bytes.size:
            return None  # spares the making of a batch that cannot go
        parcel = self._lanes.backfill(self._batch_bytes_max())
        if parcel is None or (self._backfill_flights and self._in_flight_bytes + parcel.size > self._bytes.size):
            return None
        return parcel

    def _batch_bytes_max(self) -> int:
        # A few batches in the window, or the line would idle between one and the next.
        limit = max(BATCH_BYTES_MIN, self._bytes.size // BATCHES_PER_WINDOW)
        if self._settings.backfill_compression == "gzip":
            limit *= GZIP_RATIO
        limit = min(BATCH_BYTES_MAX, limit)
        if self._packet_max is not None:
            limit = min(limit, self._packet_max - PACKET_SPARE - len(self._wire.backfill_topic))
        if self._profile.payload_bytes_max is not None:
            limit = min(limit, self._profile.payload_bytes_max)
        return limit

    def _is_too_large(self, parcel: Parcel) -> bool:
        payload_max = self._profile.payload_bytes_max
        return (self._packet_max is not None and parcel.size > self._packet_max) or (
            payload_max is not None and len(parcel.payload) > payload_max
        )

    def _refuse_too_large(self, parcel: Parcel) -> None:
        limit = self._packet_max or self._profile.payload_bytes_max
        self._refuse(parcel.entries[0], f"too large: {len(parcel.payload)} bytes, where the broker takes {limit}")

    def _send(self, parcel: Parcel, now: Instant, orders: list[Order], suspect: Suspect | None = None) -> None:
        self._token += 1
        flight = _Flight(parcel, self._token, now.boot_ns, parcel.size, self._acks, suspect)
        self._flights[self._token] = flight
        self._in_flight_bytes += flight.size
        if suspect is not None:
            suspect.under_way = True
        if parcel.lane in ("backfill", "resend"):
            self._backfill_flights += 1
            self._backfill_bytes += flight.size
        self._rates[0].spend(1)
        self._rates[1].spend(flight.size)
        deadline_ns = self._deadline_ns(flight)
        self._check_ns = deadline_ns if self._check_ns is None else min(self._check_ns, deadline_ns)
        self.counters.messages += 1
        self.counters.sent += len(parcel.entries)
        orders.append(
            Message(
                self._token,
                parcel.topic,
                parcel.payload,
                parcel.retain,
                parcel.content_type,
                parcel.properties,
                parcel.correlation,
            )
        )

    def _send_state(self, now: Instant, orders: list[Order], state: str = "online") -> None:
        """Publish the retained state where it changed."""
        self._state_due_ns = now.boot_ns + STATE_NS
        document: dict[str, Any] = {"state": state, "outbox": self._outbox.id, "epoch": str(self._outbox.epoch)}
        document["streams"] = {stream: self._position(stream) for stream in STREAMS}
        document.update(self._describe_state())
        if document == self._told:
            return
        self._told = document
        payload = _dump({**document, "time": rfc3339(now.wall_ns)})
        parcel = Parcel("control", self._wire.state_topic, payload, STATE_CONTENT_TYPE, retain=self._retain)
        self._send(parcel, now, orders)

    def _position(self, stream: Stream) -> dict[str, int]:
        at = self._outbox.positions(stream)
        return {
            "recorded_through": at.recorded_through,
            "acknowledged_through": at.acknowledged_through,
            "backlog": at.backlog,
        }

    def _next_due_ns(self, now: Instant) -> int | None:
        """What `step` left to time: everything else waits for an entry or an acknowledgement."""
        if self._final or self._more:
            return now.boot_ns
        if self._phase == "down":
            return self._backoff.due_ns
        if self._phase == "connecting":
            return self._up_ns + CONNECT_NS
        if self._phase != "up":
            return None
        dues = [] if self._check_ns is None else [self._check_ns]
        if self._stopping_ns is not None:
            return min([*dues, self._stopping_ns + STOP_NS])
        if self._trial_since_ns is not None and self._suspects.on_trial is not None:
            return min([*dues, self._trial_since_ns + POISON_NS])
        if self._has_slot():
            suspect = self._suspects.due()
            dues += [bucket.due_ns(now.boot_ns) for bucket in self._rates]
            dues += [self._backfill_from_ns, self._state_due_ns, 0 if suspect is None else suspect.due_ns]
        return min((due for due in dues if due > now.boot_ns), default=None)


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
