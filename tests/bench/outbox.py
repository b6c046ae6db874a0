"""What the outbox costs beside stock TinyDB and SQLite (WAL, synchronous=FULL), in one run on this disk.

`python -m tests.bench.outbox [--quick] [--json]`. Times are medians of interleaved rounds, in microseconds an event;
the ratio to SQLite at the same promise is what to rely on. It says nothing about an SD card.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinydb import TinyDB

from gateway.disk import RealDisk
from gateway.model import Instant
from gateway.outbox import InlineWriter, Outbox, OutboxSettings
from tests.outbox.histories import describe_loss

NOW = Instant(0, 1_763_800_000_000_000_000)
PAYLOAD = b'{"type":"store.door.passed","subject":"entrance","data":{"direction":"in"},"x":"%b"}' % (b"y" * 220)
DOCUMENT = json.loads(PAYLOAD)


class Ours:
    """The outbox, committing at once."""

    def __init__(self, directory: Path) -> None:
        disk = RealDisk()
        self.outbox = Outbox.open(str(directory / "o"), OutboxSettings(), disk, InlineWriter(disk), NOW, describe_loss)

    def append(self, batch: int) -> None:
        for _ in range(batch):
            self.outbox.append("door", PAYLOAD, NOW)
        self.outbox.commit(NOW)

    def deliver(self, batch: int) -> None:
        entries = self.outbox.read("door", 0, batch, 1 << 24)
        self.outbox.acknowledge("door", entries[0].sequence, entries[-1].sequence)


class Sqlite:
    """A queue in SQLite that promises the same."""

    def __init__(self, directory: Path) -> None:
        self.db = sqlite3.connect(directory / "q.db", isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute("CREATE TABLE q (id INTEGER PRIMARY KEY, payload BLOB)")

    def append(self, batch: int) -> None:
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO q (payload) VALUES (?)", [(PAYLOAD,)] * batch)
        self.db.execute("COMMIT")

    def deliver(self, batch: int) -> None:
        rows = self.db.execute("SELECT id, payload FROM q ORDER BY id LIMIT ?", (batch,)).fetchall()
        self.db.execute("DELETE FROM q WHERE id <= ?", (rows[-1][0],))


def timed_us(act: Callable[[int], Any], batch: int) -> float:
    began = time.perf_counter()
    act(batch)
    return (time.perf_counter() - began) / batch * 1e6


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Return name -> value, aim (a ratio to the peer) and the peer's value."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        ours, peer = Ours(Path(place)), Sqlite(Path(place))
        for batch, aim_append, aim_cycle in ((1, 1.0, 0.45), (10, 1.0, 0.45), (100, 1.1, 0.7)):
            times: dict[str, list[float]] = {"ours": [], "peer": [], "ours cycle": [], "peer cycle": []}
            for _ in range(rounds):
                for name, store in (("ours", ours), ("peer", peer)):
                    append_us = timed_us(store.append, batch)
                    times[name].append(append_us)
                    times[f"{name} cycle"].append(append_us + timed_us(store.deliver, batch))
            median = {name: round(statistics.median(found), 2) for name, found in times.items()}
            results[f"append_{batch}_us"] = {"value": median["ours"], "aim": aim_append, "peer": median["peer"]}
            results[f"cycle_{batch}_us"] = {
                "value": median["ours cycle"],
                "aim": aim_cycle,
                "peer": median["peer cycle"],
            }
        began = time.process_time()
        for _ in range(20):
            ours.append(1000)
        cpu_us = (time.process_time() - began) / 20_000 * 1e6
        results["append_grouped_cpu_us"] = {"value": round(cpu_us, 2), "aim": 3.0, "peer": None}
        began = time.perf_counter()
        for _ in range(40):
            ours.deliver(500)
        drained = 20_000 / (time.perf_counter() - began)
        results["drain_per_s"] = {"value": round(drained), "aim": 400_000, "peer": None}
        stock = TinyDB(Path(place) / "stock.json")
        stock.insert_multiple([DOCUMENT] * 10_000)
        stock_us = statistics.median(timed_us(lambda _: stock.insert(DOCUMENT), 1) for _ in range(3))
        for _ in range(10):
            ours.append(1000)
        ours_us = statistics.median(timed_us(ours.append, 1) for _ in range(20))
        results["append_at_10k_us"] = {"value": round(ours_us, 1), "aim": 0.01, "peer": round(stock_us, 1)}
    return results


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="under a minute")
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    results = measure(60 if chosen.quick else 600)
    if chosen.json:
        print(json.dumps(results))
        return
    for name, found in results.items():
        ratio = f"  ratio {found['value'] / found['peer']:.3f}" if found["peer"] else ""
        print(f"{name:24} {found['value']:>12}  peer {found['peer'] or '-':>10}  aim {found['aim']}{ratio}")


if __name__ == "__main__":
    main()
