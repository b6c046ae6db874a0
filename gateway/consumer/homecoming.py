"""Publishes a dead gateway's exported events under their own names: batches on their own backfill topic, QoS 1.

Law: an envelope is sent as it was exported, byte for byte: the same id, source, outbox, epoch, stream and sequence. So
a consumer drops what the dead gateway had delivered already, and its completeness counts on. At least once: what is not
acknowledged when this ends is sent again by the next import. It owns one connection, and paho's thread with it.
"""

from __future__ import annotations

import queue
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.errors import GatewayError, Unavailable
from gateway.mqtt.dial import DialRefused, password, tls_context
from gateway.uplink.settings import BrokerSettings, Endpoint

BATCH_EVENTS_MAX = 100
BATCH_BYTES_MAX = 32 * 1024  # contract section 5
INFLIGHT_MAX = 8  # batches on the way: nobody waits for this, and a shop's line is thin
ANSWER_WITHIN_S = 10.0
CONTENT_TYPE = "application/cloudevents-batch+json"


class NotTaken(GatewayError):
    """The broker refused a batch for good: most often it lets a gateway write below its own topic only."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Envelopes of one gateway, and the topic they go to."""

    topic: str
    envelopes: tuple[bytes, ...]

    @property
    def payload(self) -> bytes:
        return b"[" + b",".join(self.envelopes) + b"]"


def batches(events: Iterable[tuple[str, bytes]]) -> Iterator[Batch]:
    """Gather (topic, envelope) in their order into batches of at most 100 events and 32 KiB, one topic each."""
    topic, gathered, size = "", list[bytes](), 2
    for where, envelope in events:
        is_full = len(gathered) >= BATCH_EVENTS_MAX or size + len(envelope) + 1 > BATCH_BYTES_MAX
        if gathered and (where != topic or is_full):
            yield Batch(topic, tuple(gathered))
            gathered, size = [], 2
        topic = where
        gathered.append(envelope)
        size += len(envelope) + 1
    if gathered:
        yield Batch(topic, tuple(gathered))


def bring_home(
    settings: BrokerSettings, events: Iterable[tuple[str, bytes]], taken: Callable[[int], None] = lambda count: None
) -> int:
    """Publish all of `events` and wait for each acknowledgement; return how many events the broker has taken.

    `taken` is told the number of events of each acknowledged batch. Raises Unavailable where no broker answers or the
    connection ends, NotTaken where it refuses a batch.
    """
    assert settings.url is not None
    connection = _Connection(settings)
    done = 0
    waiting: dict[int, Batch] = {}
    try:
        for batch in batches(events):
            waiting[connection.publish(batch)] = batch
            while len(waiting) >= INFLIGHT_MAX:
                done += _settle(connection, waiting, taken)
        while waiting:
            done += _settle(connection, waiting, taken)
    finally:
        connection.close()
    return done


def _settle(connection: _Connection, waiting: dict[int, Batch], taken: Callable[[int], None]) -> int:
    number, refused = connection.answer()
    batch = waiting.pop(number, None)
    if batch is None:
        return 0
    if refused:
        raise NotTaken(
            f"the broker does not take events on {batch.topic}: {refused}",
            "publish them below this gateway's own topic with --here, or let this client write there",
        )
    taken(len(batch.envelopes))
    return len(batch.envelopes)


class _Connection:
    """One connection with an id of its own, beside the daemon's."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._answers: queue.SimpleQueue[tuple[int, str] | str] = queue.SimpleQueue()
        self._is_5 = settings.protocol != "3.1.1"
        endpoint = Endpoint.parse(settings.url or "")
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"import-{secrets.token_hex(6)}",
            protocol=mqtt.MQTTv5 if self._is_5 else mqtt.MQTTv311,
            transport="websockets" if endpoint.is_websocket else "tcp",
            clean_session=None if self._is_5 else True,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(INFLIGHT_MAX)
        client.on_connect = self._connected
        client.on_publish = self._published
        client.on_disconnect = self._disconnected
        try:
            if endpoint.is_websocket:
                client.ws_set_options(path=endpoint.path)
            if settings.username is not None:
                client.username_pw_set(settings.username, password(settings))
            if endpoint.is_tls:
                client.tls_set_context(tls_context(settings, endpoint))
            options: Mapping[str, Any] = {"clean_start": True} if self._is_5 else {}
            client.connect(endpoint.host, endpoint.port, 30, **options)
        except (DialRefused, OSError, ValueError) as error:
            raise Unavailable(f"no broker answers at {settings.url}: {error}", "check it: gateway doctor") from None
        self._client = client
        client.loop_start()
        _, refused = self.answer()
        if refused:
            self.close()
            raise Unavailable(f"the broker {settings.url} does not take us: {refused}", "check it: gateway doctor")

    def publish(self, batch: Batch) -> int:
        """Send one batch; return its number, which `answer` names."""
        properties = None
        if self._is_5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = CONTENT_TYPE
        return self._client.publish(batch.topic, batch.payload, qos=1, retain=False, properties=properties).mid

    def answer(self) -> tuple[int, str]:
        """Return (number, "") or (number, why it was refused); raises Unavailable where none comes."""
        try:
            said = self._answers.get(timeout=ANSWER_WITHIN_S)
        except queue.Empty:
            said = f"nothing was heard for {ANSWER_WITHIN_S:g} s"
        if isinstance(said, str):
            raise Unavailable(f"the connection to the broker ended: {said}", "run it again: nothing is counted twice")
        return said

    def close(self) -> None:
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        self._answers.put((0, str(code) if code.is_failure else ""))

    def _published(self, client: Any, userdata: Any, number: int, code: Any, properties: Any) -> None:
        self._answers.put((number, str(code) if code.is_failure else ""))

    def _disconnected(self, client: Any, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        self._answers.put(str(code))
