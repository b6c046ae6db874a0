"""What the outbox costs beside SQLite, TinyDB and other queues on an emulated memory card.

    python -m tests.bench.outbox_card [--quick] [--full] [--json] [--markdown FILE]

Each queue has a card of its own: a real ext4 on a loop device on a file in memory that takes its time (see
`tests.blocks.card`; the latencies are an assumption, printed with the tables). Bytes are those of the block device,
journal included. Time passes as in a shop, so that the outbox saves its state as often as it does there. `--full` adds
a million and five million pending (12 GiB of memory). Last comes the whole pipeline on a card that stalls (`stalls`).
Without root, FUSE and loop devices it says so and ends.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.machine.clock import SystemClock
from tests.bench import stalls
from tests.bench.outbox import BATCHES, DEVICE_AIMS, FULL, ONE_BY_ONE, _against, _number, _table, chosen_options
from tests.bench.queues import PAYLOAD, QUEUES, Ours, Queue, missing
from tests.blocks.card import FAST, SD, SD_STALLS, Card, card
from tests.blocks.mounts import Missing

STALL_TIMES = [f"{what} p{part}" for what in ("recorded", "published") for part in (50, 95, 99, 100)]
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


@dataclass(slots=True)
class Subject:
    """A queue on its card, and what was measured of it."""

    name: str
    card: Card
    queue: Queue
    times: int
    row: dict[str, Any] = field(default_factory=dict)

    def act(self, what: str, batch: int) -> float:
        """Append, and for a life cycle deliver as well; return the microseconds an entry."""
        began = time.perf_counter()
        self.queue.append(batch)
        if what == "cycle":
            self.queue.deliver(batch)
        return (time.perf_counter() - began) / batch * 1e6


@contextmanager
def on_cards(names: Sequence[str], pending: int, times: int) -> Iterator[list[Subject]]:
    """Open each queue on its own card, with `pending` entries waiting."""
    size_bytes = LIGHT_BYTES + pending * ENTRY_BYTES * BACKLOG_PARTS
    with ExitStack() as stack:
        subjects = []
        for name in names:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="card-"))
            disk = stack.enter_context(card(Path(place), size_bytes))
            queue = OursInTime(disk.path) if name == "outbox" else QUEUES[name][0](disk.path)
            stack.callback(queue.close)
            queue.fill(pending)
            for _ in range(WARM_UP if name not in ONE_BY_ONE else 0):
                queue.append(10)
            subjects.append(Subject(name, disk, queue, min(times, SLOW_TIMES.get(name, times))))
        yield subjects


def in_turn(names: Sequence[str], pending: int, batches: Sequence[int], times: int) -> list[dict[str, Any]]:
    """Measure time and device bytes of append and of the life cycle, each of `names` in turn."""
    rows = []
    with on_cards(names, pending, times) as subjects:
        for batch in batches:
            for subject in subjects:
                subject.row = {"name": subject.name, "pending": pending, "batch": batch}
            for what in ("append", "cycle"):
                measure_one(what, batch, [one for one in subjects if one.name != PLAIN or what == "append"])
            rows += [subject.row for subject in subjects]
    return rows


def measure_one(what: str, batch: int, subjects: Sequence[Subject]) -> None:
    """Add the median time and the mean of the bytes to each row."""
    before = [subject.card.written_bytes() for subject in subjects]
    found: list[list[float]] = [[] for _ in subjects]
    for subject in subjects:
        subject.card.slow(SD)
    for index in range(max(subject.times for subject in subjects)):
        for subject, times_us in zip(subjects, found, strict=True):
            if index < subject.times:
                times_us.append(subject.act(what, batch))
    for subject, times_us, bytes_before in zip(subjects, found, before, strict=True):
        subject.card.slow(FAST)
        written = subject.card.written_bytes() - bytes_before
        subject.row[f"{what}_us"] = statistics.median(times_us)
        subject.row[f"{what}_bytes"] = written / subject.times / batch


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
    commits = in_turn(batched, 0, (1, 10, 100), times)
    backlog = in_turn(here, 1000, (1,), times // 2)
    if not quick:
        backlog += in_turn(here, 100_000, (1,), times // 2)
    for pending in (1_000_000, 5_000_000) if full else ():
        backlog += in_turn(["outbox", FULL], pending, (1,), times // 2)
    compare(commits)
    compare(backlog)
    return {
        "card": str(SD),
        "stalls": stalls.measure(10 if quick else 120),
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
    if results["stalls"]:
        said += [
            f"The whole pipeline, {stalls.DOORS} doors with {stalls.DOORS / stalls.EVERY_S:g} passages a second, from "
            f"the last beam edge to recorded and to the broker's PUBACK; with stalls: {SD_STALLS}.\n",
            _table(
                ["emulated card", "passages", "lost", "stalls", *(f"{what}, ms" for what in STALL_TIMES)],
                [
                    [row["name"], *(f"{row[what]:,}" for what in ("passages", "lost", "stalled"))]
                    + [_number(row[f"{what.replace(' ', '_')}_ms"], 0) for what in STALL_TIMES]
                    for row in results["stalls"]
                ],
            ),
        ]
    said += [f"Not measured: {why}.\n" for why in results["skipped"]]
    return "\n".join(said)


def main() -> None:
    """Measure and print."""
    chosen = chosen_options(__doc__)
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
