"""The outbox is a TinyDB database: the library's own queries over it, and stock TinyDB over its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinydb import TinyDB, where
from tinydb.table import Document

from gateway.machine.disk import RealDisk
from gateway.model import Instant
from gateway.outbox import InlineWriter, Outbox, OutboxReader, OutboxSettings, QueryError, parse_query
from gateway.outbox.table import ImmutableEntry
from tests.outbox.conftest import Bench, event
from tests.outbox.histories import DIRECTORY, describe_loss


def test_tinydb_queries_run_over_the_outbox(bench: Bench) -> None:
    bench.record("door", 50)
    door = bench.outbox.database.table("door")
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
    assert bench.outbox.database.tables() == {"door", "shelf", "beacon", "gateway"}


def test_insert_appends_and_remove_acknowledges(bench: Bench) -> None:
    door = bench.outbox.database.table("door")
    assert door.insert({"type": "t", "n": 1}) == 1
    assert door.insert_multiple([{"n": 2}, {"n": 3}]) == [2, 3]
    assert len(door) == 3
    bench.outbox.commit(bench.now)
    assert door.remove(where("n") == 2) == [2]
    assert door.remove(doc_ids=[1, 99]) == [1]
    assert bench.sequences("door") == [3]
    assert door.upsert({"n": 4}, where("n") == 4) == [4]


def test_an_entry_never_changes(bench: Bench) -> None:
    bench.record("door", 3)
    door = bench.outbox.database.table("door")
    for change in (
        lambda: door.update({"n": 0}),
        lambda: door.update({"n": 0}, doc_ids=[1]),
        lambda: door.update_multiple([({"n": 0}, where("data").n == 1)]),
        lambda: door.upsert(Document({"n": 0}, doc_id=1)),
        lambda: door.insert(Document({"n": 0}, doc_id=9)),
        door.truncate,
        bench.outbox.database.drop_tables,
    ):
        with pytest.raises(ImmutableEntry):
            change()
    assert bench.outbox.read("door", 0, 1, 9999)[0].payload == event(1)
    with pytest.raises(KeyError, match="streams"):
        bench.outbox.database.table("other")


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
    assert [document.doc_id for document in reader.query("door", parse_query("data.n >= 18"))] == [18, 19, 20]
    entry = reader.find(f"{bench.outbox.id}-1-door-0000000000000007")
    assert entry is not None
    assert entry.payload == event(7)
    assert list(reader.verify()) == []
    assert bench.disk.calls == calls, "a reader wrote"
    bench.record("door", 1)
    reader.refresh()
    assert reader.positions("door").recorded_through == 21
    with pytest.raises(ImmutableEntry):
        reader.database.table("door").insert({"n": 1})


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
