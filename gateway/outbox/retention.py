"""What leaves the disk, and in what order: acknowledged files first, then the least valuable stream's oldest.

Law: choosing only. A file leaves when everything in it is settled (acknowledged, or its loss durable) and a synced
state says so; the newest file of a stream never leaves, for it proves where the numbers go on. Every stream keeps a
floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.machine.disk import Disk
from gateway.model import NS_PER_S, SHED_ORDER, Instant, Stream
from gateway.outbox.recovery import read_header
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import GONE_MAX, SLOT_BYTES
from gateway.outbox.stream import BLOCK_BYTES, Segment, StreamLog

SEGMENT_BYTES_MAX = 4 << 20  # some 14,000 events: the grain of what is shed
GATEWAY_SEGMENT_BYTES_MAX = 1 << 20  # health every 5 min: a week
SEGMENT_PART = 64  # of bytes_max, so that a small outbox is still shed in small grains
SEGMENT_BYTES_MIN = 4 << 10
FLOOR_PART = 16  # of bytes_max stays with each stream: a flood of one leaves something of all
EXPIRE_EVERY_NS = 60 * NS_PER_S  # a clock that jumps to 2036 costs one file a minute, not the outbox


class Retention:
    """Chooses files of `logs`. `other_bytes` is what else lies in the directory."""

    def __init__(self, settings: OutboxSettings, logs: Mapping[Stream, StreamLog], disk: Disk) -> None:
        self._settings, self._logs, self._disk = settings, logs, disk
        self._keep_ns = int(settings.keep_acknowledged * NS_PER_S)
        self._expired_ns: int | None = None
        self.other_bytes = 2 * SLOT_BYTES
        self.full_at_bytes: int | None = None  # what we had on the disk when it said that it is full
        least = max(settings.bytes_max // SEGMENT_PART, SEGMENT_BYTES_MIN)
        self._segment_bytes = min(least // BLOCK_BYTES * BLOCK_BYTES, SEGMENT_BYTES_MAX)
        self._floor_bytes = settings.bytes_max // FLOOR_PART

    def segment_bytes(self, stream: Stream) -> int:
        """Return the size of a new file of the stream."""
        return min(self._segment_bytes, GATEWAY_SEGMENT_BYTES_MAX) if stream == "gateway" else self._segment_bytes

    def used_bytes(self) -> int:
        """Return what the outbox takes on the disk."""
        return sum(log.bytes() for log in self._logs.values()) + self.other_bytes

    def limit_bytes(self, stream: Stream) -> int:
        """Return what may be used with a new file of the stream; all but `gateway` leave room for losses."""
        limit = self._settings.bytes_max
        if self.full_at_bytes is not None:
            limit = min(limit, self.full_at_bytes)
        return limit if stream == "gateway" else limit - 2 * self.segment_bytes("gateway")

    def has_room(self, stream: Stream, size_bytes: int) -> bool:
        """Return whether a new file of the stream fits now."""
        return self.used_bytes() + size_bytes <= self.limit_bytes(stream)

    def victims(self, stream: Stream, size_bytes: int, floors: bool) -> list[tuple[StreamLog, Segment]] | None:
        """Return the files that must leave before a new one fits; None where even all would not do.

        With `floors` no stream falls below its floor.
        """
        leaving = sum(segment.size_bytes for log in self._logs.values() for segment in log.segments if segment.leaving)
        excess = self.used_bytes() - leaving + size_bytes - self.limit_bytes(stream)
        chosen: list[tuple[StreamLog, Segment]] = []
        for candidates in (self._acknowledged(), self._by_worth(self._floor_bytes if floors else 0)):
            for log, segment in candidates:
                if excess <= 0:
                    return chosen
                if not segment.leaving and all(segment is not other for _, other in chosen):
                    chosen.append((log, segment))
                    excess -= segment.size_bytes
        return chosen if excess <= 0 else None

    def _acknowledged(self) -> Iterable[tuple[StreamLog, Segment]]:
        for name in SHED_ORDER:
            log = self._logs[name]
            for index in range(len(log.segments) - 1):
                if log.settled.covers(log.segments[index].base, log.last_of(index)):
                    yield log, log.segments[index]

    def _by_worth(self, floor_bytes: int) -> Iterable[tuple[StreamLog, Segment]]:
        for name in SHED_ORDER:
            log = self._logs[name]
            left = log.bytes()
            for index in range(len(log.segments) - 1):
                left -= log.segments[index].size_bytes
                if left < floor_bytes:
                    break
                yield log, log.segments[index]

    def after_grace(self, now: Instant) -> None:
        """Let the files leave whose entries were all acknowledged `keep_acknowledged` ago."""
        for log in self._logs.values():
            for index, segment in enumerate(log.segments[:-1]):
                if segment.settled_ns is None:
                    if log.settled.covers(segment.base, log.last_of(index)):
                        segment.settled_ns = now.boot_ns
                elif now.boot_ns - segment.settled_ns >= self._keep_ns:
                    segment.leaving = True

    def expired(self, now: Instant) -> tuple[StreamLog, Segment] | None:
        """Return a file whose newest entry is older than `age_max`: one a minute, and only by a trusted clock."""
        if now.clock != "synced" or (self._expired_ns is not None and now.boot_ns - self._expired_ns < EXPIRE_EVERY_NS):
            return None
        self._expired_ns = now.boot_ns
        now_ms = now.wall_ns // 1_000_000
        for name in SHED_ORDER:
            log = self._logs[name]
            for index in range(len(log.segments) - 1):
                if log.segments[index].leaving:
                    continue
                ended_ms = self._created_ms(log.segments[index + 1])
                if ended_ms and now_ms - ended_ms > self._settings.age_max * 1000:
                    return log, log.segments[index]
                break
        return None

    def _created_ms(self, segment: Segment) -> int:
        if segment.created_ms is None:
            about = read_header(self._disk, segment.path)
            trusted = about is not None and about.get("clock") == "synced"
            segment.created_ms = int(about["created_ms"]) if about is not None and trusted else 0
        return segment.created_ms

    @staticmethod
    def leave(log: StreamLog, mark: int) -> list[Segment]:
        """Return the files that a state with this `mark` lets go; those out of order are written down in `log.gone`."""
        gone = [run for run in log.gone.runs if run[1] > log.settled.through]
        log.gone = type(log.gone)(0, gone)
        going: list[Segment] = []
        for index, segment in enumerate(log.segments[:-1]):
            last = log.last_of(index)
            known = segment.forced or last <= mark
            if not segment.leaving or not known or not log.settled.covers(segment.base, last):
                continue
            if last > log.settled.through:
                if len(log.gone) >= GONE_MAX:
                    continue
                log.gone.add(segment.base, last)
            going.append(segment)
        return going
