"""A consumer's connection to the broker: MQTT 5, else 3.1.1; what arrives waits in a bounded queue. Owns a paho thread.

Law: a callback only queues. When nobody takes from the queue, the network thread waits, and TCP holds the broker back:
nothing is dropped here. After a lost link it connects again by itself, and subscribes at every connect.
"""

from __future__ import annotations

import logging
import queue
import secrets
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from gateway.errors import ConfigurationError, Unavailable
from gateway.mqtt.dial import DialRefused, password, tls_context
from gateway.uplink.settings import BrokerSettings, Endpoint

Protocol = Literal["5", "3.1.1"]

ARRIVED_MAX = 10_000
CONNECT_WITHIN_S = 10.0
RECONNECT_MAX_S = 10
KEEPALIVE_S = 30
QUEUE_TRIED_EVERY_S = 0.2
VERSION_REFUSED = (0x84, 1)
"""MQTT 5's "unsupported protocol version", and 3.1.1's code of the same meaning."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message from the broker."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection was not accepted; `code` is the CONNACK's, None where there was none."""

    code: int | None
    words: str


def topics_of(prefix: str, store: str = "+", gateway: str = "+") -> tuple[str, ...]:
    """Return what to subscribe to for one gateway, or for all: events, backfill and state; no commands."""
    return tuple(f"{prefix}/v1/{store}/{gateway}/{rest}" for rest in ("event/#", "backfill", "state"))


class Subscription:
    """Listens on `topics`; a context manager. `next` gives what has arrived."""

    def __init__(self, settings: BrokerSettings, topics: Sequence[str]) -> None:
        if settings.url is None:
            raise ConfigurationError("broker.url is missing; there is nothing to listen to")
        self.endpoint = Endpoint.parse(settings.url)
        self.protocol: Protocol | None = None
        self.is_connected = False
        self._settings = settings
        self._topics = topics
        self._arrived: queue.Queue[Arrived] = queue.Queue(ARRIVED_MAX)
        self._closing = threading.Event()
        self._client: mqtt.Client | None = None

    def __enter__(self) -> Subscription:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect and subscribe. Raises Unavailable with the broker's or the network's reason."""
        wanted = self._settings.protocol
        attempts: tuple[Protocol, ...] = ("5", "3.1.1") if wanted == "auto" else (wanted,)
        refusal: Refusal | None = None
        for protocol in attempts:
            refusal = self._attempt(protocol)
            if refusal is None:
                self.protocol = protocol
                return
            if refusal.code is not None and refusal.code not in VERSION_REFUSED:
                break
        assert refusal is not None
        raise Unavailable(
            f"the broker {self._settings.url} does not take this consumer: {refusal.words}",
            "check broker.url, username, password_file and the certificates; `gateway doctor` tells which it is",
        )

    def next(self, timeout_s: float) -> Arrived | None:
        """Return the next message, or None where none comes within `timeout_s`."""
        try:
            return self._arrived.get(timeout=timeout_s) if timeout_s > 0 else self._arrived.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._closing.set()
        self._end(self._client)
        self._client = None

    # -- one connection ------------------------------------------------------------------------------------------------

    def _attempt(self, protocol: Protocol) -> Refusal | None:
        """Connect with this version; return why not, or None when the broker has taken the subscriptions."""
        outcome: queue.SimpleQueue[Refusal | None] = queue.SimpleQueue()
        client = self._made(protocol)

        def on_connect(_: Any, __: Any, ___: Any, code: Any, ____: Any) -> None:
            if code.is_failure:
                outcome.put(Refusal(code.value, str(code)))
                return
            self.is_connected = True
            client.subscribe([(topic, 1) for topic in self._topics])

        def on_subscribe(_: Any, __: Any, ___: Any, codes: Any, ____: Any) -> None:
            refused = [str(code) for code in codes if code.is_failure]
            outcome.put(Refusal(0x87, f"subscription refused: {refused[0]}") if refused else None)

        def on_disconnect(_: Any, __: Any, ___: Any, code: Any, ____: Any) -> None:
            self.is_connected = False
            outcome.put(Refusal(None, f"the connection was closed ({code})"))

        def on_message(_: Any, __: Any, message: mqtt.MQTTMessage) -> None:
            arrived = Arrived(message.topic, bytes(message.payload), message.retain)
            while not self._closing.is_set():
                try:
                    self._arrived.put(arrived, timeout=QUEUE_TRIED_EVERY_S)
                except queue.Full:
                    continue
                return

        client.on_connect, client.on_subscribe = on_connect, on_subscribe
        client.on_disconnect, client.on_message = on_disconnect, on_message
        try:
            client.connect(self.endpoint.host, self.endpoint.port, KEEPALIVE_S, **self._clean(protocol))
        except ssl.SSLCertVerificationError as error:
            return Refusal(0x87, f"the broker's certificate is not trusted: {error.verify_message}")
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"no broker answers at {self._settings.url}: {error}", "check broker.url, and that the broker runs"
            ) from None
        client.loop_start()
        try:
            refusal = outcome.get(timeout=CONNECT_WITHIN_S)
        except queue.Empty:
            refusal = Refusal(None, f"it did not answer within {CONNECT_WITHIN_S:g} s")
        if refusal is not None:
            self._end(client)
            return refusal
        self._client = client
        return None

    def _made(self, protocol: Protocol) -> mqtt.Client:
        settings = self._settings
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"listen-{secrets.token_hex(6)}",
            protocol=mqtt.MQTTv5 if protocol == "5" else mqtt.MQTTv311,
            transport="websockets" if self.endpoint.is_websocket else "tcp",
            clean_session=True if protocol == "3.1.1" else None,
            reconnect_on_failure=True,
        )
        client.enable_logger(_silent())
        client.reconnect_delay_set(1, RECONNECT_MAX_S)
        if self.endpoint.is_websocket:
            client.ws_set_options(path=self.endpoint.path)
        try:
            if settings.username is not None:
                client.username_pw_set(settings.username, password(settings))
            if self.endpoint.is_tls:
                client.tls_set_context(tls_context(settings, self.endpoint))
        except DialRefused as refused:
            raise ConfigurationError(refused.cause.detail, refused.cause.advice) from None
        return client

    @staticmethod
    def _clean(protocol: Protocol) -> dict[str, Any]:
        return {"clean_start": True} if protocol == "5" else {}

    @staticmethod
    def _end(client: mqtt.Client | None) -> None:
        if client is not None:
            client.disconnect()
            client.loop_stop()


def _silent() -> logging.Logger:
    """A logger for paho, which calls a line that is cut an error: over a view, or between the lines of a listing."""
    silent = logging.getLogger(f"{__name__}.paho")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    return silent
