"""One connection from CONNECT to its end, in a thread of its own, which owns its paho Client wholly.

Law: own poll loop, public API only. A fresh Client for each connection, clean start, no session: paho's queue holds
what the uplink ordered and dies with it, nothing is resent behind our back. `obey` never blocks.

A dead link is noticed within 15 s: idle by PINGREQ after 6 s of silence and 6 s for its answer, whatever `keepalive_s`
(where the broker's Server Keep Alive is longer, by a question that is always answered); busy by
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

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from gateway.machine.clock import SystemClock
from gateway.model import Acknowledgements, Connect, Disconnect, LinkDown, Message, Signal, Subscribe
from gateway.mqtt import reasons
from gateway.mqtt.certificates import refused
from gateway.mqtt.client import INBOUND_BYTES_MAX, Made, connect, make_client
from gateway.mqtt.dial import DialRefused, LinkTimes
from gateway.mqtt.heard import Heard, Reader
from gateway.mqtt.paho_socket import PahoSocket
from gateway.mqtt.properties import SharedProperties
from gateway.mqtt.proxy import ProxyRefused
from gateway.uplink.settings import BrokerSettings, Endpoint

log = logging.getLogger(__name__)

ORDERS_MAX = 100_000  # the uplink's window is far below; a broken engine must not eat the memory
POLL_MS = 500
BURST_MAX = 64  # messages handed to paho before the socket is looked at


class Connection:
    """See the module. `emit` is called from its thread, which `thread` is; start it."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        order: Connect,
        emit: Callable[[Signal], None],
        times: LinkTimes,
        reader: Reader | None = None,
    ) -> None:
        self.link = order.link
        self._settings = settings
        self._client_id = client_id
        self._order = order
        self._emit = emit
        self._times = times
        self._orders: deque[Message | Subscribe | Disconnect] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()  # guards the descriptor against a wake after its end
        self._asleep = False
        self._over = False
        self._ended = False
        self._inbound_bytes_max = INBOUND_BYTES_MAX if reader is None else reader.bytes_max
        self._heard = Heard(order, emit, times.ping_s, reader)
        self._properties = SharedProperties(order.protocol == "5")
        self._hung_up = False
        self._leaving_until: float | None = None
        self._heard_at = 0.0
        self.thread = threading.Thread(target=self._run, name=f"mqtt-{order.link}", daemon=True)

    # Called from the engine's thread.

    def obey(self, order: Message | Subscribe | Disconnect) -> None:
        """Take an order; one for a connection that is over is ignored."""
        if self._over or len(self._orders) >= ORDERS_MAX:
            return
        if isinstance(order, Disconnect):
            self._ended = True
        self._orders.append(order)
        if self._asleep:
            self._asleep = False  # one write wakes it; set before, so that no later sleep is taken for this one
            with self._lock:
                if not self._over:
                    os.eventfd_write(self._wake, 1)

    # Everything below runs in the connection's own thread.

    def _run(self) -> None:
        made: Made | None = None
        heard = self._heard
        try:
            made = make_client(
                self._settings,
                self._client_id,
                self._order,
                self._times,
                self._properties,
                self._inbound_bytes_max,
            )
            heard.listen(made.client)
            if not self._ended:
                connect(made, self._settings, self._times, self._properties)
                self._converse(made)
        except (DialRefused, ProxyRefused) as refused:
            heard.down = refused.cause
        except Exception as error:  # the supervisor of this thread: whatever breaks a connection ends only this one
            heard.down = heard.down or self._why_not_connected(error, made)
            if not isinstance(error, OSError | ValueError):
                log.exception("connection broke link=%d", self.link)
        finally:
            self._finish(made)

    def _why_not_connected(self, error: Exception, made: Made | None) -> reasons.Cause:
        assert self._settings.url is not None
        via = self._settings.via
        if via is not None and (made is None or made.lines.line is None):
            return reasons.of_proxy(reasons.of_connect(error, via.host))
        return reasons.of_connect(error, Endpoint.parse(self._settings.url).host)

    def _finish(self, made: Made | None) -> None:
        with self._lock:
            self._over = True
            os.close(self._wake)
        if made is not None and made.lines.line is not None:
            made.lines.line.close()
        if not self._ended:
            heard = self._heard
            cause = refused(heard.down or reasons.LINK_RESET, self._settings, SystemClock().now())
            self._emit(
                LinkDown(
                    self.link, cause.code, cause.detail, cause.advice, heard.connack, heard.had_connack, heard.in_order
                )
            )

    def _converse(self, made: Made) -> None:
        """Pass packets in and orders out until the connection ends. Reading first saves what came before a reset."""
        client, line, heard = made.client, made.lines.line, self._heard
        sock = client.socket()  # the line, or a WebSocket over it
        if sock is None or line is None:
            return
        descriptor = line.fileno()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        interest = 0
        started = tended = self._heard_at = time.monotonic()
        while heard.down is None and client.socket() is not None:
            blocked = client.want_write() or line.is_full
            wanted = select.POLLIN | select.POLLRDHUP | (select.POLLOUT if blocked else 0)
            if wanted != interest:
                poll.register(descriptor, wanted)
                interest = wanted
            self._asleep = True
            buffered = line.pending() > 0
            events = poll.poll(0 if buffered or self._can_take(client, line) else POLL_MS)
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
                self._heard_at = now
                client.loop_read()
                heard.tell_acknowledged()
            self._take_orders(client, line)
            self._write(made, line)
            if now - tended >= POLL_MS / 2000:
                tended = now
                if heard.had_connack:  # before it paho would give up after one keepalive, not after `connack_s`
                    client.loop_misc()
                self._tend(client, now, started)
            if self._leaving_until is not None and now >= self._leaving_until:
                return
        self._say_why(made)

    def _write(self, made: Made, line: PahoSocket) -> None:
        """Let paho write what it was given, then the network take it: the whole burst at once."""
        if made.client.want_write():
            made.client.loop_write()
        if line.is_full:
            try:
                line.flush()
            except OSError as error:
                made.errors.last = error
                self._heard.down = self._heard.down or reasons.LINK_RESET

    def _can_take(self, client: Client, line: PahoSocket) -> bool:
        """True if an order may be handed to paho now: what it was given before is written, and the link is up."""
        return (
            bool(self._orders)
            and self._leaving_until is None
            and not line.is_full
            and not client.want_write()
            and (self._heard.is_up or self._ended)
        )

    def _take_orders(self, client: Client, line: PahoSocket) -> None:
        if self._ended and self._leaving_until is None and not self._heard.is_up:
            self._leaving_until = 0.0
        if not self._can_take(client, line):
            return
        for _ in range(min(BURST_MAX, len(self._orders))):
            order = self._orders.popleft()
            if isinstance(order, Disconnect):
                self._orders.clear()
                self._leave(client, order.gently)
                return
            if isinstance(order, Subscribe):
                self._heard.subscribe(client, order)
            else:
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
            self._heard.tokens[said.mid] = message.token
        elif self._heard.down is None:  # packet id still in use, after 65,535 messages with one unanswered
            self._heard.down = reasons.OVERRUN

    def _leave(self, client: Client, gently: bool) -> None:
        self._leaving_until = 0.0
        if gently and self._heard.is_up:
            self._leaving_until = time.monotonic() + self._times.farewell_s
            client.disconnect()

    def _tend(self, client: Client, now: float, started: float) -> None:
        """What passes with time: CONNACK that does not come, silence that paho does not watch."""
        heard = self._heard
        if not heard.had_connack and now - started >= self._times.connack_s:
            heard.down = heard.down or reasons.CONNACK_TIMEOUT
        if heard.is_up and heard.probe_s is not None and self._leaving_until is None:
            if heard.probe_sent is None and now - self._heard_at >= heard.probe_s:
                heard.probe_sent = now
                heard.ask(client)
            elif heard.probe_sent is not None and now - heard.probe_sent >= self._times.ping_s:
                heard.down = heard.down or reasons.LINK_SILENT

    def _say_why(self, made: Made) -> None:
        """Find the cause of an end that paho told without one."""
        heard = self._heard
        if not self._ended and (heard.down is None or heard.down is reasons.LINK_RESET):
            heard.down, heard.in_order = reasons.of_end(made.errors.last, self._hung_up, heard.had_connack)
