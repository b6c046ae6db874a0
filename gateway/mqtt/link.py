"""The link on paho: obeys the uplink's orders, tells what the broker says.

Law: one thread a connection owns its paho Client wholly (own poll loop, public API only); callbacks note and never
raise. A fresh Client for each connection, clean start, no session: paho's queue holds what the uplink ordered and dies
with it, nothing is resent behind our back. `obey` never blocks.

A dead link is noticed within 15 s: idle by PINGREQ after 6 s of silence and 6 s for its answer, whatever `keepalive_s`
(where the broker's Server Keep Alive is longer, by subscribing again, which is always answered); busy by
TCP_USER_TIMEOUT, and by the uplink's 10 s for an acknowledgement.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.model import (
    Acknowledgements,
    CommandReceived,
    Connect,
    Disconnect,
    LinkDown,
    LinkUp,
    Message,
    Order,
    Signal,
)
from gateway.mqtt import reasons
from gateway.mqtt.dial import AS_SHIPPED, DialRefused, KeptErrors, LinkTimes, password, pending, tls_context, tune
from gateway.mqtt.properties import SharedProperties
from gateway.mqtt.reasons import Cause
from gateway.uplink import BrokerSettings, Endpoint

__all__ = ["LinkTimes", "PahoLink"]

log = logging.getLogger(__name__)

ORDERS_MAX = 100_000  # the uplink's window is far below; a broken engine must not eat the memory
COMMANDS_PER_S_MAX = 50
INBOUND_BYTES_MAX = 256 * 1024
POLL_MS = 500
BURST_MAX = 64  # messages handed to paho before the socket is looked at
COMMAND_BYTES_MAX = 64 * 1024  # what is handed on; the contract's own limit (16 KiB) is judged where it is answered
STUCK_MAX = 4  # threads that hang in a resolver, before no more are started


class PahoLink:
    """The link to a broker. `emit` takes what it says, from its own thread; it must neither block nor raise.

    `subscribed` is told from that thread whether the broker granted the subscription (`gateway doctor` asks).
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        emit: Callable[[Signal], None],
        times: LinkTimes = AS_SHIPPED,
        subscribed: Callable[[bool], object] = lambda granted: None,
    ) -> None:
        if settings.url is None:
            raise ValueError("there is no broker.url to connect to")
        self._settings = settings
        self._client_id = client_id
        self._emit = emit
        self._times = times
        self._subscribed = subscribed
        self._current: _Connection | None = None
        self._past: list[_Connection] = []

    def obey(self, order: Order) -> None:
        """Take an order from the engine's thread; never blocks. Orders for a connection that is over are ignored."""
        if isinstance(order, Connect):
            self._open(order)
        elif self._current is not None and (not isinstance(order, Disconnect) or order.link == self._current.link):
            self._current.obey(order)

    def _open(self, order: Connect) -> None:
        if self._current is not None:
            self._current.obey(Disconnect(self._current.link, gently=False))
            self._past.append(self._current)
        self._past = [past for past in self._past if past.thread.is_alive()]
        if len(self._past) > STUCK_MAX:
            detail = "earlier attempts still hang in the name server or the handshake"
            self._emit(LinkDown(order.link, "connect.stuck", detail, "check the network and its name server"))
            return
        self._current = _Connection(self._settings, self._client_id, order, self._emit, self._times, self._subscribed)
        self._current.thread.start()

    def close(self) -> None:
        """End within about 2 s. A thread that hangs in the resolver is left to end by itself; its words are lost."""
        if self._current is not None:
            self._current.obey(Disconnect(self._current.link, gently=True))
            self._past.append(self._current)
            self._current = None
        until = time.monotonic() + self._times.close_s
        for past in self._past:
            past.thread.join(max(0.0, until - time.monotonic()))
        self._past = [past for past in self._past if past.thread.is_alive()]


