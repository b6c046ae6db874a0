"""What leaves the store, byte for byte."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from gateway.facts import SensorFailed
from gateway.model import Entry, Event, Fact, Instant, Stream
from gateway.wire import Wire, compress, join, record

AT = Instant(12_345_678_901, 1_795_338_000_123_999_999)


@dataclass(frozen=True, slots=True)
class Measured(Fact):
    type: ClassVar[str] = "store.shelf.changed"
    stream: ClassVar[Stream] = "shelf"
    grams: Any = None
    from_: Any = None


WIRE = Wire("0042", "front", "0badcafe")


def entry(payload: bytes, sequence: int = 1, epoch: int = 1, stream: Stream = "gateway") -> Entry:
    return Entry(stream, sequence, epoch, payload)


def test_a_recorded_payload_is_compact_and_in_the_agreed_order() -> None:
    payload = record(Event("aisle-3", AT, SensorFailed("stuck", 'says "no" in München')), "969b0c7f")
    assert payload == (
        b'{"type":"store.sensor.failed","subject":"aisle-3","time":"2026-11-22T09:00:00.123Z","clock":"synced",'
        b'"bootid":"969b0c7f","uptimems":"12345","data":{"reason":"stuck","detail":"says \\"no\\" in M\xc3\xbcnchen"}}'
    )


def test_the_envelope_is_the_golden_one() -> None:
    payload = record(Event("aisle-3", AT, SensorFailed("stuck", "d")), "969b0c7f")
    golden = (
        b'{"specversion":"1.0","id":"0badcafe-7-gateway-0000000000000042","source":"/stores/0042/gateways/front",'
        b'"dataschema":"schemas/v1/sensor.failed.json","datacontenttype":"application/json","stream":"gateway",'
        b'"sequence":"0000000000000042","outbox":"0badcafe","epoch":"7","type":"store.sensor.failed",'
        b'"subject":"aisle-3","time":"2026-11-22T09:00:00.123Z","clock":"synced","bootid":"969b0c7f",'
        b'"uptimems":"12345","data":{"reason":"stuck","detail":"d"}}'
    )
    assert WIRE.envelope(entry(payload, 42, 7), {}) == golden
    assert WIRE.envelope(entry(payload, 42, 7), {"969b0c7f": 5}) == golden, "a synced time is never replaced"
    assert json.loads(golden)["id"] == "0badcafe-7-gateway-0000000000000042"


def test_topics_are_those_of_the_contract() -> None:
    payload = record(Event("aisle-3", AT, SensorFailed("stuck", "d")), "969b0c7f")
    assert WIRE.event_topic(entry(payload)) == "stores/v1/0042/front/event/sensor/aisle-3"
    assert WIRE.event_topic(entry(payload)) == "stores/v1/0042/front/event/sensor/aisle-3"
    wire = Wire("0042", "front", "0badcafe", "acme/shops")
    assert wire.prefix == "acme/shops/v1/0042/front"
    assert wire.state_topic == "acme/shops/v1/0042/front/state"
    assert wire.backfill_topic == "acme/shops/v1/0042/front/backfill"
    assert wire.command_filter == "acme/shops/v1/0042/front/command/+"


def test_an_unsynced_time_is_estimated_once_its_boot_has_an_anchor() -> None:
    at = Instant(12_345_678_901, 1_000_000_000, "unsynced")
    payload = record(Event("gateway", at, SensorFailed("x", '","clock":"unsynced","bootid":"ffffffff')), "969b0c7f")
    before = json.loads(WIRE.envelope(entry(payload), {}))
    other = json.loads(WIRE.envelope(entry(payload), {"ffffffff": 1}))
    after = json.loads(WIRE.envelope(entry(payload), {"969b0c7f": 1_795_338_000_000}))
    assert before == other
    assert (before["time"], before["clock"]) == ("1970-01-01T00:00:01.000Z", "unsynced")
    assert (after["time"], after["clock"]) == ("2026-11-22T09:00:12.345Z", "estimated")
    assert {k: v for k, v in after.items() if k not in ("time", "clock")} == {
        k: v for k, v in before.items() if k not in ("time", "clock")
    }
    assert list(after) == list(before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"a": [1.0, math.nan]}, [math.inf], object(), {1, 2}])
def test_what_json_has_no_word_for_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="aisle-3"):
        record(Event("aisle-3", AT, Measured(value)), "969b0c7f")


@pytest.mark.parametrize("text", ["\udc80", 2**70])
def test_text_that_is_no_text_and_numbers_beyond_64_bits_are_refused(text: Any) -> None:
    with pytest.raises(ValueError):
        record(Event("aisle-3", AT, Measured(text)), "969b0c7f")


def test_unknown_is_absent_and_null_inside_a_value_is_kept() -> None:
    assert record(Event("a", AT, Measured()), "b").endswith(b'"data":{}}')
    assert record(Event("a", AT, Measured({"x": None})), "b").endswith(b'"data":{"grams":{"x":null}}}')
    assert record(Event("a", AT, Measured(MappingProxyType({"x": 1}), "null")), "b").endswith(
        b'"data":{"grams":{"x":1},"from":"null"}}'
    )


def test_a_batch_is_an_array_of_the_same_envelopes() -> None:
    entries = [entry(record(Event("a", AT, Measured(n)), "b"), n) for n in (1, 2, 3)]
    batch = WIRE.batch(entries, {})
    assert batch == join([WIRE.envelope(e, {}) for e in entries])
    assert [event["data"]["grams"] for event in json.loads(batch)] == [1, 2, 3]
    assert join([]) == b"[]"
    squeezed = compress(batch)
    assert squeezed == compress(batch)
    assert squeezed[:2] == b"\x1f\x8b"
    assert gzip.decompress(squeezed) == batch


def test_many_types_and_epochs_do_not_grow_without_bound() -> None:
    wire = Wire("0042", "front", "0badcafe")
    payload = record(Event("a", AT, Measured(1)), "b")
    for epoch in range(3000):
        assert f"-{epoch}-shelf-".encode() in wire.envelope(entry(payload, 1, epoch, "shelf"), {})
    assert len(wire._splices) <= 1001
