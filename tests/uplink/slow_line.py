"""A line between client and broker that is slow: a proxy in a process of its own, which delays and limits.

`with slow_line(port, round_trip_s=0.05, bytes_per_s=125_000) as near:` listens on loopback port `near`. The limit is on
the way to the broker, with a queue of 256 KiB before it, as a store's modem has; half the round trip passes each way.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from queue import Queue

QUEUE_BYTES = 256 * 1024
PACKET = 1460


@contextmanager
def slow_line(port: int, round_trip_s: float, bytes_per_s: float | None = None) -> Iterator[int]:
    """Run the proxy to loopback `port`."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=_listen, args=(theirs, port, round_trip_s / 2, bytes_per_s), daemon=True
    )
    child.start()
    try:
        yield int(ours.recv())
    finally:
        child.kill()
        child.join(5)


def _listen(told: Connection, port: int, delay_s: float, bytes_per_s: float | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told.send(listener.getsockname()[1])
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, rate in ((near, far, bytes_per_s), (far, near, None)):
                held: Queue[tuple[float, bytes]] = Queue(QUEUE_BYTES // PACKET if rate else 0)
                threading.Thread(target=_take, args=(source, held, delay_s, rate), daemon=True).start()
                threading.Thread(target=_give, args=(sink, held), daemon=True).start()


def _take(source: socket.socket, held: Queue[tuple[float, bytes]], delay_s: float, bytes_per_s: float | None) -> None:
    free_s = 0.0
    while True:
        try:
            data = source.recv(PACKET if bytes_per_s else 65536)
        except OSError:
            data = b""
        now_s = time.monotonic()
        if bytes_per_s:
            free_s = max(now_s, free_s) + len(data) / bytes_per_s
        held.put((max(now_s, free_s) + delay_s, data))
        if not data:
            return


def _give(sink: socket.socket, held: Queue[tuple[float, bytes]]) -> None:
    while True:
        at_s, data = held.get()
        time.sleep(max(0.0, at_s - time.monotonic()))
        try:
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
        except OSError:
            return
