"""The consumer's ledger: every number accounted for, and a gap seen as a gap."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from typing import Any

import pytest

from gateway.consumer.ledger import EPOCHS_MAX, Ledger, Report
from gateway.consumer.messages import PAYLOAD_BYTES_MAX, parse
from gateway.consumer.order import InOrder
from gateway.consumer.spans import Spans

TOPIC = "stores/v1/0042/front"
SOURCE = "/stores/0042/gateways/front"
OUTBOX = "0a1b2c3d"


def event(sequence: int, stream: str = "door", outbox: str = OUTBOX, epoch: int = 1, **changes: Any) -> dict[str, Any]:
    number = f"{sequence:016d}"
    envelope = {
        "specversion": "1.0",
        "id": f"{outbox}-{epoch}-{stream}-{number}",
        "source": SOURCE,
        "subject": "entrance",
        "type": "store.door.passed",
        "time": "2026-11-22T09:00:00.000Z",
        "stream": stream,
        "sequence": number,
        "outbox": outbox,
        "epoch": str(epoch),
        "data": {"direction": "in"},
    }
    return {**envelope, **changes}


def dropped(sequence: int, first: int, last: int, stream: str = "door") -> dict[str, Any]:
    lost = {"outbox": OUTBOX, "stream": stream, "reason": "full", "first_sequence": first, "last_sequence": last}
    data = {**lost, "count": last - first + 1}
    return event(sequence, "gateway", type="store.gateway.events_dropped", subject="gateway", data=data)


class Broker:
    """Hands messages to a ledger as they would arrive."""

    def __init__(self, from_one: bool = False) -> None:
        self.ledger = Ledger(from_one)
        self.new: list[int] = []

    def live(self, *sequences: int, stream: str = "door", **changes: Any) -> None:
        for sequence in sequences:
            self.send(f"event/door/{stream}", event(sequence, stream, **changes))

    def backfill(self, *sequences: int, packed: bool = False, **changes: Any) -> None:
        batch = json.dumps([event(sequence, **changes) for sequence in sequences]).encode()
        self.raw("backfill", gzip.compress(batch) if packed else batch)

    def state(self, recorded: int, acknowledged: int, retained: bool = False, **changes: Any) -> None:
        position = {"recorded_through": recorded, "acknowledged_through": acknowledged, "backlog": 0}
        state = {"state": "online", "outbox": OUTBOX, "epoch": "1", "streams": {"door": position}, **changes}
        self.send("state", state, retained)

    def send(self, rest: str, value: Any, retained: bool = False) -> None:
        self.raw(rest, json.dumps(value).encode(), retained)

    def raw(self, rest: str, payload: bytes, retained: bool = False) -> None:
        self.new += [new.sequence for new in self.ledger.take(f"{TOPIC}/{rest}", payload, retained)]

    @property
    def report(self) -> Report:
        return self.ledger.report()

    @property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        return tuple(gap for stream in self.report.streams for gap in stream.gaps)


def test_all_delivered_is_complete() -> None:
    broker = Broker()
    broker.state(0, 0)
    broker.live(1, 2, 3)
    assert broker.report.verdict == "complete"
    assert (broker.report.recorded, broker.report.delivered) == (3, 3)


def test_hole_between_two_events_is_a_gap() -> None:
    broker = Broker()
    broker.live(1, 2, 4)
    assert (broker.report.verdict, broker.gaps) == ("gaps", ((3, 3),))


def test_end_that_was_recorded_and_never_came_is_a_gap() -> None:
    broker = Broker(from_one=True)
    broker.live(1, 2)
    broker.state(5, 2)
    assert broker.gaps == ((3, 5),)


def test_state_that_says_less_after_a_power_cut_hides_no_gap() -> None:
    broker = Broker(from_one=True)
    broker.live(1, 2)
    broker.state(5, 2)
    broker.state(3, 2, epoch="2")
    assert broker.gaps == ((3, 5),)


def test_beginning_that_never_came_is_a_gap_for_who_listens_from_one() -> None:
    broker = Broker(from_one=True)
    broker.live(3)
    assert broker.gaps == ((1, 2),)


def test_backlog_closes_the_gap_that_live_first_opens() -> None:
    broker = Broker()
    broker.live(1, 2)
    broker.live(50)
    assert broker.report.missing == 47
    broker.backfill(*range(3, 30))
    broker.backfill(*range(30, 50), packed=True)
    assert broker.report.verdict == "complete"
    assert broker.report.out_of_order == 0  # each lane ascends


def test_duplicate_is_dropped_and_counted_in_every_lane() -> None:
    broker = Broker()
    broker.live(1, 2, 2)
    broker.backfill(1, 2, 3)
    assert broker.new == [1, 2, 3]
    assert (broker.report.duplicates, broker.report.delivered) == (3, 3)


def test_named_loss_is_no_gap_but_is_told() -> None:
    broker = Broker()
    broker.live(1, 2, 8)
    broker.send("event/gateway/gateway", dropped(1, 3, 7))
    assert broker.report.verdict == "complete"
    assert broker.report.lost == 5
    assert broker.report.streams[0].lost_by_reason == {"full": 5}


def test_what_was_named_as_lost_and_came_after_all_is_not_lost() -> None:
    broker = Broker()
    broker.live(1, 2, 8)
    broker.send("event/gateway/gateway", dropped(1, 2, 7))
    broker.backfill(5)
    assert (broker.report.lost, broker.report.duplicates) == (4, 0)


def test_loss_named_twice_counts_once() -> None:
    broker = Broker()
    broker.live(1, 4)
    broker.send("event/gateway/gateway", dropped(1, 2, 3))
    broker.send("event/gateway/gateway", dropped(1, 2, 3))
    assert broker.report.streams[0].lost_by_reason == {"full": 2}


def test_late_listener_does_not_miss_what_was_before_it() -> None:
    broker = Broker()
    broker.state(100, 100, retained=True)
    assert broker.report.verdict == "nothing"
    broker.live(150, 151)  # the retained state was a minute old
    assert (broker.report.verdict, broker.report.recorded) == ("complete", 2)


def test_late_listener_expects_what_a_fresh_state_does_not_call_acknowledged() -> None:
    broker = Broker()
    broker.state(100, 100, retained=True)
    broker.state(200, 120)
    broker.live(201)
    assert broker.gaps == ((121, 200),)


def test_new_outbox_is_expected_from_one() -> None:
    broker = Broker()
    broker.live(150)
    broker.live(2, outbox="ffffffff")
    assert broker.gaps == ((1, 1),)


def test_what_a_given_up_outbox_still_held_is_a_named_loss() -> None:
    broker = Broker()
    broker.live(1)
    broker.state(5, 1)
    made = {"previous": OUTBOX, "reason": "damaged"}
    created = event(1, "gateway", "ffffffff", type="store.gateway.outbox_created", subject="gateway", data=made)
    broker.send("event/gateway/gateway", created)
    assert (broker.report.verdict, broker.report.lost) == ("complete", 4)


@pytest.mark.parametrize("epoch", [2, 1 << 40, 1])
def test_number_used_again_by_another_epoch_is_another_event_and_never_complete(epoch: int) -> None:
    broker = Broker()
    broker.live(1, epoch=1)
    broker.live(2, epoch=7)
    broker.live(2, 3, 2, epoch=epoch)  # higher or lower: a card put back draws from where its image was
    assert broker.new == [1, 2, 2, 3]
    report = broker.report
    assert (report.duplicates, report.reissued, report.conflicts, report.verdict) == (1, 1, 0, "conflict")


def test_id_with_another_content_is_a_conflict_and_never_complete() -> None:
    broker = Broker()
    broker.live(1, 2)
    broker.live(2, uptimems="77777")
    broker.live(1, time="2026-11-22T09:00:07.000Z", clock="estimated")
    report = broker.report
    assert (report.duplicates, report.reissued, report.conflicts, report.verdict) == (1, 0, 1, "conflict")
    assert broker.new == [1, 2, 2]
    broker.backfill(2, data={"direction": "nowhere"})
    assert broker.report.conflicts == 2


def test_duplicate_that_comes_too_late_to_be_compared_is_said_to_be_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.consumer.ledger.CONTENTS_MAX", 4)
    broker = Broker()
    broker.live(1, 2, 3, 4, 5, 6, 1)
    assert (broker.report.duplicates, broker.report.unchecked, broker.report.verdict) == (1, 1, "complete")
    broker.live(6)
    assert (broker.report.duplicates, broker.report.unchecked) == (2, 1)


def test_number_that_another_epoch_had_promised_and_never_sent_is_reissued() -> None:
    broker = Broker(from_one=True)
    broker.live(1, 2)
    broker.state(5, 2)
    broker.state(2, 2, epoch="9")
    broker.live(3, 4, 5, epoch=9)
    assert (broker.report.reissued, broker.report.verdict) == (3, "conflict")


def test_state_of_a_new_and_lower_epoch_tells_a_card_put_back() -> None:
    broker = Broker(from_one=True)
    broker.live(1, 2)
    broker.state(5, 2, epoch="9")
    broker.state(2, 2, epoch="6")
    assert broker.report.reissued == 0, "a card that took no writes: the epoch 9 is in no file"
    broker.state(5, 2, epoch="8")
    broker.state(6, 2, epoch="8")
    broker.state(5, 2, retained=True, epoch="3")
    assert broker.report.reissued == 0, "old news is no sign"
    broker.state(2, 2, epoch="4")
    assert broker.report.verdict == "conflict"


def test_state_that_goes_on_after_a_higher_epoch_tells_two_gateways_from_one_card() -> None:
    broker = Broker(from_one=True)
    broker.live(1, 2)
    broker.state(2, 2, epoch="4")
    broker.state(2, 2, epoch="9")
    broker.live(3, epoch=9)
    broker.state(2, 2, epoch="4")
    assert broker.report.is_complete, "sent again by the broker"
    broker.state(3, 2, epoch="4")
    assert broker.report.verdict == "conflict"


def test_a_thousand_restarts_and_their_duplicates_are_no_conflict() -> None:
    broker = Broker(from_one=True)
    for life in range(1000):
        epoch = 1 + life * 4_000_000_000
        broker.state(life * 2, life * 2, epoch=str(epoch))
        broker.live(life * 2 + 1, life * 2 + 2, epoch=epoch)
    for life in (0, 1, 500, 935, 936, 937, 999):
        broker.backfill(life * 2 + 1, epoch=1 + life * 4_000_000_000)
    report = broker.report
    assert (report.duplicates, report.reissued, report.conflicts, report.verdict) == (7, 0, 0, "complete")
    (book,) = broker.ledger._books.values()
    assert len(book.epochs) <= EPOCHS_MAX
    broker.state(10, 10, epoch="100")  # an image from before all of them
    broker.live(11, epoch=100)
    assert broker.report.verdict == "conflict"
    assert broker.report.duplicates == 7, "another event, though all those lives are kept as one"


def test_out_of_order_in_one_lane_is_counted() -> None:
    broker = Broker()
    broker.live(1, 3, 2)
    assert (broker.report.out_of_order, broker.report.verdict) == (1, "complete")


def test_streams_and_gateways_are_separate_accounts() -> None:
    broker = Broker(from_one=True)
    broker.live(1, 2)
    broker.live(1, stream="shelf")
    other = event(1, source="/stores/0042/gateways/back")
    broker.ledger.take("stores/v1/0042/back/event/door/entrance", json.dumps(other).encode())
    assert len(broker.report.streams) == 3
    assert broker.report.is_complete


def test_command_traffic_is_nothing_to_the_ledger() -> None:
    broker = Broker()
    broker.send("command/ping/result", {"ok": True})
    assert (broker.report.invalid, broker.report.verdict) == (0, "nothing")


BOMB = gzip.compress(b"[" + b" " * 50_000_000 + b"]")


@pytest.mark.parametrize(
    ("rest", "payload"),
    [
        ("event/door/entrance", b""),
        ("event/door/entrance", b"\xff\xfe"),
        ("event/door/entrance", b"[" * 100_000),
        ("event/door/entrance", b'{"a":' * 100_000),
        ("event/door/entrance", b"[1]"),
        ("event/door/entrance", b"1" * 5_000),
        ("event/door/entrance", b" " * (PAYLOAD_BYTES_MAX + 1)),
        ("event/door/entrance", json.dumps(event(0)).encode()),
        ("event/door/entrance", json.dumps(event(1, id="another")).encode()),
        ("event/door/entrance", json.dumps(event(1, source="/stores/0042/gateways/back")).encode()),
        ("event/door/entrance", json.dumps({**event(1), "sequence": "1"}).encode()),
        ("event/door/entrance", json.dumps(event(1, data=None)).encode()),
        ("event/door/entrance", json.dumps({**event(1), "stream": ["door"]}).encode()),
        ("event/gateway/gateway", json.dumps(dropped(1, 5, 4)).encode()),
        ("backfill", b"{}"),
        ("backfill", BOMB),
        ("backfill", gzip.compress(b"[]", mtime=0)[:-4]),
        ("backfill", b"\x1f\x8bnothing"),
        ("state", b"[]"),
        ("state", b'{"state":"online","outbox":"0a1b2c3d","epoch":"1","streams":{"door":{"recorded_through":true}}}'),
        ("state", b'{"state":"online","outbox":"0a1b2c3d","epoch":"1","streams":{"roof":{}}}'),
    ],
)
def test_garbage_is_counted_and_survived(rest: str, payload: bytes) -> None:
    broker = Broker()
    broker.raw(rest, payload)
    assert broker.report.invalid == 1
    broker.live(2, 3)
    assert broker.report.missing == 0


def test_gzip_bomb_is_not_unpacked() -> None:
    tracemalloc.start()
    parse(f"{TOPIC}/backfill", BOMB)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * PAYLOAD_BYTES_MAX


def test_bad_event_spoils_only_itself_in_a_batch() -> None:
    broker = Broker(from_one=True)
    broker.raw("backfill", json.dumps([event(1), {"specversion": "0.3"}, event(2)]).encode())
    assert (broker.report.delivered, broker.report.invalid) == (2, 1)


def test_random_bytes_never_raise() -> None:
    rng = random.Random(5)
    whole = json.dumps([event(7), dropped(3, 1, 2)]).encode()
    for _ in range(3_000):
        payload = bytearray(rng.choice((whole, gzip.compress(whole), whole[1:-1])))
        for _ in range(rng.randint(0, 4)):
            payload[rng.randrange(len(payload))] = rng.randrange(256)
        topic = rng.choice(("a/v1/0042/front/backfill", f"{TOPIC}/event/x/y", f"{TOPIC}/state", "", "/", TOPIC))
        parse(topic, bytes(payload[: rng.randint(0, len(payload))]))


def test_memory_is_bounded_by_spans_and_what_does_not_fit_is_no_proof() -> None:
    spans = Spans(spans_max=100)
    assert all(spans.add(number) for number in range(0, 200, 2))
    assert not spans.add(500)
    assert spans.add(1)
    assert spans.count == 99
    broker = Broker()
    broker.live(1)
    for book in broker.ledger._books.values():
        book.delivered.spans_max = 1
    broker.live(3, 2, 3)
    assert broker.report.uncounted == 1
    assert broker.report.verdict == "gaps"


def test_spans_are_a_set_of_numbers() -> None:
    rng = random.Random(3)
    for _ in range(200):
        spans, model = Spans(), set[int]()
        for _ in range(rng.randint(0, 40)):
            first = rng.randint(1, 60)
            last = first + rng.choice((0, 0, 0, 1, 5, 20))
            assert spans.add(first, last)
            model |= set(range(first, last + 1))
        assert {n for first, last in spans for n in range(first, last + 1)} == model
        assert len(spans) == len(model)
        assert spans.highest == max(model, default=0)
        assert [n for n in range(90) if n in spans] == sorted(model)
        missing = {n for first, last in spans.missing(5, 70) for n in range(first, last + 1)}
        assert missing == set(range(5, 71)) - model
        assert all(a[1] + 1 < b[0] for a, b in zip(list(spans), list(spans)[1:], strict=False))


def deliveries(*sequences: int) -> list[Any]:
    return [parse(f"{TOPIC}/event/door/entrance", json.dumps(event(n)).encode()).deliveries[0] for n in sequences]


def test_order_is_restored_when_the_backlog_has_come() -> None:
    order, given = InOrder(), list[int]()
    for delivery in deliveries(1, 2, 9, 10, 3, 4, 5, 6, 7, 8, 11):
        given += [one.sequence for one in order.push(delivery, begins=1)]
    assert given == list(range(1, 12))


def test_order_passes_over_what_was_named_as_lost() -> None:
    order = InOrder()
    given = [one.sequence for delivery in deliveries(1, 5) for one in order.push(delivery)]
    given += [one.sequence for one in order.pass_over(SOURCE, OUTBOX, "door", 2, 4)]
    assert given == [1, 5]


def test_order_holds_a_bounded_number_and_flushes_the_rest_ascending() -> None:
    order = InOrder(held_max=2)
    given = [one.sequence for delivery in deliveries(1, 5, 4, 7) for one in order.push(delivery)]
    assert given == [1, 4, 5]
    assert [one.sequence for one in order.flush()] == [7]
