"""The process around the daemon: its signals, and what it tells systemd."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from gateway.machine.clock import monotonic_usec
from gateway.model import NS_PER_S, Instant

log = logging.getLogger(__name__)

READY_WITHIN_S = 5.0
"""A driver that takes longer for its first word is not waited for: the others count meanwhile."""
DRIVER_HUNG_AFTER_S = 30.0
WRITER_HUNG_AFTER_S = 600.0
"""The kernel gives a card, a stick or a server up in minutes; a disk silent for longer does not come back by itself."""
WRITER = "outbox writer"
FED_EVERY_NS = NS_PER_S
"""The loop may turn thousands of times a second; WatchdogSec= is 30 s."""


class Settling(Protocol):
    """What readiness asks of a driver: whether its first attempt has come to something."""

    def is_settled(self) -> bool: ...


class Progressing(Protocol):
    """What the watchdog asks of a driver: `boot_ns` of its thread's last turn, None while it has no thread."""

    def progress_ns(self) -> int | None: ...


class Signals:
    """While entered, the named signals call `told(number)` instead of ending the process."""

    def __init__(self, told: Callable[[int], object], *numbers: int) -> None:
        self._told = told
        self._numbers = numbers or (signal.SIGTERM, signal.SIGINT)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                self._before[number] = signal.signal(number, lambda received, frame: self._told(received))

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)


class Notify:
    """systemd's notification socket (sd_notify(3)): one datagram a message; nothing where there is no systemd."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")

    def say(self, *words: str) -> None:
        """Send words such as `READY=1` in one message; a systemd that does not listen is not waited for."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto("\n".join(words).encode(), address)

    def reloading(self) -> None:
        """Say that a reload begins; `READY=1` ends it. A systemd that reloads by itself wants to know since when."""
        self.say("RELOADING=1", f"MONOTONIC_USEC={monotonic_usec()}")


class Readiness:
    """Tells systemd once that the daemon has started: who waits for `systemctl start` may then rely on its pins."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._latest_ns: int | None = None
        self._is_told = False

    def tell(self, drivers: Mapping[str, Settling], now: Instant) -> None:
        """Send `READY=1` once every driver reads or has told why not, `READY_WITHIN_S` after the first call at most."""
        if self._is_told:
            return
        if self._latest_ns is None:
            self._latest_ns = now.boot_ns + int(READY_WITHIN_S * NS_PER_S)
        slow = [sensor for sensor, driver in drivers.items() if not driver.is_settled()]
        if slow and now.boot_ns < self._latest_ns:
            return
        if slow:
            log.warning("started before these sensors told how they are sensors=%s", ",".join(slow))
        self._is_told = True
        self._notify.say("READY=1")


class Watchdog:
    """Feeds systemd's watchdog while every thread makes progress, and says once which of them does not.

    A driver that stands still is not fed for: systemd then kills and restarts the daemon, radio and pins with it.
    The outbox's writer is another matter. A restart does not mend a card that hangs, a process that waits for the
    kernel may not even end, and what waits in memory would be lost; so the disk is told of to systemd (`STATUS=`, in
    `systemctl status`) and fed for. Only after `WRITER_HUNG_AFTER_S` is it not: what can be killed is then begun anew.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._fed_ns: int | None = None
        self._hung: list[str] = []

    def feed(self, drivers: Mapping[str, Progressing], writer: Progressing, now: Instant) -> None:
        """Send `WATCHDOG=1`, at most once a second, unless a thread has stood still for too long.

        That is `DRIVER_HUNG_AFTER_S` for a driver, `WRITER_HUNG_AFTER_S` for the writer with work in its hands.
        """
        hung = [
            sensor
            for sensor, driver in drivers.items()
            if (progress_ns := driver.progress_ns()) is not None
            and now.boot_ns - progress_ns > DRIVER_HUNG_AFTER_S * NS_PER_S
        ]
        if hung and hung != self._hung:
            log.error("a driver's thread makes no progress sensors=%s", ",".join(hung))
        silent_ns = 0 if (progress_ns := writer.progress_ns()) is None else now.boot_ns - progress_ns
        if silent_ns > WRITER_HUNG_AFTER_S * NS_PER_S:
            if WRITER not in self._hung:
                log.error("the disk has not answered for %.0f s; the watchdog is not fed", silent_ns / NS_PER_S)
            hung.append(WRITER)
        self._hung = hung
        if not hung and (self._fed_ns is None or now.boot_ns - self._fed_ns >= FED_EVERY_NS):
            self._fed_ns = now.boot_ns
            self._notify.say("WATCHDOG=1")
