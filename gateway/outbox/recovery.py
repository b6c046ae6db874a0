"""Opening: from whatever lies in the directory to numbers that can be trusted, whatever happened to it.

Law: reading only (`settle_files`, before it, syncs). What is found is a value; nothing is written, renamed or removed
here, for nothing may change before the new epoch is durable. File names and the newest file of each stream are enough:
the time does not grow with the backlog.

Numbers go on at the highest of: the state's `next`, one behind what is settled, the newest file's base, one behind its
last record. What lies below that, is not settled and not in a file is lost and named. The losses that stream `gateway`
recorded after the state was saved are taken into it, so that nothing is named twice; those that found no room for a
record stand in the state itself, and their numbers are not given again. A sector that cannot be read is
passed over, and what may stand there is left to the reader's patience; any other error is raised: it says nothing of
what is recorded.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.errors import OutboxSealed
from gateway.machine.disk import Disk, NotAFile
from gateway.model import STREAMS, Loss, Stream
from gateway.outbox.intervals import NUMBER_MAX, Intervals, Run
from gateway.outbox.losses import told_loss
from gateway.outbox.record import EPOCH_MAX, Scan, decode_header, parse_name, salt
from gateway.outbox.sealing import PLAIN, Sealing, memory_place
from gateway.outbox.sectors import is_of_the_card, read_before
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import STATE_NAME, SavedState, StreamState, read_slots
from gateway.outbox.stream import Segment, StreamLog

HEADER_BYTES_MAX = 1024
LEAP_MAX = 1 << 32
RECORD_BYTES_LEAST = 128  # an event has type, subject, time, clock, boot: so many of them fit an unreadable sector


@dataclass(frozen=True, slots=True)
class Created:
    """An outbox was made; `previous` is the one given up, None on a new card."""

    previous: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Torn:
    """The newest file of a stream as a crash left it: where its records end, and whether only zeros follow."""

    segment: Segment
    end: int
    solid_end: int
    clean: bool


@dataclass(slots=True)
class Found:
    """What opening found. `state` is None for a new outbox; `void` files hold nothing, `aside` files cannot be used."""

    state: SavedState | None = None
    slot: int = 1
    created: Created | None = None
    recovered: bool = False
    epoch: int = 1
    logs: dict[Stream, StreamLog] = field(default_factory=dict)
    lost: list[tuple[Stream, Run]] = field(default_factory=list)
    owed: list[tuple[Stream, Run]] = field(default_factory=list)  # never written, and their loss has no record yet
    void: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    torn: list[Torn] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    """What has the name of a segment and is no file: passed over, never touched."""
    told: list[tuple[int, Loss]] = field(default_factory=list)
    sealing: Sealing = PLAIN
    keys: frozenset[str] = frozenset()  # of what lies there, by their check values
    certain: dict[Stream, int] = field(default_factory=dict)
    """Newest files with records that may be in memory only; and of their streams, the last number that is durable."""


def leap_epoch(epoch: int, leap: int) -> int:
    """Return an epoch that no other life of the same card has had: `epoch` or up to `leap` above it.

    What the card says can go back (an image put back, a card copied); what is drawn at random at each opening does not
    come twice. The step is shorter where little room is left, so that EPOCH_MAX is never passed.
    """
    return epoch + min(leap, (EPOCH_MAX - epoch) >> 20)


def settle_files(disk: Disk, directory: str) -> None:
    """Let the state and the newest files be read as the card holds them, not as a failed sync has left them in memory.

    After a failed sync Linux takes the pages for clean: they are gone at the next power cut, but are still read until
    then. So they are dropped; what could not be synced for other reasons (a read-only card) is read as it is.
    """
    by_stream = (_segments(disk, os.path.join(directory, name), []) for name in STREAMS)
    newest = [segments[-1].path for segments in by_stream if segments]
    for path in (os.path.join(directory, STATE_NAME), *newest):
        with contextlib.suppress(OSError):
            fd = disk.open_reading(path)
            try:
                with contextlib.suppress(OSError):
                    disk.sync(fd)
                disk.forget(fd)
            finally:
                disk.close(fd)


def find_outbox(
    disk: Disk, directory: str, settings: OutboxSettings, scan: bool = True, sealing: Sealing = PLAIN
) -> Found:
    """Look at the directory; `scan` the newest file of each stream, else `durable` is what the state says.

    Raises OSError for what is no fault of the card's: its `filename` says where; OutboxSealed where something is sealed
    that no key of `sealing` opens.
    """
    found = Found(sealing=sealing)
    by_stream = {name: _segments(disk, os.path.join(directory, name), found.strangers) for name in STREAMS}
    for segments in by_stream.values():
        _require_rights(disk, segments)
        _leave_out_misnamed(disk, segments, found)
    path = os.path.join(directory, STATE_NAME)
    try:
        slots = read_slots(disk, path)
    except OSError as error:
        if not is_of_the_card(error):
            raise
        slots = None
    if slots is not None:
        found.state, found.slot = slots.state, slots.slot
        found.told = list(slots.state.told) if slots.state is not None else []
    if found.state is None:
        written = slots is None or slots.written
        found.state = _from_headers(disk, by_stream)
        if found.state is not None:
            found.recovered = True
        else:
            by_stream = _give_up(disk, by_stream, written, found)
    if found.state is not None:
        found.keys = _keys_needed(disk, directory, found, by_stream)
        found.state = replace(found.state, memory=_opened_memory(directory, found.state, sealing))
    state = found.state
    epochs = [segment.epoch for segments in by_stream.values() for segment in segments]
    found.epoch = 1 + max([state.epoch if state else 0, *epochs])
    for name in STREAMS:
        place = state.streams.get(name, StreamState()) if state else StreamState()
        log = StreamLog(name, os.path.join(directory, name), settings.interval_ns(name), sealing=sealing)
        log.settled = Intervals(place.through, place.acked)
        log.gone = Intervals(0, place.gone)
        log.mark = place.mark
        found.logs[name] = log
        log.next = max(place.next, log.settled.highest + 1)
        _take_segments(log, by_stream[name], found)
        for segment in log.segments:
            segment.damaged = segment.base in place.damaged
    if state is None:
        return found
    present = {name: _newest(disk, state.outbox, found.logs[name], found, scan) for name in STREAMS}
    for log in found.logs.values():
        log.durable = log.next - 1
    if scan and not found.recovered:
        _replay_losses(disk, state, found)
    for name, log in found.logs.items():
        if scan:
            _take_owed(log, state.streams.get(name, StreamState()).owed, present[name][1], found)
            _name_missing(log, *present[name], found)
        log.durable = log.next - 1
    return found


def _segments(disk: Disk, directory: str, strangers: list[str]) -> list[Segment]:
    try:
        names = disk.names(directory)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        place = parse_name(name)
        if place is not None:
            path = os.path.join(directory, name)
            try:
                size = disk.size(path)
            except NotAFile:
                strangers.append(path)
                continue
            except FileNotFoundError:
                size = 0
            found.append(Segment(*place, path, size))
    return sorted(found, key=lambda segment: (segment.base, segment.epoch))


def _is_of_the_file(error: OSError) -> bool:
    """Return whether the error is of this one file: the card cannot read it, or it is not there."""
    return is_of_the_card(error) or isinstance(error, FileNotFoundError)


def _require_rights(disk: Disk, segments: list[Segment]) -> None:
    """Raise OSError where a file may not be read: before anything is believed."""
    for segment in segments:
        try:
            disk.close(disk.open_reading(segment.path))
        except OSError as error:
            if not _is_of_the_file(error):
                raise OSError(error.errno, error.strerror, segment.path) from None


def _leave_out_misnamed(disk: Disk, segments: list[Segment], found: Found) -> None:
    """Set newest files aside whose first line is whole and contradicts their name: numbers go on from a name."""
    while segments:
        about = _header(disk, segments[-1].path)
        if about is None or (about.get("base"), about.get("epoch")) == (segments[-1].base, segments[-1].epoch):
            return
        found.aside.append(segments.pop().path)


def _take_segments(log: StreamLog, segments: list[Segment], found: Found) -> None:
    """Keep what can hold entries: of two with one base the older was given up by a failed write."""
    for index, segment in enumerate(segments):
        if index + 1 < len(segments) and segments[index + 1].base == segment.base:
            found.void.append(segment.path)
        else:
            log.segments.append(segment)


def read_header(disk: Disk, path: str) -> dict[str, Any] | None:
    """Return what the first line of a segment says; None where it cannot be read."""
    with contextlib.suppress(OSError):
        return _header(disk, path)
    return None


def _header(disk: Disk, path: str) -> dict[str, Any] | None:
    """Return the same; OSError where the card is not to blame."""
    try:
        fd = disk.open_reading(path)
        try:
            return decode_header(read_before(disk, fd, HEADER_BYTES_MAX, 0).partition(b"\n")[0])
        finally:
            disk.close(fd)
    except OSError as error:
        if _is_of_the_file(error):
            return None
        raise


def _from_headers(disk: Disk, by_stream: Mapping[Stream, list[Segment]]) -> SavedState | None:
    """Prove the outbox from its files alone: each stream has one, and the newest of each names the same outbox.

    A stream without files has lost its numbers; then only a new outbox is safe.
    """
    outboxes = set()
    streams: dict[Stream, StreamState] = {}
    for name, segments in by_stream.items():
        if not segments:
            return None
        about = _header(disk, segments[-1].path)
        if about is None or (about.get("stream"), about.get("base"), about.get("epoch")) != (
            name,
            segments[-1].base,
            segments[-1].epoch,
        ):
            return None
        outboxes.add(str(about.get("outbox")))
        streams[name] = StreamState(segments[-1].base, segments[0].base - 1, mark=segments[-1].base - 1)
    if len(outboxes) != 1:
        return None
    epoch = max(segments[-1].epoch for segments in by_stream.values())
    return SavedState(0, outboxes.pop(), epoch, streams=streams)


def _keys_needed(disk: Disk, directory: str, found: Found, by_stream: Mapping[Stream, list[Segment]]) -> frozenset[str]:
    """Return the check values of the keys that are needed; raises OutboxSealed where one of them is not given.

    Each file is asked only where the state lists a key that is not given (it may be needed no more), or there is none.
    """
    assert found.state is not None
    keys, given = frozenset(found.state.keys), found.sealing.opens
    if keys <= given and not found.recovered:
        return keys
    asked: set[str] = set()
    for segment in (segment for segments in by_stream.values() for segment in segments):
        about = read_header(disk, segment.path)
        asked.update(keys if about is None else about.get("keys", ()))
    if not asked <= given:
        raise sealed(directory, asked - given, given)
    return frozenset(asked)


def _opened_memory(directory: str, state: SavedState, sealing: Sealing) -> Mapping[str, Any]:
    raw = json.dumps(state.memory, separators=(",", ":")).encode()
    text = sealing.open(raw, memory_place(state.outbox))
    if text is None:
        raise sealed(directory, set(state.keys) - sealing.opens, sealing.opens)
    memory: dict[str, Any] = json.loads(text)
    return memory


def sealed(directory: str, missing: Collection[str], given: Collection[str]) -> OutboxSealed:
    """Return the sentence for an outbox whose key is not given."""
    with_key = f" with key {', '.join(sorted(missing))}" if missing else ""
    here = f"the key given is {', '.join(sorted(given))}" if given else "no key is given"
    return OutboxSealed(
        f"the outbox {directory} is sealed{with_key}, and {here}; nothing was read, nothing has changed",
        "let [outbox] key_file (or old_key_file) name the key that it was sealed with",
    )


def _give_up(
    disk: Disk, by_stream: Mapping[Stream, list[Segment]], written: bool, found: Found
) -> dict[Stream, list[Segment]]:
    """Set everything aside that an unknown outbox left; say which one it was, where a file still says so."""
    paths = [segment.path for segments in by_stream.values() for segment in segments]
    found.aside.extend(paths)
    previous = None
    for path in reversed(paths):
        about = _header(disk, path)
        if about is not None:
            previous = str(about["outbox"])
            break
    if paths:
        found.created = Created(previous, "the state file could not be read and the numbers could not be proven")
    elif written:
        found.created = Created(None, "the state file could not be read")
    else:
        found.created = Created(None, "new")
    return {name: [] for name in STREAMS}


def _newest(disk: Disk, outbox: str, log: StreamLog, found: Found, scan: bool) -> tuple[int, Intervals]:
    """Scan the newest file and raise `next` behind its last record; return its base and the numbers that are in it."""
    present = Intervals()
    if not log.segments:
        return log.next, present
    segment = log.segments[-1]
    certain = log.next - 1
    log.next = max(log.next, segment.base)
    if not scan:
        return log.next, present
    try:
        fd = disk.open_reading(segment.path)
        try:
            records = Scan(disk, fd, salt(outbox, log.name, segment.epoch), segment.base, NUMBER_MAX)
            unread: list[Run] = []
            run = [segment.base, segment.base - 1]
            for record in records:
                if record.sequence != run[1] + 1:
                    if records.skipped:
                        unread.append((run[1] + 1, record.sequence - 1))
                    if run[0] <= run[1]:
                        present.add(run[0], run[1])
                    run = [record.sequence, record.sequence - 1]
                run[1] = record.sequence
            if run[0] <= run[1]:
                present.add(run[0], run[1])
        finally:
            disk.close(fd)
    except OSError as error:
        if not _is_of_the_file(error):
            raise
        return _unreadable(log, segment, certain, present, found)
    if present.highest > certain:
        found.tails.append(segment.path)
        found.certain[log.name] = certain
    if present.highest:
        log.next = max(log.next, present.highest + 1)
        found.torn.append(Torn(segment, records.end, records.solid_end, records.clean))
    elif records.clean and records.header is not None:
        found.void.append(segment.path)
        log.segments.pop()
    if records.unread_bytes:  # numbers that may have been given: they are not given again
        log.next = max(log.next, present.highest + 1) + records.unread_bytes // RECORD_BYTES_LEAST
        found.certain.setdefault(log.name, certain)
    if records.skipped:
        unread.append((max(present.highest + 1, segment.base), log.next - 1))
    for first, last in unread:
        present.add(first, last)
    return segment.base, present


def _unreadable(
    log: StreamLog, segment: Segment, certain: int, present: Intervals, found: Found
) -> tuple[int, Intervals]:
    """Leave a newest file that the card does not let be read at all to the reader's patience, its numbers with it."""
    log.next = max(log.next, segment.base) + segment.size_bytes // RECORD_BYTES_LEAST
    present.add(segment.base, log.next - 1)
    found.certain.setdefault(log.name, certain)
    return segment.base, present


