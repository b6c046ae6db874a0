"""The line below paho over real sockets: nothing is lost, nothing changes its place, and nothing waits for ever."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.mqtt.paho_socket import ALONE_BYTES, READ_BYTES, PahoSocket


def unchanged(sock: socket.socket) -> socket.socket:
    return sock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def opened(ours: socket.socket) -> PahoSocket:
    line = PahoSocket(ours, unchanged, 60)
    line.do_handshake()
    line.setblocking(False)
    line.opened()
    return line


def read(sock: socket.socket, count: int) -> bytes:
    said = b""
    while len(said) < count:
        received = sock.recv(count - len(said))
        assert received, "ended early"
        said += received
    return said


def is_quiet(sock: socket.socket) -> bool:
    return not select.select([sock], [], [], 0)[0]


def test_before_it_is_open_what_is_said_goes_out_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    line = PahoSocket(pair[0], unchanged, 60)
    assert line.send(b"CONNECT") == 7
    assert read(pair[1], 7) == b"CONNECT"
    line.close()


def test_small_messages_wait_for_the_flush_and_go_together(pair: tuple[socket.socket, socket.socket]) -> None:
    line = opened(pair[0])
    assert (line.send(b"one "), line.send(b"two")) == (4, 3)
    assert is_quiet(pair[1])
    assert line.is_full
    line.flush()
    assert pair[1].recv(100) == b"one two"
    assert not line.is_full
    line.close()


def test_a_large_message_goes_at_once_but_never_before_what_was_said_first(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    line = opened(pair[0])
    large = random.Random(1).randbytes(ALONE_BYTES)
    assert line.send(large) == len(large)
    assert read(pair[1], len(large)) == large
    assert not line.is_full
    line.send(b"first")
    line.send(large)
    assert is_quiet(pair[1])
    line.flush()
    assert read(pair[1], 5 + len(large)) == b"first" + large
    line.close()


def test_what_the_network_does_not_take_waits_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    line = opened(pair[0])
    chance = random.Random(2)
    said = bytearray()
    while len(said) < 4_000_000:
        part = chance.randbytes(chance.choice([10, 500, ALONE_BYTES, 300_000]))
        assert line.send(part) == len(part)
        said += part
        if chance.random() < 0.3:
            line.flush()
    assert line.is_full
    heard = bytearray()
    while len(heard) < len(said):
        line.flush()
        heard += read(pair[1], min(65_536, len(said) - len(heard))) if not is_quiet(pair[1]) else b""
    assert heard == said
    assert not line.is_full
    line.close()


def test_what_was_read_ahead_is_given_out_whole_and_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    line = opened(pair[0])
    pair[1].sendall(b"abcdefgh")
    assert line.recv(3) == b"abc"
    assert line.pending() == 5
    assert line.recv(100) == b"defgh"
    assert line.pending() == 0
    with pytest.raises(BlockingIOError):
        line.recv(1)  # a short read was all there was
    pair[1].sendall(b"more")
    assert line.recv(4) == b"more"
    pair[1].close()
    with pytest.raises(BlockingIOError):
        line.recv(1)
    assert line.recv(1) == b"", "the end is told"
    line.close()


def test_a_full_read_is_followed_by_the_next(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ_BYTES)
    line = opened(pair[0])
    said = random.Random(3).randbytes(READ_BYTES + 10)
    sender = threading.Thread(target=pair[1].sendall, args=(said,))
    sender.start()
    heard = b""
    until = time.monotonic() + 10
    while len(heard) < len(said) and time.monotonic() < until:
        try:
            heard += line.recv(READ_BYTES)
        except BlockingIOError:
            select.select([pair[0]], [], [], 1)
    sender.join()
    assert heard == said
    line.close()


def test_closing_says_what_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    line = opened(pair[0])
    line.send(b"DISCONNECT")
    line.close()
    assert read(pair[1], 10) == b"DISCONNECT"
    assert pair[1].recv(1) == b""


def test_closing_a_line_that_never_opened_says_nothing_more(pair: tuple[socket.socket, socket.socket]) -> None:
    line = PahoSocket(pair[0], unchanged, 60)
    line.close()
    assert pair[1].recv(1) == b""
    assert line.fileno() == -1


def test_a_handshake_that_hangs_is_ended(pair: tuple[socket.socket, socket.socket]) -> None:
    def wait(sock: socket.socket) -> socket.socket:
        assert sock.recv(1) == b"", "it was shut down"
        raise ConnectionError("no answer")

    line = PahoSocket(pair[0], wait, 0.05)
    with pytest.raises(ConnectionError):
        line.do_handshake()
    assert line.fileno() == -1


def test_an_open_line_is_not_ended_by_the_time_for_the_handshake(pair: tuple[socket.socket, socket.socket]) -> None:
    line = PahoSocket(pair[0], unchanged, 0.05)
    line.do_handshake()
    line.opened()
    line._deadline.join()
    line._give_up()  # the timer may fire in the very moment in which the line opens
    pair[1].sendall(b"x")
    assert line.recv(1) == b"x"
    line.close()
