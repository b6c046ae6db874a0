"""The outbox and its peers behind one small face, for `tests.bench.outbox`: append a batch, take and acknowledge one.

Each says whether what it has told to be stored survives a power cut. A peer that is not installed is left out by name.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import JSONStorage

from gateway.machine.disk import RealDisk
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.sealing import PLAIN, Sealing
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from tests.outbox.histories import describe_loss

NOW = Instant(0, 1_763_800_000_000_000_000)
PAYLOAD = b'{"type":"store.door.passed","subject":"entrance","data":{"direction":"in"},"x":"%b"}' % (b"y" * 220)
DOCUMENT = json.loads(PAYLOAD)
OURS_BYTES_MAX = 8 << 30
SEALED = "outbox, sealed"
FILL_BATCH = 1000


class Queue(Protocol):
    """A durable queue; `deliver` reads the oldest `batch` and lets go of them."""

    def append(self, batch: int) -> None: ...
    def deliver(self, batch: int) -> None: ...
    def fill(self, count: int) -> None: ...
    def close(self) -> None: ...


class Ours:
    """The outbox, committing at once."""

    sealing = PLAIN

    def __init__(self, directory: Path) -> None:
        disk = RealDisk()
        settings = OutboxSettings(bytes_max=OURS_BYTES_MAX, keep_acknowledged=0.0)
        self.outbox = Outbox.open(
            str(directory / "o"), settings, disk, InlineWriter(disk), NOW, describe_loss, sealing=self.sealing
        )

    def append(self, batch: int) -> None:
        for _ in range(batch):
            self.outbox.append("door", PAYLOAD, NOW)
        self.outbox.commit(NOW)

    def deliver(self, batch: int) -> None:
        entries = self.outbox.read("door", 0, batch, 1 << 24)
        self.outbox.acknowledge("door", entries[0].sequence, entries[-1].sequence)
        self.outbox.step(NOW)

    def fill(self, count: int) -> None:
        for _ in range(0, count, FILL_BATCH):
            self.append(min(FILL_BATCH, count))

    def close(self) -> None:
        self.outbox.close(NOW)


class OursSealed(Ours):
    """The same, sealed at rest."""

    def __init__(self, directory: Path) -> None:
        self.sealing = Sealing(bytes(range(32)))
        super().__init__(directory / "sealed")


class Sqlite:
    """A queue in SQLite's write-ahead log."""

    synchronous = "FULL"

    def __init__(self, directory: Path) -> None:
        self.db = sqlite3.connect(directory / f"{self.synchronous}.db", isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute(f"PRAGMA synchronous={self.synchronous}")
        self.db.execute("CREATE TABLE IF NOT EXISTS q (id INTEGER PRIMARY KEY, payload BLOB)")

    def append(self, batch: int) -> None:
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO q (payload) VALUES (?)", [(PAYLOAD,)] * batch)
        self.db.execute("COMMIT")

    def deliver(self, batch: int) -> None:
        rows = self.db.execute("SELECT id, payload FROM q ORDER BY id LIMIT ?", (batch,)).fetchall()
        self.db.execute("DELETE FROM q WHERE id <= ?", (rows[-1][0],))

    def fill(self, count: int) -> None:
        for _ in range(0, count, FILL_BATCH):
            self.append(min(FILL_BATCH, count))

    def close(self) -> None:
        self.db.close()


class SqliteNormal(Sqlite):
    """The same without a sync a transaction: a power cut takes what was written since the last checkpoint."""

    synchronous = "NORMAL"


class PlainFile:
    """A line and a sync; it cannot acknowledge. The floor, one would think."""

    def __init__(self, directory: Path) -> None:
        self.fd = os.open(directory / "plain.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append(self, batch: int) -> None:
        os.write(self.fd, (PAYLOAD + b"\n") * batch)
        os.fsync(self.fd)

    def deliver(self, batch: int) -> None:
        raise NotImplementedError("a plain file has no acknowledgement")

    def fill(self, count: int) -> None:
        if count:
            self.append(count)

    def close(self) -> None:
        os.close(self.fd)


class StockTinyDB:
    """TinyDB as it comes."""

    def __init__(self, directory: Path) -> None:
        self.db = self.open(directory)

    def open(self, directory: Path) -> TinyDB:
        return TinyDB(directory / "stock.json")

    def append(self, batch: int) -> None:
        self.db.insert_multiple([DOCUMENT] * batch)

    def deliver(self, batch: int) -> None:
        taken = [document.doc_id for document, _ in zip(self.db, range(batch), strict=False)]
        self.db.remove(doc_ids=taken)

    def fill(self, count: int) -> None:
        self.append(count)

    def close(self) -> None:
        self.db.close()


class CachingTinyDB(StockTinyDB):
    """TinyDB with CachingMiddleware: in memory, written after 1,000 changes."""

    def open(self, directory: Path) -> TinyDB:
        storage: Any = CachingMiddleware
        return TinyDB(directory / "caching.json", storage=storage(JSONStorage))


class PersistQueue:
    """persist-queue's SQLiteAckQueue; it has no batches."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "persistqueue")
        self.open()

    def open(self) -> None:
        persistqueue: Any = importlib.import_module("persistqueue")
        self.queue = persistqueue.SQLiteAckQueue(self.path, auto_commit=True)

    def append(self, batch: int) -> None:
        for _ in range(batch):
            self.queue.put(PAYLOAD)

    def deliver(self, batch: int) -> None:
        for _ in range(batch):
            self.queue.ack(self.queue.get())

    def fill(self, count: int) -> None:
        """Write its table at one stroke: entry by entry a hundred thousand take a sync each."""
        self.queue.close()
        content = pickle.dumps(PAYLOAD)
        with contextlib.closing(sqlite3.connect(os.path.join(self.path, "data.db"))) as db, db:
            rows = ((content, 0.0) for _ in range(count))
            db.executemany("INSERT INTO ack_queue_default (data, timestamp, status) VALUES (?, ?, 1)", rows)
        self.open()

    def close(self) -> None:
        self.queue.close()


class LiteQueue:
    """litequeue (its default is NORMAL); put by put."""

    def __init__(self, directory: Path) -> None:
        litequeue: Any = importlib.import_module("litequeue")
        self.queue = litequeue.LiteQueue(str(directory / "litequeue.db"))

    def append(self, batch: int) -> None:
        for _ in range(batch):
            self.queue.put(PAYLOAD.decode())

    def deliver(self, batch: int) -> None:
        for _ in range(batch):
            self.queue.done(self.queue.pop().message_id)

    def fill(self, count: int) -> None:
        self.append(count)

    def close(self) -> None:
        self.queue.close()


QUEUES: dict[str, tuple[Callable[[Path], Queue], bool]] = {
    "outbox": (Ours, True),
    SEALED: (OursSealed, True),
    "SQLite WAL FULL": (Sqlite, True),
    "SQLite WAL NORMAL": (SqliteNormal, False),
    "append + fsync": (PlainFile, True),
    "persist-queue": (PersistQueue, True),
    "litequeue": (LiteQueue, False),
    "TinyDB": (StockTinyDB, False),
    "TinyDB, cached": (CachingTinyDB, False),
}
"""Name to (how to open it, whether what it has stored survives a power cut)."""


def missing() -> dict[str, str]:
    """Return the peers that cannot be measured here, and why."""
    found = {}
    for name, module in (("persist-queue", "persistqueue"), ("litequeue", "litequeue")):
        try:
            importlib.import_module(module)
        except ImportError:
            found[name] = f"{name} is not installed"
    return found
