"""An event to the bytes and the topic that leave the store (contract sections 3 and 5). Pure.

Law: what is recorded is spliced into the envelope byte for byte, never decoded and encoded again; only an `unsynced`
time may be replaced, once, by the estimate from its boot's anchor. Equal input gives equal bytes (golden files).

Recorded: {"type","subject","time","clock","bootid","uptimems","data"} in this order, compact.
Sent:     {"specversion","id","source","dataschema","datacontenttype","stream","sequence","outbox","epoch", + the above.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from gateway.model import NS_PER_MS, Entry, Event, data_of, rfc3339

EVENT_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json; charset=utf-8"
STATE_CONTENT_TYPE = "application/json"

_TYPE_AT = len(b'{"type":"')
_SUBJECT = b'","subject":"'
_TIME = b'","time":"'
_UNSYNCED = b'","clock":"unsynced","bootid":"'
_UPTIME = b'","uptimems":"'


def _refuse_what_json_has_no_word_for(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which JSON cannot say")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_what_json_has_no_word_for(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_what_json_has_no_word_for(inner, f"{where}[{index}]")


def no_constant(name: str) -> float:
    """Refuse NaN and Infinity, which Python's `json` would read: its `parse_constant`. Raises ValueError."""
    raise ValueError(f"{name} is not a number of JSON")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def record(event: Event, bootid: str) -> bytes:
    """Return the event as it is recorded. ValueError where a value has no form in JSON (NaN, foreign types)."""
    data = data_of(event.fact)
    at = event.at
    document = {
        "type": event.fact.type,
        "subject": event.subject,
        "time": rfc3339(at.wall_ns),
        "clock": at.clock,
        "bootid": bootid,
        "uptimems": str(at.boot_ns // NS_PER_MS),
        "data": data,
    }
    try:
        payload = orjson.dumps(document, default=_plain)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"{event.fact.type} of {event.subject} cannot be written: {error}") from error
    if b"null" in payload:  # orjson writes NaN and infinity as null
        _refuse_what_json_has_no_word_for(data, f"{event.fact.type} of {event.subject}: data")
    return payload


def _between(payload: bytes, mark: bytes, start: int) -> tuple[int, int]:
    at = payload.index(mark, start) + len(mark)
    return at, payload.index(b'"', at)


def recorded(payload: bytes) -> dict[str, Any]:
    """Return a recorded payload's JSON object."""
    document: dict[str, Any] = orjson.loads(payload)
    return document


def type_of(payload: bytes) -> str:
    """Return the `type` of a recorded payload."""
    return payload[_TYPE_AT : payload.index(b'"', _TYPE_AT)].decode()


def subject_of(payload: bytes) -> str:
    """Return the `subject` of a recorded payload."""
    start, end = _between(payload, _SUBJECT, _TYPE_AT)
    return payload[start:end].decode()


def source_of(store: str, gateway: str) -> str:
    """Return the `source` of a gateway's events (contract section 3)."""
    return f"/stores/{store}/gateways/{gateway}"


