"""A tap on the running daemon's readings, for `gateway record` and live views: bounded, and closed when nobody asks.

The asker polls with the number it has seen last; what it was too slow for is told as `missed`, never waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from gateway.model import NS_PER_S, DriverFailed, DriverRecovered, Instant, Reading
from gateway.sensors.kind import Kind

KEPT_MAX = 20_000
"""Readings between two polls at most: some seconds of the busiest shop, some 10 MB."""
ANSWER_MAX = 5_000
"""Readings an answer at most: below the control socket's 8 MiB."""
CLOSED_AFTER_NS = 10 * NS_PER_S


class Tap:
    """Keeps the latest readings as lines of a recording, while somebody asks for them."""

    def __init__(self, kinds: Mapping[str, Kind[Any]]) -> None:
        self._kinds = kinds
        self._lines: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT_MAX)
        self._number = 0
        self._asked_ns: int | None = None  # in the sensors' time, which a recording may run ahead of the machine's
        self._latest_ns = 0

    def take(self, reading: Reading) -> None:
        """Keep a reading, if somebody asked in the last 10 s of the sensors' time."""
        self._latest_ns = max(self._latest_ns, reading.at.boot_ns)
        if self._asked_ns is None or isinstance(reading, DriverFailed | DriverRecovered):
            return
        if reading.at.boot_ns - self._asked_ns > CLOSED_AFTER_NS:
            self._asked_ns = None
            self._lines.clear()
            return
        if (kind := self._kinds.get(reading.sensor)) is None:
            return
        self._number += 1
        line = {"boot_ns": reading.at.boot_ns, "sensor": reading.sensor, **kind.line_of(reading)}
        self._lines.append((self._number, line))

    def since(self, after: int | None, now: Instant) -> dict[str, Any]:
        """Return the readings after number `after` (None: begin here), the last number, and how many were missed."""
        self._asked_ns = max(now.boot_ns, self._latest_ns)
        if after is None:
            return {"after": self._number, "boot_ns": now.boot_ns, "wall_ns": now.wall_ns, "lines": [], "missed": 0}
        found = [(number, line) for number, line in self._lines if number > after][:ANSWER_MAX]
        missed = found[0][0] - after - 1 if found else 0
        last = found[-1][0] if found else after
        return {"after": last, "lines": [line for _, line in found], "missed": missed}
