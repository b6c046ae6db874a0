"""What the outbox costs beside SQLite, TinyDB and other queues on an emulated memory card.

    python -m tests.bench.outbox_card [--quick] [--full] [--json] [--markdown FILE]

Each queue has a card of its own: a real ext4 on a loop device on a file in memory that takes its time (see
`tests.blocks.card`; the latencies are an assumption, printed with the tables). Bytes are those of the block device,
journal included. Time passes as in a shop, so that the outbox saves its state as often as it does there. `--full` adds
a million and five million pending (8 GiB of memory). Without root, FUSE and loop devices it says so and ends.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.clock import SystemClock
from tests.bench.outbox import BATCHES, DEVICE_AIMS, FULL, ONE_BY_ONE, _against, _number, _table
from tests.bench.queues import PAYLOAD, QUEUES, Ours, Queue, missing
from tests.blocks.card import FAST, SD, card
from tests.blocks.mounts import Missing

PLAIN = "append + fsync"
LIGHT_BYTES, ENTRY_BYTES, BACKLOG_PARTS = 256 << 20, 400, 2
"""A card's size: for itself, and for each entry that waits, twice (a log beside the table, a file written anew)."""
WARM_UP = 800
"""Commits of ten before anything is measured: SQLite's log has come round, our file has its zeros, as in a shop."""

SLOW_TIMES = {"persist-queue": 20, "litequeue": 20, "TinyDB": 3, "TinyDB, cached": 3}


class OursInTime(Ours):
    """The outbox, whose time is the machine's: it saves its state as often as in a shop."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.clock = SystemClock()
        self.outbox.step(self.clock.now())

    def append(self, batch: int) -> None:
        now = self.clock.now()
        for _ in range(batch):
            self.outbox.append("door", PAYLOAD, now)
        self.outbox.commit(now)

    def deliver(self, batch: int) -> None:
        entries = self.outbox.read("door", 0, batch, 1 << 24)
        self.outbox.acknowledge("door", entries[0].sequence, entries[-1].sequence)
        self.outbox.step(self.clock.now())


def open_queue(name: str, directory: Path) -> Queue:
    return OursInTime(directory) if name == "outbox" else QUEUES[name][0](directory)


def timed_us(act: Callable[[int], Any], batch: int, times: int) -> float:
    """Return the median of `times`, an entry."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        act(batch)
        found.append((time.perf_counter() - began) / batch * 1e6)
    return statistics.median(found)


def on_a_card(name: str, pending: int, batches: Sequence[int], times: int) -> list[dict[str, Any]]:
    """Measure one queue on its own card while `pending` entries wait: time and device bytes, append and delivery."""
    size_bytes = LIGHT_BYTES + pending * ENTRY_BYTES * BACKLOG_PARTS
    rows = []
    with tempfile.TemporaryDirectory(prefix="card-") as place, card(Path(place), size_bytes) as disk:
        queue = open_queue(name, disk.path)
        queue.fill(pending)
        for _ in range(WARM_UP if name not in ONE_BY_ONE else 0):
            queue.append(10)

        def live(batch: int) -> None:
            queue.append(batch)
            queue.deliver(batch)

        for batch in batches:
            row: dict[str, Any] = {"name": name, "pending": pending, "batch": batch}
            for what, act in (("append", queue.append), ("cycle", live)):
                if act == live and name == PLAIN:
                    continue
                before = disk.written_bytes()
                disk.slow(SD)
                row[f"{what}_us"] = timed_us(act, batch, times)
                disk.slow(FAST)
                row[f"{what}_bytes"] = (disk.written_bytes() - before) / times / batch
            rows.append(row)
        queue.close()
    return rows


def compare(rows: list[dict[str, Any]]) -> None:
    """Add the ratios to SQLite at the same promise, and the aims."""
    full = {(row["pending"], row["batch"]): row for row in rows if row["name"] == FULL}
    aims = {batch: {"append_us": append, "cycle_us": cycle} for batch, append, cycle in BATCHES}
    for row in rows:
        for what in ("append_us", "cycle_us", "append_bytes", "cycle_bytes"):
            if what in row:
                row[f"{what}_ratio"] = row[what] / full[row["pending"], row["batch"]][what]
        if row["name"] == "outbox" and row["pending"] == 0:
            row |= {f"{what}_aim": aim for what, aim in aims.get(row["batch"], {}).items()}
            if row["batch"] in DEVICE_AIMS:
                row["cycle_bytes_aim"] = DEVICE_AIMS[row["batch"]]


def measure(quick: bool, full: bool) -> dict[str, Any]:
    """Measure everything. Raises Missing."""
    here = [name for name in QUEUES if name not in missing()]
    batched = [name for name in here if name not in ONE_BY_ONE]
    times = 40 if quick else 200  # at a hundred a commit: more than one file of ours
    commits = [row for name in batched for row in on_a_card(name, 0, (1, 10, 100), times)]
    backlog: list[dict[str, Any]] = []
    for pending in (1000,) if quick else (1000, 100_000, 1_000_000, 5_000_000) if full else (1000, 100_000):
        names = here if pending <= 100_000 else ["outbox", FULL, "SQLite WAL NORMAL", PLAIN]
        for name in names:
            backlog += on_a_card(name, pending, (1,), min(times // 2, SLOW_TIMES.get(name, times)))
    compare(commits)
    compare(backlog)
    return {
        "card": str(SD),
        "commits": commits,
        "backlog": backlog,
        "skipped": list(missing().values()),
    }


def _cells(row: dict[str, Any], what: str) -> list[str]:
    return [_number(row.get(what)), _against(row, what)]


def as_markdown(results: dict[str, Any]) -> str:
    """Write the tables."""

    today = datetime.date.today().isoformat()  # noqa: DTZ011
    measured = ("append_us", "cycle_us", "append_bytes", "cycle_bytes")
    times = ["append, µs", "ratio", "life cycle, µs", "ratio"]
    sizes = ["append, device bytes", "ratio", "life cycle, device bytes", "ratio"]
    commits = [
        [row["name"], str(row["batch"]), *(cell for what in measured for cell in _cells(row, what))]
        for row in results["commits"]
    ]
    backlog = [
        [row["name"], f"{row['pending']:,}", *(cell for what in measured for cell in _cells(row, what))]
        for row in results["backlog"]
    ]
    said = [
        f"Measured {today}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, events "
        f"of {len(PAYLOAD)} bytes, on an emulated card; assumed of it: {results['card']}, reads free. "
        "Ratios are to SQLite WAL FULL; a life cycle is append, read, acknowledge.\n",
        _table(["emulated card, an event", "a commit", *times, *sizes], commits),
        _table(["emulated card, one event a commit", "pending", *times, *sizes], backlog),
    ]
    said += [f"Not measured: {why}.\n" for why in results["skipped"]]
    return "\n".join(said)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="under a minute")
    arguments.add_argument("--full", action="store_true", help="a million and five million pending too")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    chosen = arguments.parse_args()
    try:
        results = measure(chosen.quick, chosen.full)
    except Missing as error:
        print(json.dumps({"skipped": [str(error)]}) if chosen.json else f"no emulated card here: {error}")
        return
    if chosen.markdown:
        chosen.markdown.write_text(as_markdown(results), encoding="utf-8")
    print(json.dumps(results, indent=2) if chosen.json else as_markdown(results))


if __name__ == "__main__":
    main()
