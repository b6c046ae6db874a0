"""One outbox on the model disk, with time that moves only when told."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gateway.model import Instant, Stream
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from tests.outbox.histories import DIRECTORY, WALL_NS, describe_loss
from tests.simulation.disk import ModelDisk


class Bench:
    """A model disk, a clock, and the outbox on it."""

    def __init__(self) -> None:
        self.disk = ModelDisk(Random(1))
        self.now = Instant(0, WALL_NS)
        self.settings = OutboxSettings(bytes_max=1 << 20)
        self.outbox = self.open()

    def open(self, **changed: Any) -> Outbox:
        """Open it (again), as after a kill."""
        self.disk.kill()
        if changed:
            self.settings = OutboxSettings(**{"bytes_max": 1 << 20, **changed})
        writer = InlineWriter(self.disk)
        self.outbox = Outbox.open(DIRECTORY, self.settings, self.disk, writer, self.now, describe_loss, 0)
        return self.outbox

    def pass_time(self, seconds: float) -> None:
        self.now = self.now.later(int(seconds * 1e9))
        self.outbox.step(self.now)

    def record(self, stream: Stream, count: int, payload: Callable[[int], bytes] | None = None) -> list[bytes]:
        """Record `count` entries durably and return their payloads."""
        make = payload or event
        first = self.outbox.next_sequence(stream)
        payloads = [make(first + index) for index in range(count)]
        for content in payloads:
            self.outbox.append(stream, content, self.now)
        self.outbox.commit(self.now)
        return payloads

    def sequences(self, stream: Stream) -> list[int]:
        """Return everything that is handed out now."""
        found: list[int] = []
        while entries := self.outbox.read(stream, found[-1] if found else 0, 100, 1 << 20):
            found += [entry.sequence for entry in entries]
        return found

    def files(self, stream: Stream) -> list[str]:
        return [path for path in self.disk.paths() if path.startswith(f"{DIRECTORY}/{stream}/")]


def event(number: int) -> bytes:
    direction = b"in" if number % 2 else b"out"
    data = b'"data":{"direction":"%b","n":%d}' % (direction, number)
    return b'{"type":"store.door.passed","subject":"entrance",%b}' % data


@pytest.fixture
def bench() -> Bench:
    return Bench()
