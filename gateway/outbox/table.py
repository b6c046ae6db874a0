"""The outbox as a TinyDB database: one table a stream, doc_id = sequence, tinydb's own code over a streaming Mapping.

Law: reading is tinydb's (`search`, `get`, `contains`, `count`, `all`, iteration, `len`) and never holds more than a
piece of a file. A queue's document never changes: `insert` appends, `remove` acknowledges, every other change is
refused. Documents are what `append` was given, decoded; the checksum `_c` is not shown.

Used of tinydb (>= 4.8, < 5): `Storage.read/write/close`, `table_class`, `query_cache_class`, and `Table._update_table`,
`_read_table` and `_get_next_id`, which its listed extensions override too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from tinydb import TinyDB
from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document, Table

from gateway.errors import GatewayError
from gateway.model import STREAMS, Entry, Stream

if TYPE_CHECKING:
    from gateway.outbox.outbox import Outbox


class ImmutableEntry(GatewayError):
    """An entry of the outbox never changes: it can be added and acknowledged (removed), nothing else."""


class Source(Protocol):
    """What the tables are made of: the outbox, or a reader beside it."""

    def entries(self, stream: Stream, after: int = 0) -> Iterator[Entry]:
        """Yield the entries that are not acknowledged, ascending."""
        ...

    def entry(self, stream: Stream, sequence: int) -> Entry | None:
        """Return one of them."""
        ...

    def backlog(self, stream: Stream) -> int: ...
    def next_sequence(self, stream: Stream) -> int: ...
    def add(self, stream: Stream, payload: bytes) -> int: ...
    def done(self, stream: Stream, sequence: int) -> None: ...


class OutboxSource:
    """The outbox itself as a source: what waits for its commit is seen too. `outbox` is called from its own thread."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def entries(self, stream: Stream, after: int = 0) -> Iterator[Entry]:
        """Yield what is durable and not acknowledged, then what waits."""
        while found := self._outbox.read(stream, after, 256, 1 << 18):
            yield from found
            after = found[-1].sequence
        yield from (entry for entry in self._outbox.waiting(stream) if entry.sequence > after)

    def entry(self, stream: Stream, sequence: int) -> Entry | None:
        """Return one of them."""
        found = self._outbox.read(stream, sequence - 1, 1, 1, sequence)
        return next((entry for entry in (*found, *self._outbox.waiting(stream)) if entry.sequence == sequence), None)

    def backlog(self, stream: Stream) -> int:
        return self._outbox.positions(stream).backlog + len(self._outbox.waiting(stream))

    def next_sequence(self, stream: Stream) -> int:
        return self._outbox.next_sequence(stream)

    def add(self, stream: Stream, payload: bytes) -> int:
        """Append at the moment of the outbox's last step; GatewayError where it was shed."""
        sequence = self._outbox.append(stream, payload, self._outbox.now)
        if sequence is None:
            raise GatewayError("the outbox is full: the event is lost, and counted")
        return sequence

    def done(self, stream: Stream, sequence: int) -> None:
        """Acknowledge; what is not durable yet is committed before, and refused where the disk takes its time."""
        if sequence > self._outbox.positions(stream).recorded_through:
            self._outbox.commit(self._outbox.now)
            if sequence > self._outbox.positions(stream).recorded_through:
                raise GatewayError(f"entry {sequence} is not durable yet", "remove it when `idle` says so")
        self._outbox.acknowledge(stream, sequence, sequence)


class LogView(Mapping[str, Mapping[str, Any]]):
    """A stream as the table that `Storage.read` returns: keys are sequences as strings; nothing is held."""

    def __init__(self, source: Source, stream: Stream) -> None:
        self._source, self._stream = source, stream

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        entry = self._source.entry(self._stream, int(key)) if str(key).isdecimal() else None
        if entry is None:
            raise KeyError(key)
        document: dict[str, Any] = orjson.loads(entry.payload)
        return document

    def __iter__(self) -> Iterator[str]:
        return (str(entry.sequence) for entry in self._source.entries(self._stream))

    def __len__(self) -> int:
        return self._source.backlog(self._stream)

    def __contains__(self, key: object) -> bool:
        return str(key).isdecimal() and self._source.entry(self._stream, int(str(key))) is not None

    def items(self) -> Any:
        """Iterate (key, document) in one pass over the files."""
        return ((str(entry.sequence), orjson.loads(entry.payload)) for entry in self._source.entries(self._stream))


