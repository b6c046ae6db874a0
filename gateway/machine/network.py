"""Watches the machine's network interfaces: a link that gets an address is worth an attempt at once.

The kernel tells over a routing socket (rtnetlink(7)). Where there is none the daemon just waits out its back-off.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable

from gateway.machine.threads import joined, started

log = logging.getLogger(__name__)

RTMGRP_IPV4_IFADDR = 0x10  # <linux/rtnetlink.h>
RTMGRP_IPV6_IFADDR = 0x100
RTM_NEWADDR = 20
HEADER = struct.Struct("=LHHLL")  # struct nlmsghdr: length, type, flags, sequence, port
LOOK_EVERY_S = 0.5


def names_new_address(datagram: bytes) -> bool:
    """Return whether one of the netlink messages of a datagram is RTM_NEWADDR; garbage is none."""
    at = 0
    while at + HEADER.size <= len(datagram):
        length, kind, *_ = HEADER.unpack_from(datagram, at)
        if kind == RTM_NEWADDR:
            return True
        if length < HEADER.size:
            return False
        at += (length + 3) & ~3
    return False


class NetworkWatch:
    """Calls `came_up` from a thread of its own when an interface gets an address."""

    def __init__(self, came_up: Callable[[], object]) -> None:
        self._came_up = came_up
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="network-watch", daemon=True)

    def start(self) -> None:
        started(self._thread)

    def close(self) -> None:
        self._stopping.set()
        joined(self._thread, 2 * LOOK_EVERY_S)

    def _run(self) -> None:
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
                kernel.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
                kernel.settimeout(LOOK_EVERY_S)
                while not self._stopping.is_set():
                    self._look(kernel)
        except OSError as error:
            log.info("network interfaces are not watched: %s", error)

    def _look(self, kernel: socket.socket) -> None:
        try:
            if names_new_address(kernel.recv(65_536)):
                self._came_up()
        except TimeoutError:
            pass
