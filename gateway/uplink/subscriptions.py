"""What the gateway subscribes to: commands, and whatever else is wanted beside the sending. Pure.

Law: an optional act, after the essential one. It is asked for when the broker has acknowledged something on this
connection, or a second after it came up, one after the other. Where the connection ended before an answer, it is asked
for alone the next time, without a wildcard where that can be, with nothing else under way: so it is known at what the
broker closed. Where it closes again, it is not asked for any more, and that is reported; again after an hour, and at
once where a person asks. No answer to any of them ever stops the sending.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.model import NS_PER_S, Instant, LinkDown, Subscribe, Subscribed
from gateway.uplink.status import Reason
from gateway.wire import Wire

log = logging.getLogger(__name__)

ASK_NS = NS_PER_S
"""What the first acknowledgement is waited for before asking without it."""
ANSWER_NS = 5 * NS_PER_S
CLOSED_AT = "subscribe.closed"
CLOSES_MAX = 2
AGAIN_NS = 3600 * NS_PER_S
FAILURE = 0x80
_WORDS: Mapping[int, str] = {
    0x80: "without a reason",
    0x83: "by a rule of its own",
    0x87: "not authorized",
    0x8F: "the topic filter is invalid",
    0x97: "its quota is used up",
    0xA2: "it has no wildcards in subscriptions",
}
SILENCES = ("ack.timeout", "link.timeout")
UNWANTED = ("link.oversized", "link.unasked")
"""What came is nothing that is asked for, and came by one of the subscriptions."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Something to subscribe to. `name` stands before "are not received"; `each` are its topics without a wildcard."""

    name: str
    filter: str
    each: tuple[str, ...] = ()


def commands(wire: Wire, verbs: Iterable[str]) -> Subscription:
    """Return the subscription to the commands; where the broker has no wildcards, to those of `verbs`."""
    return Subscription("commands", wire.command_filter, tuple(f"{wire.prefix}/command/{verb}" for verb in verbs))


def refused(signal: Subscribed) -> str:
    """Say which filters the broker refused, and why; empty where it granted all."""
    answers = zip(signal.filters, signal.codes, strict=False)
    return "; ".join(
        f"the broker refuses {topic}: {_WORDS.get(code, 'for a reason unknown here')} (0x{code:02x})"
        for topic, code in answers
        if code >= FAILURE
    )


@dataclass(slots=True)
class _Wish:
    """One subscription, and what the broker has taught of it."""

    subscription: Subscription
    closes: int = 0
    is_pending: bool = False
    singly_ns: int | None = None
    given_up_ns: int | None = None
    note: Reason | None = None


