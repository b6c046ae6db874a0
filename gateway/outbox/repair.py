"""Repairing an outbox that no daemon holds: what is missing is named, what is damaged is written anew.

Law: every file that is touched is copied aside before, with its name (zeros for what the card cannot read), and nothing
of it is ever deleted. The order is: copies synced; opened as the daemon would, read through, so that each missing
number has its durable record of a loss; each damaged file written beside itself from its whole records, synced, renamed
over the old one, directory synced. A crash at any point leaves an outbox that opens.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from gateway.machine.disk import Disk
from gateway.model import STREAMS, Instant, Stream
from gateway.outbox.directory import take_directory
from gateway.outbox.losses import DescribeLoss
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.record import FOOTER, Damage, Scan, encode, encode_header, parse_name, salt
from gateway.outbox.sealing import PLAIN, Sealing, place_of
from gateway.outbox.sectors import read_over
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter

PIECE_BYTES = 1 << 20
NEW_SUFFIX = ".new"


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done: files copied to `originals`, files written anew, entries named as lost."""

    originals: str
    copied: tuple[str, ...]
    rewritten: tuple[str, ...]
    lost: int


def repair(
    directory: str,
    originals: str,
    damages: list[Damage],
    settings: OutboxSettings,
    disk: Disk,
    now: Instant,
    describe_loss: DescribeLoss,
    progress: Callable[[str], None] = lambda what: None,
    sealing: Sealing = PLAIN,
) -> Repaired:
    """Repair what `OutboxReader.verify` found.

    Raises OutboxUnusable where a daemon runs, OutboxSealed where `sealing` has not the key, OSError where the disk
    fails.
    """
    lock = take_directory(disk, directory)  # refused at once, before anything is copied
    if lock is not None:
        disk.close(lock)
    paths = sorted({damage.path for damage in damages})
    disk.make_directory(originals)
    copied = []
    for path in paths:
        progress(f"copying {os.path.relpath(path, directory)}")
        with contextlib.suppress(FileNotFoundError):
            _copy(disk, path, _beside(originals, directory, path))
            copied.append(path)
    disk.sync_directory(originals)
    lost = _name_losses(directory, settings, disk, now, describe_loss, progress, sealing)
    rewritten = []
    lock = take_directory(disk, directory)
    try:
        reader = OutboxReader(directory, disk, sealing)
        for path in copied:
            stream = os.path.basename(os.path.dirname(path))
            if stream in STREAMS and parse_name(os.path.basename(path)) is not None:
                progress(f"writing {os.path.relpath(path, directory)} anew")
                _rewrite(disk, reader, next(name for name in STREAMS if name == stream), path)
                rewritten.append(path)
        for path in reader.set_aside():  # also what the opening has set aside
            _copy(disk, path, _beside(originals, directory, path))
            disk.sync_directory(originals)
            disk.unlink(path)
            disk.sync_directory(os.path.dirname(path))
    finally:
        if lock is not None:
            disk.close(lock)
    return Repaired(originals, tuple(copied), tuple(rewritten), lost)


def _name_losses(
    directory: str,
    settings: OutboxSettings,
    disk: Disk,
    now: Instant,
    describe_loss: DescribeLoss,
    progress: Callable[[str], None],
    sealing: Sealing,
) -> int:
    """Open it as the daemon does and read all that waits: what is not there is recorded as lost."""
    before = OutboxReader(directory, disk, sealing).counters.get("lost", 0)
    outbox = Outbox.open(directory, settings, disk, InlineWriter(disk), now, describe_loss, sealing=sealing)
    outbox.hold_memory()
    try:
        for stream in STREAMS:
            progress(f"reading {stream}")
            after = 0
            while entries := outbox.read(stream, after, 1000, 1 << 20):
                after = entries[-1].sequence
        outbox.name_unread(now)
        outbox.commit(now)
        return outbox.status().lost - before
    finally:
        outbox.close(now)


def _beside(originals: str, directory: str, path: str) -> str:
    return os.path.join(originals, os.path.relpath(path, directory).replace(os.sep, "_"))


def _copy(disk: Disk, path: str, to: str) -> None:
    source = disk.open_reading(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(to)
        target = disk.open(to, create=True)
        try:
            offset, size = 0, disk.size(path)
            while offset < size and (piece := read_over(disk, source, PIECE_BYTES, offset)):
                disk.write_at(target, piece, offset)
                offset += len(piece)
            disk.sync(target)
        finally:
            disk.close(target)
    finally:
        disk.close(source)


def _rewrite(disk: Disk, reader: OutboxReader, stream: Stream, path: str) -> None:
    """Write a segment anew from its whole records; byte for byte the same but for what was damaged."""
    place = parse_name(os.path.basename(path))
    assert place is not None
    base, epoch = place
    outbox, sealing = reader.id, reader.sealing
    seed = salt(outbox, stream, epoch)
    try:
        source = disk.open_reading(path)
    except FileNotFoundError:
        return  # empty, and removed when it was opened
    new = path + NEW_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(new)
    target = disk.open(new, create=True)
    try:
        offset = 0
        for record in (records := Scan(disk, source, seed, base, 10**16 - 1)):
            if sealing.open(record.payload, place_of(outbox, stream, record.sequence)) is None:
                continue  # not what was sealed there: named as lost, and in the originals
            if not offset:
                offset = _header(disk, source, target, records, (outbox, stream, epoch, base), sealing)
                lines = encode(seed, [(record.sequence, record.payload)], True)
            else:
                lines = encode(seed, [(record.sequence, record.payload)], False)
            disk.write_at(target, lines, offset)
            offset += len(lines)
        if not offset:
            offset = _header(disk, source, target, records, (outbox, stream, epoch, base), sealing)
        disk.write_at(target, FOOTER, offset)
        disk.sync(target)
    finally:
        disk.close(target)
        disk.close(source)
    disk.rename(new, path)
    disk.sync_directory(os.path.dirname(path))


def _header(
    disk: Disk, source: int, target: int, records: Scan, about: tuple[str, Stream, int, int], sealing: Sealing
) -> int:
    """Write the header: the old one where it can be read, else one whose time nobody trusts, for any key given."""
    if records.header is not None:
        line = disk.read_at(source, 1024, 0).partition(b"\n")[0] + b"\n"
    else:
        line = encode_header(*about, Instant(0, 0, "unsynced"), sealing.opens)
    disk.write_at(target, line, 0)
    return len(line)
