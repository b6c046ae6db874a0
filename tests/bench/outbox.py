"""What the outbox costs beside SQLite, TinyDB and other queues, in one interleaved run on this disk.

    python -m tests.bench.outbox [--quick] [--full] [--json] [--markdown FILE]

Times are microseconds an event, medians of interleaved rounds; device bytes are counted at a loop device with an
ext4 of its own, journal included. Ratios to SQLite at the same promise are what to rely on: a disk's sync is 0.2 ms
here and 20 ms there. `--full` adds a million and five million pending (4 GiB of disk, some minutes).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.queues import PAYLOAD, QUEUES, SEALED, Ours, Queue, missing
from tests.outbox.block_device import Missing, small_ext4

FULL = "SQLite WAL FULL"
BATCHES = ((1, 1.0, 0.45), (10, 1.0, 0.45), (100, 1.1, 0.7))
"""Events a commit, and the aims: append and life cycle, as parts of SQLite's."""
DEVICE_AIMS = {1: 0.27, 100: 0.6}
ONE_BY_ONE = {"persist-queue", "litequeue", "TinyDB", "TinyDB, cached"}
"""Slow ones: a batch of a hundred of them would only cost time."""


def timed_us(act: Callable[[int], Any], batch: int) -> float:
    began = time.perf_counter()
    act(batch)
    return (time.perf_counter() - began) / batch * 1e6


@contextmanager
def opened(names: list[str]) -> Iterator[dict[str, Queue]]:
    """Open each in a new directory on the disk of the temporary files."""
    with tempfile.TemporaryDirectory() as place:
        yield {name: QUEUES[name][0](Path(place)) for name in names if name not in missing()}


def side_by_side(rounds: int) -> list[dict[str, Any]]:
    """Measure append and life cycle (append, read, acknowledge), everybody in turn."""
    rows = []
    with opened(
        ["outbox", SEALED, FULL, "SQLite WAL NORMAL", "append + fsync", "persist-queue", "litequeue"]
    ) as queues:
        for name in ("outbox", SEALED, FULL):
            for _ in range(300):
                queues[name].append(10)  # SQLite's log has grown, our file has its zeros: as in a shop
        for batch, append_aim, cycle_aim in BATCHES:
            appends: dict[str, list[float]] = {name: [] for name in queues}
            cycles: dict[str, list[float]] = {name: [] for name in queues}
            for index in range(rounds):
                for name, queue in queues.items():
                    if name in ONE_BY_ONE and index >= max(3, rounds // batch // 5):
                        continue
                    append_us = timed_us(queue.append, batch)
                    appends[name].append(append_us)
                    if name != "append + fsync":
                        cycles[name].append(append_us + timed_us(queue.deliver, batch))
            for name in queues:
                row: dict[str, Any] = {"name": name, "batch": batch, "append_us": statistics.median(appends[name])}
                row["append_ratio"] = row["append_us"] / statistics.median(appends[FULL])
                if cycles[name]:
                    row["cycle_us"] = statistics.median(cycles[name])
                    row["cycle_ratio"] = row["cycle_us"] / statistics.median(cycles[FULL])
                if name == "outbox":
                    row |= {"append_aim": append_aim, "cycle_aim": cycle_aim}
                rows.append(row)
    return rows


def at_backlog(count: int, names: list[str], rounds: int) -> list[dict[str, Any]]:
    """Measure one append and one delivery while `count` entries wait."""
    rows = []
    with opened(names) as queues:
        for queue in queues.values():
            queue.fill(count)
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in queues}
        for index in range(rounds):
            for name, queue in queues.items():
                if "TinyDB" in name and index >= 3:
                    continue
                os.sync()  # nobody pays for what the one before has left dirty
                times[name][0].append(timed_us(queue.append, 1))
                if name != "append + fsync":
                    times[name][1].append(timed_us(queue.deliver, 1))
        for name, (appends, delivers) in times.items():
            row = {"name": name, "pending": count, "append_us": statistics.median(appends)}
            if delivers:
                row["deliver_us"] = statistics.median(delivers)
            rows.append(row)
    return rows


