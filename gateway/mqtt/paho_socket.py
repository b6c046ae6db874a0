"""The socket that paho speaks over: one TCP connection, through a proxy and in TLS where asked, read ahead.

Law: everything from the TCP connection to the last word of a handshake ends within `handshake_s`, also with a peer that
sends a byte at a time. Once `opened`, what paho writes is kept until `flush`, so that a burst of messages is one system
call and one TLS record; an acknowledgement is not three. Nothing is kept behind `flush` that the kernel would take.

paho hands its socket out through the TLS context it is given (`wrap_socket`, then `do_handshake`); `PahoSocketContext`
is one that does TLS only where the address says so.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gateway.machine.threads import REFUSED, started

READ_BYTES = 64 * 1024
ALONE_BYTES = 8 * 1024  # what is this large is not worth copying to be sent with others
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Handshake = Callable[[socket.socket], socket.socket]
"""What turns the TCP connection into the one to speak over: a proxy's tunnel, TLS."""


class PahoSocket:
    """A socket as far as paho needs one."""

    def __init__(self, sock: socket.socket, handshake: Handshake, handshake_s: float) -> None:
        self._sock = sock
        self._handshake = handshake
        self._is_open = False
        self._read = b""
        self._at = 0
        self._is_read_out = False
        self._unsent = bytearray()
        self._deadline = threading.Timer(handshake_s, self._give_up)
        self._deadline.name, self._deadline.daemon = "mqtt-handshake", True
        if not started(self._deadline):
            raise BlockingIOError(errno.EAGAIN, REFUSED)

    def _give_up(self) -> None:
        """End whatever the connecting thread waits for; it meets an error or an end of file."""
        if not self._is_open:
            with suppress(OSError, ValueError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def do_handshake(self) -> None:
        """Pass the proxy and agree on TLS, as far as asked. Raises what they raise; the connection is closed then."""
        try:
            self._sock = self._handshake(self._sock)
        except BaseException:
            self.close()
            raise

    def opened(self) -> None:
        """All handshakes are done: from now on nothing blocks, and writes wait for `flush`."""
        self._is_open = True
        self._deadline.cancel()

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes, empty at the end. Raises as a socket does where there is nothing yet."""
        if self._at == len(self._read):
            if self._is_read_out:  # a short read was all there was: poll tells when there is more
                self._is_read_out = False
                raise BlockingIOError
            self._read, self._at = self._sock.recv(READ_BYTES), 0
            self._is_read_out = (
                self._is_open and 0 < len(self._read) < READ_BYTES and not isinstance(self._sock, ssl.SSLSocket)
            )
        end = self._at + size
        said = self._read[self._at : end]
        self._at += len(said)
        return said

    def send(self, said: bytes | bytearray) -> int:
        """Take what is to be sent; all of it, once `opened`."""
        if not self._is_open:
            return self._sock.send(said)
        if len(said) < ALONE_BYTES or self._unsent:
            self._unsent += said
            return len(said)
        sent = 0
        with suppress(*_LATER):
            sent = self._sock.send(said)
        self._unsent += said[sent:]
        return len(said)

    @property
    def is_full(self) -> bool:
        """True while something waits that the network did not take."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Give the network what it takes. Raises OSError where the connection is lost."""
        unsent = self._unsent
        with suppress(*_LATER):
            while unsent:
                del unsent[: self._sock.send(unsent)]

    def pending(self) -> int:
        """Bytes that are here already, of which poll knows nothing."""
        held = len(self._read) - self._at
        return held + self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else held

    def close(self) -> None:
        """Close, with a last try to say what waits."""
        self._deadline.cancel()
        if self._is_open:
            with suppress(OSError):
                self.flush()
        self._sock.close()
        self._deadline.join()  # it has nothing left to wait for

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def settimeout(self, value_s: float | None) -> None:
        self._sock.settimeout(value_s)


class PahoSocketContext:
    """What paho takes for a TLS context; `line` is the one it made."""

    check_hostname = True  # by OpenSSL, where there is TLS: paho has nothing to check

    def __init__(self, handshake: Handshake, handshake_s: float) -> None:
        self._handshake = handshake
        self._handshake_s = handshake_s
        self.line: PahoSocket | None = None

    def wrap_socket(self, sock: socket.socket, **options: Any) -> PahoSocket:
        """Make the line over a TCP connection that stands."""
        self.line = PahoSocket(sock, self._handshake, self._handshake_s)
        return self.line
