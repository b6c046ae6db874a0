"""Who is cut off, and how it is judged: what a life of random acts told outside, beside what is found after the cut.

A life keeps marks: at which position of the card's log it said what. A promise is marked after it was heard, whatever
lets an entry go (an acknowledgement) before it was said, so that each cut knows exactly what must still be there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

from tinydb import TinyDB

ENTRY_BYTES = (40, 300, 300, 700, 1500)


class Violation(AssertionError):
    """What was promised is not kept; the first words say how."""


class DoesNotOpen(Violation):
    """After the power cut it does not open."""


class Mark(NamedTuple):
    """At this position of the log, this was known outside."""

    position: int
    kind: str
    key: Any
    value: Any = None


@dataclass(slots=True)
class Known:
    """All marks up to a cut."""

    marks: list[Mark]
    taken: int = 0
    given: dict[Hashable, set[bytes]] = field(default_factory=dict)
    durable: dict[Hashable, bytes] = field(default_factory=dict)
    acknowledged: set[Hashable] = field(default_factory=set)
    ids: dict[Hashable, bytes] = field(default_factory=dict)
    named: set[Hashable] = field(default_factory=set)
    opened: tuple[str, int] = ("", 0)

    def until(self, position: int) -> None:
        """Take in the marks up to `position`."""
        while self.taken < len(self.marks) and self.marks[self.taken].position <= position:
            _, kind, key, value = self.marks[self.taken]
            self.taken += 1
            match kind:
                case "given":
                    self.given.setdefault(key, set()).add(value)
                case "durable":
                    self.durable[key] = value
                case "acknowledged":
                    self.acknowledged.add(key)
                case "id":
                    self.ids[key] = value
                case "named":
                    self.named.add(key)
                case "opened":
                    self.opened = max(self.opened, value, key=lambda opened: opened[1])
                case _:
                    raise ValueError(kind)

    def owed(self) -> dict[Hashable, bytes]:
        """Return what was told to be durable and was never let go."""
        return {key: content for key, content in self.durable.items() if key not in self.acknowledged}


class Subject(Protocol):
    """Something that promises to keep entries."""

    def live(self, directory: Path, position: Callable[[], int], seed: int, acts: int) -> list[Mark]:
        """Live there for a number of acts, and return what was said when."""
        ...

    def judge(self, directory: Path, known: Known) -> None:
        """Open what the cut left. Raises Violation."""
        ...


def payload(chance: Random, number: int) -> bytes:
    """Return an event nobody else has."""
    filling = b"%x" % chance.getrandbits(8 * chance.choice(ENTRY_BYTES))
    return b'{"type":"t","n":%d,"x":"%b"}' % (number, filling)


class SqliteFull:
    """A queue in SQLite's write-ahead log, synchronous=FULL."""

    synchronous = "FULL"

    def open(self, directory: Path) -> sqlite3.Connection:
        db = sqlite3.connect(directory / "queue.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={self.synchronous}")
        db.execute("CREATE TABLE IF NOT EXISTS q (id INTEGER PRIMARY KEY, payload BLOB)")
        return db

    def live(self, directory: Path, position: Callable[[], int], seed: int, acts: int) -> list[Mark]:
        chance, marks, number = Random(seed), list[Mark](), 0
        db = self.open(directory)
        for _ in range(acts):
            if chance.random() < 0.6:
                batch = []
                for _ in range(chance.randrange(1, 20)):
                    number += 1
                    batch.append((number, payload(chance, number)))
                db.execute("BEGIN")
                db.executemany("INSERT INTO q VALUES (?, ?)", batch)
                db.execute("COMMIT")
                here = position()
                marks += [Mark(here, "durable", key, content) for key, content in batch]
            elif chance.random() < 0.95:
                rows = db.execute("SELECT id FROM q ORDER BY id LIMIT ?", (chance.randrange(1, 20),)).fetchall()
                here = position()
                marks += [Mark(here, "acknowledged", key) for (key,) in rows]
                db.executemany("DELETE FROM q WHERE id = ?", rows)
            else:
                db.close()
                db = self.open(directory)
        db.close()
        return marks

    def judge(self, directory: Path, known: Known) -> None:
        try:
            db = self.open(directory)
            found: dict[Hashable, bytes] = dict(db.execute("SELECT id, payload FROM q"))
            sound = db.execute("PRAGMA integrity_check").fetchone()[0]
            db.close()
        except sqlite3.Error as error:
            raise DoesNotOpen(f"does not open: {error}") from None
        if sound != "ok":
            raise DoesNotOpen(f"does not open: {sound}")
        require_all(found, known)


class SqliteNormal(SqliteFull):
    """The same with synchronous=NORMAL, which promises no durability."""

    synchronous = "NORMAL"


class StockTinyDB:
    """TinyDB as it comes."""

    def live(self, directory: Path, position: Callable[[], int], seed: int, acts: int) -> list[Mark]:
        chance, marks, number = Random(seed), list[Mark](), 0
        db = TinyDB(directory / "queue.json")
        for _ in range(acts):
            if chance.random() < 0.6:
                batch = []
                for _ in range(chance.randrange(1, 20)):
                    number += 1
                    batch.append((number, payload(chance, number)))
                db.insert_multiple(json.loads(content) for _, content in batch)
                here = position()
                marks += [Mark(here, "durable", key, content) for key, content in batch]
            else:
                taken = [document.doc_id for document, _ in zip(db, range(chance.randrange(1, 20)), strict=False)]
                here = position()
                marks += [Mark(here, "acknowledged", key) for key in taken]
                db.remove(doc_ids=taken)
        db.close()
        return marks

    def judge(self, directory: Path, known: Known) -> None:
        try:
            with TinyDB(directory / "queue.json") as db:
                found = {document.doc_id: json.dumps(document, separators=(",", ":")).encode() for document in db}
        except (ValueError, OSError) as error:
            raise DoesNotOpen(f"does not open: {error}") from None
        require_all(found, known)


def require_all(found: Any, known: Known) -> None:
    """Raise Violation unless everything owed is found as it was given."""
    for key, content in known.owed().items():
        if found.get(key) != content:
            raise Violation(f"lost: {key} was durable" if key not in found else f"changed: {key}")
