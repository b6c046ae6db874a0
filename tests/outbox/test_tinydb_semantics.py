"""What a reader can mean of TinyDB's own test suite, on stock TinyDB and on the outbox alike: one suite, two tables.

Left out is what changes a table: the outbox refuses that, see `test_tinydb`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, where
from tinydb.queries import Query
from tinydb.storages import MemoryStorage
from tinydb.table import Document, Table

from gateway.outbox.query import parse_query
from gateway.outbox.reader import OutboxReader
from tests.outbox.conftest import Bench
from tests.outbox.histories import DIRECTORY


def stock(documents: Sequence[Mapping[str, Any]]) -> Table:
    table = TinyDB(storage=MemoryStorage).table("door")
    table.insert_multiple(documents)
    return table


def ours(documents: Sequence[Mapping[str, Any]]) -> Table:
    bench = Bench()
    if documents:
        bench.record("door", len(documents), lambda sequence: orjson.dumps(documents[sequence - 1]))
    return OutboxReader(DIRECTORY, bench.disk).database().table("door")


@pytest.fixture(params=[stock, ours])
def table(request: pytest.FixtureRequest) -> Table:
    """Three documents, as TinyDB's own fixture has them."""
    make: Callable[[Sequence[Mapping[str, Any]]], Table] = request.param
    return make([{"int": 1, "char": char} for char in "abc"])


def test_search_count_contains_and_get_agree(table: Table) -> None:
    assert len(table.search(where("int") == 1)) == table.count(where("int") == 1) == 3
    assert table.count(where("char") == "d") == 0
    assert table.contains(where("int") == 1)
    assert not table.contains(where("int") == 0)
    assert table.contains(doc_id=1)
    assert not table.contains(doc_id=88)
    found = table.get(where("char") == "b")
    assert isinstance(found, Document)
    assert (found, found.doc_id) == ({"int": 1, "char": "b"}, 2)
    assert table.get(doc_id=found.doc_id) == found
    assert table.get(where("char") == "x") is None
    assert table.get(doc_ids=[1, 3, 99]) == [{"int": 1, "char": "a"}, {"int": 1, "char": "c"}]


def test_contains_and_get_without_a_condition_are_refused(table: Table) -> None:
    with pytest.raises(RuntimeError):
        table.contains()
    with pytest.raises(RuntimeError):
        table.get()


def test_iteration_length_and_all(table: Table) -> None:
    assert [document.doc_id for document in table] == [1, 2, 3]
    assert len(table) == len(table.all()) == 3
    assert table.all() == list(table)
    assert "char" in next(iter(table))


def test_a_search_does_not_remember_what_was_there_before() -> None:
    bench = Bench()
    reader = OutboxReader(DIRECTORY, bench.disk)
    table, condition = reader.database().table("door"), where("type") == "store.door.passed"
    for recorded in (1, 2):
        bench.record("door", 1)
        reader.refresh()
        assert len(table.search(condition)) == recorded


def test_what_a_search_gave_can_be_changed_without_changing_the_table() -> None:
    table = ours([{"int": 1, "char": "a"}])
    table.search(where("char") == "a")[0]["int"] = 99
    assert table.get(where("char") == "a") == {"int": 1, "char": "a"}


def is_even(n: Any) -> bool:
    return bool(n % 2 == 0)


QUERIES = [
    where("n") == 3,
    where("n") != 3,
    (where("n") > 2) & (where("n") <= 7),
    (where("n") < 2) | (where("n") >= 8),
    ~(where("n") == 4),
    where("data").direction == "in",
    where("data").tags.any(["a"]),
    where("data").tags.all(["a", "b"]),
    where("data").exists(),
    where("name").matches("o+", flags=re.IGNORECASE),
    where("name").search("ne"),
    where("n").one_of([1, 2, 5]),
    where("n").test(is_even),
    Query().fragment({"n": 5}),
    where("data").map(len) == 2,
    Query().noop(),
]
DOCUMENTS: list[dict[str, Any]] = [
    {"n": n, "name": name, "data": {"direction": "in" if n % 2 else "out", "tags": ["a", "b"][: n % 3]}}
    for n, name in enumerate(("zero", "one", "two", "oO", "four", "ooo", "six", "seven", "eight", "nine"))
]


@pytest.mark.parametrize("query", QUERIES, ids=[str(number) for number in range(len(QUERIES))])
def test_the_library_s_query_language_finds_the_same(query: Any) -> None:
    theirs, found = (make(DOCUMENTS).search(query) for make in (stock, ours))
    assert [(document.doc_id, dict(document)) for document in found] == [(d.doc_id, dict(d)) for d in theirs]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=25), st.integers(0, 5))
def test_any_content_gives_what_stock_tinydb_gives(content: list[int], wanted: int) -> None:
    theirs, found = (make([{"n": number} for number in content]) for make in (stock, ours))
    assert found.search(where("n") == wanted) == theirs.search(where("n") == wanted)
    assert [(d.doc_id, dict(d)) for d in found] == [(d.doc_id, dict(d)) for d in theirs]
    assert (len(found), found.get(doc_id=wanted)) == (len(theirs), theirs.get(doc_id=wanted))


def test_an_expression_of_the_command_line_is_a_query_of_the_library() -> None:
    table = ours(DOCUMENTS)
    assert table.search(parse_query('data.direction == "in" and n > 2')) == table.search(
        (where("data").direction == "in") & (where("n") > 2)
    )
