"""The sending policy: what goes out when, and what an answer means. Pure; the only word on the link's life.

Law: nothing is sent that the outbox did not hand out as durable; never more under way than the window in messages
(Receive Maximum, profile, configuration) and in bytes; what was sent is forgotten only when acknowledged or refused.
Drained means drained: as long as something is unacknowledged and the link is up, something is under way or has a moment
at which it will be. It opens no socket and reads no clock: orders out, signals and time in.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from gateway.model import (
    NS_PER_MS,
    NS_PER_S,
    STREAMS,
    Acknowledged,
    Acknowledgements,
    Connect,
    Disconnect,
    Entry,
    Instant,
    LinkDown,
    LinkUp,
    Order,
    Stream,
    Subscribed,
    rfc3339,
)
from gateway.outbox.memory import Memory
from gateway.uplink.backlog import Backlog
from gateway.uplink.backoff import Backoff
from gateway.uplink.conversation import Conversation
from gateway.uplink.discovery import Announcement
from gateway.uplink.fallback import Protocol, ProtocolChoice
from gateway.uplink.parcel import Parcel
from gateway.uplink.presence import MUTED_NS, Presence
from gateway.uplink.profiles import PROFILES
from gateway.uplink.settings import BrokerSettings, Endpoint
from gateway.uplink.status import Counters, Phase, Reason, UplinkStatus, limits_of, told
from gateway.uplink.subscriptions import ASK_NS, SILENCES, UNWANTED, Subscription, Subscriptions
from gateway.uplink.traffic import Traffic
from gateway.wire import STATE_CONTENT_TYPE, Wire

log = logging.getLogger(__name__)

CONNECT_NS = 60 * NS_PER_S  # the link's own limits are tighter; this one catches a resolver that hangs
ANSWERS_MAX = 64
AGAIN_MAX = 8  # quick reconnects on end, to find a message that breaks the link
FOR_A_PERSON = (
    "connack.bad_credentials",
    "connack.not_authorized",
    "connack.banned",
    "connack.qos_refused",
    "tls.client_certificate_refused",
)
OF_THIS_SHOP = ("dns.", "tcp.unreachable", "file.", "connect.", "proxy.")
"""Beginnings of the causes that lie before the broker: its other gateways know nothing of them."""
RETAIN_NOT_SUPPORTED = 0x9A


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the policy; tests in real time shorten them."""

    acknowledge_within_s: float = 10.0
    connect_spacing_s: float = 1.0
    backfill_delay_max_s: float = 2.0


