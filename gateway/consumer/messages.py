"""A gateway's MQTT messages as values, believed only as far as they keep the contract (sections 3 and 5). Pure.

Law: nothing that arrives raises anything but `Invalid`; what is decompressed or nested without end is refused early.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

PAYLOAD_BYTES_MAX = 1 << 20
"""Of a message, and of what it decompresses to: 32 times what a gateway may send."""
GZIP_MAGIC = b"\x1f\x8b"
NUMBER_MAX = 10**16 - 1

_TOPIC = re.compile(r"(?P<prefix>.+)/v1/(?P<store>[A-Za-z0-9_-]{1,64})/(?P<gateway>[A-Za-z0-9_-]{1,64})/(?P<rest>.+)")
_SEQUENCE = re.compile(r"[0-9]{16}")
_EPOCH = re.compile(r"[1-9][0-9]{0,15}")
_OUTBOX = re.compile(r"[0-9a-f]{8}")
_TYPE = re.compile(r"store\.[a-z_]+\.[a-z_]+")
_STREAM = re.compile(r"[a-z][a-z0-9_]{0,31}")

Stream = str
"""The name of a stream: four are the contract's, a kind of sensor from outside may have one of its own."""
Lane = Literal["live", "backfill"]


class Invalid(ValueError):
    """A message or an event that does not keep the contract; `str(error)` says in what."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event as it arrived. `envelope` is all of it."""

    source: str
    outbox: str
    epoch: int
    stream: Stream
    sequence: int
    lane: Lane
    type: str
    subject: str
    envelope: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        data: Mapping[str, Any] = self.envelope["data"]
        return data


@dataclass(frozen=True, slots=True)
class Position:
    """What a gateway says of one stream: all up to here is recorded, all up to there acknowledged."""

    recorded_through: int
    acknowledged_through: int


@dataclass(frozen=True, slots=True)
class State:
    """A gateway's state document. `positions` is empty in its will."""

    source: str
    state: Literal["online", "stopped", "lost"]
    outbox: str
    epoch: int
    positions: Mapping[Stream, Position]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one message held: deliveries, or a state, and the reasons why parts of it were not believed."""

    deliveries: tuple[Delivery, ...] = ()
    state: State | None = None
    invalid: tuple[str, ...] = ()


def parse(topic: str, payload: bytes) -> Parsed:
    """Read one message of any topic below a gateway; commands and their results are nothing. Never raises."""
    try:
        place = _TOPIC.fullmatch(topic)
        if place is None:
            raise Invalid("the topic is not that of a gateway")
        source = f"/stores/{place['store']}/gateways/{place['gateway']}"
        kind = place["rest"].partition("/")[0]
        if kind == "state":
            return Parsed(state=_state(source, _json(payload)))
        if kind == "event":
            return Parsed(deliveries=(_delivery(source, "live", _json(payload)),))
        if kind == "backfill":
            return _batch(source, _json(payload))
        return Parsed()
    except Invalid as error:
        return Parsed(invalid=(str(error),))


def _batch(source: str, values: Any) -> Parsed:
    if not isinstance(values, list):
        raise Invalid("a batch is a JSON array")
    deliveries, invalid = [], []
    for value in values:
        try:
            deliveries.append(_delivery(source, "backfill", value))
        except Invalid as error:
            invalid.append(str(error))
    return Parsed(tuple(deliveries), None, tuple(invalid))


def _json(payload: bytes) -> Any:
    if payload.startswith(GZIP_MAGIC):
        payload = _decompressed(payload)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise Invalid(f"longer than {PAYLOAD_BYTES_MAX} bytes")
    try:
        return json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"not JSON: {type(error).__name__}") from None


def _decompressed(payload: bytes) -> bytes:
    try:
        plain = zlib.decompressobj(wbits=31)
        content = plain.decompress(payload, PAYLOAD_BYTES_MAX + 1)
    except zlib.error as error:
        raise Invalid(f"not gzip: {error}") from None
    if len(content) <= PAYLOAD_BYTES_MAX and not plain.eof:
        raise Invalid("gzip that ends too early")
    return content


def _text(values: Mapping[str, Any], key: str, form: re.Pattern[str] | None = None) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value or (form is not None and not form.fullmatch(value)):
        raise Invalid(f"{key} is missing or not as the contract has it")
    return value


def _number(values: Any, key: str, least: int = 0) -> int:
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= NUMBER_MAX:
        raise Invalid(f"{key} is missing or not a whole number from {least}")
    return value


def _stream(value: Any) -> Stream:
    if isinstance(value, str) and _STREAM.fullmatch(value):
        return value
    raise Invalid("stream is no name of a stream")


def _delivery(source: str, lane: Lane, values: Any) -> Delivery:
    if not isinstance(values, dict) or values.get("specversion") != "1.0":
        raise Invalid("not an event of CloudEvents 1.0")
    if values.get("source") != source:
        raise Invalid("source is not the gateway of the topic")
    outbox, epoch = _text(values, "outbox", _OUTBOX), _text(values, "epoch", _EPOCH)
    stream, sequence = _stream(values.get("stream")), _text(values, "sequence", _SEQUENCE)
    if values.get("id") != f"{outbox}-{epoch}-{stream}-{sequence}":
        raise Invalid("id does not name the event's own outbox, epoch, stream and sequence")
    if int(sequence) == 0:
        raise Invalid("sequence begins with 1")
    if not isinstance(values.get("data"), dict):
        raise Invalid("data is not a JSON object")
    kind, subject = _text(values, "type", _TYPE), _text(values, "subject")
    _text(values, "time")
    return Delivery(source, outbox, int(epoch), stream, int(sequence), lane, kind, subject, values)


def _state(source: str, values: Any) -> State:
    if not isinstance(values, dict):
        raise Invalid("a state is a JSON object")
    state = values.get("state")
    if state not in ("online", "stopped", "lost"):
        raise Invalid("state is none of the contract's")
    streams = values.get("streams", {})
    if not isinstance(streams, dict):
        raise Invalid("streams is not a JSON object")
    positions = {
        _stream(name): Position(_number(at, "recorded_through"), _number(at, "acknowledged_through"))
        for name, at in streams.items()
    }
    return State(source, state, _text(values, "outbox", _OUTBOX), int(_text(values, "epoch", _EPOCH)), positions)


@dataclass(frozen=True, slots=True)
class NamedLoss:
    """A range that the gateway itself says will not come (`store.gateway.events_dropped`)."""

    outbox: str
    stream: Stream
    reason: str
    first: int
    last: int
    count: int


def named_losses(delivery: Delivery) -> Iterator[NamedLoss]:
    """Yield the loss that an event names, if it is one that does. Raises Invalid where it is told wrongly."""
    if delivery.type != "store.gateway.events_dropped":
        return
    data = delivery.data
    first = _number(data, "first_sequence", 1)
    last = _number(data, "last_sequence", first)
    outbox, stream = _text(data, "outbox", _OUTBOX), _stream(data.get("stream"))
    yield NamedLoss(outbox, stream, _text(data, "reason"), first, last, _number(data, "count"))
