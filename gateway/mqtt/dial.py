"""What a connection needs before it speaks: its times, the password, the TLS context, the socket's options.

Law: files are read anew for each connection, so that a changed password or certificate is in force at the next one. A
file that cannot be used refuses the connection by its key.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.machine.bounded import read_text
from gateway.mqtt.certificates import concerns
from gateway.mqtt.reasons import Cause, of_encrypted_key, of_file
from gateway.uplink.profiles import PROFILES
from gateway.uplink.settings import BrokerSettings, Endpoint

SECRET_BYTES_MAX = 64 * 1024  # MQTT has no longer password


@dataclass(frozen=True, slots=True)
class LinkTimes:
    """The link's own limits, in seconds. A dead link is noticed after at most `2 * ping_s + 1`."""

    connect_s: float = 5.0
    connack_s: float = 10.0
    ping_s: int = 6
    user_timeout_s: float = 10.0
    farewell_s: float = 1.0
    close_s: float = 2.0


HANDSHAKE_S = 10.0

AS_SHIPPED = LinkTimes()


class DialRefused(Exception):
    """The connection cannot be tried; the cause says why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.detail)
        self.cause = cause


def password(settings: BrokerSettings) -> str | None:
    """Read the password; without the line's end. DialRefused where the file cannot be read."""
    return _secret("password_file", settings.password_file)


def proxy_password(settings: BrokerSettings) -> str | None:
    """Read the proxy's password. DialRefused where the file cannot be read."""
    return _secret("proxy_password_file", settings.proxy_password_file)


def _secret(key: str, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return read_text(path, SECRET_BYTES_MAX).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise DialRefused(of_file(key, path, error)) from error


class EncryptedKey(Exception):
    """A private key wants a passphrase."""


def _nobody_types() -> str:
    """Refuse to give a passphrase: without this OpenSSL would ask at the terminal, and hear no signal meanwhile."""
    raise EncryptedKey


def tls_context(settings: BrokerSettings, endpoint: Endpoint) -> ssl.SSLContext:
    """Make the context: TLS 1.2 or newer, the system's authorities or `ca_file`, host name checked."""
    context = BoundedContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise DialRefused(_named("ca_file", settings, settings.ca_file or Path(), error)) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 began to refuse authorities without a key usage, as many a store's own has none: the same on every Pi.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=_nobody_types)
        except EncryptedKey as error:
            assert settings.key_file is not None
            raise DialRefused(of_encrypted_key(settings.key_file)) from error
        except (OSError, ssl.SSLError) as error:
            raise DialRefused(_named("cert_file", settings, settings.cert_file, error)) from error
    alpn = PROFILES[settings.profile].alpn_on_443
    if alpn is not None and endpoint.port == 443 and not endpoint.is_websocket:
        context.set_alpn_protocols([alpn])
    return context


def _named(key: str, settings: BrokerSettings, path: Path, error: Exception) -> Cause:
    """Return what a look at the files finds wrong, else what OpenSSL said of them, which names no file."""
    return next(concerns(settings, None), None) or of_file(key, path, error)


class BoundedContext(ssl.SSLContext):
    """A client's context whose handshakes end within `HANDSHAKE_S`, also with a peer that sends a byte at a time.

    A socket's own timeout begins anew with each byte, and paho hands its socket out only after the handshake.
    """

    def wrap_socket(self, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        sock = super().wrap_socket(*arguments, **more)

        def end() -> None:
            with suppress(OSError, ValueError):
                if sock.version() is None:  # no handshake yet
                    sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(HANDSHAKE_S, end)
        timer.daemon = True
        timer.start()
        return sock


def tune(descriptor: int, times: LinkTimes) -> None:
    """Set the socket's options: no Nagle, and the kernel gives up a dead path within `user_timeout_s`."""
    with socket.socket(fileno=os.dup(descriptor)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(times.user_timeout_s * 1000))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