class Uplink:
    """Sends entries until they are acknowledged. All calls from one thread.

    `describe_state` gives `version`, `config_sha256` and `sensors` of the state topic; `memory` is what the
    outbox keeps over restarts; `anchors` maps boot ids to wall minus boot in milliseconds, read at each sending;
    `concerns` gives what else is not as it should be with the way to the broker.
    `announced` is published retained at each connect, unless the broker refuses it; `subscriptions` are asked for
    after the first acknowledgement, and no answer to them stops the sending.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        outbox: Backlog,
        wire: Wire,
        random: Random,
        describe_state: Callable[[], Mapping[str, Any]],
        memory: Memory,
        anchors: Mapping[str, int],
        pace: Pace = Pace(),
        announced: Sequence[Announcement] = (),
        subscriptions: Sequence[Subscription] = (),
        concerns: Callable[[Instant], tuple[Reason, ...]] = lambda now: (),
    ) -> None:
        self._outbox = outbox
        self._wire = wire
        self._random = random
        self._pace = pace
        self._is_shared = settings.url is not None and not Endpoint.parse(settings.url).is_this_machine
        self._backoff = Backoff(random, settings.reconnect_max_s, spacing_s=pace.connect_spacing_s)
        self._choice = ProtocolChoice(settings.protocol, settings.url or "", memory, outbox.save_soon)
        self._traffic = Traffic(settings, outbox, wire, random, anchors, self._refuse)
        retain_available = PROFILES[settings.profile].retain_available
        self._concerns = concerns
        self._presence = Presence(
            outbox, wire.state_topic, describe_state, retain_available, lambda now: told(self.status(now), now)
        )
        self.counters = Counters()
        self._reason: Reason | None = None
        self._since_ms: int | None = None
        self._limits: tuple[str, ...] = ()
        self._phase: Phase = "off" if settings.url is None else "down"
        self._link = 0
        self._protocol: Protocol = "5"
        self._announced = announced
        self._subscriptions = Subscriptions(subscriptions)
        self._announced_after_ns = 0
        self._tokens = itertools.count(1)
        self._answers: deque[Parcel] = deque()
        self._stopping_ns: int | None = None
        self._final: list[Order] = []
        self._again = 0
        self._due_ns: int | None = 0
        self._up_ns = 0
        self._conversation: Conversation | None = None

    # What the engine calls.

    def handle(self, signal: LinkUp | LinkDown | Acknowledged | Acknowledgements | Subscribed, now: Instant) -> None:
        """Take in what the link says. A word of an earlier connection, or of an unknown token, changes nothing."""
        if signal.link != self._link or self._phase not in ("connecting", "up"):
            return
        self._due_ns = 0
        if isinstance(signal, Acknowledgements):
            if self._conversation is not None:
                for token, reason_code in signal.words:
                    self._conversation.acknowledged(token, reason_code, now)
        elif isinstance(signal, Acknowledged):
            if self._conversation is not None:
                self._conversation.acknowledged(signal.token, signal.reason_code, now)
        elif isinstance(signal, LinkUp):
            self._link_up(signal, now)
        elif isinstance(signal, Subscribed):
            self._subscriptions.answered(signal, now)
        else:
            self._link_down(signal, now)

    def step(self, now: Instant) -> list[Order]:
        """Return the orders for the link that are due now, in order; they must all be obeyed."""
        orders: list[Order] = []
        if self._final:
            orders, self._final = self._final, []
        if self._conversation is not None:
            given_up = self._conversation.given_up(now)
            if given_up is not None:
                orders.append(Disconnect(self._link, gently=given_up.code == "ack.timeout"))
                self._down(given_up, now, at_once=self._conversation.flights.acks > 0)
        elif self._phase == "connecting" and now.boot_ns >= self._up_ns + CONNECT_NS:
            orders.append(Disconnect(self._link, gently=False))
            detail = "the broker's address could not be reached within a minute"
            self._down(LinkDown(self._link, "connect.timeout", detail, "check the name server and the network"), now)
        if self._phase in ("down", "connecting"):
            self._traffic.lanes.observe(now)
        if self._phase == "down":
            if self._stopping_ns is not None:
                self._phase = "stopped"
            elif now.boot_ns >= self._backoff.due_ns:
                orders.append(self._connect(now))
        if self._conversation is not None:
            self._say(self._conversation, now, orders)
        self._due_ns = self._next_due_ns(now)
        return orders

    def _say(self, talk: Conversation, now: Instant, orders: list[Order]) -> None:
        if self._stopping_ns is None:
            holds = self._holds(talk, now)
            if not holds:
                talk.say(now, orders)
            if self._may_ask(talk, now) and not (holds and len(talk.flights)):
                order = self._subscriptions.order(self._link, now)
                orders += [] if order is None else [order]
        elif talk.say_farewell(self._stopping_ns, now, orders):
            self._phase = "stopped"
            self._conversation = None
            self._reason = Reason("stopped", "the gateway stopped the link itself")
            self._since_ms = now.wall_ns // NS_PER_MS

    def _may_ask(self, talk: Conversation, now: Instant) -> bool:
        """Events first: what is only asked for waits until the broker has shown that it takes something."""
        return not talk.is_on_trial and (talk.flights.acks > 0 or now.boot_ns >= self._up_ns + ASK_NS)

    def _holds(self, talk: Conversation, now: Instant) -> bool:
        """True while nothing is sent, for at most a few seconds, to see whether the broker closes at what is asked."""
        return self._subscriptions.wants_alone and self._may_ask(talk, now)

    def _asking_due_ns(self, talk: Conversation) -> int | None:
        due_ns = self._subscriptions.due_ns()
        if due_ns is None or talk.is_on_trial or self._stopping_ns is not None:
            return None
        return due_ns if talk.flights.acks else max(due_ns, self._up_ns + ASK_NS)

    def due_ns(self) -> int | None:
        """`boot_ns` at which `step` has something to do without any signal; None: nothing will be due by time alone."""
        return self._due_ns

    def resend(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]:
        """Deliver `first..last` again on the backfill lane; return the ranges that are still kept and were queued."""
        self._due_ns = 0
        return self._traffic.lanes.resend(stream, first, last)

    def answer(self, topic: str, payload: bytes, correlation: bytes | None = None) -> bool:
        """Send a command's answer, not recorded: lost where the process ends. False: too many wait, or no link."""
        if self._phase != "up" or len(self._answers) >= ANSWERS_MAX:
            self.counters.answers_dropped += 1
            return False
        self._due_ns = 0
        self._answers.append(Parcel("control", topic, payload, STATE_CONTENT_TYPE, correlation=correlation))
        return True

    def hurry(self, now: Instant, by_hand: bool = False) -> None:
        """Cut the back-off short: the network came up, or (`by_hand`) a person asks, who also wants all tried anew."""
        self._due_ns = 0
        if by_hand:
            self._subscriptions.forget()
        self._backoff.hurry(now.boot_ns)

    def stop(self, now: Instant) -> None:
        """Stop cleanly: the next steps send the state `stopped`, wait a second for its acknowledgement, disconnect."""
        if self._stopping_ns is not None:
            return
        self._stopping_ns = now.boot_ns
        self._due_ns = 0
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
        talk = self._conversation
        trip_ns = self._traffic.bytes.round_trip_ns
        hold = self._traffic.verdicts.hold if self._phase == "up" else None
        return UplinkStatus(
            phase=self._phase,
            up=self._phase == "up",
            since_ms=self._since_ms,
            reason=self._trouble() or self._reason,
            protocol=self._protocol if self._phase == "up" else None,
            in_flight=0 if talk is None else len(talk.flights),
            in_flight_bytes=0 if talk is None else talk.flights.size,
            window=self._traffic.window,
            window_bytes=self._traffic.bytes.size,
            round_trip_ms=None if trip_ns is None else trip_ns / NS_PER_MS,
            next_attempt_ms=waits,
            held_back=len(self._traffic.suspects),
            state_refused=self._presence.why_muted,
            held_since_ms=None if hold is None else hold.since.wall_ns // NS_PER_MS,
            next_probe_ms=None if hold is None or now is None else max(0, hold.probe_ns - now.boot_ns) // NS_PER_MS,
            counters=self.counters.all(),
            notes=(
                *self._traffic.endings.notes(now),
                *self._traffic.notes(),
                *self._subscriptions.notes(),
                *self._presence.notes(),
                *(() if now is None else self._concerns(now)),
            ),
            limits=self._limits if self._phase == "up" else (),
        )

    def _trouble(self) -> Reason | None:
        """Return why nothing gets through a link that stands."""
        if self._phase != "up" or (trouble := self._traffic.trouble()) is None:
            return None
        topics = f"{self._wire.prefix}/event/# and {self._wire.backfill_topic}"
        advice = f"let this client publish to {topics}, or raise the broker's limit; then all is sent, nothing is lost"
        hold = self._traffic.verdicts.hold
        held = "" if hold is None else f"sending is held since {rfc3339(hold.since.wall_ns)}: "
        return Reason("publish.refused", f"{held}no event gets through: {trouble}", advice)

    # The link's life.

    def _connect(self, now: Instant) -> Connect:
        self._link += 1
        self._phase = "connecting"
        self._up_ns = now.boot_ns  # of the attempt, until it is up
        self._backoff.attempted(now.boot_ns)
        self.counters.connects += 1
        self._protocol = self._choice.protocol(now.wall_ns // NS_PER_MS)
        return Connect(self._link, self._protocol, self._presence.will(now))

    def _link_up(self, signal: LinkUp, now: Instant) -> None:
        if self._phase != "connecting":
            return
        self._phase = "up"
        self._up_ns = now.boot_ns
        self._since_ms = now.wall_ns // NS_PER_MS
        self._reason = None
        self._limits = limits_of(signal)
        self._protocol = signal.protocol
        self._choice.up(signal.protocol, now.wall_ns // NS_PER_MS)
        self._presence.connected(now, signal.retain_available)
        delay_s = self._random.uniform(0, self._pace.backfill_delay_max_s)
        self._traffic.open(signal, now, now.boot_ns + int(delay_s * NS_PER_S))
        self._announce()
        self._subscriptions.connected(signal.wildcards_available)
        self._conversation = Conversation(
            self._link,
            self._outbox,
            self._traffic,
            self._presence,
            self._answers,
            self._tokens,
            self.counters,
            int(self._pace.acknowledge_within_s * NS_PER_S),
        )
        if self.counters.connects > 1:
            self.counters.reconnects += 1
        log.info("link up link=%d protocol=%s window=%d", self._link, signal.protocol, self._traffic.window)

    def _announce(self) -> None:
        """Let what is announced be published again, once: the broker may have lost it."""
        answers = [answer for answer in self._answers if not answer.retain]
        told = self._announced if self._presence.retain and self._up_ns >= self._announced_after_ns else ()
        news = [Parcel("control", one.topic, one.payload, STATE_CONTENT_TYPE, retain=True) for one in told]
        self._answers = deque([*answers, *news])

    def _link_down(self, signal: LinkDown, now: Instant) -> None:
        is_refused = self._phase == "connecting" and self._choice.down(signal, self._protocol)
        self._down(signal, now, at_once=is_refused)

    def _down(self, signal: LinkDown, now: Instant, at_once: bool = False) -> None:
        """The link is lost, by whoever's will: what was under way is unsent again."""
        talk, self._conversation = self._conversation, None
        self._phase = "down"
        if self._since_ms is None or talk is not None or self._reason is None or self._reason.code != signal.code:
            log.warning("link down link=%d code=%s detail=%s", self._link, signal.code, signal.detail)
            self._since_ms = now.wall_ns // NS_PER_MS
        self._reason = Reason(signal.code, signal.detail, signal.advice)
        if signal.connack == RETAIN_NOT_SUPPORTED:  # the will asks for it
            self._presence.retain = False
        if talk is not None:
            if signal.code in UNWANTED:
                at_once = True  # no message's fault; after two of them nothing can come any more
            elif signal.code not in SILENCES:
                at_once = talk.blame(now, signal.in_order) or self._subscriptions.is_asking or at_once
            self._traffic.endings.ended(signal, talk.is_idle(now) and not self._subscriptions.is_asking, now)
            talk.lost(now)
            if talk.is_announcement_refused:
                self._announced_after_ns = now.boot_ns + MUTED_NS
            self._again = 0 if talk.events_acknowledged else self._again
            if self._backoff.stood(now.boot_ns - self._up_ns, talk.flights.acks):
                self._traffic.broken_sends = 0
        if self._traffic.endings.explains(now) and signal.code not in UNWANTED:
            self._subscriptions.acquit()
            self._traffic.ways.forget()
        else:
            self._subscriptions.ended(signal, now)
        self._again = self._again + 1 if at_once else 0
        if self._again and self._again <= AGAIN_MAX:
            self._backoff.again(now.boot_ns)
        elif signal.code in FOR_A_PERSON:
            self._backoff.fail_for_a_person(now.boot_ns)
        else:
            self._backoff.fail(now.boot_ns, self._is_shared and not signal.code.startswith(OF_THIS_SHOP))

    def _refuse(self, entry: Entry, why: str) -> None:
        log.error("entry refused stream=%s sequence=%d why=%s", entry.stream, entry.sequence, why)
        self._outbox.refuse(entry, why)
        self.counters.refused += 1

    def _next_due_ns(self, now: Instant) -> int | None:
        if self._final:
            return now.boot_ns
        if self._phase == "down":
            return self._backoff.due_ns
        if self._phase == "connecting":
            return self._up_ns + CONNECT_NS
        if (talk := self._conversation) is None:
            return None
        if self._stopping_ns is None and self._holds(talk, now):
            return talk.flights.check_ns if len(talk.flights) else self._asking_due_ns(talk)
        dues = (talk.due_ns(now, self._stopping_ns), self._asking_due_ns(talk))
        return min((due for due in dues if due is not None), default=None)