def _replay_losses(disk: Disk, state: SavedState, found: Found) -> None:
    """Take in the losses recorded since the state was saved; they are few, in the newest files of `gateway`."""
    log = found.logs["gateway"]
    if not log.segments:
        return
    since = state.streams.get("gateway", StreamState()).next
    start = max(log.find(since), 0)
    for index in range(start, len(log.segments)):
        segment = log.segments[index]
        try:
            fd = disk.open_reading(segment.path)
            try:
                seed = salt(state.outbox, "gateway", segment.epoch)
                for record in Scan(disk, fd, seed, max(segment.base, since), log.last_of(index)):
                    payload = log.opened(state.outbox, record.sequence, record.payload)
                    if payload is not None and (loss := told_loss(payload, state.outbox)) is not None:
                        _replay(record.sequence, loss, found)
            finally:
                disk.close(fd)
        except OSError as error:
            if not _is_of_the_file(error):
                raise


def _replay(sequence: int, loss: Loss, found: Found) -> None:
    found.told.append((sequence, loss))
    log = found.logs[loss.stream]
    log.settled.add(loss.first, loss.last)
    log.next = max(log.next, loss.last + 1)


def _take_owed(log: StreamLog, owed: tuple[Run, ...], present: Intervals, found: Found) -> None:
    """Take in what the state says was given and never written, but for what is recorded or named all the same."""
    for first, last in owed:
        log.next = max(log.next, last + 1)
        for run in list(log.settled.open_within(first, last)):
            for part in present.open_within(*run):
                log.named.add(*part)
                found.owed.append((log.name, part))


def _name_missing(log: StreamLog, newest: int, present: Intervals, found: Found) -> None:
    """Find what should be there and is not: before the first file, in the newest, and behind it up to `next`."""
    base = min(log.segments[0].base if log.segments else newest, newest)
    for first, last in [(log.settled.through + 1, base - 1), *present.open_within(newest, log.next - 1)]:
        lost = list(log.open_within(first, last))
        found.lost.extend((log.name, run) for run in lost)
        if lost and first >= newest and log.segments and log.segments[-1].base == newest:
            log.segments[-1].damaged = True
