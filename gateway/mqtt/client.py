"""A paho Client for one connection, with everything set: identity, will, limits, and the line it will speak over.

Law: public API only, but for one hook (`BoundedClient`). Each option of paho whose default could hurt is set here, with
the reason.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import Any, cast

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.model import Connect
from gateway.mqtt import codes, dial
from gateway.mqtt.dial import LinkTimes
from gateway.mqtt.paho_socket import Handshake, PahoSocketContext
from gateway.mqtt.properties import SharedProperties
from gateway.mqtt.proxy import tunnel
from gateway.mqtt.reasons import OVERSIZED, UNASKED, Unwanted
from gateway.uplink.settings import BrokerSettings, Endpoint

INBOUND_BYTES_MAX = 256 * 1024
"""More than a command of 64 KiB, which is still answered, with a topic and a correlation of 64 KiB each."""
PUBLISH = 3
QOS_BITS, QOS_2 = 0b0110, 0b0100


class BoundedClient(Client):
    """Reads no packet that was never asked for: paho would gather all that the fixed header announces, 256 MiB.

    paho asks for the whole rest of a packet as soon as it knows the length, over TCP and WebSocket alike; it takes an
    OSError here for the end of the connection. QoS 2, which is never granted, it would keep until a PUBREL.
    """

    inbound_bytes_max = INBOUND_BYTES_MAX

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > self.inbound_bytes_max:
            raise Unwanted(OVERSIZED)
        command = self._in_packet["command"]
        if command >> 4 == PUBLISH and command & QOS_BITS == QOS_2:
            raise Unwanted(UNASKED)
        return super()._sock_recv(bufsize)


class KeptErrors(logging.Logger):
    """Takes paho's log: keeps the last OSError that it only logs, and lets the rest pass at no cost."""

    def __init__(self) -> None:
        super().__init__("paho", logging.WARNING)
        self.last: OSError | None = None

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        if level >= logging.WARNING:
            for value in args:
                if isinstance(value, OSError):
                    self.last = value


@dataclass(frozen=True, slots=True)
class Made:
    """A client, its lines, and what paho logged."""

    client: BoundedClient
    lines: PahoSocketContext
    errors: KeptErrors


def make_client(
    settings: BrokerSettings,
    client_id: str,
    order: Connect,
    times: LinkTimes,
    properties: SharedProperties,
    inbound_bytes_max: int = INBOUND_BYTES_MAX,
) -> Made:
    """Return a fresh client; nothing is connected yet. Raises DialRefused where a file cannot be used."""
    assert settings.url is not None
    codes.complete()
    endpoint = Endpoint.parse(settings.url)
    is_v5 = order.protocol == "5"
    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if is_v5 else True,
        protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
        transport="websockets" if endpoint.is_websocket else "tcp",
        reconnect_on_failure=False,
    )
    client.inbound_bytes_max = inbound_bytes_max
    client.max_inflight_messages_set(0)  # the window is the uplink's; 0 also makes an acknowledgement O(1)
    client.max_queued_messages_set(0)
    client.suppress_exceptions = True
    client.connect_timeout = times.connect_s
    errors = KeptErrors()
    client.enable_logger(errors)
    client.on_socket_register_write = _on_register_write
    if (will := order.will) is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=properties.of_will(will))
    if settings.username is not None:
        client.username_pw_set(settings.username, dial.password(settings))
    if endpoint.is_websocket:
        client.ws_set_options(endpoint.path, _websocket_headers(endpoint))
    lines = PahoSocketContext(_handshake(settings, endpoint, times), dial.HANDSHAKE_S)
    client.tls_set_context(cast(Any, lines))
    return Made(client, lines, errors)


def connect(made: Made, settings: BrokerSettings, times: LinkTimes, properties: SharedProperties) -> None:
    """Connect and send CONNECT. Raises OSError, ValueError, DialRefused or ProxyRefused."""
    assert settings.url is not None
    near = settings.via or Endpoint.parse(settings.url)
    keepalive_s = max(1, min(int(settings.keepalive_s), times.ping_s))
    of_connect = properties.of_connect(made.client.inbound_bytes_max)
    clean: dict[str, Any] = {} if of_connect is None else {"clean_start": True, "properties": of_connect}
    made.client.connect(near.host, near.port, keepalive_s, **clean)
    if made.lines.line is not None:
        made.lines.line.opened()


def _handshake(settings: BrokerSettings, endpoint: Endpoint, times: LinkTimes) -> Handshake:
    """Return what is to be agreed on over the TCP connection. Files are read now, not later."""
    context = dial.tls_context(settings, endpoint) if endpoint.is_tls else None
    via = settings.via
    secret = dial.proxy_password(settings) if via is not None else None

    def agree(sock: socket.socket) -> socket.socket:
        dial.tune(sock.fileno(), times)
        sock.settimeout(times.connect_s)
        if via is not None:
            tunnel(sock, via, secret, endpoint.host, endpoint.port)
        if context is None:
            return sock
        secured = context.wrap_socket(sock, server_hostname=endpoint.host, do_handshake_on_connect=False)
        try:
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured

    return agree


def _websocket_headers(endpoint: Endpoint) -> dict[str, str]:
    """Return what paho would write with the name of the proxy, or of a scheme that is not the address's."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    place = host if endpoint.has_default_port else f"{host}:{endpoint.port}"
    return {"Host": place, "Origin": f"{'https' if endpoint.is_tls else 'http'}://{place}"}


def _on_register_write(client: Client, userdata: Any, sock: Any) -> None:
    """paho only queues where this exists; the loop writes."""
