"""The link's own bytes on a real socket: CONNECT, PUBLISH, DISCONNECT, and what is heard of a command."""

from __future__ import annotations

import errno
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

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
    Subscribe,
)
from gateway.mqtt import dial, proxy, reasons
from gateway.mqtt.link import PahoLink
from gateway.uplink.settings import BrokerSettings, Endpoint, Proxy
from tests.uplink.brokers import Authority
from tests.uplink.scripted_broker import connack

WILL = Message(0, "stores/v1/1/front/state", b'{"state":"lost"}', True, "application/json")
COMMANDS = "stores/v1/1/front/command/+"


def exactly(sock: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        more = sock.recv(count - len(read))
        if not more:
            raise ConnectionAbortedError
        read += more
    return read


class RawBroker:
    """Takes packets apart no further than header and body; answers as it is told."""

    def __init__(self, connack_properties: bytes = b"", after: bytes = b"") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.packets: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._properties, self._after = connack_properties, after
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError), self._listener.accept()[0] as sock:
            while True:
                first, length, shift = exactly(sock, 1)[0], 0, 0
                while (byte := exactly(sock, 1)[0]) & 0x80:
                    length |= (byte & 0x7F) << shift
                    shift += 7
                body = exactly(sock, length | byte << shift)
                self.packets.put((first, body))
                if first >> 4 == 1:
                    level = body[6]
                    sock.sendall(connack(level, 0, self._properties))
                elif first >> 4 == 8:
                    sock.sendall(b"\x90\x04" + body[:2] + b"\x00\x01" + self._after)
                elif first >> 4 == 3:
                    end = 2 + struct.unpack_from("!H", body)[0]
                    sock.sendall(b"\x40\x02" + body[end : end + 2])

    def next(self, kind: int) -> tuple[int, bytes]:
        while True:
            first, body = self.packets.get(timeout=5)
            if first >> 4 == kind:
                return first, body

    def close(self) -> None:
        self._listener.close()


class Heard:
    """A link and what it says."""

    def __init__(self, port: int, **more: str) -> None:
        self.signals: queue.SimpleQueue[Signal] = queue.SimpleQueue()
        self.link = PahoLink(BrokerSettings(url=f"mqtt://127.0.0.1:{port}", **more), "1.front", self.signals.put)  # type: ignore[arg-type]

    def order(self, order: Order) -> None:
        self.link.obey(order)

    def next(self, kind: type[Signal]) -> Signal:
        while True:
            signal = self.signals.get(timeout=5)
            if isinstance(signal, kind):
                return signal


@contextmanager
def talking(properties: bytes = b"", after: bytes = b"", protocol: str = "5") -> Iterator[tuple[RawBroker, Heard]]:
    broker = RawBroker(properties, after)
    heard = Heard(broker.port)
    heard.order(Connect(1, protocol, WILL))  # type: ignore[arg-type]
    heard.order(Subscribe(1, (COMMANDS,)))
    try:
        yield broker, heard
    finally:
        heard.link.close()
        broker.close()


def properties_of(body: bytes, at: int) -> bytes:
    return body[at + 1 : at + 1 + body[at]]


def text(value: str) -> bytes:
    return struct.pack("!H", len(value)) + value.encode()


def test_an_event_carries_its_content_type_and_an_answer_its_correlation() -> None:
    with talking() as (broker, heard):
        assert isinstance(heard.next(LinkUp), LinkUp)
        kind = "application/cloudevents+json; charset=utf-8"
        heard.order(Message(7, "a/event", b"{}", False, kind))
        first, body = broker.next(3)
        assert first & 0x0F == 0x02, "QoS 1, not retained"
        assert body.startswith(text("a/event"))
        assert properties_of(body, 11) == b"\x03" + text(kind)
        heard.order(Message(8, "a/batch", b"x", False, kind, (("content-encoding", "gzip"),)))
        _, body = broker.next(3)
        assert b"\x26" + text("content-encoding") + text("gzip") in properties_of(body, 11)
        heard.order(Message(9, "a/state", b"x", True, kind, correlation=b"\x07\x00\xff"))
        first, body = broker.next(3)
        assert first & 0x0F == 0x03, "retained"
        assert b"\x09\x00\x03\x07\x00\xff" in properties_of(body, 11)
        tokens: list[tuple[int, int]] = []
        while len(tokens) < 3:
            said = heard.next(Acknowledgements)
            assert isinstance(said, Acknowledgements)
            tokens += said.words
        assert tokens == [(7, 0), (8, 0), (9, 0)]