OPENING = """
import json, os, sys, time
from pathlib import Path
from gateway.machine.disk import RealDisk
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import ThreadWriter
from tests.bench.queues import NOW, OURS_BYTES_MAX, Ours
from tests.outbox.histories import describe_loss
def rss(): return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
disk = RealDisk()
before = rss()
writer = ThreadWriter(disk)
began = time.perf_counter()
chosen = OutboxSettings(bytes_max=OURS_BYTES_MAX)
outbox = Outbox.open(sys.argv[1] + '/o', chosen, disk, writer, NOW, describe_loss)
opened = time.perf_counter() - began
while not outbox.idle():
    writer.wait(1)
    outbox.step(NOW)
durable = time.perf_counter() - began
outbox.close(NOW)
ours = Ours(Path(sys.argv[1]))
backlog = ours.outbox.positions('door').backlog
for _ in range(400):
    ours.append(10)
    ours.deliver(100)
peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]
above = int(peak[0]) * 1024 - before
found = {'opened_ms': opened * 1e3, 'durable_ms': durable * 1e3, 'backlog': backlog, 'above_imports_bytes': above}
print(json.dumps(found))
os._exit(0)
"""
FILLING = """
import os, sys
from pathlib import Path
from tests.bench.queues import NOW, Ours
ours = Ours(Path(sys.argv[1]))
ours.fill(int(sys.argv[2]))
ours.outbox.append('door', b'{"torn":1}', NOW)
os._exit(0)
"""


def opening(count: int) -> dict[str, Any]:
    """Measure opening after a crash with `count` pending, and memory in the life after it, each in a process."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-c", FILLING, place, str(count)], check=True)
        for folder, _, names in os.walk(place):
            for name in names:
                fd = os.open(os.path.join(folder, name), os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)
        said = subprocess.run([sys.executable, "-c", OPENING, place], check=True, capture_output=True, text=True)
        return {"pending": count, **json.loads(said.stdout), "aim_ms": 100, "aim_bytes": 8 << 20}


def own_costs() -> dict[str, Any]:
    """Measure CPU of a grouped append, and draining."""
    with opened(["outbox"]) as queues:
        ours = queues["outbox"]
        assert isinstance(ours, Ours)
        ours.append(1000)
        began = time.process_time()
        for _ in range(40):
            ours.append(1000)
        cpu_us = (time.process_time() - began) / 40_000 * 1e6
        rates = []
        for _ in range(4):
            began = time.perf_counter()
            for _ in range(20):
                ours.deliver(500)
            rates.append(10_000 / (time.perf_counter() - began))
        return {
            "grouped_cpu_us": cpu_us,
            "grouped_cpu_aim_us": 3.0,
            "drained_per_s": max(rates),
            "drained_aim_per_s": 400_000,
        }


def device_bytes(quick: bool) -> list[dict[str, Any]]:
    """Count what reaches the block device an event: append, and the life cycle. Raises Missing."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for name in ("outbox", SEALED, FULL, "SQLite WAL NORMAL", "append + fsync"):
        with tempfile.TemporaryDirectory() as place, small_ext4(Path(place), 256 << 20) as disk:
            queue = QUEUES[name][0](disk.path)
            for _ in range(300):
                queue.append(10)
            for batch, rounds in (
                (1, 200 if quick else 1000),
                (10, 100 if quick else 400),
                (100, 40 if quick else 200),
            ):
                before = disk.written_bytes()
                for _ in range(rounds):
                    queue.append(batch)
                row = {"name": name, "batch": batch}
                row["append_bytes"] = (disk.written_bytes() - before) / rounds / batch
                if name != "append + fsync":
                    before = disk.written_bytes()
                    for _ in range(rounds):
                        queue.append(batch)
                        queue.deliver(batch)
                    row["cycle_bytes"] = (disk.written_bytes() - before) / rounds / batch
                found[name, batch] = row
            queue.close()
    for (_, batch), row in found.items():
        if "cycle_bytes" in row:
            row["cycle_ratio"] = row["cycle_bytes"] / found[FULL, batch]["cycle_bytes"]
        row["append_ratio"] = row["append_bytes"] / found[FULL, batch]["append_bytes"]
        if row["name"] == "outbox" and batch in DEVICE_AIMS:
            row["cycle_aim"] = DEVICE_AIMS[batch]
    return list(found.values())


