"""The consumer's ledger: what was delivered, twice, out of order, not at all; and the verdict. Pure.

Law (contract section 3): of each (source, outbox, stream) every number from 1, or from where the listening began, up to
what the gateway says it has recorded is delivered at least once or lies in a range named as lost; else there is a gap.
Duplicates are dropped by (source, id). A number that comes again under another epoch (an old image of a card put back,
two gateways from one card) is `reissued`, an id with another content a `conflict`: another event, handed on, and the
verdict is `conflict` until a new listening, for what the other life had recorded and never sent cannot be told.

Contents are compared with the last CONTENTS_MAX events' (else `unchecked`); of more than EPOCHS_MAX epochs those seen
first are kept as one. Memory grows with gateways and gaps, not events; nothing that arrives raises. Who listens from
the first (`from_one`), or meets a new outbox, begins with 1. Else the first thing that is not old news says where: a
state published after we subscribed (what it says is acknowledged came before us), or the first event itself. A
retained state alone is old news: up to a minute, or a week.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gateway.consumer.messages import Delivery, Invalid, Lane, Position, State, Stream, named_losses, parse
from gateway.consumer.spans import Spans

GATEWAYS_MAX = 20_000
OUTBOXES_MAX = 16
"""Of one gateway: a card changed more often than this within one listening is somebody playing."""
STREAMS_MAX = 32
"""Of one outbox: eight times what the contract has."""
EPOCHS_MAX = 64
CONTENTS_MAX = 1 << 16
CONTENT = ("type", "subject", "bootid", "uptimems", "data")
"""What is the same however often an event is sent; its time may become better."""
REASONS_KEPT = 20
GAPS_SHOWN = 20

Verdict = Literal["complete", "conflict", "gaps", "nothing"]


@dataclass(slots=True)
class _Epoch:
    """What came under one epoch, or under those from `first` to the one it is filed under, and what its states told."""

    first: int
    delivered: Spans = field(default_factory=Spans)
    told_through: int = 0
    has_recorded: bool = False


@dataclass(slots=True)
class _Book:
    """The account of one stream of one outbox."""

    begins: int | None = None
    recorded_through: int = 0
    delivered: Spans = field(default_factory=Spans)
    covered: Spans = field(default_factory=Spans)
    named: Spans = field(default_factory=Spans)
    epochs: dict[int, _Epoch] = field(default_factory=dict)
    highest_of_lane: dict[Lane, int] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    events: int = 0
    duplicates: int = 0
    unchecked: int = 0
    reissued: int = 0
    conflicts: int = 0
    out_of_order: int = 0
    uncounted: int = 0

    def epoch(self, number: int, is_alone: bool = False) -> _Epoch:
        """Return the account of an epoch, opened where it is new; of too many, two become one."""
        if number in self.epochs:
            return self.epochs[number]
        for last, epoch in self.epochs.items():
            if epoch.first <= number <= last and not is_alone:
                return epoch
        if len(self.epochs) >= EPOCHS_MAX:
            one, other = sorted(list(self.epochs)[:2])
            merged = _Epoch(min(self.epochs[one].first, self.epochs[other].first))
            merged.told_through = max(self.epochs[one].told_through, self.epochs[other].told_through)
            merged.has_recorded = self.epochs[one].has_recorded or self.epochs[other].has_recorded
            for span in (*self.epochs.pop(one).delivered, *self.epochs.pop(other).delivered):
                merged.delivered.add(*span)
            self.epochs = {other: merged, **self.epochs}
        found = self.epochs[number] = _Epoch(number)
        return found

    def promised_before(self, number: int) -> int:
        """Return up to where states of lower epochs said that all is recorded."""
        return max((epoch.told_through for last, epoch in self.epochs.items() if last < number), default=0)

    @property
    def highest(self) -> int:
        return max(self.recorded_through, self.covered.highest)

    def gaps(self) -> Iterator[tuple[int, int]]:
        if self.begins is not None:
            yield from self.covered.missing(self.begins, self.highest)

    def lost(self) -> int:
        """How many numbers were named as lost and did not come after all."""
        return sum(last - first + 1 for span in self.named for first, last in self.delivered.missing(*span))


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream of one outbox: `delivered` and `lost` count numbers, `gaps` are the first missing ranges."""

    source: str
    outbox: str
    stream: Stream
    begins: int | None
    recorded_through: int
    delivered: int
    duplicates: int
    lost: int
    lost_by_reason: Mapping[str, int]
    missing: int
    gaps: tuple[tuple[int, int], ...]
    out_of_order: int
    reissued: int
    conflicts: int
    unchecked: int


