"""What must hold, checked from outside: what the engine was given, what left it, what the broker took, what survived.

Law: an independent witness. It knows the contract, the bytes that pass by and the numbers that `positions` claims; it
reads no field of engine, outbox or uplink beside. `Violation` says in a sentence what does not hold.

While it runs: nothing leaves that is not claimed as recorded; what was claimed or has left is still recorded after
every opening; no id or number has two events; lanes ascend; times are true; the state topic claims no acknowledgement
that the broker did not give. At the end: every number arrived or is named as lost, with cause; door totals add up.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import orjson

from gateway.consumer.ledger import Ledger
from gateway.model import STREAMS, Stream
from gateway.outbox.recovery import Created
from tests.simulation.clock import SimulatedClock
from tests.simulation.lives import SAME, Account, Lives, Number, Parsed, Violation
from tests.simulation.topics import Topics

BATCH_EVENTS_MAX = 100
BATCH_BYTES_MAX = 32 * 1024
CLOSES_TO_BLAME = 4


class Checker:
    """See the module. `may_drop` are the reasons for losses that this history gives cause for."""

    def __init__(self, clock: SimulatedClock, prefix: str) -> None:
        self.ledger = Ledger(from_one=True)
        self.may_drop: set[str] = set()
        self.lives = Lives()
        self.hated: set[Number] = set()  # what the broker refuses for good, or closes at
        self.closes: Counter[Number] = Counter()
        self.topics = Topics()
        self.forgotten: set[Number] = set()  # acknowledged, then lost by the broker
        self.promised_again: set[Number] = set()  # answered as sent again, not arrived since
        self.arrived_since_asked: set[Number] = set()  # it may come before the answer that promises it
        self._clock = clock
        self._prefix = prefix
        self._open: Any = None
        self._drains = False
        self._anchors: dict[str, set[int]] = {}

    @property
    def accounts(self) -> dict[tuple[str, Stream], Account]:
        """Of the card in the machine."""
        return self.lives.now.accounts

    @property
    def outbox(self) -> str:
        return self.lives.now.outbox

    # The life of the machine.

    def opened(self, outbox: Any, created: Created | None, drains: bool) -> None:
        """The outbox was opened; where it `drains` a read-only disk, what it shows is no promise."""
        self._drains = drains
        self._open = outbox
        if outbox.id != self.outbox:
            # The first opening may have been cut off once the outbox was there and before it could tell anybody.
            unseen = all(outbox.positions(stream).recorded_through == 0 for stream in STREAMS)
            self._require(created is not None or unseen, f"outbox {outbox.id} appeared without a word")
            held = [stream for stream in STREAMS if self._account(self.outbox, stream).claimed]
            known = held and self.outbox not in self.lives.now.lost
            self._require(not known, f"{self.outbox} was given up for {outbox.id} on a card that kept everything")
            self.lives.now.outbox, self.lives.now.epoch_sent = outbox.id, 0
        sent = self.lives.now.epoch_sent
        self._require(outbox.epoch > sent, f"epoch {outbox.epoch} has been used: {sent} was sent")
        for stream in STREAMS:
            account = self._account(outbox.id, stream)
            through = outbox.positions(stream).recorded_through
            highest = max((*account.given, *account.unsure, account.claimed, account.promised))
            fits = through <= highest or stream == "gateway" or bool(account.faltering)
            self._require(fits, f"{stream}: {through} is recorded, only {highest} was given")
            account.torn.update(number for number in account.given if number > account.promised)
            if account.given:
                account.unsure = account.given if stream != "gateway" else {}
            account.given = {}
            account.claimed = through

    def exchanged(self, card: int) -> None:
        """Another card is put in; what was promised of the one before it cannot keep."""
        self.lives.card = card
        self.promised_again.clear()

    def given(self, stream: Stream, sequence: int | None, payload: bytes) -> None:
        """The engine appended an event and got this number."""
        if sequence is None:
            return
        account = self._account(self.outbox, stream)
        last = max((*account.given, account.claimed, account.promised))
        if account.unsure:
            survived = [number for number in account.unsure if number < sequence]
            account.payloads.update((number, account.unsure[number][0]) for number in survived)
            account.unsure = {}
            last = max(last, *survived, 0)
        gapless = sequence == last + 1 or stream == "gateway" or "overflow" in self.may_drop or account.spoiled
        self._require(sequence > last and bool(gapless), f"{stream}: number {sequence} follows {last}")
        account.given[sequence] = (payload, self._clock.now().boot_ns)

    def stepped(self) -> None:
        """The engine took a step: take in what it claims as recorded."""
        outbox = self._open
        for stream in STREAMS:
            account = self._account(outbox.id, stream)
            places = outbox.positions(stream)
            through = places.recorded_through
            if through < account.promised and outbox.idle():
                raise Violation(f"{stream}: {account.promised} was recorded, after the opening only {through} is")
            self._claims_acknowledged(account, places.acknowledged_through)
            if through == account.claimed:
                continue
            fell = f"{stream}: recorded_through fell from {account.claimed} to {through}"
            self._require(through > account.claimed, fell)
            for sequence in range(account.claimed + 1, through + 1):
                if (known := account.given.pop(sequence, None)) is not None:
                    account.payloads[sequence] = known[0]
            account.claimed = through
            if not self._drains:
                account.promised = max(account.promised, through)
        self.note_anchor()

    def note_anchor(self) -> None:
        """Take note of what the clock says now: the state may be saved with it, and the power go, within one step."""
        if self._clock.is_synced:
            self._anchors.setdefault(self._clock.bootid, set()).add(self._clock.offset_ms)

    @staticmethod
    def _claims_acknowledged(account: Account, through: int) -> None:
        """Nobody may take anything as acknowledged before the broker's word, but what is lost by name."""
        if through > account.told_through:
            account.owed |= set(range(account.told_through + 1, through + 1)) - account.acknowledged
            account.told_through = through

    def waiting_ns(self, stream: Stream) -> int:
        """How long the oldest event has waited to be recorded, in nanoseconds."""
        given = self._account(self.outbox, stream).given
        return self._clock.now().boot_ns - next(iter(given.values()))[1] if given else 0

    # What passes by.

    def sent(self, topic: str, payload: bytes) -> Parsed:
        """The engine handed a message to the link."""
        rest = topic.removeprefix(self._prefix)
        self.note_anchor()
        if rest == "/state":
            self._told_state(orjson.loads(payload))
            return Parsed("state", card=self.lives.card)
        if rest.startswith("/command/"):
            return Parsed("answer", card=self.lives.card)
        document = orjson.loads(_plain(payload))
        is_batch = rest == "/backfill"
        self._require(is_batch == isinstance(document, list), f"a batch and an event are told apart by topic: {topic}")
        events = tuple(document) if is_batch else (document,)
        lane = "backfill" if is_batch else "live"
        if is_batch:
            self._require(len(events) <= BATCH_EVENTS_MAX, f"a batch of {len(events)} events")
            self._require(len(_plain(payload)) <= BATCH_BYTES_MAX, f"a batch of {len(_plain(payload))} bytes")
        else:
            expected = f"/event/{document['type'].split('.')[1]}/{document['subject']}"
            self._require(rest == expected, f"{document['id']} goes to {topic}")
        return Parsed(lane, events, tuple(self._sent_event(event, lane) for event in events), self.lives.card)

    def _sent_event(self, event: dict[str, Any], lane: str) -> Number:
        stream: Stream = event["stream"]
        sequence, epoch = int(event["sequence"]), int(event["epoch"])
        name = event["id"]
        self._require(event["outbox"] == self.outbox, f"{name} is of another outbox than {self.outbox}")
        self._require(
            name == f"{self.outbox}-{epoch}-{stream}-{sequence:016d}", f"id {name} does not fit its attributes"
        )
        account = self._account(self.outbox, stream)
        if sequence > account.claimed:
            self.stepped()
        self._require(sequence <= account.claimed, f"{name} leaves, recorded is {account.claimed}")
        before = account.sent.get(sequence)
        if before is None:
            highest = account.highest_of_lane[lane]
            is_late = sequence in account.faltering or self.topics.may_be_late(event)
            if not is_late:  # what the card could not read at first, or waited with its topic, follows out of order
                self._require(sequence > highest, f"{name} is first sent after {highest}, in lane {lane}")
                account.highest_of_lane[lane] = sequence
            self.lives.now.epoch_sent = max(self.lives.now.epoch_sent, epoch)
        else:
            for key in SAME:
                self._require(event[key] == before[key], f"{name}: {key} was {before[key]}, now is {event[key]}")
            improves = before["clock"] == "unsynced" and event["clock"] == "estimated"
            same = all(event[key] == before[key] for key in ("time", "clock"))
            self._require(
                same or improves, f"{name}: {before['time']} {before['clock']} became {event['time']} {event['clock']}"
            )
        if (payload := account.payloads.get(sequence)) is not None:
            given = orjson.loads(payload)
            for key in ("type", "subject", "bootid", "uptimems", "data"):
                other = f"{name}: {key} was recorded as {given[key]}, sent as {event[key]}"
                self._require(event[key] == given[key], other)
        self._true_time(event)
        account.sent[sequence] = event
        self.lives.left(event)
        return self.outbox, stream, sequence

    def _true_time(self, event: dict[str, Any]) -> None:
        """The time is what a clock of that boot showed at that moment, or what its first good setting makes of it."""
        wall_ms = _wall_ms(event["time"])
        offset_ms = wall_ms - int(event["uptimems"])
        trust = event["clock"]
        if trust == "estimated":
            known = self._anchors.get(event["bootid"], set())
        else:
            known = self._clock.shown.get((event["bootid"], trust), set())
        true = any(abs(offset_ms - offset) <= 1 for offset in known)
        off = f"{event['id']}: {trust} time {event['time']} is {offset_ms} ms off boot, known: {sorted(known)}"
        self._require(true, off)

    def _told_state(self, state: dict[str, Any]) -> None:
        self._require(state["outbox"] == self.outbox, f"state of outbox {state['outbox']}, it is {self.outbox}")
        for stream, told in state.get("streams", {}).items():
            account = self._account(self.outbox, stream)
            through = told["acknowledged_through"]
            recorded = told["recorded_through"]
            if recorded > account.claimed:
                self.stepped()
            wrong = f"state: {stream} is {told}, recorded {account.claimed}"
            self._require(through <= recorded <= account.claimed, wrong)
            self._claims_acknowledged(account, through)
            backlog = recorded - through
            self._require(told["backlog"] <= backlog, wrong)

    def accepted(self, parsed: Parsed) -> None:
        """The broker has it, and will hand it on."""
        self.topics.taken(parsed.events)
        for outbox, stream, sequence in parsed.numbers:
            self.lives.of(parsed).accounts[outbox, stream].arrived.add(sequence)
        self.promised_again.difference_update(parsed.numbers)
        self.arrived_since_asked.update(parsed.numbers)
        self.forgotten.difference_update(parsed.numbers)

    def acknowledged(self, parsed: Parsed) -> None:
        """The broker gave its word."""
        for outbox, stream, sequence in parsed.numbers:
            self.lives.of(parsed).accounts[outbox, stream].acknowledged.add(sequence)

    def consumed(self, topic: str, payload: bytes, parsed: Parsed) -> None:
        """The consumer's own program takes it, too."""
        self.ledger.take(topic, payload)
        self.lives.reached(payload, parsed)

    def spoiled(self, outbox: str, stream: str, numbers: set[int], for_ever: bool) -> None:
        """The card in the machine cannot be read where these stand."""
        for name in STREAMS:
            if name == stream:
                self._account(outbox, name).faltering |= numbers
                self._account(outbox, name).spoiled |= numbers if for_ever else set()

    def forgot(self, numbers: Iterable[Number]) -> None:
        """The broker lost what it had acknowledged, before any consumer saw it."""
        self.forgotten.update(numbers)

    def recorded(self, stream: Stream) -> int:
        """Return how far the outbox in use claims to be recorded."""
        return self._account(self.outbox, stream).claimed

    def promise_again(self, stream: Stream, first: int, last: int) -> None:
        """The gateway says that it sends these again; what it named as lost it cannot, nor what no card can read."""
        numbers = set(range(first, last + 1)) - self._dropped().get((self.outbox, stream), set())
        numbers -= self._account(self.outbox, stream).spoiled
        self.promised_again |= {(self.outbox, stream, number) for number in numbers} - self.arrived_since_asked

    # The end.

    def finish(self, waiting: Collection[Number] = ()) -> None:
        """Everything that was recorded has arrived, or is named as lost with a cause, or waits with its topic."""
        dropped, self.topics.waiting = self._dropped(), set(waiting)
        for (outbox, stream), account in self.accounts.items():
            if outbox in self.lives.now.lost:
                continue
            named = dropped.get((outbox, stream), set())
            missing = set(range(1, account.claimed + 1)) - account.arrived - named
            missing -= self.topics.waiting_of(outbox, stream)
            lost = f"{stream}: {_spans(missing)} of {account.claimed} neither arrived nor are named lost"
            self._require(not missing, lost)
            owed = account.owed - named
            self._require(not owed, f"{stream}: {_spans(owed)} were told as acknowledged; the broker never said so")
            if stream == "door":
                self._totals(account, named)
        self._ledger_agrees()

    def _dropped(self) -> dict[tuple[str, Stream], set[int]]:
        dropped: dict[tuple[str, Stream], set[int]] = {}
        for (outbox, stream), account in self.accounts.items():
            if stream != "gateway":
                continue
            for sequence in account.arrived:
                event = account.sent[sequence]
                if event["type"] != "store.gateway.events_dropped":
                    continue
                data = event["data"]
                self._require(data["outbox"] == outbox, f"{event['id']} names the outbox {data['outbox']}")
                numbers = set(range(data["first_sequence"], data["last_sequence"] + 1))
                lost = numbers - self._account(outbox, data["stream"]).arrived
                self._require(len(lost) <= data["count"] <= len(numbers), f"{data}: {len(lost)} of them did not arrive")
                self._has_cause(outbox, data, numbers)
                dropped.setdefault((outbox, data["stream"]), set()).update(numbers)
        return dropped

    def _has_cause(self, outbox: str, data: dict[str, Any], numbers: set[int]) -> None:
        if data["reason"] == "corrupt":
            # A commit that the power cut tore: of its events, which nobody was promised, later ones survived. Or a
            # sector that cannot be read: what stands in it, and numbers of which nobody knows whether they were given.
            account = self._account(outbox, data["stream"])
            kept = numbers - account.torn - account.spoiled
            unfounded = kept & account.payloads.keys() if account.spoiled else kept
            self._require(not unfounded, f"lost without cause, {_spans(unfounded)} of {data}")
            return
        if data["reason"] != "refused":
            self._require(data["reason"] in self.may_drop, f"lost without cause: {data}")
            return
        for sequence in numbers:
            number = (outbox, data["stream"], sequence)
            blamed = number in self.hated or self.closes[number] >= CLOSES_TO_BLAME
            self._require(blamed, f"{number} was set aside; the broker has nothing against it: {data}")

    def _totals(self, account: Account, named: set[int]) -> None:
        """What a passage says of all passages before it is what was recorded of them."""
        seen: Counter[tuple[str, str]] = Counter()
        for sequence in sorted(account.sent):
            event = account.sent[sequence]
            if event["type"] != "store.door.passed":
                continue
            sensor, data = event["subject"], event["data"]
            seen[sensor, data["direction"]] += 1
            unseen = sum(1 for number in named if number < sequence and number not in account.sent)
            unread = sum(1 for number in account.faltering if number < sequence)  # perhaps at a start, when they count
            for way in ("in", "out", "unknown"):
                told, counted = data[f"{way}_total"], seen[sensor, way]
                self._require(
                    counted - unread <= told <= counted + unseen,
                    f"{event['id']}: {way}_total of {sensor} is {told}, recorded are {counted} (and {unseen} unseen)",
                )

    def _told_in_forgotten(self, outbox: str, stream: Stream) -> set[int]:
        """Return the numbers of a stream that loss records name which the broker forgot after acknowledging them."""
        told: set[int] = set()
        for where, name, number in self.forgotten:
            if (where, name) != (outbox, "gateway") or (outbox, "gateway") not in self.accounts:
                continue
            event = self.accounts[outbox, "gateway"].sent.get(number, {})
            if event.get("type") == "store.gateway.events_dropped" and event["data"]["stream"] == stream:
                told.update(range(event["data"]["first_sequence"], event["data"]["last_sequence"] + 1))
        return told

    def _ledger_agrees(self) -> None:
        report = self.ledger.report()
        self._require(report.invalid == 0, f"the consumer found invalid: {report.why_invalid}")
        self._require(report.conflicts == 0, "an id was given to two events")
        self.lives.judge(report.verdict, report.reissued)
        for stream in report.streams:
            place = stream.outbox, stream.stream
            if stream.outbox in self.lives.now.lost or place not in self.accounts:
                continue
            gaps = {n for first, last in stream.gaps for n in range(first, last + 1)}
            if self.lives.are_many:  # what another card promised, this one cannot keep
                gaps = {n for n in gaps if n <= self.accounts[place].claimed}
            excused = {number for outbox, name, number in self.forgotten if (outbox, name) == place}
            excused |= self._told_in_forgotten(*place)
            excused |= self.topics.waiting_of(*place)
            self._require(gaps <= excused, f"the consumer misses {_spans(gaps - excused)} of {stream.stream}")

    def _account(self, outbox: str, stream: Stream) -> Account:
        found = self.accounts.get((outbox, stream))
        if found is None:
            found = self.accounts[outbox, stream] = Account()
        return found

    @staticmethod
    def _require(holds: bool, sentence: str) -> None:
        if not holds:
            raise Violation(sentence)


def _plain(payload: bytes) -> bytes:
    return gzip.decompress(payload) if payload[:2] == b"\x1f\x8b" else payload


def _wall_ms(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000 + 0.5)


def _spans(numbers: set[int]) -> str:
    ordered = sorted(numbers)
    if len(ordered) <= 4:
        return str(ordered)
    return f"{len(ordered)} numbers from {ordered[0]} to {ordered[-1]}"