class _Connection:
    """One connection from CONNECT to its end, in a thread of its own."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        order: Connect,
        emit: Callable[[Signal], None],
        times: LinkTimes,
        subscribed: Callable[[bool], object],
    ) -> None:
        assert settings.url is not None
        self.link = order.link
        self._settings = settings
        self._endpoint = Endpoint.parse(settings.url)
        self._client_id = client_id
        self._order = order
        self._emit = emit
        self._times = times
        self._subscribed = subscribed
        self._v5 = order.protocol == "5"
        self._orders: deque[Message | Disconnect] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()  # guards the descriptor against a wake after its end
        self._asleep = False
        self._over = False
        self._ended = False
        self._commands_second = 0
        self._commands = 0
        self._tokens: dict[int, int] = {}
        self._acknowledged: list[tuple[int, int]] = []
        self._properties = SharedProperties(self._v5)
        self._up = False
        self._had_connack = False
        self._connack: int | None = None
        self._down: Cause | None = None
        self._in_order = False
        self._hung_up = False
        self._leaving_until: float | None = None
        self._probe_s: float | None = None
        self._probe_sent: float | None = None
        self._heard = 0.0
        self._errors = KeptErrors()
        self.thread = threading.Thread(target=self._run, name=f"mqtt-{order.link}", daemon=True)

    # Called from the engine's thread.

    def obey(self, order: Message | Disconnect) -> None:
        if self._over or len(self._orders) >= ORDERS_MAX:
            return
        if isinstance(order, Disconnect):
            self._ended = True
        self._orders.append(order)
        if self._asleep:
            self._asleep = (
                False  # one write wakes it; set before the write, so that no later sleep is taken for this one
            )
            with self._lock:
                if not self._over:
                    os.eventfd_write(self._wake, 1)

    # Everything below runs in the connection's own thread.

    def _run(self) -> None:
        client: Client | None = None
        try:
            client = self._client()
            if not self._ended:
                self._connect(client)
                self._converse(client)
        except DialRefused as refused:
            self._down = refused.cause
        except Exception as error:  # the supervisor of this thread: whatever breaks a connection ends only this one
            self._down = self._down or reasons.of_connect(error, self._endpoint.host)
            if not isinstance(error, OSError | ValueError):
                log.exception("connection broke link=%d", self.link)
        finally:
            self._finish(client)

    def _finish(self, client: Client | None) -> None:
        with self._lock:
            self._over = True
            os.close(self._wake)
        sock = client.socket() if client is not None else None
        if sock is not None:
            sock.close()
        if not self._ended:
            cause = self._down or reasons.LINK_RESET
            self._emit(
                LinkDown(
                    self.link, cause.code, cause.detail, cause.advice, self._connack, self._had_connack, self._in_order
                )
            )

    def _connect(self, client: Client) -> None:
        keepalive_s = max(1, min(int(self._settings.keepalive_s), self._times.ping_s))
        properties = self._properties.of_connect(INBOUND_BYTES_MAX)
        clean: dict[str, Any] = {} if properties is None else {"clean_start": True, "properties": properties}
        client.connect(self._endpoint.host, self._endpoint.port, keepalive_s, **clean)

    def _client(self) -> Client:
        """Return a fresh Client with everything set; nothing is connected yet."""
        endpoint = self._endpoint
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if self._v5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311,
            transport="websockets" if endpoint.is_websocket else "tcp",
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)  # the window is the uplink's; 0 also makes an acknowledgement O(1)
        client.max_queued_messages_set(0)
        client.suppress_exceptions = True
        client.connect_timeout = self._times.connect_s
        quiet = logging.Logger("paho", logging.WARNING)
        quiet.addHandler(self._errors)
        client.enable_logger(quiet)
        client.on_socket_open = self._on_socket_open
        client.on_socket_register_write = _on_register_write
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        will = self._order.will
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=self._properties.of_will(will))
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, password(self._settings))
        if endpoint.is_websocket:
            client.ws_set_options(endpoint.path)
        if endpoint.is_tls:
            client.tls_set_context(tls_context(self._settings, endpoint))
        return client

    def _converse(self, client: Client) -> None:
        """Pass packets in and orders out until the connection ends. Reading first saves what came before a reset."""
        sock = client.socket()
        if sock is None:
            return
        descriptor = sock.fileno()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        interest = 0
        started = tended = self._heard = time.monotonic()
        while self._down is None and client.socket() is not None:
            wanted = select.POLLIN | select.POLLRDHUP | (select.POLLOUT if client.want_write() else 0)
            if wanted != interest:
                poll.register(descriptor, wanted)
                interest = wanted
            self._asleep = True
            buffered = pending(sock) > 0
            events = poll.poll(0 if buffered or self._can_take(client) else POLL_MS)
            self._asleep = False
            now = time.monotonic()
            readable = buffered
            for ready, what in events:
                if ready == self._wake:
                    os.eventfd_read(self._wake)
                    continue
                readable = readable or bool(what & ~select.POLLOUT)
                if what & select.POLLRDHUP and not what & select.POLLERR:
                    self._hung_up = True
            if readable:
                self._heard = now
                client.loop_read()
                self._tell_acknowledged()
            self._take_orders(client)
            if client.want_write():
                client.loop_write()
            if now - tended >= POLL_MS / 2000:
                tended = now
                if self._had_connack:  # before it paho would give up after one keepalive, not after `connack_s`
                    client.loop_misc()
                self._tend(client, now, started)
            if self._leaving_until is not None and now >= self._leaving_until:
                return
        self._say_why()

    def _tell_acknowledged(self) -> None:
        """Tell what one reading brought in one go: each word between two system calls would wake the engine alone."""
        if self._acknowledged:
            acknowledged, self._acknowledged = self._acknowledged, []
            self._emit(Acknowledgements(self.link, tuple(acknowledged)))

    def _can_take(self, client: Client) -> bool:
        """True if an order may be handed to paho now: what it was given before is written, and the link is up."""
        return (
            bool(self._orders) and self._leaving_until is None and not client.want_write() and (self._up or self._ended)
        )

    def _take_orders(self, client: Client) -> None:
        if self._ended and self._leaving_until is None and not self._up:
            self._leaving_until = 0.0
        if not self._can_take(client):
            return
        for _ in range(min(BURST_MAX, len(self._orders))):
            order = self._orders.popleft()
            if isinstance(order, Disconnect):
                self._orders.clear()
                self._leave(client, order.gently)
                return
            self._publish(client, order)

    def _publish(self, client: Client, message: Message) -> None:
        try:
            said = client.publish(
                message.topic,
                message.payload,
                qos=1,
                retain=message.retain,
                properties=self._properties.of(message),
            )
        except ValueError:  # a topic with a wildcard, or a payload beyond the protocol: no broker will ever take it
            self._emit(Acknowledgements(self.link, ((message.token, 0x90),)))
            return
        if said.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._tokens[said.mid] = message.token
        elif self._down is None:  # packet id still in use, after 65,535 messages with one unanswered
            self._down = reasons.OVERRUN

    def _leave(self, client: Client, gently: bool) -> None:
        self._leaving_until = 0.0
        if gently and self._up:
            self._leaving_until = time.monotonic() + self._times.farewell_s
            client.disconnect()

    def _tend(self, client: Client, now: float, started: float) -> None:
        """What passes with time: CONNACK that does not come, silence that paho does not watch."""
        if not self._had_connack and now - started >= self._times.connack_s:
            self._down = self._down or reasons.CONNACK_TIMEOUT
        if self._up and self._probe_s is not None and self._leaving_until is None:
            if self._probe_sent is None and now - self._heard >= self._probe_s:
                self._probe_sent = now
                self._subscribe(client)
            elif self._probe_sent is not None and now - self._probe_sent >= self._times.ping_s:
                self._down = self._down or reasons.LINK_SILENT

    def _subscribe(self, client: Client) -> None:
        if self._order.subscribe is None:
            return
        if self._v5:  # 2: nothing retained is sent again
            client.subscribe(self._order.subscribe, options=SubscribeOptions(qos=1, retainHandling=2))
        else:
            client.subscribe(self._order.subscribe, qos=1)

    def _say_why(self) -> None:
        """Find the cause of an end that paho told without one."""
        if not self._ended and (self._down is None or self._down is reasons.LINK_RESET):
            self._down, self._in_order = reasons.of_end(self._errors.last, self._hung_up, self._had_connack)

    # paho's callbacks: they note what they are told. paho itself swallows and logs what they might raise.

    def _on_socket_open(self, client: Client, userdata: Any, sock: Any) -> None:
        tune(sock.fileno(), self._times)

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._had_connack:
            return
        self._had_connack = True
        if reason.is_failure:
            self._connack = reason.value
            self._down = reasons.of_connack(reason.value)
            return
        self._up = True
        keepalive_s = getattr(properties, "ServerKeepAlive", None)
        if keepalive_s is not None and (keepalive_s == 0 or keepalive_s > self._times.ping_s):
            self._probe_s = self._times.ping_s
        self._subscribe(client)
        self._emit(
            LinkUp(
                self.link,
                self._order.protocol,
                getattr(properties, "ReceiveMaximum", None),
                getattr(properties, "MaximumPacketSize", None),
                keepalive_s,
                bool(getattr(properties, "RetainAvailable", 1)),
            )
        )

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._down is not None:
            return
        if flags.is_disconnect_packet_from_server:
            self._in_order = True
            self._down = reasons.of_disconnect(reason.value)
        elif reason.value == 0x8D:  # paho's word for a PINGRESP that did not come
            self._down = reasons.LINK_SILENT
        elif reason.value == 0x82:
            self._down = reasons.NOT_MQTT
        elif reason.value != 0:
            self._down = reasons.LINK_RESET  # the loop finds the true cause

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        token = self._tokens.pop(mid, None)
        if token is not None:
            self._acknowledged.append((token, reason.value))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        second = int(time.monotonic())
        self._commands = self._commands + 1 if second == self._commands_second else 1
        self._commands_second = second
        if self._commands > COMMANDS_PER_S_MAX:
            return
        properties = message.properties
        self._emit(
            CommandReceived(
                self.link,
                topic.rsplit("/", 1)[-1],
                bytes(message.payload[:COMMAND_BYTES_MAX]),
                bool(message.retain),
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        granted = not any(reason.is_failure for reason in reasons)
        if self._probe_sent is None and not granted:
            log.warning("commands refused by the broker filter=%s", self._order.subscribe)
        self._subscribed(granted)
        self._probe_sent = None


def _on_register_write(client: Client, userdata: Any, sock: Any) -> None:
    """paho only queues where this exists; the loop writes."""