class Changes(MutableMapping[int, Mapping[str, Any]]):
    """What an updater of tinydb sees: the table, and a note of what it did, in O(changes)."""

    def __init__(self, view: LogView) -> None:
        self._view = view
        self.added: list[Mapping[str, Any]] = []
        self.removed: list[int] = []

    def __getitem__(self, key: int) -> Mapping[str, Any]:
        return self._view[str(key)]

    def __setitem__(self, key: int, document: Mapping[str, Any]) -> None:
        if key in self:
            raise ImmutableEntry(f"entry {key} of the outbox cannot be changed")
        self.added.append(document)

    def __delitem__(self, key: int) -> None:
        self.removed.append(key)

    def __contains__(self, key: object) -> bool:
        return str(key) in self._view

    def __iter__(self) -> Iterator[int]:
        return map(int, self._view)

    def __len__(self) -> int:
        return len(self._view)

    def clear(self) -> None:
        raise ImmutableEntry("the outbox cannot be emptied; acknowledge (remove) what is delivered")


class NoCache(dict[Any, Any]):
    """No query is remembered: tinydb would keep whole result lists."""

    def __init__(self, capacity: int | None = None) -> None:
        super().__init__()

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget it."""

    def set(self, key: Any, value: Any) -> None:
        """Forget it."""


class SegmentStorage(Storage):
    """Storage whose tables are streams; written only by appending and acknowledging."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def read(self) -> dict[str, dict[str, Any]]:
        """Return all tables as streaming Mappings."""
        tables: dict[str, Any] = {stream: LogView(self.source, stream) for stream in STREAMS}
        return tables

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Refuse: nothing rewrites the outbox."""
        raise ImmutableEntry("the outbox cannot be overwritten; acknowledge (remove) what is delivered")


class EntryTable(Table):
    """A stream as a TinyDB table."""

    query_cache_class = NoCache  # type: ignore[assignment]

    @property
    def _source(self) -> Source:
        source: Source = self._storage.source  # type: ignore[attr-defined]
        return source

    @property
    def _stream(self) -> Stream:
        stream: Stream = self.name  # type: ignore[assignment]
        return stream

    def insert(self, document: Mapping[str, Any]) -> int:
        """Append one document; return its sequence. A Document with an id is refused: the outbox numbers."""
        return self.insert_multiple([document])[0]

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[int]:
        """Append documents; return their sequences."""
        given = []
        for document in documents:
            if not isinstance(document, Mapping):
                raise ValueError("Document is not a Mapping")
            if isinstance(document, Document):
                raise ImmutableEntry("the outbox numbers its entries itself")
            given.append(self._source.add(self._stream, orjson.dumps(dict(document))))
        return given

    def search(self, cond: QueryLike) -> list[Document]:
        """Return all that match; `find` streams them."""
        return list(self.find(cond))

    def find(self, cond: QueryLike, limit: int | None = None) -> Iterator[Document]:
        """Yield what matches, ascending, in bounded memory."""
        return islice((document for document in self if cond(document)), limit)

    def count(self, cond: QueryLike) -> int:
        """Count what matches, in bounded memory."""
        return sum(1 for _ in self.find(cond))

    def remove(self, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Acknowledge what matches, or the given sequences; return the sequences."""
        if doc_ids is not None or cond is None:
            return super().remove(cond, doc_ids)
        done = []
        for document in self.find(cond):
            self._source.done(self._stream, document.doc_id)
            done.append(document.doc_id)
        return done

    def update(self, fields: Any, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Refuse to change an entry; where none matches there is nothing to refuse."""
        if doc_ids is not None:
            matches = any(self.contains(doc_id=doc_id) for doc_id in doc_ids)
        else:
            matches = next((True for document in self if cond is None or cond(document)), False)
        if matches:
            raise ImmutableEntry("an entry of the outbox cannot be changed")
        return []

    def update_multiple(self, updates: Any) -> list[int]:
        """Refuse like `update`."""
        for fields, cond in updates:
            self.update(fields, cond)
        return []

    def _get_next_id(self) -> int:
        return self._source.next_sequence(self._stream)

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> None:
        changes = Changes(LogView(self._source, self._stream))
        updater(changes)  # type: ignore[arg-type]
        for document in changes.added:
            self._source.add(self._stream, orjson.dumps(dict(document)))
        for sequence in changes.removed:
            self._source.done(self._stream, sequence)


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
