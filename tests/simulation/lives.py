"""What the cards of one gateway have lived: a copy of a card goes on from the copy, and knows nothing of the original.

Law: each card has its own accounts, from which a copy begins; whatever arrives late belongs to the card that sent it.
What holds across all of them: no id names two events that left. And of the consumer's ledger: where it was told two
events under one number it says `conflict`; where an event that it was told of is missing it never says `complete`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

import orjson

from gateway.model import Stream

SAME = ("id", "source", "type", "subject", "bootid", "uptimems", "data", "stream", "sequence", "outbox", "epoch")
CONTENT = ("type", "subject", "bootid", "uptimems", "data")

Place = tuple[str, Stream]
Number = tuple[str, Stream, int]
"""Outbox, stream, sequence: what stands for one event for ever, on one card."""


class Violation(AssertionError):
    """A guarantee that does not hold; the sentence says which."""


@dataclass(slots=True)
class Account:
    """One stream of one outbox."""

    claimed: int = 0  # recorded_through, as last told
    promised: int = 0  # recorded_through, as ever told on a disk that could be written
    given: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # appended: payload, boot_ns; not yet durable
    unsure: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # given before the last death
    payloads: dict[int, bytes] = field(default_factory=dict)  # appended and durable
    sent: dict[int, dict[str, Any]] = field(default_factory=dict)
    torn: set[int] = field(default_factory=set)  # given and not promised when the power was cut
    faltering: set[int] = field(default_factory=set)  # a byte of each stands where the card could not be read
    spoiled: set[int] = field(default_factory=set)  # and where it never can be again
    arrived: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    owed: set[int] = field(default_factory=set)  # told as acknowledged without the broker's word: must be named losses
    told_through: int = 0  # acknowledged, as last told
    highest_of_lane: Counter[str] = field(default_factory=Counter)

    def copy(self) -> Account:
        """Return the account of a copied card."""
        copied = Account()
        for each in fields(self):
            setattr(copied, each.name, copy(getattr(self, each.name)))
        return copied


@dataclass(frozen=True, slots=True)
class Parsed:
    """A message as the checker read it, and the card from which it came."""

    lane: str
    events: tuple[dict[str, Any], ...] = ()
    numbers: tuple[Number, ...] = ()
    card: int = 0


@dataclass(slots=True)
class Life:
    """What is known of a card: its accounts, the outbox in use, the epoch last sent, outboxes taken away."""

    accounts: dict[Place, Account] = field(default_factory=dict)
    outbox: str = ""
    epoch_sent: int = 0
    lost: set[str] = field(default_factory=set)
    promised: dict[Place, int] = field(default_factory=dict)  # recorded_through, as the consumer was told
    named: dict[Place, set[int]] = field(default_factory=dict)  # as lost, as the consumer was told

    def copy(self) -> Life:
        """Return what is known of a copy of the card."""
        accounts = {place: account.copy() for place, account in self.accounts.items()}
        named = {place: set(numbers) for place, numbers in self.named.items()}
        return Life(accounts, self.outbox, self.epoch_sent, set(self.lost), dict(self.promised), named)


class Lives:
    """See the module. `card` is the one in the machine."""

    def __init__(self) -> None:
        self.card = 0
        self._all = [Life()]
        self._left: dict[str, dict[str, Any]] = {}
        self._reached: dict[Number, dict[int, dict[str, Any]]] = {}

    @property
    def now(self) -> Life:
        return self._all[self.card]

    @property
    def are_many(self) -> bool:
        return len(self._all) > 1

    def of(self, parsed: Parsed) -> Life:
        """Return the life of the card that sent this."""
        return self._all[parsed.card]

    def copied(self) -> int:
        """The card in the machine is copied; return the copy's number."""
        self._all.append(self.now.copy())
        return len(self._all) - 1

    def left(self, event: dict[str, Any]) -> None:
        """An event leaves: what left before under its id was the same."""
        before = self._left.setdefault(event["id"], event)
        for key in SAME:
            if event[key] != before[key]:
                raise Violation(f"{event['id']} names two events: {key} was {before[key]}, now is {event[key]}")

    def reached(self, payload: bytes, parsed: Parsed) -> None:
        """The consumer was handed this."""
        life = self.of(parsed)
        if parsed.lane == "state":
            state = orjson.loads(payload)
            for stream, told in state.get("streams", {}).items():
                place = state["outbox"], stream
                life.promised[place] = max(life.promised.get(place, 0), told["recorded_through"])
        for number, event in zip(parsed.numbers, parsed.events, strict=True) if parsed.events else ():
            self._reached.setdefault(number, {})[int(event["epoch"])] = event
            if event["type"] == "store.gateway.events_dropped":
                data = event["data"]
                numbers = range(data["first_sequence"], data["last_sequence"] + 1)
                life.named.setdefault((data["outbox"], data["stream"]), set()).update(numbers)

    def judge(self, verdict: str, reissued: int) -> None:
        """Compare the ledger's verdict with what happened."""
        twice = [number for number, events in self._reached.items() if len(events) > 1]
        if twice and (verdict != "conflict" or not reissued):
            raise Violation(f"{twice[0]} came as two events, the ledger says {verdict} and {reissued} reissued")
        hidden = next(self._hidden(), None)
        if hidden is not None and verdict == "complete":
            raise Violation(f"{hidden} was promised to the consumer and is missing, the ledger says complete")
        if not self.are_many and (verdict == "conflict" or reissued):
            raise Violation(f"one card, and the ledger says {verdict}, {reissued} reissued")

    def _hidden(self) -> Iterator[Number]:
        """Yield what a card told the consumer to be recorded, and what neither came nor was named."""
        for life in self._all:
            for place, through in life.promised.items():
                outbox, stream = place
                payloads = life.accounts[outbox, stream].payloads
                for sequence in range(1, through + 1):
                    named = [other for other in self._all if sequence in other.named.get(place, ())]
                    if any(_is_one(life, other, place, sequence) for other in named):
                        continue
                    events = self._reached.get((outbox, stream, sequence), {})
                    if not events or (sequence in payloads and not _is_among(payloads[sequence], events)):
                        yield outbox, stream, sequence


def _is_one(life: Life, other: Life, place: Place, sequence: int) -> bool:
    """Tell whether a number means the same event on two cards: it was recorded before one was copied."""
    given = (each.accounts[place].payloads.get(sequence) for each in (life, other))
    sent = (each.accounts[place].sent.get(sequence, {}).get("id") for each in (life, other))
    return life is other or any(one is not None and one == two for one, two in (tuple(given), tuple(sent)))


def _is_among(payload: bytes, events: dict[int, dict[str, Any]]) -> bool:
    given = orjson.loads(payload)
    return any(all(event[key] == given[key] for key in CONTENT) for event in events.values())