def measure(quick: bool, full: bool) -> dict[str, Any]:
    """Measure everything; what cannot be measured here is named in `skipped`."""
    results: dict[str, Any] = {"skipped": list(missing().values())}
    results["side_by_side"] = side_by_side(40 if quick else 300)
    everybody = list(QUEUES)
    results["backlog"] = at_backlog(1000, everybody, 10 if quick else 60)
    some = [name for name in everybody if name != "persist-queue"]  # filling it takes a sync an entry
    results["backlog"] += at_backlog(20_000 if quick else 100_000, some, 10 if quick else 30)
    results["opening"] = [opening(count) for count in ((1000, 100_000) if not full else (1000, 100_000, 1_000_000))]
    if full:
        results["backlog"] += at_backlog(1_000_000, ["outbox", FULL], 60)
        results["backlog"] += at_backlog(5_000_000, ["outbox", FULL], 60)
        results["opening"].append(opening(5_000_000))
    results["own"] = own_costs()
    try:
        results["device"] = device_bytes(quick)
    except Missing as error:
        results["skipped"].append(f"bytes at the block device: {error}")
    return results


def _number(value: Any, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.{digits}f}"


def _against(row: dict[str, Any], what: str) -> str:
    if f"{what}_ratio" not in row:
        return "-"
    aim = f" (aim {row[f'{what}_aim']})" if f"{what}_aim" in row else ""
    return f"{row[f'{what}_ratio']:.2f}{aim}"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_markdown(results: dict[str, Any]) -> str:
    """Write the tables for the README."""
    said = [
        f"Measured {datetime.date.today().isoformat()}, Python {platform.python_version()}, {platform.machine()}, "  # noqa: DTZ011
        f"{os.cpu_count()} cores, events of {len(PAYLOAD)} bytes. Ratios are to SQLite WAL FULL in the same run.\n",
        _table(
            [
                "µs an event",
                "a commit",
                "survives a power cut",
                "append",
                "ratio",
                "append, read, acknowledge",
                "ratio",
            ],
            [
                [
                    row["name"],
                    str(row["batch"]),
                    "yes" if QUEUES[row["name"]][1] else "no",
                    _number(row["append_us"]),
                    _against(row, "append"),
                    _number(row.get("cycle_us")),
                    _against(row, "cycle"),
                ]
                for row in results["side_by_side"]
            ],
        ),
        _table(
            ["one event, µs", "pending", "append", "read and acknowledge"],
            [
                [row["name"], f"{row['pending']:,}", _number(row["append_us"]), _number(row.get("deliver_us"))]
                for row in results["backlog"]
            ],
        ),
        _table(
            [
                "opening after a crash",
                "until it takes events, ms (aim 100)",
                "until durable, ms",
                "memory above the imports, MiB (aim 8)",
            ],
            [
                [
                    f"{row['pending']:,} pending",
                    _number(row["opened_ms"]),
                    _number(row["durable_ms"]),
                    _number(row["above_imports_bytes"] / 2**20),
                ]
                for row in results["opening"]
            ],
        ),
    ]
    if "device" in results:
        rows = [
            [
                row["name"],
                str(row["batch"]),
                _number(row["append_bytes"]),
                _against(row, "append"),
                _number(row.get("cycle_bytes")),
                _against(row, "cycle"),
            ]
            for row in results["device"]
        ]
        said.append(
            _table(["bytes at the device, an event", "a commit", "append", "ratio", "life cycle", "ratio"], rows)
        )
    own = results["own"]
    said.append(
        f"Grouped append {own['grouped_cpu_us']:.2f} µs of CPU an entry (aim {own['grouped_cpu_aim_us']}); "
        f"drained {own['drained_per_s']:,.0f} entries a second (aim {own['drained_aim_per_s']:,}).\n"
    )
    said += [f"Not measured: {why}.\n" for why in results["skipped"]]
    return "\n".join(said)


def chosen_options(about: str | None) -> argparse.Namespace:
    """Read what was asked for on the command line."""
    arguments = argparse.ArgumentParser(description=about)
    arguments.add_argument("--quick", action="store_true", help="under a minute")
    arguments.add_argument("--full", action="store_true", help="a million and five million pending too")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    return arguments.parse_args()


def main() -> None:
    """Measure and print."""
    chosen = chosen_options(__doc__)
    results = measure(chosen.quick, chosen.full)
    if chosen.markdown:
        chosen.markdown.write_text(as_markdown(results), encoding="utf-8")
    print(json.dumps(results, indent=2) if chosen.json else as_markdown(results))


if __name__ == "__main__":
    main()
