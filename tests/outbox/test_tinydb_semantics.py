"""What a queue can mean of TinyDB's own test suite, on stock TinyDB and on the outbox alike: one suite, two tables.

Left out is what changes a document or forgets one that was not delivered (`update`, `truncate`, `drop_table`): the
outbox refuses those, see `test_tinydb`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, where
from tinydb.queries import Query
from tinydb.storages import MemoryStorage
from tinydb.table import Document, Table

from gateway.errors import GatewayError
from gateway.outbox import parse_query
from tests.outbox.conftest import Bench


def stock() -> Table:
    return TinyDB(storage=MemoryStorage).table("door")


def ours() -> Table:
    return Bench().outbox.database.table("door")


@pytest.fixture(params=[stock, ours])
def table(request: pytest.FixtureRequest) -> Table:
    """Three documents, as TinyDB's own fixture has them."""
    made: Table = request.param()
    made.insert_multiple({"int": 1, "char": char} for char in "abc")
    return made


@pytest.fixture(params=[stock, ours])
def empty(request: pytest.FixtureRequest) -> Table:
    made: Table = request.param()
    return made


def test_insert_returns_ascending_ids_from_one(empty: Table) -> None:
    assert [empty.insert({"int": 1, "char": char}) for char in "ab"] == [1, 2]
    assert empty.insert_multiple([{"n": 3}, {"n": 4}]) == [3, 4]
    assert empty.insert_multiple({"n": n} for n in (5, 6)) == [5, 6]
    assert empty.insert_multiple([]) == []


def test_insert_takes_any_mapping_and_refuses_what_is_none(empty: Table) -> None:
    class Custom(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return {"n": 1}[key]

        def __iter__(self) -> Iterator[str]:
            return iter(("n",))

        def __len__(self) -> int:
            return 1

    assert empty.insert(Custom()) == 1
    assert empty.get(doc_id=1) == {"n": 1}
    for wrong in ([1, 2], "abc", {"a"}):
        with pytest.raises(ValueError, match="Mapping"):
            empty.insert(wrong)  # type: ignore[arg-type]
    assert len(empty) == 1


def test_what_json_cannot_say_is_refused(empty: Table) -> None:
    if isinstance(empty, Table) and type(empty) is Table:
        pytest.skip("memory takes anything")
    with pytest.raises(TypeError):
        empty.insert({"set": {1}})
    assert len(empty) == 0


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


def test_remove_by_condition_by_ids_and_ids_are_not_given_again(table: Table) -> None:
    assert table.remove(where("char") == "b") == [2]
    assert table.remove(doc_ids=[3]) == [3]
    assert len(table) == 1
    assert table.insert({"char": "d"}) == 4
    assert [document.doc_id for document in table] == [1, 4]


def test_remove_without_anything_is_refused(table: Table) -> None:
    with pytest.raises(RuntimeError):
        table.remove()
    assert len(table) == 3


def test_upsert_of_what_matches_nothing_inserts(table: Table) -> None:
    assert table.upsert({"int": 9, "char": "x"}, where("char") == "x") == [4]
    assert table.get(doc_id=4) == {"int": 9, "char": "x"}
    with pytest.raises(ValueError, match="search query"):
        table.upsert({"char": "z"})


def test_update_of_what_matches_nothing_changes_nothing(table: Table) -> None:
    assert table.update({"int": 2}, where("char") == "x") == []


def test_a_search_does_not_remember_what_was_there_before(table: Table) -> None:
    condition = where("int") == 1
    assert len(table.search(condition)) == 3
    table.insert({"int": 1})
    assert len(table.search(condition)) == 4
    table.remove(where("char") == "a")
    assert len(table.search(condition)) == 3


def test_what_a_search_gave_can_be_changed_without_changing_the_table(table: Table) -> None:
    if type(table) is Table:
        pytest.skip("memory hands out what it holds")
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
    tables = (stock(), ours())
    for table in tables:
        table.insert_multiple(DOCUMENTS)
    theirs, found = (table.search(query) for table in tables)
    assert [(document.doc_id, dict(document)) for document in found] == [(d.doc_id, dict(d)) for d in theirs]


ACTS = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 5)),
    st.tuples(st.just("remove"), st.integers(0, 5)),
    st.tuples(st.just("remove id"), st.integers(1, 20)),
    st.tuples(st.just("search"), st.integers(0, 5)),
    st.tuples(st.just("commit"), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTS, max_size=25))
def test_any_interleaving_gives_what_stock_tinydb_gives(acts: list[tuple[str, int]]) -> None:
    bench = Bench()
    tables = (stock(), bench.outbox.database.table("door"))
    for act, number in acts:
        match act:
            case "insert":
                results = [table.insert({"n": number}) for table in tables]
            case "remove":
                results = [table.remove(where("n") == number) for table in tables]  # type: ignore[misc]
            case "remove id":
                there = [number] if tables[0].contains(doc_id=number) else []
                results = [table.remove(doc_ids=there) for table in tables]  # type: ignore[misc]
            case "search":
                results = [table.search(where("n") == number) for table in tables]  # type: ignore[misc]
            case _:
                bench.outbox.commit(bench.now)
                results = [len(table) for table in tables]
        assert results[0] == results[1]
    assert [(d.doc_id, dict(d)) for d in tables[0]] == [(d.doc_id, dict(d)) for d in tables[1]]


def test_what_a_slow_card_has_not_taken_cannot_be_removed_and_says_so() -> None:
    bench = Bench()
    table = bench.outbox.database.table("door")
    table.insert({"n": 1})
    bench.disk.read_only = True
    with pytest.raises(GatewayError, match="not durable yet"):
        table.remove(doc_ids=[1])
    bench.disk.read_only = False
    bench.pass_time(60)
    assert table.remove(doc_ids=[1]) == [1]
    assert len(table) == 0


def test_an_expression_of_the_command_line_is_a_query_of_the_library() -> None:
    table = ours()
    table.insert_multiple(DOCUMENTS)
    assert table.search(parse_query('data.direction == "in" and n > 2')) == table.search(
        (where("data").direction == "in") & (where("n") > 2)
    )