def test_the_will_and_the_name_stand_in_connect() -> None:
    with talking() as (broker, _):
        _, body = broker.next(1)
        assert body[7] == 0x02 | 0x04 | 0x08 | 0x20, "clean, a will, QoS 1, retained"
        assert text("1.front") in body
        assert text(WILL.topic) in body
        assert body.endswith(struct.pack("!H", len(WILL.payload)) + WILL.payload)
        assert b"\x03" + text("application/json") in body, "the will has its content type too"


def test_3_1_1_has_none_of_it_and_asks_for_the_commands() -> None:
    with talking(protocol="3.1.1") as (broker, heard):
        _, body = broker.next(1)
        assert body[6] == 4
        _, body = broker.next(8)
        assert body[2:] == text(COMMANDS) + b"\x01"
        heard.order(Message(7, "a/event", b"{}", False, "application/json"))
        _, body = broker.next(3)
        assert body[:9] == text("a/event")
        assert body[11:] == b"{}"


def test_a_gentle_end_is_said_and_another_is_not() -> None:
    for gently in (True, False):
        with talking() as (broker, heard):
            heard.next(LinkUp)
            heard.order(Disconnect(1, gently=gently))
            if gently:
                assert broker.next(14)[0] == 0xE0
            else:
                heard.link.close()
                time.sleep(0.2)
                while not broker.packets.empty():
                    assert broker.packets.get()[0] >> 4 != 14


def command(payload: bytes, properties: bytes = b"", retained: bool = False) -> bytes:
    body = text("stores/v1/1/front/command/ping") + bytes((len(properties),)) + properties + payload
    return bytes((0x31 if retained else 0x30, len(body))) + body


def test_a_command_is_heard_with_who_asks_and_whether_it_is_an_old_one() -> None:
    asked = b"\x08" + text("answers/here") + b"\x09\x00\x02\x01\xff"
    with talking(after=command(b'{"a":1}', asked) + command(b"{}", retained=True)) as (_, heard):
        assert heard.next(CommandReceived) == CommandReceived(1, "ping", b'{"a":1}', False, "answers/here", b"\x01\xff")
        assert heard.next(CommandReceived) == CommandReceived(1, "ping", b"{}", True, None, None)


@pytest.mark.parametrize(
    ("properties", "heard_as"),
    [
        (b"", (None, None, None, True)),
        (b"\x21\x00\x05", (5, None, None, True)),
        (b"\x27\x00\x00\x10\x00", (None, 4096, None, True)),
        (b"\x13\x00\x03", (None, None, 3, True)),
        (b"\x25\x00", (None, None, None, False)),
    ],
)
def test_what_the_broker_allows_is_heard(properties: bytes, heard_as: tuple[object, ...]) -> None:
    with talking(properties) as (_, heard):
        up = heard.next(LinkUp)
        assert isinstance(up, LinkUp)
        found = (up.receive_maximum, up.packet_bytes_max, up.keepalive_s, up.retain_available)
        assert (up.link, up.protocol, *found) == (1, "5", *heard_as)


def test_where_nobody_listens_is_told_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    heard = Heard(port)
    heard.order(Connect(4, "5", WILL))
    down = heard.next(LinkDown)
    assert isinstance(down, LinkDown)
    assert (down.link, down.code, down.had_connack, down.in_order) == (4, "tcp.refused", False, False)
    heard.link.close()
    time.sleep(0)
    assert heard.signals.empty()


# Causes: a stable code, a sentence, and what to do.