class Wire:
    """Writes envelopes and topics of one gateway's outbox."""

    def __init__(self, store: str, gateway: str, outbox_id: str, topic_prefix: str = "stores") -> None:
        self.source = source_of(store, gateway)
        self.prefix = f"{topic_prefix}/v1/{store}/{gateway}"
        self.state_topic = f"{self.prefix}/state"
        self.backfill_topic = f"{self.prefix}/backfill"
        self.command_filter = f"{self.prefix}/command/+"
        self._outbox = outbox_id
        # Splices by (stream, epoch, type): as many as there are types and epochs in the backlog; cleared when it grows.
        self._splices: dict[tuple[str, int, bytes], tuple[bytes, bytes, bytes]] = {}
        # The last one used, with the bytes that a payload of its type begins with: an event is mostly like the one
        # before it.
        self._last: tuple[str, int, bytes, tuple[bytes, bytes, bytes]] = ("", 0, b"", (b"", b"", b""))
        self._topics: dict[bytes, str] = {}

    def envelope(self, entry: Entry, anchors: Mapping[str, int]) -> bytes:
        """Return the CloudEvent of an entry.

        `anchors` maps a boot id to wall minus boot in milliseconds, fixed once for each boot whose clock was ever set.
        """
        payload = entry.payload
        unsynced_at = payload.find(_UNSYNCED)
        if unsynced_at >= 0:
            payload = self._estimated(payload, unsynced_at, anchors)
        stream, epoch, opening, splice = self._last
        if entry.stream != stream or entry.epoch != epoch or not payload.startswith(opening):
            splice = self._splice_of(entry, payload)
        sequence = b"%016d" % entry.sequence
        return b"".join((splice[0], sequence, splice[1], sequence, splice[2], payload[1:]))

    def _splice_of(self, entry: Entry, payload: bytes) -> tuple[bytes, bytes, bytes]:
        type_end = payload.index(b'"', _TYPE_AT)
        kind = payload[_TYPE_AT:type_end]
        splice = self._splices.get((entry.stream, entry.epoch, kind)) or self._splice(entry, kind)
        self._last = entry.stream, entry.epoch, payload[: type_end + 1], splice
        return splice

    def _splice(self, entry: Entry, kind: bytes) -> tuple[bytes, bytes, bytes]:
        schema = f"schemas/v1/{kind.decode().removeprefix('store.')}.json"
        if len(self._splices) > 1000:
            self._splices.clear()
        head = f'{{"specversion":"1.0","id":"{self._outbox}-{entry.epoch}-{entry.stream}-'
        middle = (
            f'","source":"{self.source}","dataschema":"{schema}","datacontenttype":"application/json",'
            f'"stream":"{entry.stream}","sequence":"'
        )
        tail = f'","outbox":"{self._outbox}","epoch":"{entry.epoch}",'
        splice = (head.encode(), middle.encode(), tail.encode())
        self._splices[entry.stream, entry.epoch, kind] = splice
        return splice

    @staticmethod
    def _estimated(payload: bytes, at: int, anchors: Mapping[str, int]) -> bytes:
        """Replace time and clock where the boot's anchor is known.

        The marks' quotes are never written unescaped inside a string, so the first place found is the attribute's own.
        """
        boot = at + len(_UNSYNCED)
        anchor_ms = anchors.get(payload[boot : payload.index(b'"', boot)].decode())
        if anchor_ms is None:
            return payload
        time_start, time_end = _between(payload, _TIME, _TYPE_AT)
        if time_end != at:
            return payload
        uptime_start, uptime_end = _between(payload, _UPTIME, boot)
        time = rfc3339((anchor_ms + int(payload[uptime_start:uptime_end])) * NS_PER_MS)
        return payload[:time_start] + time.encode() + b'","clock":"estimated","bootid":"' + payload[boot:]

    def event_topic(self, entry: Entry) -> str:
        """Return `{p}/event/{area}/{subject}`."""
        payload = entry.payload
        key = payload[: payload.index(_TIME)]
        topic = self._topics.get(key)
        if topic is None:
            area = type_of(payload).split(".")[1]
            topic = f"{self.prefix}/event/{area}/{subject_of(payload)}"
            if len(self._topics) > 1000:
                self._topics.clear()
            self._topics[key] = topic
        return topic

    def batch(self, entries: Iterable[Entry], anchors: Mapping[str, int]) -> bytes:
        """Return the entries as one JSON array of envelopes."""
        return join([self.envelope(entry, anchors) for entry in entries])


def join(envelopes: Sequence[bytes]) -> bytes:
    """Return envelopes as a JSON array."""
    return b"[" + b",".join(envelopes) + b"]"


def compress(payload: bytes) -> bytes:
    """Return gzip of the payload; equal input gives equal bytes."""
    return gzip.compress(payload, compresslevel=1, mtime=0)
