"""From waiting entries to write jobs, one in flight a stream, and what happens when the disk refuses one.

Law: after a failed write or sync nothing in that file is believed behind what was durable before: the file is given
up, the epoch rises, and the same entries under the same numbers go first, into a new file. The first failure is tried
again at once, further ones with back-off. A full disk is not a failure as long as something less valuable can leave.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.machine.owner import refused
from gateway.model import NS_PER_S, Instant, Stream
from gateway.outbox.jobs import Append, Create, NotCreated, Seal
from gateway.outbox.record import FOOTER, LINE_OVERHEAD_BYTES, encode, encode_header, salt, segment_name
from gateway.outbox.retention import Retention
from gateway.outbox.stream import BLOCK_BYTES, Active, Segment, StreamLog

EARLY_BYTES = 64 * 1024  # what waits is committed before its interval is over
BATCH_BYTES_MAX = 256 * 1024  # of one job, so that a card that stalls has little in its hands
ZERO_AHEAD_BYTES = 256 * 1024  # zeros written ahead turn two flushes of a small commit into one
ZERO_AHEAD_BATCH_BYTES = 64 * 1024  # a larger batch is worth its second flush
LOSS_RESERVE_BYTES = 16 * 1024  # of each `gateway` file, for losses only: some 30 of them
GATEWAY_LAST_RESORT_BYTES = 64 * 1024  # the size of a `gateway` file on a disk that has no room for a whole one
RETRY_MAX_S = 30

TroubleOf = Literal["record", "state"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """The disk refuses: what it said, how often running, and when it is tried again (`boot_ns`)."""

    detail: str
    errno: int | None
    failures: int
    retry_ns: int


@dataclass(slots=True)
class WriteUnderWay:
    """A write job under way: where the file stands when it has succeeded."""

    active: Active
    end: int
    zeroed: int


class Committer:
    """Makes the write jobs of `logs`, and knows the epoch and the trouble."""

    def __init__(
        self, outbox: str, epoch: int, logs: Mapping[Stream, StreamLog], retention: Retention, ballast: str = ""
    ) -> None:
        self.epoch, self._ballast = epoch, ballast
        self._outbox, self._logs, self._retention = outbox, logs, retention
        self._troubles: dict[TroubleOf, Trouble] = {}
        self._flights: dict[Stream, WriteUnderWay] = {}
        self._wants_file: set[Stream] = set()
        self._stuck: set[Stream] = set()  # streams that wait for room
        self._victims: list[tuple[StreamLog, Segment]] = []
        self._into_reserve = False
        self.recorded = 0  # entries that have become durable
        self.known: Mapping[Stream, Any] | None = None  # the memory of the streams, once it knows all that is recorded

    @property
    def trouble(self) -> Trouble | None:
        """The worst trouble there is; None while the disk takes everything."""
        return max(self._troubles.values(), key=lambda trouble: trouble.failures, default=None)

    def retry_ns(self, of: TroubleOf, now: Instant) -> int | None:
        """Return when the disk is tried again; None where it may be now."""
        trouble = self._troubles.get(of)
        return trouble.retry_ns if trouble is not None and now.boot_ns < trouble.retry_ns else None

    def has_trouble(self, of: TroubleOf) -> bool:
        return of in self._troubles

    def fail(self, of: TroubleOf, error: OSError, now: Instant) -> None:
        """Take note that the disk refused."""
        failures = self._troubles[of].failures + 1 if of in self._troubles else 1
        wait_s = 0 if failures == 1 else min(RETRY_MAX_S, 1 << (failures - 2))
        what = "events cannot be recorded" if of == "record" else "the state cannot be saved"
        detail = f"{what}: {refused(error, os.path.dirname(self._ballast))}"
        self._troubles[of] = Trouble(detail, error.errno, failures, now.boot_ns + wait_s * NS_PER_S)

    def recover(self, of: TroubleOf) -> None:
        """Take note that the disk took it."""
        self._troubles.pop(of, None)

    def try_now(self) -> None:
        """Forget what the disk refused, so that it is tried without waiting; it may refuse again."""
        self._troubles.clear()

    def want_file(self, log: StreamLog) -> None:
        """Let the stream have a file before it has entries."""
        self._wants_file.add(log.name)

    def take_victims(self) -> list[tuple[StreamLog, Segment]]:
        """Return the files that must leave for what was asked of `next_job`."""
        victims, self._victims = self._victims, []
        return victims

    def due_ns(self, log: StreamLog) -> int | None:
        """Return when the stream's next commit is due by the clock; None where something else comes first."""
        if log.busy or log.name in self._stuck:
            return None
        if log.urgent or log.naming or log.pending_bytes >= EARLY_BYTES or log.name in self._wants_file:
            return 0
        return None if log.pending_since_ns is None else log.pending_since_ns + log.interval_ns

    def may_write(self, log: StreamLog) -> bool:
        """Return whether `next_job` may have one for the stream: cheap, for most streams have nothing to write."""
        return bool(log.pending) or log.name in self._wants_file or log.name in self._stuck

    def next_job(self, log: StreamLog, now: Instant) -> Append | None:
        """Return the stream's next write where one is due and possible."""
        self._stuck.discard(log.name)
        due = self.due_ns(log)
        if due is None or now.boot_ns < due:
            return None
        first_bytes = len(log.pending[0][1]) + LINE_OVERHEAD_BYTES if log.pending else 0
        active = log.active
        if active is not None:
            kept_back = LOSS_RESERVE_BYTES if log.name == "gateway" and not log.naming else 0
            room = active.size_bytes - active.offset - len(FOOTER) - min(kept_back, active.size_bytes // 4)
            if first_bytes <= room:
                self._wants_file.discard(log.name)
                return self._append(log, active, min(room, BATCH_BYTES_MAX), None)
        return self._append_to_new(log, first_bytes, now)

    def _append_to_new(self, log: StreamLog, first_bytes: int, now: Instant) -> Append | None:
        base = log.pending[0][0] if log.pending else log.next
        header = encode_header(self._outbox, log.name, self.epoch, base, now, log.sealing.used)
        needed = -(-(len(header) + first_bytes + len(FOOTER)) // BLOCK_BYTES) * BLOCK_BYTES
        size = self._retention.segment_bytes(log.name)
        trouble = self._troubles.get("record")
        if log.name == "gateway" and trouble is not None and trouble.errno == errno.ENOSPC:
            size = min(size, GATEWAY_LAST_RESORT_BYTES)
        size = max(size, needed)
        if not log.naming and not self._retention.has_room(log.name, size):
            if not log.pending and log.name != "gateway":
                self._wants_file.discard(log.name)  # nothing is shed for an empty file
                return None
            self._make_room(log, size, now, floors=True)
            return None
        path = os.path.join(log.directory, segment_name(base, self.epoch))
        ballast = self._ballast if log.name == "gateway" else ""
        create = Create(path, size, header, not (log.naming or self._into_reserve), ballast)
        seed = salt(self._outbox, log.name, self.epoch)
        active = Active(Segment(base, self.epoch, path, size), -1, len(header), 0, size, seed, True)
        self._wants_file.discard(log.name)
        return self._append(log, active, min(size - len(header) - len(FOOTER), BATCH_BYTES_MAX), create)

    def _append(self, log: StreamLog, active: Active, bytes_max: int, create: Create | None) -> Append:
        items = log.take(bytes_max) if log.pending else ()
        log.carried = None
        if self.known is not None and items and not log.pending:
            log.carried = (items[-1][0], self.known.get(log.name))
        content = encode(active.seed, items, active.empty)
        end = active.offset + len(content)
        zeroed = max(active.zeroed, end)
        if end > active.zeroed and len(content) < ZERO_AHEAD_BATCH_BYTES:
            zeroed = min(end + ZERO_AHEAD_BYTES, active.size_bytes)
            content += bytes(zeroed - end)
        log.busy = True
        self._flights[log.name] = WriteUnderWay(active, end, zeroed)
        return Append(log.name, active.fd, active.offset, content, create)

    def _make_room(self, log: StreamLog, size_bytes: int, now: Instant, floors: bool) -> bool:
        victims = self._retention.victims(log.name, size_bytes, floors)
        if victims is None:
            self._retention.full_at_bytes = None  # what filled the disk may be gone by the next try
            if floors:
                self.fail("record", OSError(errno.ENOSPC, "no room, and nothing is left that may go"), now)
            return False
        self._victims += victims
        self._stuck.add(log.name)
        return True

    def take_in(self, job: Append, fd: int | None, error: OSError | None, now: Instant) -> Seal | None:
        """Take in what became of a write; return the seal of a file that is not written any more."""
        log = self._logs[job.stream]
        flight = self._flights.pop(job.stream)
        log.busy = False
        if error is not None:
            return self._take_back(log, job, error, now)
        assert fd is not None
        seal = None
        active = flight.active
        if job.create is not None:
            active.fd = fd
            old, log.active = log.active, active
            log.segments.append(active.segment)
            self._retention.full_at_bytes = None
            self._into_reserve = False
            if old is not None:
                seal = self._seal(old)
        active.offset, active.zeroed = flight.end, flight.zeroed
        log.freshen(log.inflight, job.create is not None)
        if log.inflight:
            active.empty = False
            log.durable = log.inflight[-1][0]
            self.recorded += len(log.inflight)
            log.inflight = ()
            log.remembered = log.carried or log.remembered
        self.recover("record")
        return seal

    def _take_back(self, log: StreamLog, job: Append, error: OSError, now: Instant) -> Seal | None:
        seal = None
        log.take_back(now.boot_ns)
        if not log.pending and log.name == "gateway":
            self._wants_file.add(log.name)
        if job.create is None or not isinstance(error, NotCreated):
            if job.create is not None and log.active is not None:
                seal = self._seal(log.active)
            log.active = None
            self.epoch += 1
        elif error.errno == errno.ENOSPC:
            if self._sheds_for(log, job.create, now):
                return seal
        else:
            self.epoch += 1
        self.fail("record", error, now)
        return seal

    @staticmethod
    def _seal(active: Active) -> Seal:
        active.segment.size_bytes = active.offset + len(FOOTER)
        return Seal(active.fd, active.offset)

    def _sheds_for(self, log: StreamLog, create: Create, now: Instant) -> bool:
        """Look for what may leave where the disk is full; return whether there is hope without waiting."""
        if not log.pending and log.name != "gateway":
            return True
        self._retention.full_at_bytes = self._retention.used_bytes()
        if not create.keep_reserve:
            return log.name != "gateway" and self._make_room(log, create.size_bytes, now, floors=False)
        victims = self._retention.victims(log.name, create.size_bytes, floors=True)
        if victims is None:
            self._into_reserve = True  # better than to shed what a floor protects
            self._retention.full_at_bytes = None
        else:
            self._victims += victims
            self._stuck.add(log.name)
        return True
