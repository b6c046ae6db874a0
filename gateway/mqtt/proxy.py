"""A proxy between the store and the broker: HTTP CONNECT (RFC 9110) and SOCKS5 (RFC 1928, RFC 1929).

Law: the broker's name is looked up by the proxy, never here. What the proxy says is read up to a bound and never past
the end of its answer; how long it takes is bounded by the line's own deadline. Each refusal has its code and advice.
"""

from __future__ import annotations

import base64
import socket
import struct
from http import HTTPStatus

from gateway.mqtt.reasons import Cause
from gateway.uplink.settings import Proxy

ANSWER_BYTES_MAX = 8 * 1024
PHRASES = {status.value: status.phrase for status in HTTPStatus}

_ADVICE = "check broker.proxy, or ask who runs the proxy"
_LOGIN = Cause("proxy.login", "the proxy wants another user or password", "check proxy_username, proxy_password_file")
_SOCKS_REFUSALS = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "the broker's network cannot be reached",
    4: "the broker's host cannot be reached",
    5: "nothing listens at the broker's port",
    6: "it took too long",
    7: "it knows no such command",
    8: "it knows no such address",
}


class ProxyRefused(Exception):
    """The proxy does not let us through; the cause says why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.detail)
        self.cause = cause


def tunnel(sock: socket.socket, proxy: Proxy, password: str | None, host: str, port: int) -> None:
    """Ask the proxy at the other end of `sock` for a way to `host:port`; then it is the broker's line."""
    try:
        if proxy.scheme == "http":
            _connect(sock, proxy.username, password, host, port)
        else:
            _socks5(sock, proxy.username, password, host, port)
    except TimeoutError as error:
        raise _no_proxy("it does not answer") from error
    except OSError as error:
        raise _no_proxy("it broke the connection") from error


def _connect(sock: socket.socket, username: str | None, password: str | None, host: str, port: int) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if username is not None:
        login = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {login}")
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        if len(answer) > ANSWER_BYTES_MAX:
            raise _no_proxy("its answer has no end")
        answer += _exactly(sock, 1)
    words = answer.split(b"\r\n", 1)[0].split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise _no_proxy("it does not answer as an HTTP proxy does")
    code = int(words[1])
    if code == 407:
        raise ProxyRefused(_LOGIN)
    if not 200 <= code < 300:
        said = f"{code} {PHRASES.get(code, '')}".rstrip()  # never its own words: they may be what we sent
        raise ProxyRefused(Cause("proxy.refused", f"the proxy refuses the way to {place}: {said}", _ADVICE))


def _socks5(sock: socket.socket, username: str | None, password: str | None, host: str, port: int) -> None:
    methods = b"\x00" if username is None else b"\x00\x02"
    sock.sendall(b"\x05" + bytes((len(methods),)) + methods)
    version, method = _exactly(sock, 2)
    if version != 5:
        raise _no_proxy("it does not answer as a SOCKS5 proxy does")
    if method == 2 and username is not None:
        name, secret = username.encode(), (password or "").encode()
        sock.sendall(b"\x01" + bytes((len(name),)) + name + bytes((len(secret),)) + secret)
        if _exactly(sock, 2)[1] != 0:
            raise ProxyRefused(_LOGIN)
    elif method != 0:
        raise ProxyRefused(_LOGIN)
    name = host.encode("idna") if not host.isascii() else host.encode()
    sock.sendall(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + struct.pack("!H", port))
    _, reply, _, kind = _exactly(sock, 4)
    if reply != 0:
        why = _SOCKS_REFUSALS.get(reply, f"code {reply}")
        raise ProxyRefused(Cause("proxy.refused", f"the proxy refuses the way to {host}:{port}: {why}", _ADVICE))
    length = {1: 4, 4: 16}.get(kind)
    _exactly(sock, (_exactly(sock, 1)[0] if length is None else length) + 2)  # where it speaks from: nobody asks


def _exactly(sock: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        more = sock.recv(count - len(read))
        if not more:
            raise _no_proxy("it closed the connection")
        read += more
    return read


def _no_proxy(why: str) -> ProxyRefused:
    return ProxyRefused(
        Cause("proxy.failed", f"the proxy does not work: {why}", "check address and port in broker.proxy")
    )
