"""The whole pipeline on an emulated card that stalls: from the last beam edge to recorded, and to the broker's PUBACK.

Real time, the engine with its writer's thread on the card's ext4, a real mosquitto beside it: twelve doors, twenty
passages a second together. `lost` counts passages that were neither recorded nor acknowledged, and must be 0.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gateway.config import loads
from gateway.engine.assembly import World, assemble
from gateway.engine.engine import Engine
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.model import NS_PER_S
from gateway.mqtt.link import PahoLink
from gateway.outbox.writing import ThreadWriter
from gateway.sensors.door.reading import BeamChanged
from tests.bench.pipeline import identify, mosquitto
from tests.blocks.card import SD, SD_STALLS, Card, card

DOORS = 12
EVERY_S = 0.6
EDGES: tuple[tuple[float, Literal["outer", "inner"], bool], ...] = (
    (0.0, "outer", True),
    (0.09, "inner", True),
    (0.26, "outer", False),
    (0.35, "inner", False),
)
FAILING_SYNCS = 0.002
CARD_BYTES = 256 << 20
DRAINS_WITHIN_S = 60.0
ROWS = (("steady", False, 0.0), ("stalls", True, 0.0), ("stalls, 0.2 % of syncs fail", True, FAILING_SYNCS))


class FailingDisk(RealDisk):
    """The real disk, whose syncs fail now and then: what was written before them is not to be believed."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.failed = 0
        self._share, self._chance = share, random.Random(2)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if self._chance.random() < self._share:
            self.failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@dataclass(slots=True)
class Latencies:
    """When each door's passages ended, and what became of each, by the outbox's numbers."""

    engine: Engine
    ended_ns: dict[str, list[int]] = field(default_factory=dict)
    sequences: list[int] = field(default_factory=list)
    """When the passage ended whose event has the number; index 0 is number 1."""
    recorded_ns: list[int] = field(default_factory=list)
    acknowledged_ns: list[int] = field(default_factory=list)
    _told: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        """Take note of what has become recorded and acknowledged by now."""
        now_ns = self.engine.clock.now().boot_ns
        outbox = self.engine.outbox
        place = outbox.positions("door")
        while len(self.sequences) < place.recorded_through:
            first = len(self.sequences) + 1
            for entry in outbox.read_kept("door", first, place.recorded_through, 1000, 1 << 20):
                door = str(json.loads(entry.payload)["subject"])
                index = self._told[door] = self._told.get(door, -1) + 1
                self.sequences.append(self.ended_ns[door][index])
                self.recorded_ns.append(now_ns - self.sequences[-1])
        for number in range(len(self.acknowledged_ns), place.acknowledged_through):
            self.acknowledged_ns.append(now_ns - self.sequences[number])


def walk_in(engine: Engine, ended_ns: dict[str, list[int]], seconds: float) -> None:
    """Let people pass all doors, evenly spread, for so long."""
    plan = sorted(
        (passage * EVERY_S + door * EVERY_S / DOORS + after_s, f"door-{door}", beam, broken)
        for passage in range(int(seconds / EVERY_S))
        for door in range(DOORS)
        for after_s, beam, broken in EDGES
    )
    began = time.monotonic()
    for at_s, door, beam, broken in plan:
        time.sleep(max(0.0, began + at_s - time.monotonic()))
        now = engine.clock.now()
        if beam == "inner" and not broken:
            ended_ns[door].append(now.boot_ns)
        engine.offer(BeamChanged(door, now, beam, broken))


def one_row(name: str, stalls: bool, failing: float, seconds: float) -> dict[str, Any]:
    """Run the pipeline for `seconds` on a card of its own. Raises Missing."""
    with tempfile.TemporaryDirectory(prefix="card-") as place, mosquitto(Path(place)) as port:  # noqa: SIM117
        with card(Path(place), CARD_BYTES, SD) as disk:
            if stalls:
                disk.stall(SD_STALLS)
            return {"name": name, **play(disk, port, stalls, failing, seconds)}


def play(on: Card, port: int, stalls: bool, failing: float, seconds: float) -> dict[str, Any]:
    """Let people walk in, drain, and tell what it took."""
    doors = "".join(f'[[door]]\nid = "door-{n}"\nouter_pin = {2 * n}\ninner_pin = {2 * n + 1}\n' for n in range(DOORS))
    settings = loads(
        f'[site]\nstore = "0042"\ngateway = "bench"\n[broker]\nurl = "mqtt://127.0.0.1:{port}"\n'
        f'[outbox]\ndirectory = "{on.path}/outbox"\n{doors}'
    )
    disk = FailingDisk(failing)
    world = World(
        clock=SystemClock(),
        disk=disk,
        open_writer=lambda wake: ThreadWriter(disk, wake),
        open_link=lambda configured, emit: PahoLink(configured.broker, "bench", emit),
        random=random.Random(1),
    )
    engine = assemble(settings, world, identify)
    seen = Latencies(engine, {f"door-{number}": [] for number in range(DOORS)})
    while not engine.uplink.status().up:
        engine.step(0.05)
    walking = threading.Thread(target=walk_in, args=(engine, seen.ended_ns, seconds))
    walking.start()
    long_at = time.monotonic() + seconds / 2
    passages = int(seconds / EVERY_S) * DOORS
    until = time.monotonic() + seconds + DRAINS_WITHIN_S
    while len(seen.acknowledged_ns) < passages and time.monotonic() < until:
        engine.step(0.05)
        seen.look()
        if stalls and time.monotonic() >= long_at:
            long_at = until
            on.stall_once(SD_STALLS.long_ms)
    walking.join()
    lost = passages - len(seen.acknowledged_ns) + engine.outbox.status().lost
    engine.link.close()
    engine.outbox.close(engine.clock.now())
    row: dict[str, Any] = {"passages": passages, "lost": lost, "stalled": on.stalled(), "failed_syncs": disk.failed}
    for what, times in (("recorded", seen.recorded_ns), ("published", seen.acknowledged_ns)):
        ordered = sorted(times)
        for part in (50, 95, 99, 100):
            row[f"{what}_p{part}_ms"] = ordered[min(len(ordered) - 1, len(ordered) * part // 100)] / NS_PER_S * 1000
    return row


def measure(seconds: float) -> list[dict[str, Any]]:
    """Measure each row in turn; none without mosquitto. Raises Missing."""
    if shutil.which("mosquitto") is None:
        return []
    return [one_row(*row, seconds) for row in ROWS]