class Subscriptions:
    """See the module. One for the whole run; `connected` begins a connection."""

    def __init__(self, wanted: Sequence[Subscription]) -> None:
        self._wishes = [_Wish(one) for one in wanted]
        self._asked: _Wish | None = None
        self._asked_ns = 0
        self._has_wildcards = True
        self._oversized = 0

    def connected(self, wildcards_available: bool) -> None:
        """A connection stands: what was not given up is to be asked for."""
        self._has_wildcards = wildcards_available
        self._asked = None
        for wish in self._wishes:
            wish.is_pending = wish.given_up_ns is None

    @property
    def is_asking(self) -> bool:
        """True while the broker owes an answer."""
        return self._asked is not None

    @property
    def wants_alone(self) -> bool:
        """True while nothing else may be under way: the broker owes, or will owe, the answer that is in doubt."""
        if self._asked is not None:
            return bool(self._asked.closes)
        return any(wish.is_pending and wish.closes for wish in self._wishes)

    def order(self, link: int, now: Instant) -> Subscribe | None:
        """Return the next to be asked for, if none is under way."""
        for wish in self._wishes:
            if wish.given_up_ns is not None and now.boot_ns >= wish.given_up_ns + AGAIN_NS:
                self._try_again(wish)
        if self._asked is not None:
            if now.boot_ns < self._asked_ns + ANSWER_NS:
                return None
            wish, self._asked = self._asked, None
            self._give_up(wish, now, "subscribe.unanswered", "the broker does not answer when asked for them")
        for wish in self._wishes:
            if not wish.is_pending:
                continue
            wish.is_pending = False
            filters = self._filters(wish, now)
            if filters:
                self._asked, self._asked_ns = wish, now.boot_ns
                return Subscribe(link, filters)
            self._note(wish, "subscribe.no_wildcards", "the broker allows no wildcards in subscriptions")
        return None

    def due_ns(self) -> int | None:
        """Return from when `order` has something to do; None: nothing by time alone."""
        if self._asked is not None:
            return self._asked_ns + ANSWER_NS
        if any(wish.is_pending for wish in self._wishes):
            return 0
        return min((w.given_up_ns + AGAIN_NS for w in self._wishes if w.given_up_ns is not None), default=None)

    def answered(self, signal: Subscribed, now: Instant) -> None:
        """The broker answered what was asked last."""
        wish, self._asked = self._asked, None
        if wish is None:
            return
        wish.closes = 0
        why = refused(signal)
        if not why:
            wish.note = None
        elif signal.filters != wish.subscription.each and wish.subscription.each:
            wish.singly_ns = now.boot_ns
            wish.is_pending = True
        else:
            self._note(wish, "subscribe.refused", why)

    def ended(self, signal: LinkDown, now: Instant) -> None:
        """The connection is over: where an answer was owed, the asking may be why."""
        wish, self._asked = self._asked, None
        if signal.code in UNWANTED:
            self._oversized += 1
            if self._oversized >= CLOSES_MAX:
                self._oversized = CLOSES_MAX - 1
                for each in self._wishes:
                    self._give_up(each, now, signal.code, signal.detail)
        elif wish is not None and signal.code not in SILENCES:
            wish.closes += 1
            wish.singly_ns = now.boot_ns
            if wish.closes >= CLOSES_MAX:
                self._give_up(wish, now, CLOSED_AT, f"the broker ends the connection at it ({signal.detail})")

    def forget(self) -> None:
        """A person asks for another try."""
        self._oversized = 0
        for wish in self._wishes:
            if wish.given_up_ns is not None:
                self._try_again(wish)
            wish.closes = 0
            wish.singly_ns = None

    def acquit(self) -> None:
        """The broker closed for a reason of its own: what was blamed on the asking is taken back."""
        self.forget()
        for wish in self._wishes:
            if wish.note is not None and wish.note.code == CLOSED_AT:
                wish.note = None

    def notes(self) -> tuple[Reason, ...]:
        """Return what is not received, and why, for a person."""
        return tuple(wish.note for wish in self._wishes if wish.note is not None)

    def _filters(self, wish: _Wish, now: Instant) -> tuple[str, ...]:
        wanted = wish.subscription
        if ("+" in wanted.filter or "#" in wanted.filter) and not self._has_wildcards:
            return wanted.each
        is_singly = wish.singly_ns is not None and now.boot_ns < wish.singly_ns + AGAIN_NS
        return wanted.each if is_singly and wanted.each else (wanted.filter,)

    @staticmethod
    def _try_again(wish: _Wish) -> None:
        wish.given_up_ns = None
        wish.is_pending = True
        wish.closes = CLOSES_MAX - 1  # once more is enough to know

    def _give_up(self, wish: _Wish, now: Instant, code: str, why: str) -> None:
        wish.given_up_ns = now.boot_ns
        wish.is_pending = False
        self._note(wish, code, why)

    @staticmethod
    def _note(wish: _Wish, code: str, why: str) -> None:
        advice = "give this gateway's user the right to subscribe to it (the broker's access list)"
        if code in UNWANTED:
            advice = "let nobody but the cloud publish to this gateway's command topics (the broker's access list)"
        note = Reason(code, f"{wish.subscription.name} are not received: {why}", advice)
        if wish.note is None or wish.note.code != note.code:
            log.warning("%s filter=%s", note.detail, wish.subscription.filter)
        wish.note = note
