"""The outbox is a TinyDB database: the library's own queries over it, and stock TinyDB over its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinydb import TinyDB, where
from tinydb.table import Document

from gateway.machine.disk import RealDisk
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.query import QueryError, parse_query
from gateway.outbox.reader import OutboxReader
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.table import ImmutableEntry
from gateway.outbox.writing import InlineWriter
from tests.outbox.conftest import Bench, event
from tests.outbox.histories import DIRECTORY, describe_loss


def reader_of(bench: Bench) -> OutboxReader:
    return OutboxReader(DIRECTORY, bench.disk)


def test_tinydb_queries_run_over_the_outbox(bench: Bench) -> None:
    bench.record("door", 50)
    database = reader_of(bench).database()
    door = database.table("door")
    found = door.search(where("data").direction == "in")
    assert [document.doc_id for document in found] == list(range(1, 51, 2))
    assert len(door) == 50
    assert door.count(where("data").n > 40) == 10
    document = door.get(doc_id=7)
    assert isinstance(document, Document)
    assert document["data"]["n"] == 7
    assert door.get(where("data").n == 9) == door.get(doc_id=9)
    assert door.contains(doc_id=50)
    assert not door.contains(doc_id=51)
    assert [document.doc_id for document in door] == list(range(1, 51))
    assert len(door.all()) == 50
    assert [document.doc_id for document in door.find(where("data").direction == "in", 2, after=31)] == [33, 35]
    assert database.tables() == {"door", "shelf", "beacon", "gateway"}


def test_what_is_acknowledged_and_kept_is_there_where_it_is_asked_for(bench: Bench) -> None:
    bench.record("door", 5)
    bench.outbox.acknowledge("door", 1, 3)
    bench.outbox.save_soon()
    bench.pass_time(1)
    waiting, kept = (reader_of(bench).database(acknowledged=which).table("door") for which in (False, True))
    assert [document.doc_id for document in waiting] == [4, 5]
    assert [document.doc_id for document in kept] == [1, 2, 3, 4, 5]
    assert (len(waiting), len(kept)) == (2, 5)
    assert waiting.get(doc_id=2) is None
    assert kept.get(doc_id=2) is not None


def test_an_entry_never_changes(bench: Bench) -> None:
    bench.record("door", 3)
    database = reader_of(bench).database()
    door = database.table("door")
    calls = bench.disk.calls
    for change in (
        lambda: door.insert({"n": 0}),
        lambda: door.insert_multiple([{"n": 0}]),
        lambda: door.insert(Document({"n": 0}, doc_id=9)),
        lambda: door.update({"n": 0}),
        lambda: door.update({"n": 0}, doc_ids=[1]),
        lambda: door.update_multiple([({"n": 0}, where("data").n == 1)]),
        lambda: door.upsert({"n": 0}, where("data").n == 1),
        lambda: door.upsert(Document({"n": 0}, doc_id=1)),
        lambda: door.remove(where("data").n == 1),
        lambda: door.remove(doc_ids=[1]),
        door.truncate,
        database.drop_tables,
    ):
        with pytest.raises(ImmutableEntry):
            change()
    assert bench.disk.calls == calls, "a table wrote"
    assert bench.outbox.read("door", 0, 1, 9999)[0].payload == event(1)
    with pytest.raises(KeyError, match="streams"):
        database.table("other")


def test_stock_tinydb_opens_a_sealed_segment(tmp_path: Path) -> None:
    disk = RealDisk()
    now = Instant(0, 1_763_800_000_000_000_000)
    outbox = Outbox.open(str(tmp_path / "o"), OutboxSettings(), disk, InlineWriter(disk), now, describe_loss)
    for number in range(1, 21):
        outbox.append("door", event(number), now)
    outbox.close(now)
    (path,) = (tmp_path / "o" / "door").glob("*.json")
    with TinyDB(path, access_mode="r") as database:
        assert [document.doc_id for document in database.table("door").search(where("data").direction == "in")] == list(
            range(1, 21, 2)
        )
        about = database.table("_seg").get(doc_id=1)
        assert isinstance(about, Document)
        assert (about["outbox"], about["base"], about["epoch"]) == (outbox.id, 1, 1)


def test_a_reader_looks_beside_the_running_daemon(bench: Bench) -> None:
    bench.record("door", 20)
    bench.outbox.acknowledge("door", 1, 5)
    bench.outbox.save_soon()
    bench.pass_time(1)
    calls = bench.disk.calls
    reader = OutboxReader(DIRECTORY, bench.disk)
    assert [entry.sequence for entry in reader.entries("door")] == list(range(6, 21))
    assert len(list(reader.entries("door", acknowledged=True))) == 20
    assert [document.doc_id for document in reader.database().table("door").find(parse_query("data.n >= 18"))] == [
        18,
        19,
        20,
    ]
    assert list(reader.verify()) == []
    assert bench.disk.calls == calls, "a reader wrote"
    bench.record("door", 1)
    reader.refresh()
    assert reader.positions("door").recorded_through == 21


DOCUMENT = {"type": "store.door.passed", "data": {"direction": "in", "n": 3, "ok": True, "rssi": -81.5, "none": None}}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('data.direction == "in"', True),
        ("data.direction == 'out'", False),
        ('data.direction != "out"', True),
        ("data.n > 2 and data.n <= 3", True),
        ("data.n < 3 or data.rssi < -80", True),
        ("not data.n == 3", False),
        ("not (data.n == 4 or data.missing == 1)", True),
        ("data.missing != 1", False),
        ("data.ok == true", True),
        ("data.none == null", True),
        ("data.direction > 3", False),
        ("data.n", True),
        ("data.missing", False),
        ('type == "store.door.passed" and data.n >= 3', True),
    ],
)
def test_an_expression_means_what_it_says(text: str, matches: bool) -> None:
    assert parse_query(text)(DOCUMENT) is matches


@pytest.mark.parametrize(
    "text",
    [
        "",
        "and",
        "data.n ==",
        'data.n == "x',
        "data.n = 3",
        "(data.n",
        "data.n == 3 4",
        "3 == data.n",
        "(" * 99,
        "__import__('os')",
    ],
)
def test_what_is_no_expression_is_told_with_its_place(text: str) -> None:
    with pytest.raises(QueryError, match="character"):
        parse_query(text)
