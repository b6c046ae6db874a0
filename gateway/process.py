"""The process around the daemon: its signals, and what it tells systemd."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


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
    """systemd's notification socket (sd_notify(3)): one datagram a word; nothing where there is no systemd."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")

    def say(self, word: str) -> None:
        """Send a word such as `READY=1`; a systemd that does not listen is not waited for."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(word.encode(), address)
