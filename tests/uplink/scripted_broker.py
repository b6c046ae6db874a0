"""A broker of our own on bare sockets, for what real ones will not do: it does what its script says to each packet.

It journals every packet before it answers, so that a test knows what was sent, in which order, on which connection.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE = 1, 2, 3, 4, 8, 9, 10
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14
RECEIVE_MAXIMUM, SERVER_KEEP_ALIVE, MAXIMUM_PACKET_SIZE = 0x21, 0x13, 0x27


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet from the client. `connection` counts from 1."""

    connection: int
    kind: int
    at_s: float
    level: int = 0
    flags: int = 0
    mid: int = 0
    topic: str = ""
    payload: bytes = b""
    size: int = 0
    keepalive_s: int = 0
    client_id: str = ""
    filters: tuple[str, ...] = ()


Close = Literal["close", "reset"]
Answer = bytes | Close | None
Script = Callable[[Packet], "Answer"]


def connack(level: int, code: int = 0, properties: bytes = b"") -> bytes:
    """CONNACK; `properties` (MQTT 5) are their bytes without the length."""
    if level < 5:
        return bytes((0x20, 2, 0, code))
    return bytes((0x20, 3 + len(properties), 0, code, len(properties))) + properties


def puback(packet: Packet, code: int = 0) -> bytes:
    """PUBACK; a code other than 0 needs MQTT 5."""
    if code == 0:
        return struct.pack("!BBH", 0x40, 2, packet.mid)
    return struct.pack("!BBHB", 0x40, 3, packet.mid, code)


def receive_maximum(count: int) -> bytes:
    return struct.pack("!BH", RECEIVE_MAXIMUM, count)


def maximum_packet_size(size: int) -> bytes:
    return struct.pack("!BI", MAXIMUM_PACKET_SIZE, size)


def server_keep_alive(seconds: int) -> bytes:
    return struct.pack("!BH", SERVER_KEEP_ALIVE, seconds)


def polite(packet: Packet) -> Answer:
    """Answer as a broker should."""
    if packet.kind == CONNECT:
        return connack(packet.level)
    if packet.kind == PUBLISH:
        return puback(packet)
    if packet.kind == SUBSCRIBE:
        properties = b"\x00" if packet.level == 5 else b""
        granted = bytes((1,)) * len(packet.filters)
        return struct.pack("!BBH", 0x90, 2 + len(properties + granted), packet.mid) + properties + granted
    if packet.kind == UNSUBSCRIBE:
        properties = b"\x00\x11" if packet.level == 5 else b""
        return struct.pack("!BBH", 0xB0, 2 + len(properties), packet.mid) + properties
    if packet.kind == PINGREQ:
        return b"\xd0\x00"
    return None


@dataclass
class ScriptedBroker:
    """Listens on `port`; `journal` holds what came, `unacknowledged_max` the most unanswered PUBLISHes at once."""

    script: Script = polite
    journal: list[Packet] = field(default_factory=list)
    unacknowledged_max: int = 0
    trickle_s: float = 0.0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._open = True

    def start(self) -> None:
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        self._open = False
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def of(self, kind: int, connection: int | None = None) -> list[Packet]:
        """Return the packets of a kind, in the order they came."""
        return [p for p in self.journal if p.kind == kind and connection in (None, p.connection)]

    def _accept(self) -> None:
        while self._open:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            serve = threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True)
            serve.start()

    def _serve(self, sock: socket.socket, connection: int) -> None:
        unacknowledged = 0
        level = 4
        try:
            for first, body in _packets(sock):
                packet = _parse(connection, first, body, level)
                level = packet.level
                with self._lock:
                    self.journal.append(packet)
                if packet.kind == PUBLISH:
                    unacknowledged += 1
                    self.unacknowledged_max = max(self.unacknowledged_max, unacknowledged)
                answer = self.script(packet)
                if answer == "close":
                    break
                if answer == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                if isinstance(answer, bytes):
                    unacknowledged -= sum(kind >> 4 == PUBACK for kind, _ in _split(answer))
                    self._write(sock, answer)
        except OSError:
            pass
        finally:
            sock.close()

    def _write(self, sock: socket.socket, answer: bytes) -> None:
        if not self.trickle_s:
            sock.sendall(answer)
            return
        for byte in answer:
            sock.sendall(bytes((byte,)))
            time.sleep(self.trickle_s)


@contextmanager
def scripted(script: Script = polite, **options: Any) -> Iterator[ScriptedBroker]:
    """Run a scripted broker."""
    broker = ScriptedBroker(script, **options)
    broker.start()
    try:
        yield broker
    finally:
        broker.close()


def _exactly(sock: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        more = sock.recv(count - len(read))
        if not more:
            raise ConnectionAbortedError
        read += more
    return read


def _packets(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    while True:
        first = _exactly(sock, 1)[0]
        length = shift = 0
        while True:
            byte = _exactly(sock, 1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        yield first, _exactly(sock, length)


def _split(packets: bytes) -> Iterator[tuple[int, bytes]]:
    """Take short packets apart (lengths below 128)."""
    while packets:
        end = 2 + packets[1]
        yield packets[0], packets[2:end]
        packets = packets[end:]


def _parse(connection: int, first: int, body: bytes, level: int) -> Packet:
    kind, flags, at_s = first >> 4, first & 15, time.monotonic()
    size = len(body) + 2 + (len(body) > 127) + (len(body) > 16_383)
    if kind == CONNECT:
        name_end = 2 + struct.unpack_from("!H", body)[0]
        level = body[name_end]
        keepalive_s = struct.unpack_from("!H", body, name_end + 2)[0]
        at = name_end + 4
        if level == 5:
            at += 1 + body[at]
        length = struct.unpack_from("!H", body, at)[0]
        client_id = body[at + 2 : at + 2 + length].decode()
        return Packet(connection, kind, at_s, level, body[name_end + 1], keepalive_s=keepalive_s, client_id=client_id)
    if kind == PUBLISH:
        end = 2 + struct.unpack_from("!H", body)[0]
        topic = body[2:end].decode()
        mid = struct.unpack_from("!H", body, end)[0]
        start = end + 2
        if level == 5:
            start += 1 + body[start]
        return Packet(connection, kind, at_s, level, flags, mid, topic, body[start:], size)
    mid = struct.unpack_from("!H", body)[0] if kind in (SUBSCRIBE, UNSUBSCRIBE) else 0
    filters = tuple(_filters(body, level)) if kind == SUBSCRIBE else ()
    return Packet(connection, kind, at_s, level, flags, mid, size=size, filters=filters)


def _filters(body: bytes, level: int) -> Iterator[str]:
    at = 3 + body[2] if level == 5 else 2
    while at < len(body):
        length = struct.unpack_from("!H", body, at)[0]
        yield body[at + 2 : at + 2 + length].decode()
        at += 3 + length