@pytest.mark.parametrize("of", [reasons.of_connack, reasons.of_disconnect])
@pytest.mark.parametrize("code", [*range(0x80, 0xA3), 0xFF])
def test_every_code_of_the_standard_has_its_words(of: Callable[[int], reasons.Cause], code: int) -> None:
    cause = of(code)
    begins = "connack." if of is reasons.of_connack else ("broker.", "connack.", "session.", "link.")
    assert cause.code.startswith(begins)
    assert cause.code == cause.code.lower()
    assert len(cause.detail) > 10
    assert isinstance(cause.advice, str)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no"), "dns.unknown"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "dns.timeout"),
        (socket.gaierror(socket.EAI_FAIL, "bad"), "dns.failed"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), "tcp.refused"),
        (OSError(errno.EHOSTUNREACH, "no"), "tcp.unreachable"),
        (OSError(errno.ENETUNREACH, "no"), "tcp.unreachable"),
        (TimeoutError(), "tcp.timeout"),
        (OSError(errno.EPROTO, "odd"), "tcp.failed"),
    ],
)
def test_each_way_not_to_connect_has_its_cause(error: Exception, code: str) -> None:
    cause = reasons.of_connect(error, "broker.example")
    assert cause.code == code
    assert cause.detail
    assert cause.advice


def test_a_file_that_cannot_be_used_is_named_by_its_key(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(dial.DialRefused) as refused:
        dial.password(BrokerSettings(url="mqtt://h", username="u", password_file=absent))
    cause = refused.value.cause
    assert cause.code == "file.password_file"
    assert str(absent) in cause.detail
    assert cause.advice
    (tmp_path / "secret").write_bytes(b"pass word \r\n")
    assert (
        dial.password(BrokerSettings(url="mqtt://h", username="u", password_file=tmp_path / "secret")) == "pass word "
    )


def test_the_own_certificate_goes_with_its_own_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("one")
    _, other = authority.sign("two")
    place = Endpoint.parse("mqtts://localhost")
    settings = BrokerSettings(url="mqtts://localhost", ca_file=authority.ca_file, cert_file=cert, key_file=key)
    context = dial.tls_context(settings, place)
    assert context.cert_store_stats()["x509_ca"] == 1, "no other authority than the configured one"
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_TRUSTED_FIRST, "the other flags stay"
    wrong = BrokerSettings(url="mqtts://localhost", ca_file=authority.ca_file, cert_file=cert, key_file=other)
    with pytest.raises(dial.DialRefused):
        dial.tls_context(wrong, place)


# The proxy's bytes.


def test_a_socks_proxy_that_answers_a_byte_at_a_time_and_a_user_without_a_password() -> None:
    near, far = socket.socketpair()
    asked: list[bytes] = []

    def serve() -> None:
        for wanted, answer in ((4, b"\x05\x02"), (7, b"\x01\x00"), (11, b"\x05\x00\x00\x01" + bytes(6))):
            asked.append(exactly(far, wanted))
            for at in range(len(answer)):
                time.sleep(0.005)
                far.sendall(answer[at : at + 1])

    threading.Thread(target=serve, daemon=True).start()
    near.settimeout(5)
    proxy.tunnel(near, Proxy.parse("socks5://p:1", "shop"), None, "host", 258)
    assert asked == [b"\x05\x02\x00\x02", b"\x01\x04shop\x00", b"\x05\x01\x00\x03\x04host\x01\x02"]
    near.close()
    far.close()


@pytest.mark.parametrize(("code", "said"), [(403, "403 Forbidden"), (599, "599")])
def test_a_refusal_is_said_by_its_code(code: int, said: str) -> None:
    near, far = socket.socketpair()
    far.sendall(f"HTTP/1.1 {code} of our own\r\n\r\n".encode())
    with pytest.raises(proxy.ProxyRefused) as refused:
        proxy.tunnel(near, Proxy.parse("http://p:1"), None, "host", 1)
    assert refused.value.cause.detail == f"the proxy refuses the way to host:1: {said}"
    near.close()
    far.close()


def test_a_tls_failure_without_a_name_of_its_own() -> None:
    error = ssl.SSLError(1, "bad ecpoint")
    error.reason = "BAD_ECPOINT"
    cause = reasons.of_tls(error)
    assert (cause.code, "BAD_ECPOINT" in cause.detail, bool(cause.advice)) == ("tls.failed", True, True)
