"""Catching up after an outage: `python -m tests.bench.resync [--quick] [--events N] [--write]`.

A real outbox on this disk with so many events (a fiftieth of them on the line of 1 Mbit/s without compression), the
product's uplink and link, mosquitto behind a proxy that delays and limits. Two live events a second are recorded
meanwhile; theirs is the time from recording to acknowledgement. `--write` keeps the table in results/uplink.md.
"""

from __future__ import annotations

import argparse
import datetime
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.model import NS_PER_S, Event
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter, ThreadWriter
from gateway.uplink.settings import BrokerSettings
from gateway.wire import record
from tests.outbox.histories import describe_loss
from tests.uplink.brokers import mosquitto
from tests.uplink.memory_outbox import Passed
from tests.uplink.shop import Shop
from tests.uplink.slow_line import slow_line

RESULTS = Path(__file__).parent / "results" / "uplink.md"
EXTRA = ("max_inflight_messages 1000", "max_queued_messages 0")
LIVE_EVERY_NS = NS_PER_S // 2
MBIT = 125_000.0
LINES: tuple[tuple[str, float, float | None, str], ...] = (
    ("0 ms", 0.0, None, "none"),
    ("25 ms", 0.025, None, "none"),
    ("100 ms", 0.1, None, "none"),
    ("100 ms, gzip", 0.1, None, "gzip"),
    ("50 ms, 1 Mbit/s", 0.05, MBIT, "none"),
    ("50 ms, 1 Mbit/s, gzip", 0.05, MBIT, "gzip"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line's result. `cpu_us` is the client's CPU an event, outbox and acknowledgements included."""

    line: str
    events: int
    wall_s: float
    per_s: float
    cpu_us: float
    live_p50_ms: float
    live_p95_ms: float


class CatchingUp(Shop):
    """A shop with a real outbox, which records a live event twice a second while the backlog drains."""

    def __init__(self, settings: BrokerSettings, outbox: Outbox) -> None:
        super().__init__(settings, outbox)  # type: ignore[arg-type]
        self.real = outbox
        self.recorded_ns: dict[int, int] = {}
        self.late_ms: list[float] = []
        self._next_ns = 0

    def step(self, wait_s: float = 0.02) -> None:
        now = self.clock.now()
        if self.uplink.status().up and now.boot_ns >= self._next_ns:
            self._next_ns = now.boot_ns + LIVE_EVERY_NS
            payload = record(Event("entrance", replace(now, clock="synced"), Passed("in")), "969b0c7f")
            sequence = self.real.append("door", payload, now)
            assert sequence is not None
            self.recorded_ns[sequence] = now.boot_ns
            self.real.commit(now)
        self.real.step(now)
        super().step(wait_s)
        through = self.real.positions("door").acknowledged_through
        for sequence in [sequence for sequence in self.recorded_ns if sequence <= through]:
            late_ns = self.clock.now().boot_ns - self.recorded_ns.pop(sequence)
            self.late_ms.append(late_ns / 1e6)


def filled(directory: Path, events: int) -> Outbox:
    """Return an outbox of an earlier run with so many events."""
    disk = RealDisk()
    clock = SystemClock()
    settings = OutboxSettings(bytes_max=4 << 30)
    outbox = Outbox.open(str(directory), settings, disk, InlineWriter(disk), clock.now(), describe_loss)
    for number in range(events):
        at = replace(clock.now(), clock="synced")
        outbox.append("beacon", record(Event(f"tag-{number % 400}", at, Passed("in")), "969b0c7f"), at)
        if number % 1000 == 999:
            outbox.commit(at)
    outbox.commit(clock.now())
    outbox.close(clock.now())
    writer = ThreadWriter(disk, lambda: None)
    return Outbox.open(str(directory), settings, disk, writer, clock.now(), describe_loss)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def caught_up(name: str, events: int, round_trip_s: float, bytes_per_s: float | None, compression: Any) -> Row:
    """Measure one line."""
    with (
        tempfile.TemporaryDirectory() as place,
        mosquitto(Path(place), extra=EXTRA) as broker,
        slow_line(broker.port, round_trip_s, bytes_per_s) as port,
    ):
        outbox = filled(Path(place) / "outbox", events)
        settings = BrokerSettings(url=f"mqtt://127.0.0.1:{port}", backfill_compression=compression)
        shop = CatchingUp(settings, outbox)
        shop.until(lambda: shop.uplink.status().up, 10)
        cpu, began = cpu_s(), time.perf_counter()
        shop.until(lambda: outbox.positions("beacon").backlog == 0, 1500)
        wall, cpu = time.perf_counter() - began, cpu_s() - cpu
        late = sorted(shop.late_ms) or [0.0]
        shop.close()
        outbox.close(shop.clock.now())
        p95 = late[min(len(late) - 1, int(0.95 * len(late)))]
        return Row(name, events, wall, events / wall, cpu / events * 1e6, late[len(late) // 2], p95)


def daemon(events: int) -> str:
    """Let `gateway run` itself catch up, from its start to its clean stop; say wall and CPU."""
    from tests.daemon import Shop as Site
    from tests.daemon import ended, passages

    with tempfile.TemporaryDirectory() as place, mosquitto(Path(place), extra=EXTRA) as broker:
        site = Site(Path(place), broker.url)
        filled(site.outbox, events).close(SystemClock().now())
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        status, said = ended(site.run("--recording", site.recording(passages(1)), "--speed", "max"), 300)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert status == 0, said
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (
        f"`gateway run` with {events:,} events, from its start until all is acknowledged: {wall:.1f} s, {cpu:.1f} s CPU"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Catching up after an outage, over lines of several kinds.")
    parser.add_argument("--quick", action="store_true", help="50,000 events")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    events = 50_000 if asked.quick else asked.events
    lines = [
        f"## {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: catching up with {events:,} events",
        "",
        "| line | events | wall s | events/s | CPU us/event | live p50 ms | live p95 ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    for name, round_trip_s, bytes_per_s, compression in LINES:
        count = events if bytes_per_s is None else events // (50 if compression == "none" else 1)
        row = caught_up(name, max(5000, count), round_trip_s, bytes_per_s, compression)
        lines.append(
            f"| {row.line} | {row.events:,} | {row.wall_s:.1f} | {row.per_s:,.0f} | {row.cpu_us:.1f} "
            f"| {row.live_p50_ms:.0f} | {row.live_p95_ms:.0f} |"
        )
        print(lines[-1], flush=True)
    lines += ["", daemon(min(events, 100_000)) + "."]
    print("\n".join(lines[-2:]))
    if asked.write:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
