"""Readings and status fetched in a thread of its own, for views that must not wait.

Law: the view drains, the thread fetches; where the daemon ends meanwhile, `error` says so and the thread is done.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection, Mapping
from typing import Any

from gateway.config import Configuration
from gateway.errors import GatewayError
from gateway.machine.clock import Clock
from gateway.machine.threads import joined
from gateway.model import NS_PER_S, Reading
from gateway.sensors.fault import Known
from gateway.technician.sources import open_source

POLL_S = 0.1
STATUS_EVERY_S = 1.0
WAITING_MAX = 50_000
CLOSE_WITHIN_S = 3.0


class Feed:
    """Fetches until closed. `origin` is "daemon" or "hardware"; `known` is beside the readings."""

    def __init__(self, configuration: Configuration, clock: Clock, sensors: Collection[str]) -> None:
        self.known: Mapping[str, Known] = {}
        self.error: GatewayError | None = None
        self._clock = clock
        self._source = open_source(configuration, clock, sensors)
        self.origin = self._source.origin
        self._heard: queue.Queue[tuple[int, Reading]] = queue.Queue(WAITING_MAX)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self.known = self._source.known()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        joined(self._thread, CLOSE_WITHIN_S)
        self._source.close()

    @property
    def status(self) -> Mapping[str, Any] | None:
        """The daemon's status, at most some seconds old; None where none runs."""
        return self._source.status

    def drain(self) -> list[tuple[int, Reading]]:
        """Return what has come since, each with the moment (`boot_ns`) it arrived here."""
        drained = []
        try:
            while True:
                drained.append(self._heard.get_nowait())
        except queue.Empty:
            return drained

    def _run(self) -> None:
        asked_ns = self._clock.now().boot_ns
        try:
            while not self._closing.is_set():
                readings = self._source.poll(POLL_S)
                now_ns = self._clock.now().boot_ns
                for reading in readings:
                    if self._heard.full():
                        break
                    self._heard.put_nowait((now_ns, reading))
                if self.origin == "hardware" or now_ns - asked_ns >= STATUS_EVERY_S * NS_PER_S:
                    asked_ns = now_ns
                    self.known = self._source.known()
        except GatewayError as error:
            self.error = error
