"""Reading entries back: payload bytes as they were given, ascending, from where the reader stopped before.

Law: only entries whose checksum holds, at most what is durable. A number that should be there and is not is told as a
`missing` run; a file that cannot be read at all is told as such. Nothing is decoded and nothing but positions is kept.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.disk import Disk
from gateway.model import Entry
from gateway.outbox.intervals import Run
from gateway.outbox.record import Scan, salt
from gateway.outbox.stream import Segment, StreamLog

# What says something about this file; anything else (too many open files, no memory) says something about the moment.
_OF_THE_FILE = {errno.EIO, errno.ENOENT, errno.EBADMSG, errno.EUCLEAN, errno.EISDIR, errno.ENXIO}


@dataclass(slots=True)
class Reading:
    """What one pass over a stream gave: entries, numbers that are missing, files that cannot be read."""

    entries: list[Entry] = field(default_factory=list)
    missing: list[tuple[Run, Segment | None]] = field(default_factory=list)
    unreadable: list[Segment] = field(default_factory=list)


def read_entries(
    disk: Disk,
    outbox: str,
    log: StreamLog,
    first: int,
    through: int,
    limit: int,
    bytes_max: int,
    step: Callable[[int], int],
) -> Reading:
    """Read from `first` to `through`: up to `limit` entries and `bytes_max` of payload (one entry in any case).

    `step(n)` is the first number from n on that the caller wants: `log.next_open`, or the number itself.
    """
    got = Reading()
    left = bytes_max
    through = min(through, log.durable)
    sequence = step(first)
    while sequence <= through and len(got.entries) < limit and left > 0:
        index = log.find(sequence)
        if index < 0:
            end = log.segments[0].base - 1 if log.segments else log.durable
            got.missing.append(((sequence, end), None))
            sequence = step(end + 1)
            continue
        segment = log.segments[index]
        last = log.last_of(index)
        try:
            sequence, left = _read_segment(disk, outbox, log, segment, sequence, last, through, limit, left, step, got)
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                return got
            got.unreadable.append(segment)
            kept = got.entries[-1].sequence + 1 if got.entries else sequence
            start = step(max(kept, sequence))
            if start <= last:
                got.missing.append(((start, last), segment))
            sequence = step(last + 1)
    return got


def _read_segment(
    disk: Disk,
    outbox: str,
    log: StreamLog,
    segment: Segment,
    sequence: int,
    last: int,
    through: int,
    limit: int,
    left: int,
    step: Callable[[int], int],
    got: Reading,
) -> tuple[int, int]:
    fd = disk.open_reading(segment.path)
    try:
        offset = log.where(sequence, segment)
        seed = salt(outbox, log.name, segment.epoch)
        for record in Scan(disk, fd, seed, segment.base, last, offset):
            if record.sequence < sequence:
                continue
            if record.sequence > sequence:
                got.missing.append(((sequence, record.sequence - 1), segment))
                sequence = step(record.sequence)
                if record.sequence < sequence:
                    continue
            if sequence > through:
                return sequence, left
            got.entries.append(Entry(log.name, sequence, segment.epoch, record.payload))
            left -= len(record.payload)
            log_end, sequence = record.end, step(sequence + 1)
            if sequence > min(last, through) or len(got.entries) >= limit or left <= 0:
                if sequence <= last:
                    log.remember(record.sequence + 1, segment, log_end)
                return sequence, left
    finally:
        with contextlib.suppress(OSError):
            disk.close(fd)
    if sequence <= last:
        got.missing.append(((sequence, last), segment))
    return step(last + 1), left
