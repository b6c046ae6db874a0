"""The outbox as the command line sees it, also beside a running daemon: positions, entries, queries, damage.

Law: it takes no lock and writes nothing. Files are append-only and each record carries its checksum, so whatever is
read while the daemon writes is true; what the daemon removes meanwhile is passed over. `refresh` looks at the
directory again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import OutboxUnusable
from gateway.machine.disk import Disk, RealDisk
from gateway.machine.owner import is_own
from gateway.model import STREAMS, Entry, Stream
from gateway.outbox.directory import unusable
from gateway.outbox.estimate import RATE_S_MIN, StreamRate
from gateway.outbox.intervals import NUMBER_MAX
from gateway.outbox.memory import Memory
from gateway.outbox.outbox import REFUSED_NAME
from gateway.outbox.reading import everything, read_entries
from gateway.outbox.record import Damage, Scan, salt
from gateway.outbox.recovery import find_outbox, read_header
from gateway.outbox.sealing import BEFORE, PLAIN, Sealing, refused_place
from gateway.outbox.sectors import read_before
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import SLOT_BYTES, STATE_NAME, decode_state
from gateway.outbox.status import Positions
from gateway.outbox.stream import Segment, StreamLog
from gateway.outbox.table import EntryDatabase


def _recorded(entry: Entry) -> Mapping[str, Any]:
    """Return what was recorded, decoded."""
    document: dict[str, Any] = orjson.loads(entry.payload)
    return document


class OutboxReader:
    """Reads the outbox in `directory`.

    Raises OutboxUnusable where there is none or it may not be read, OutboxSealed where `sealing` has not its key.
    """

    def __init__(self, directory: str, disk: Disk | None = None, sealing: Sealing = PLAIN) -> None:
        self.directory, self.sealing = directory, sealing
        self._disk: Disk = disk if disk is not None else RealDisk()
        self.refresh()

    def refresh(self) -> None:
        """Look again: what was recorded, acknowledged and removed since."""
        try:
            self._disk.names(self.directory)
        except OSError as error:
            if isinstance(error, PermissionError) and is_own(self.directory):
                raise unusable(self.directory, error) from None
            raise OutboxUnusable(
                f"the outbox {self.directory} cannot be read: {error.strerror}",
                "check [outbox] directory, and that you are in the group gateway",
            ) from None
        try:
            found = find_outbox(self._disk, self.directory, OutboxSettings(), sealing=self.sealing)
        except OSError as error:
            raise unusable(self.directory, error) from None
        if found.state is None:
            raise OutboxUnusable(f"there is no readable outbox in {self.directory}", "has the gateway run here yet?")
        self.id, self.epoch = found.state.outbox, found.state.epoch
        self.clean = found.state.clean
        self.counters = dict(found.state.counters)
        self.memory = Memory.of(found.state.memory)
        self._logs = found.logs
        self._ends = {torn.segment.path: torn.end for torn in found.torn}
        self._lost = list(found.lost)

    def positions(self, stream: Stream) -> Positions:
        """Return where the stream stands: as of the last synced or un-synced state, and all that is recorded."""
        log = self._logs[stream]
        return Positions(log.durable, log.settled.through, log.backlog())

    def entries(
        self, stream: Stream, after: int = 0, through: int | None = None, acknowledged: bool = False
    ) -> Iterator[Entry]:
        """Yield entries behind `after`, ascending, in bounded memory; with `acknowledged` also those still kept.

        What the card cannot read is passed over (`verify` reports it). Raises OutboxUnusable where a file may not be
        read, so that nobody takes a part for the whole.
        """
        log = self._logs[stream]
        end = log.durable if through is None else min(through, log.durable)
        wanted = everything if acknowledged else log.open_run
        while True:
            got = read_entries(self._disk, self.id, log, after + 1, end, 256, 1 << 18, wanted)
            yield from got.entries
            if got.held is not None:
                raise unusable(self.directory, got.held[1] or OSError(None, "it cannot be read now", got.held[0]))
            if not got.entries:
                return
            after = got.entries[-1].sequence

    def database(
        self, document: Callable[[Entry], Mapping[str, Any]] = _recorded, acknowledged: bool = False
    ) -> EntryDatabase:
        """The outbox as a TinyDB database that cannot be written, `document` making what an entry shows as.

        With `acknowledged` it has also those entries that are acknowledged and still kept.
        """
        return EntryDatabase(Rows(self, document, acknowledged))

    def used_bytes(self) -> int:
        """Return what lies in the directory, in bytes."""
        total = 0
        for directory in (self.directory, *(log.directory for log in self._logs.values())):
            with contextlib.suppress(OSError):
                for name in self._disk.names(directory):
                    if name not in STREAMS:
                        with contextlib.suppress(OSError):
                            total += self._disk.size(os.path.join(directory, name))
        return total

    def stream_bytes(self, stream: Stream) -> int:
        """Return what the stream's files take on the disk, in bytes."""
        return self._logs[stream].bytes()

    def rate(self, stream: Stream, wall_ns: int) -> StreamRate | None:
        """Return how fast the stream has grown since its oldest file was begun; None where no clock was set."""
        log = self._logs[stream]
        for index, segment in enumerate(log.segments):
            about = read_header(self._disk, segment.path)
            if about is None or about.get("clock") != "synced":
                continue
            seconds = wall_ns / 1e9 - int(about["created_ms"]) / 1e3
            if seconds < RATE_S_MIN:
                return None
            size = sum(self._ends.get(other.path, other.size_bytes) for other in log.segments[index:])
            return StreamRate((log.durable - segment.base + 1) / seconds, size / seconds, seconds)
        return None

    def set_aside(self) -> list[str]:
        """Return the damaged files that were set aside."""
        found = []
        for log in self._logs.values():
            with contextlib.suppress(OSError):
                names = self._disk.names(log.directory)
                found += [os.path.join(log.directory, name) for name in names if name.endswith(".bad")]
        return sorted(found)

    def refused(self) -> Iterator[bytes]:
        """Yield the lines of what the broker refused, oldest first."""
        for name in (REFUSED_NAME + ".1", REFUSED_NAME):
            path = os.path.join(self.directory, name)
            with contextlib.suppress(OSError):
                fd = self._disk.open_reading(path)
                try:
                    yield from map(self._opened, self._disk.read_at(fd, self._disk.size(path), 0).splitlines())
                finally:
                    self._disk.close(fd)

    def _opened(self, line: bytes) -> bytes:
        """Return a line of what was refused with its event opened; as it is where it cannot be."""
        if BEFORE not in line:
            return line
        about, event = line[:-1].split(b', "event": ', 1)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            place = refused_place(str(json.loads(about + b"}")["id"]))
            return about + b', "event": ' + (self.sealing.open(event, place) or event) + b"}"
        return line

    def files(self) -> int:
        """Return how many segments there are."""
        return sum(len(log.segments) for log in self._logs.values())

    def verify(self, checked: Callable[[], None] = lambda: None) -> Iterator[Damage]:
        """Check every record, header and state slot; yield what is damaged or missing, with file and offset.

        `checked` is called after each segment.
        """
        for path in self.set_aside():
            yield Damage(path, 0, "the file was damaged and has been set aside")
        yield from self._verify_state()
        yield from self._verify_numbers()
        for log in self._logs.values():
            for index, segment in enumerate(log.segments):
                yield from self._verify_segment(log, segment, index)
                checked()

    def _verify_numbers(self) -> Iterator[Damage]:
        """Yield what the state says is recorded and no newest file holds any more."""
        before = self._lost
        if not before:
            return
        self.refresh()  # a daemon that works meanwhile has files that the first look could not have seen
        for stream, (first, last) in (lost for lost in self._lost if lost in before):
            segments = self._logs[stream].segments
            path = segments[-1].path if segments else os.path.join(self.directory, STATE_NAME)
            yield Damage(path, 0, f"{stream}: entries {first} to {last} are missing")

    def _verify_state(self) -> Iterator[Damage]:
        path = os.path.join(self.directory, STATE_NAME)
        try:
            fd = self._disk.open_reading(path)
        except OSError as error:
            yield Damage(path, 0, f"the state cannot be read: {error.strerror}")
            return
        try:
            for slot in (0, 1):
                try:
                    text = read_before(self._disk, fd, SLOT_BYTES, slot * SLOT_BYTES)
                except OSError as error:
                    yield Damage(path, slot * SLOT_BYTES, f"one of the two slots cannot be read: {error.strerror}")
                    continue
                if decode_state(text) is None and text.strip(b"\0"):
                    yield Damage(path, slot * SLOT_BYTES, "one of the two slots cannot be read (the other one serves)")
        finally:
            self._disk.close(fd)

    def _verify_segment(self, log: StreamLog, segment: Segment, index: int) -> Iterator[Damage]:
        newest = index + 1 == len(log.segments)
        last = NUMBER_MAX if newest else log.last_of(index)
        try:
            fd = self._disk.open_reading(segment.path)
        except FileNotFoundError:
            return  # acknowledged and removed since we looked
        except OSError as error:
            yield Damage(segment.path, 0, f"the file cannot be read: {error.strerror}")
            return
        expected = segment.base
        try:
            seed = salt(self.id, log.name, segment.epoch)
            records = Scan(self._disk, fd, seed, segment.base, last, path=segment.path, audit=True)
            for record in records:
                if not newest and record.sequence > expected and not log.settled.covers(expected, record.sequence - 1):
                    yield Damage(segment.path, record.end, f"entries {expected} to {record.sequence - 1} are missing")
                expected = record.sequence + 1
                if log.opened(self.id, record.sequence, record.payload) is None:
                    yield Damage(segment.path, record.end, f"entry {record.sequence} is not what was sealed there")
        except OSError as error:
            yield Damage(segment.path, 0, f"the file cannot be read: {error.strerror}")
            return
        finally:
            self._disk.close(fd)
        if not newest and not log.settled.covers(expected, last):
            yield Damage(segment.path, records.end, f"entries {expected} to {last} are missing")
        yield from (damage for damage in records.damages if damage.offset < records.end)

    def backlog(self, stream: Stream) -> int:
        """Return how many entries of the stream are not acknowledged."""
        return self._logs[stream].backlog()


@dataclass(frozen=True, slots=True)
class Rows:
    """The entries of a reader as rows of tables (a `table.Source`); with `acknowledged` also those still kept."""

    reader: OutboxReader
    document: Callable[[Entry], Mapping[str, Any]]
    acknowledged: bool

    def rows(self, stream: Stream, after: int = 0) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield sequence and document of the entries behind `after`, ascending."""
        for entry in self.reader.entries(stream, after, acknowledged=self.acknowledged):
            yield entry.sequence, self.document(entry)

    def row(self, stream: Stream, sequence: int) -> Mapping[str, Any] | None:
        """Return the document of one entry."""
        found = next(self.reader.entries(stream, sequence - 1, sequence, self.acknowledged), None)
        return None if found is None else self.document(found)

    def count(self, stream: Stream) -> int:
        """Return how many entries there are."""
        return sum(1 for _ in self.rows(stream)) if self.acknowledged else self.reader.backlog(stream)
