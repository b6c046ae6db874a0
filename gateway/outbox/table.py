"""The outbox as a TinyDB database: one table a stream, doc_id = sequence, tinydb's own code over a streaming Mapping.

Law: reading is tinydb's (`search`, `get`, `contains`, `count`, `all`, iteration, `len`) and never holds more than a
piece of a file. Nothing is written through it: the daemon alone records and acknowledges, and no entry ever changes.

Used of tinydb (>= 4.8, < 5): `Storage.read/write/close`, `table_class`, `query_cache_class`, and `Table._update_table`
and `_read_table`, which its listed extensions override too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from tinydb import TinyDB
from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document as Document
from tinydb.table import Table

from gateway.errors import GatewayError
from gateway.model import STREAMS, Stream


class ImmutableEntry(GatewayError):
    """The outbox cannot be changed through its tables: the daemon alone records and acknowledges."""


class RowSource(Protocol):
    """What the tables are made of. A row is a sequence and its document."""

    def rows(self, stream: Stream, after: int = 0) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the rows behind `after`, ascending."""
        ...

    def row(self, stream: Stream, sequence: int) -> Mapping[str, Any] | None:
        """Return the document of one sequence, None where there is none."""
        ...

    def count(self, stream: Stream) -> int:
        """Return how many rows there are."""
        ...


class LogView(Mapping[str, Mapping[str, Any]]):
    """A stream as the table that `Storage.read` returns: keys are sequences as strings; nothing is held."""

    def __init__(self, source: RowSource, stream: Stream) -> None:
        self._source, self._stream = source, stream

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        document = self._source.row(self._stream, int(key)) if str(key).isdecimal() else None
        if document is None:
            raise KeyError(key)
        return document

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.items())

    def __len__(self) -> int:
        return self._source.count(self._stream)

    def items(self) -> Any:
        """Iterate (key, document) in one pass over the files."""
        return ((str(sequence), document) for sequence, document in self._source.rows(self._stream))


class NoCache(dict[Any, Any]):
    """No query is remembered: tinydb would keep whole result lists."""

    def __init__(self, capacity: int | None = None) -> None:
        super().__init__()

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget it."""

    def set(self, key: Any, value: Any) -> None:
        """Forget it."""


class SegmentStorage(Storage):
    """Storage whose tables are streams, for reading only."""

    def __init__(self, source: RowSource) -> None:
        self.source = source

    def read(self) -> dict[str, dict[str, Any]]:
        """Return all tables as streaming Mappings."""
        tables: dict[str, Any] = {stream: LogView(self.source, stream) for stream in STREAMS}
        return tables

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Refuse: nothing rewrites the outbox."""
        raise ImmutableEntry("the outbox is open for reading only")


class EntryTable(Table):
    """A stream as a TinyDB table."""

    query_cache_class = NoCache  # type: ignore[assignment]

    def search(self, cond: QueryLike) -> list[Document]:
        """Return all that match; `find` streams them."""
        return list(self.find(cond))

    def find(self, cond: QueryLike | None = None, limit: int | None = None, after: int = 0) -> Iterator[Document]:
        """Yield what matches behind the sequence `after`, ascending, at most `limit`, in bounded memory."""
        rows = self._storage.source.rows(self.name, after)  # type: ignore[attr-defined]
        documents = (Document(document, sequence) for sequence, document in rows)
        return islice((document for document in documents if cond is None or cond(document)), limit)

    def count(self, cond: QueryLike) -> int:
        """Count what matches, in bounded memory."""
        return sum(1 for _ in self.find(cond))

    def _get_next_id(self) -> int:
        raise ImmutableEntry("the outbox is open for reading only: the daemon alone records")

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> None:
        raise ImmutableEntry("the outbox is open for reading only: the daemon alone records and acknowledges")


class EntryDatabase(TinyDB):
    """`EntryDatabase(source).table("door").search(where("data").direction == "in")`."""

    table_class = EntryTable
    default_storage_class = SegmentStorage  # type: ignore[assignment]
    default_table_name = "gateway"

    def table(self, name: str, **kwargs: Any) -> EntryTable:
        """Return the table of a stream; KeyError for any other name."""
        if name not in STREAMS:
            raise KeyError(f"{name}: the outbox has the streams {', '.join(STREAMS)}")
        table = super().table(name, **kwargs)
        assert isinstance(table, EntryTable)
        return table