@dataclass(frozen=True, slots=True)
class Report:
    """The ledger summed up. `recorded` counts what was to come since the listening began."""

    verdict: Verdict
    recorded: int
    delivered: int
    duplicates: int
    missing: int
    lost: int
    out_of_order: int
    reissued: int
    conflicts: int
    unchecked: int
    invalid: int
    uncounted: int
    streams: tuple[StreamReport, ...]
    states: Mapping[str, str]
    why_invalid: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return self.verdict == "complete"

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON's values."""
        return asdict(self)


def _content(delivery: Delivery) -> int:
    try:
        return hash(json.dumps([delivery.envelope.get(key) for key in CONTENT], sort_keys=True))
    except RecursionError:  # nested just as deep as can be read
        return 0


class Ledger:
    """Accounts for every message of any number of gateways."""

    def __init__(self, from_one: bool = False) -> None:
        self.from_one = from_one
        self.invalid = 0
        self.states: dict[str, str] = {}
        self._why_invalid: dict[str, None] = {}
        self._books: dict[tuple[str, str, Stream], _Book] = {}
        self._outboxes: dict[str, dict[str, bool]] = {}
        self._streams: Counter[tuple[str, str]] = Counter()
        self._contents: dict[tuple[str, str], int] = {}

    def take(self, topic: str, payload: bytes, retained: bool = False) -> list[Delivery]:
        """Account for one message; return the events in it that are new, as they came. Never raises."""
        parsed = parse(topic, payload)
        for why in parsed.invalid:
            self._refuse(why)
        if parsed.state is not None:
            self._take_state(parsed.state, retained)
        return [delivery for delivery in parsed.deliveries if self._take_delivery(delivery)]

    def _refuse(self, why: str) -> None:
        self.invalid += 1
        if len(self._why_invalid) < REASONS_KEPT:
            self._why_invalid[why] = None

    def _book(self, source: str, outbox: str, stream: Stream) -> _Book | None:
        """Return the book of a stream, opened where it is new; None where there are too many."""
        outboxes = self._outboxes.get(source)
        if outboxes is None:
            if len(self._outboxes) >= GATEWAYS_MAX:
                return None
            outboxes = self._outboxes[source] = {}
        if outbox not in outboxes:
            if len(outboxes) >= OUTBOXES_MAX:
                return None
            outboxes[outbox] = self.from_one or bool(outboxes)  # one more outbox: it began while we listened
        key = (source, outbox, stream)
        if key not in self._books:
            if self._streams[source, outbox] >= STREAMS_MAX:
                return None
            self._streams[source, outbox] += 1
            self._books[key] = _Book(begins=1 if outboxes[outbox] else None)
        return self._books[key]

    def _take_state(self, state: State, retained: bool) -> None:
        if state.source in self.states or len(self.states) < GATEWAYS_MAX:
            self.states[state.source] = state.state
        for stream, position in state.positions.items():
            book = self._book(state.source, state.outbox, stream)
            if book is None:
                self._refuse("more gateways, outboxes or streams than are accounted for")
                return
            # After a power cut a gateway says less until it is sure of its card: what it once had durable it still has.
            book.recorded_through = max(book.recorded_through, position.recorded_through)
            if book.begins is None and not retained:
                book.begins = position.acknowledged_through + 1
            self._take_position(book, state.epoch, position, retained)

    @staticmethod
    def _take_position(book: _Book, number: int, position: Position, retained: bool) -> None:
        """Numbers rise with the epoch: one that is new and lower, or goes on after a higher one, is of another life.

        An epoch that was told and has recorded nothing (a card that took no writes) is in no file: it is no sign.
        """
        is_new = number not in book.epochs
        newest = max((last for last, epoch in book.epochs.items() if epoch.has_recorded), default=0)
        epoch = book.epoch(number, is_alone=not retained)
        further = position.recorded_through > max(epoch.told_through, epoch.delivered.highest)
        if number < newest and not retained and (is_new or further):
            book.reissued += 1
        epoch.has_recorded |= not is_new and further
        epoch.told_through = max(epoch.told_through, position.recorded_through)

    def _take_delivery(self, delivery: Delivery) -> bool:
        book = self._book(delivery.source, delivery.outbox, delivery.stream)
        if book is None:
            self._refuse("more gateways, outboxes or streams than are accounted for")
            return False
        is_new = self._account(book, delivery)
        if is_new:
            self._remember(delivery)
            try:
                self._take_loss(delivery)
            except Invalid as error:
                self._refuse(str(error))
        return is_new

    def _account(self, book: _Book, delivery: Delivery) -> bool:
        number = delivery.sequence
        if book.begins is None:
            book.begins = number
        epoch = book.epoch(delivery.epoch)
        if number in epoch.delivered and self._is_same(book, delivery):
            book.duplicates += 1
            return False
        if number in epoch.delivered:
            book.conflicts += 1  # another event under an id that one has had
        elif number in book.delivered or number <= book.promised_before(delivery.epoch):
            book.reissued += 1  # another event under a number that another epoch had given or promised
        if not (epoch.delivered.add(number) and book.delivered.add(number) and book.covered.add(number)):
            book.uncounted += 1
            return False
        epoch.has_recorded = True
        book.events += 1
        highest = book.highest_of_lane.get(delivery.lane, 0)
        book.out_of_order += number < highest
        book.highest_of_lane[delivery.lane] = max(highest, number)
        return True

    def _is_same(self, book: _Book, delivery: Delivery) -> bool:
        """Return whether an id that comes again has the content that it had, as far as that is still known."""
        known = self._contents.get((delivery.source, str(delivery.envelope["id"])))
        book.unchecked += known is None
        return known is None or known == _content(delivery)

    def _remember(self, delivery: Delivery) -> None:
        if len(self._contents) >= CONTENTS_MAX:
            del self._contents[next(iter(self._contents))]
        self._contents[delivery.source, str(delivery.envelope["id"])] = _content(delivery)

    def _take_loss(self, delivery: Delivery) -> None:
        for loss in named_losses(delivery):
            book = self._book(delivery.source, loss.outbox, loss.stream)
            if book is not None and book.named.add(loss.first, loss.last) and book.covered.add(loss.first, loss.last):
                book.losses[loss.reason] += loss.count
        if delivery.type == "store.gateway.outbox_created":
            previous = delivery.data.get("previous")
            for (source, outbox, _), book in self._books.items():
                if source == delivery.source and outbox == previous:
                    self._give_up(book)

    @staticmethod
    def _give_up(book: _Book) -> None:
        """The outbox was given up for a new one: what it still held is lost, and has been said to be."""
        for first, last in list(book.gaps()):
            if book.named.add(first, last) and book.covered.add(first, last):
                book.losses["outbox_given_up"] += last - first + 1

    def begins(self, delivery: Delivery) -> int | None:
        """Return the first number that is expected of an event's stream, None where nothing has said so yet."""
        book = self._books.get((delivery.source, delivery.outbox, delivery.stream))
        return book.begins if book is not None else None

    def report(self) -> Report:
        """Sum up. `complete`: nothing is missing; `gaps`: something is; `nothing`: nothing was there to be proved.

        `conflict`: a number or an id was given to two events, so that nothing proves completeness.
        """
        streams = tuple(self._report(key, book) for key, book in self._books.items())
        books = self._books.values()
        missing = sum(stream.missing for stream in streams)
        uncounted = sum(book.uncounted for book in books)
        begun = [book for book in books if book.begins is not None]
        reissued, conflicts = sum(book.reissued for book in books), sum(book.conflicts for book in books)
        verdict: Verdict = "complete" if begun else "nothing"
        if reissued or conflicts:
            verdict = "conflict"
        elif missing or uncounted:
            verdict = "gaps"
        return Report(
            verdict=verdict,
            recorded=sum(max(book.highest - (book.begins or 1) + 1, 0) for book in begun),
            delivered=sum(stream.delivered for stream in streams),
            duplicates=sum(stream.duplicates for stream in streams),
            missing=missing,
            lost=sum(stream.lost for stream in streams),
            out_of_order=sum(stream.out_of_order for stream in streams),
            reissued=reissued,
            conflicts=conflicts,
            unchecked=sum(stream.unchecked for stream in streams),
            invalid=self.invalid,
            uncounted=uncounted,
            streams=streams,
            states=dict(self.states),
            why_invalid=tuple(self._why_invalid),
        )

    @staticmethod
    def _report(key: tuple[str, str, Stream], book: _Book) -> StreamReport:
        gaps = tuple(book.gaps())
        return StreamReport(
            *key,
            begins=book.begins,
            recorded_through=book.recorded_through,
            delivered=len(book.delivered),
            duplicates=book.duplicates,
            lost=book.lost(),
            lost_by_reason=dict(book.losses),
            missing=sum(last - first + 1 for first, last in gaps),
            gaps=gaps[:GAPS_SHOWN],
            out_of_order=book.out_of_order,
            reissued=book.reissued,
            conflicts=book.conflicts,
            unchecked=book.unchecked,
        )
