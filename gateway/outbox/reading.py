"""Reading entries back: payload bytes as they were given, ascending, from where the reader stopped before.

Law: only entries whose checksum holds, at most what is durable. A number that should be there and is not is reported as
a `missing` run; what stands where the card cannot be read, or in a file that is not there, as `unread`. Any other error
ends the pass: it is `held` by what has nothing to do with what is recorded. Nothing is decoded; a reader's place keeps
one piece of a file. Whole lines in their order go the short way; at anything else `Scan` takes a careful look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from gateway.machine.disk import Disk, NotAFile
from gateway.model import Entry
from gateway.outbox.intervals import NUMBER_MAX, Run
from gateway.outbox.record import CHUNK_BYTES, LINE_BYTES_MAX, Scan, decode_header, line_of, payload_at, salt
from gateway.outbox.sealing import BEFORE
from gateway.outbox.sectors import is_of_the_card, read_before
from gateway.outbox.stream import Place, Segment, StreamLog

Wanted = Callable[[int], Run]
"""From a number to the first run of numbers at or behind it that the caller wants: `log.open_run`, or `everything`."""


@dataclass(slots=True)
class ReadPass:
    """What one pass over a stream gave: entries; numbers that are missing, or unread for now; what held it up.

    `opened` are the paths of the files that it could open.
    """

    entries: list[Entry] = field(default_factory=list)
    missing: list[tuple[Run, Segment | None]] = field(default_factory=list)
    unread: list[tuple[Run, Segment]] = field(default_factory=list)
    held: tuple[str, OSError | None] | None = None
    opened: set[str] = field(default_factory=set)


def everything(number: int) -> Run:
    """Want every number, acknowledged or not."""
    return number, NUMBER_MAX


def read_entries(
    disk: Disk,
    outbox: str,
    log: StreamLog,
    first: int,
    through: int,
    limit: int,
    bytes_max: int,
    wanted: Wanted,
    held: Container[str] = (),
) -> ReadPass:
    """Read from `first` to `through`: up to `limit` entries and `bytes_max` of payload (one entry in any case).

    Files whose path is in `held` are not tried.
    """
    reader = _Pass(disk, outbox, log, min(through, log.durable), limit, bytes_max, wanted)
    reader.want(first)
    while reader.goes_on():
        reader.take_fresh()
        if not reader.goes_on():
            break
        index = log.find(reader.sequence)
        if index < 0:
            end = log.segments[0].base - 1 if log.segments else log.durable
            reader.miss(end, None)
            continue
        segment, last = log.segments[index], log.last_of(index)
        if segment.path in held:
            reader.got.held = segment.path, None
            break
        try:
            reader.read(segment, last)
        except OSError as error:
            if not (is_of_the_card(error) or _is_gone(disk, log, error)):
                reader.got.held = segment.path, error
                break
            reader.miss(last, segment, is_unread=True)
    return reader.got


def _is_gone(disk: Disk, log: StreamLog, error: OSError) -> bool:
    """Return whether the file is missing in a folder that is there; where the folder is away, it may come back."""
    if not isinstance(error, FileNotFoundError | NotAFile):
        return False
    try:
        disk.names(log.directory)
    except OSError:
        return False
    return True


class _Pass:
    """One pass over a stream: `sequence` is the next number wanted, `until` where its run ends."""

    def __init__(
        self, disk: Disk, outbox: str, log: StreamLog, through: int, limit: int, bytes_max: int, wanted: Wanted
    ) -> None:
        self._disk, self._outbox, self._log, self._wanted = disk, outbox, log, wanted
        self._through, self._limit, self._left = through, limit, bytes_max
        self.got = ReadPass()
        self.sequence = self.until = 0

    def want(self, number: int) -> None:
        """Go to the first number wanted from `number` on."""
        self.sequence, self.until = self._wanted(number)

    def miss(self, last: int, segment: Segment | None, is_unread: bool = False) -> None:
        """Report that everything wanted up to `last` is not there, or cannot be read now, and go on behind it."""
        if self.sequence <= last:
            if is_unread and segment is not None:
                self.got.unread.append(((self.sequence, last), segment))
            else:
                self.got.missing.append(((self.sequence, last), segment))
        self.want(last + 1)

    def goes_on(self) -> bool:
        return self.sequence <= self._through and len(self.got.entries) < self._limit and self._left > 0

    def take_fresh(self) -> None:
        """Take what has only just become durable from memory."""
        log = self._log
        while log.fresh and log.active is not None and log.fresh[0][0] <= self.sequence <= log.fresh[-1][0]:
            skip = self.sequence - log.fresh[0][0]
            count = min(self.until, self._through) - self.sequence + 1
            for number, sealed in islice(log.fresh, skip, skip + count):
                if not self.goes_on():
                    return
                payload = log.opened(self._outbox, number, sealed)
                assert payload is not None, "sealed by this process, and not to be opened"
                self._take(number, log.active.segment.epoch, payload)
                self.sequence = number + 1
            if self.sequence <= self.until or not self.goes_on():
                return
            self.want(self.sequence)

    def read(self, segment: Segment, last: int) -> None:
        """Read what is wanted of one file; `last` is the last number that can stand in it."""
        place = self._log.place(segment, self.sequence)
        seed = salt(self._outbox, self._log.name, segment.epoch)
        end = min(last, self._through)
        fd = -1
        try:
            while self.sequence <= end and self.goes_on():
                outcome = self._read_lines(place, seed, segment.epoch, end)
                if outcome == "done":
                    break
                if fd < 0:
                    fd = self._disk.open_reading(segment.path)
                    self.got.opened.add(segment.path)
                if outcome == "odd" or not self._extend(place, fd):
                    self._look_carefully(place, fd, seed, segment, last)
        finally:
            if fd >= 0:
                with contextlib.suppress(OSError):
                    self._disk.close(fd)
        if place.sequence and (self.sequence <= last or segment is self._log.segments[-1]):
            self._log.keep(place)

    def _take(self, sequence: int, epoch: int, payload: bytes) -> None:
        self.got.entries.append(Entry(self._log.name, sequence, epoch, payload))
        self._left -= len(payload)

    def _read_lines(self, place: Place, seed: int, epoch: int, end: int) -> Literal["done", "more", "odd"]:
        """Take whole lines out of the buffer; return whether more of the file is needed, or it is damaged."""
        if self.sequence > place.known:
            place.move_to(place.sequence, place.offset + place.at)
            return "more"
        buffer, at, number = place.buffer, place.at, place.sequence
        if place.offset + at == 0:
            newline = buffer.find(b"\n")
            if newline < 0 or decode_header(buffer[:newline]) is None:
                return "odd"
            at = newline + 1
        sequence, until, left, limit = self.sequence, self.until, self._left, self._limit
        entries, name, known = self.got.entries, self._log.name, min(end, place.known)
        outcome: Literal["done", "more", "odd"] = "done"
        while sequence <= known and len(entries) < limit and left > 0:
            if number != sequence:
                found = buffer.find(line_of(sequence), max(at - 1, 0))
                if found < 0:
                    at, number, outcome = max(buffer.rfind(b"\n") + 1, at), 0, "more"
                    break
                at, number = found + 1, sequence
            newline = buffer.find(b"\n", at)
            if newline < 0:
                outcome = "more"
                break
            payload = payload_at(buffer, at, newline, number, seed)
            if payload is not None and payload.startswith(BEFORE):
                payload = self._log.opened(self._outbox, number, payload)
            if payload is None:
                outcome = "odd"
                break
            entries.append(Entry(name, number, epoch, payload))
            left -= len(payload)
            at = newline + 1
            number += 1
            if number <= until:
                sequence = number
            else:
                sequence, until = self._wanted(number)
        else:
            if sequence <= end and len(entries) < limit and left > 0:
                outcome = "more"  # what is behind `known` has become durable since it was read
        place.at, place.sequence = at, number
        self.sequence, self.until, self._left = sequence, until, left
        return outcome

    def _extend(self, place: Place, fd: int) -> bool:
        """Read on behind the buffer; return False at the end of the file, or in the midst of an endless line."""
        if self.sequence > place.known:
            place.move_to(place.sequence, place.offset + place.at)
        before = max(place.at - 1, 0)  # the newline before stays: a line is sought together with it
        rest = place.buffer[before:]
        if len(rest) > LINE_BYTES_MAX:
            return False
        try:
            chunk = read_before(self._disk, fd, CHUNK_BYTES, place.offset + len(place.buffer))
        except OSError as error:
            if is_of_the_card(error):
                return False  # the careful look steps over it
            raise
        place.buffer, place.offset, place.at = rest + chunk, place.offset + before, place.at - before
        place.known = self._log.durable
        return bool(chunk)

    def _look_carefully(self, place: Place, fd: int, seed: int, segment: Segment, last: int) -> None:
        """Take the next record that there is, wherever it stands, and report what is missing before it."""
        start, first = (place.offset + place.at, place.sequence) if place.sequence else (0, segment.base)
        records = Scan(self._disk, fd, seed, first, last, start)
        skipped = False
        for record in records:
            skipped |= records.skipped
            payload = self._log.opened(self._outbox, record.sequence, record.payload)
            if payload is None:
                continue  # whole by its checksum, and not what was sealed here: damaged like any other
            if record.sequence > self.sequence:
                self.miss(record.sequence - 1, segment, skipped)
            if record.sequence < self.sequence:
                continue
            if self.sequence <= self._through:
                self._take(record.sequence, segment.epoch, payload)
                self.want(record.sequence + 1)
                place.move_to(record.sequence + 1, record.end)
            return
        self.miss(last, segment, skipped or records.skipped)
