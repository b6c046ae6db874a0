"""The durable queue: what is appended survives a power cut, is read back byte for byte, and leaves when acknowledged.

Law: one thread calls it, and it never waits for the disk: each act is a job for the writer, whose result `step` takes
in. Nothing is read out that is not durable; nothing leaves the disk before a synced state says that it may; no loss is
unnamed: its record in stream `gateway` is durable before the data goes. It opens whatever lies in its directory.

Orders of writes (each step begins when the one before it has returned):
  commit   records (new file: header, records, sync, sync the directory) -> `durable` rises -> read out
  loss     record of the loss -> the numbers count as settled -> synced state -> unlink
  failure  epoch + 1, numbers taken back, the same events first, into a new file; a second failure: wait, in bounded
  memory
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gateway.disk import Disk
from gateway.errors import OutboxUnusable
from gateway.model import NS_PER_MS, NS_PER_S, SHED_ORDER, STREAMS, Entry, Instant, Loss, Stream, rfc3339
from gateway.outbox.commit import Committer
from gateway.outbox.intervals import Run
from gateway.outbox.losses import told_loss
from gateway.outbox.reading import read_entries
from gateway.outbox.record import check_payload
from gateway.outbox.recovery import Created, Found, find_outbox
from gateway.outbox.retention import Retention
from gateway.outbox.saving import Remembered, Saver
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import STATE_NAME, memory_text
from gateway.outbox.stream import Segment, StreamLog
from gateway.outbox.table import EntryDatabase, OutboxSource
from gateway.outbox.writing import Append, Begin, Done, Job, Remove, Save, Seal, SetAside, Trim, Writer

PENDING_BYTES_MAX = 4 << 20  # in memory while the disk does not take it: some 14,000 events
SHED_BYTES = 128 * 1024  # at a time, so that a flood is named in few records; more than the largest payload
NAMED_AT_ONCE = 500  # entries of a file that leaves, looked at for losses they told of
RETAIN_EVERY_NS = 10 * NS_PER_S
CLOSE_WAITS_MAX = 60  # of 50 ms: the service has 5 s to stop
ROUNDS_MAX = 100_000  # of one step; a writer that runs at once comes to rest long before
REFUSED_NAME = "refused.jsonl"
REFUSED_PART = 64  # of bytes_max, at most 256 KiB a file

DescribeLoss = Callable[[str, Loss, Instant], bytes]


@dataclass(frozen=True, slots=True)
class Positions:
    """A stream as the state topic tells it; `backlog` is durable and not acknowledged."""

    recorded_through: int
    acknowledged_through: int
    backlog: int


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """The outbox at a glance. `trouble` is what the disk said; `damaged` counts files set aside or found damaged."""

    outbox: str
    epoch: int
    entries: int
    bytes: int
    bytes_max: int
    oldest_entry_ms: int | None
    degraded: bool
    trouble: str | None
    damaged: int
    refused: int
    pending_bytes: int
    lost: int


class Outbox:
    """See the module. Made by `Outbox.open`."""

    def __init__(
        self,
        directory: str,
        settings: OutboxSettings,
        disk: Disk,
        writer: Writer,
        now: Instant,
        describe_loss: DescribeLoss,
        found: Found,
        lock: int | None,
    ) -> None:
        self._directory, self._settings, self._disk, self._writer = directory, settings, disk, writer
        self._describe_loss, self._lock, self._now = describe_loss, lock, now
        state = found.state
        self.id = state.outbox if state is not None else secrets.token_hex(4)
        self.created: Created | None = found.created
        self.clean = bool(state is not None and state.clean)
        self.memory: dict[str, Any] = dict(state.memory) if state is not None else {}
        self._logs = found.logs
        self._counters = dict(state.counters) if state is not None else {}
        marks: dict[Stream, int] = {name: log.mark for name, log in self._logs.items()}
        remembered = Remembered(memory_text(self.memory), marks)
        generation = state.generation if state is not None else 0
        self._saver = Saver(self._logs, found.slot, generation, remembered, remembered)
        self._saver.synced_ns = self._saver.unsynced_ns = now.boot_ns
        self._retention = Retention(settings, self._logs, disk)
        self._committer = Committer(self.id, found.epoch, self._logs, self._retention)
        self._since = {name: (log.mark + 1, log.durable) for name, log in self._logs.items()}
        self._found: Found | None = found
        self._opening = True  # the engine has not yet added `recorded_since_memory` to its memory
        self._owed: list[Loss] = []  # losses without a record yet
        self._losing: list[tuple[int, Loss]] = []  # sequence of the record in stream `gateway`, not durable yet
        self._jobs_open = 0
        self._jobs = 0
        self._bad = 0
        self._retained_ns = now.boot_ns
        self._oldest: dict[Stream, tuple[int, int | None, int | None]] = {}
        for name, run in found.lost:
            self._lose(self._logs[name], *run, "corrupt")

    @classmethod
    def open(
        cls,
        directory: str,
        settings: OutboxSettings,
        disk: Disk,
        writer: Writer,
        now: Instant,
        describe_loss: DescribeLoss,
    ) -> Outbox:
        """Open the outbox in `directory`, making it where there is none; whatever lies there, it opens.

        `describe_loss` turns a loss into the payload of its record. Raises OutboxUnusable where the directory cannot be
        made or another daemon holds it. On a disk that takes no writes it opens to drain; `status` says so.
        """
        with contextlib.suppress(OSError):
            disk.make_directory(directory)
        try:
            lock: int | None = disk.lock(os.path.join(directory, "lock"))
        except BlockingIOError:
            raise OutboxUnusable(
                f"another gateway is running on the outbox {directory}", "stop it first: systemctl stop gateway"
            ) from None
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC, errno.EIO, errno.ENOENT) or not _readable(
                disk, directory
            ):
                raise OutboxUnusable(
                    f"the outbox directory {directory} cannot be used: {error.strerror}",
                    "make it writable for the gateway's user, or set [outbox] directory",
                ) from None
            lock = None
        found = find_outbox(disk, directory, settings)
        outbox = cls(directory, settings, disk, writer, now, describe_loss, found, lock)
        outbox._measure()
        outbox.step(now)
        outbox._opening = False
        return outbox

    @property
    def epoch(self) -> int:
        """The epoch of what is recorded now; an entry's own is that of the file it stands in."""
        return self._committer.epoch

    @property
    def now(self) -> Instant:
        """The moment of the last call that told one."""
        return self._now

    @property
    def database(self) -> EntryDatabase:
        """The outbox as a TinyDB database, one table a stream."""
        return EntryDatabase(OutboxSource(self))

    # What the engine and the uplink do.

    def append(self, stream: Stream, payload: bytes, now: Instant) -> int | None:
        """Give the event its sequence and let it be recorded within the stream's commit interval.

        `payload` is a compact JSON object of at most 64 KiB. Returns None where the disk takes nothing and memory is
        full: the event is lost under its number, counted, and named as soon as the disk takes it.
        """
        check_payload(payload)
        self._now = now
        log = self._logs[stream]
        self._saver.dirty = True
        if self._pending_bytes() + len(payload) > PENDING_BYTES_MAX and not self._shed_for(stream):
            log.next += 1
            self._lose(log, log.next - 1, log.next - 1, "overflow")
            return None
        return log.push(payload, now.boot_ns)

    def _shed_for(self, stream: Stream) -> bool:
        """Forget waiting events of a less valuable stream; return whether there were any."""
        for name in SHED_ORDER[: SHED_ORDER.index(stream)]:
            shed = self._logs[name].shed(SHED_BYTES)
            if shed is not None:
                self._lose(self._logs[name], *shed, "overflow")
                return True
        return False

    def _pending_bytes(self) -> int:
        return sum(log.pending_bytes for log in self._logs.values())

    def commit(self, now: Instant) -> None:
        """Hand everything that waits to the writer now, whatever its interval; durable once `idle`."""
        for log in self._logs.values():
            log.urgent = bool(log.pending)
        self.step(now)

    def read(self, stream: Stream, after: int, limit: int, bytes_max: int, through: int | None = None) -> list[Entry]:
        """Return entries behind sequence `after`, ascending: durable, not acknowledged, not lost.

        At most `limit` entries and about `bytes_max` of payload, one in any case; up to sequence `through`. Numbers
        that are found missing are named as lost with reason `corrupt`.
        """
        log = self._logs[stream]
        end = self._recorded_through(log) if through is None else min(through, self._recorded_through(log))
        got = read_entries(self._disk, self.id, log, after + 1, end, limit, bytes_max, log.next_open)
        for unreadable in got.unreadable:
            unreadable.damaged = unreadable.leaving = True
        for (first, last), segment in got.missing:
            lost = list(log.open_within(first, last))
            if lost and segment is not None:
                segment.damaged = True
            for run in lost:
                self._lose(log, *run, "corrupt")
        return got.entries

    def acknowledge(self, stream: Stream, first: int, last: int) -> None:
        """Take `first..last` as delivered; numbers that are not durable yet are ignored."""
        log = self._logs[stream]
        log.settle(first, min(last, log.durable))
        self._saver.acks += 1
        self._saver.dirty = True

    def refuse(self, entry: Entry, why: str) -> None:
        """Set an entry aside that the broker refuses for good: copied for the technician, named, never sent again."""
        log = self._logs[entry.stream]
        if log.next_open(entry.sequence) != entry.sequence:
            return
        about = {
            "id": f"{self.id}-{entry.epoch}-{entry.stream}-{entry.sequence:016d}",
            "refused": rfc3339(self._now.wall_ns),
            "why": why,
        }
        line = json.dumps(about)[:-1].encode() + b', "event": ' + entry.payload + b"}\n"
        path = os.path.join(self._directory, REFUSED_NAME)
        self._submit(SetAside(path, line, min(256 * 1024, self._settings.bytes_max // REFUSED_PART)))
        self._count("refused", 1)
        self._lose(log, entry.sequence, entry.sequence, "refused")

    def kept(self, stream: Stream, first: int, last: int) -> list[Run]:
        """Return the parts of `first..last` that are still on the disk, acknowledged or not."""
        log = self._logs[stream]
        runs: list[Run] = []
        for index, segment in enumerate(log.segments):
            start, end = max(first, segment.base), min(last, log.last_of(index), self._recorded_through(log))
            for begin, finish in log.gone.open_within(start, end):
                if runs and runs[-1][1] + 1 == begin:
                    runs[-1] = (runs[-1][0], finish)
                else:
                    runs.append((begin, finish))
        return runs

    def read_kept(self, stream: Stream, first: int, last: int, limit: int, bytes_max: int) -> list[Entry]:
        """Return durable entries of `first..last`, acknowledged ones too, as far as they are still kept."""
        log = self._logs[stream]
        return read_entries(self._disk, self.id, log, first, last, limit, bytes_max, lambda sequence: sequence).entries

    def positions(self, stream: Stream) -> Positions:
        """Return where the stream stands."""
        log = self._logs[stream]
        through = self._recorded_through(log)
        return Positions(through, min(log.settled.through, through), through - log.settled.count(1, through))

    def _recorded_through(self, log: StreamLog) -> int:
        """Return the last durable sequence: while the opening is not, not what the last run may have left unsynced."""
        return log.durable if self._found is None else self._found.certain.get(log.name, log.durable)

    def next_sequence(self, stream: Stream) -> int:
        """Return the number that the stream's next event will get."""
        return self._logs[stream].next

    def waiting(self, stream: Stream) -> list[Entry]:
        """Return what is appended and not durable yet; nobody outside may be told of it."""
        log = self._logs[stream]
        return [Entry(stream, sequence, self.epoch, payload) for sequence, payload in (*log.inflight, *log.pending)]

    def recorded_since_memory(self) -> Iterator[Entry]:
        """Yield what was recorded after the state that carried `memory`, stream by stream, acknowledged or not."""
        for name, (first, last) in self._since.items():
            while entries := self.read_kept(name, first, last, 256, 1 << 18):
                yield from entries
                first = entries[-1].sequence + 1

    def saved_memory(self) -> dict[str, Any]:
        """Return the memory as the last synced state has it: what of it survives a power cut."""
        saved: dict[str, Any] = json.loads(self._saver.synced.text)
        return saved

    def save_soon(self) -> None:
        """Let state and memory be saved and synced with the next step."""
        self._saver.wanted = True

    def idle(self) -> bool:
        """Tell whether all that was appended is durable, every loss is named, and nothing is in the writer's hands."""
        waiting = any(log.pending or log.inflight for log in self._logs.values())
        return not (waiting or self._jobs_open or self._owed or self._losing)

    def due_ns(self) -> int | None:
        """Return the `boot_ns` at which `step` has something to do by the clock alone."""
        times: list[int | None] = []
        retry_record_ns = self._committer.retry_ns("record", self._now)
        retry_state_ns = self._committer.retry_ns("state", self._now)
        if self._found is not None:
            times.append(retry_state_ns)  # until the opening is durable nothing else is done
        else:
            times.append(self._retained_ns + RETAIN_EVERY_NS)
            commits = [self._committer.due_ns(log) for log in self._logs.values()]
            times += commits if retry_record_ns is None else [retry_record_ns]
            save_ns = self._saver.waiting_until_ns() or self._saver.due_ns()
            times.append(save_ns if retry_state_ns is None else retry_state_ns)
            if any(loss.reason != "overflow" for loss in self._owed) and not self._committer.has_trouble("record"):
                times.append(0)
        return min((time for time in times if time is not None), default=None)

    def step(self, now: Instant) -> None:
        """Take in what the writer finished; hand it what is due. Returns without waiting for the disk."""
        self._now = now
        for _ in range(ROUNDS_MAX):
            for done in self._writer.finished():
                self._jobs_open -= 1
                self._take_in(done, now)
            before = self._jobs
            self._submit_due(now)
            if self._jobs == before:
                return
        raise AssertionError("the outbox does not come to rest")

    def close(self, now: Instant) -> None:
        """Record what waits, save the state as cleanly stopped, close the files, free the directory for the next."""
        self.commit(now)
        self._wait(now, lambda: self.idle() or self._committer.trouble is not None)
        if self._found is None and self._committer.trouble is None:
            self._saver.snapshot(self.memory, now.boot_ns)
            self._save(synced=True, clean=self.idle())
            self._wait(now, lambda: not self._jobs_open)
        for log in self._logs.values():
            if log.active is not None and not log.busy:
                self._submit(Seal(log.active.fd, log.active.offset))
                log.active = None
        self._writer.close()
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    def status(self) -> OutboxStatus:
        """Return the outbox at a glance; reads at most one entry, the oldest, and that only when it changed."""
        trouble = self._committer.trouble
        return OutboxStatus(
            self.id,
            self.epoch,
            sum(log.backlog() for log in self._logs.values()),
            self._retention.used_bytes(),
            self._settings.bytes_max,
            self._oldest_entry_ms(),
            trouble is not None and trouble.failures > 1,
            trouble.detail if trouble is not None else None,
            self._bad + sum(segment.damaged for log in self._logs.values() for segment in log.segments),
            self._counters.get("refused", 0),
            self._pending_bytes(),
            self._counters.get("lost", 0),
        )

    # Handing out work.

    def _submit(self, job: Job) -> None:
        self._jobs += 1
        self._jobs_open += 1
        self._writer.submit(job)

    def _submit_due(self, now: Instant) -> None:
        can_save = self._committer.retry_ns("state", now) is None
        if self._found is not None:
            if can_save and not self._saver.saving:
                self._begin(now)
            return
        if self._committer.retry_ns("record", now) is None:
            if not self._committer.has_trouble("record"):
                self._record_losses(now)
            for log in self._logs.values():
                self._commit_due(log, now)
        for victim in self._committer.take_victims():
            self._evict(*victim, "full")
        self._retain(now)
        if can_save:
            self._save_due(now)

    def _commit_due(self, log: StreamLog, now: Instant) -> None:
        job = self._committer.next_job(log, now)
        if job is not None:
            self._submit(job)

    def _begin(self, now: Instant) -> None:
        """Make the new epoch durable; before that nothing is recorded and nothing leaves."""
        assert self._found is not None
        slot, text = self._saver.compose(self.id, self.epoch, self._counters, False, self._found.certain)
        path = os.path.join(self._directory, STATE_NAME)
        directories = tuple(log.directory for log in self._logs.values())
        self._saver.saving = True
        self._submit(Begin(self._directory, directories, path, slot, text, tuple(self._found.tails)))

    def _save_due(self, now: Instant) -> None:
        synced = self._saver.due(now.boot_ns)
        if synced is None or (synced and self._opening):
            return
        if synced and not self._saver.snapshot(self.memory, now.boot_ns):
            can_record = self._committer.retry_ns("record", now) is None
            for log in self._logs.values():
                if log.pending and not log.busy and not log.urgent and can_record:
                    log.urgent = True
                    self._commit_due(log, now)
            return
        self._save(synced)

    def _save(self, synced: bool, clean: bool = False) -> None:
        saver = self._saver
        if synced:
            marks = saver.remembered.marks
            for log in self._logs.values():
                saver.going += [(log, segment) for segment in self._retention.leave(log, marks.get(log.name, 0))]
            saver.wanted = saver.dirty = False
            saver.synced_ns = self._now.boot_ns
        saver.acks = 0
        saver.unsynced_ns = self._now.boot_ns
        saver.saving = True
        slot, text = saver.compose(self.id, self.epoch, self._counters, clean)
        self._submit(Save(os.path.join(self._directory, STATE_NAME), slot, text, synced))

    def _retain(self, now: Instant) -> None:
        if now.boot_ns - self._retained_ns < RETAIN_EVERY_NS:
            return
        self._retained_ns = now.boot_ns
        self._retention.after_grace(now)
        old = self._retention.expired(now)
        if old is not None:
            self._evict(*old, "expired")
        if any(segment.leaving for log in self._logs.values() for segment in log.segments[:-1]):
            self._saver.wanted = True

    def _record_losses(self, now: Instant) -> None:
        log = self._logs["gateway"]
        overflowing = (
            self._pending_bytes() > PENDING_BYTES_MAX // 2
        )  # wait for the end of a flood: one record, not a thousand
        owed = [loss for loss in self._owed if loss.reason != "overflow" or not overflowing]
        self._owed = [loss for loss in self._owed if loss.reason == "overflow" and overflowing]
        for loss in owed:
            payload = self._describe_loss(self.id, loss, now)
            check_payload(payload)
            self._losing.append((log.push(payload, now.boot_ns), loss))
            log.urgent = log.naming = True

    def _evict(self, log: StreamLog, segment: Segment, reason: Literal["full", "expired"]) -> None:
        if all(segment is not other for other in log.segments):
            return  # it left meanwhile
        last = log.last_of(next(index for index, other in enumerate(log.segments) if other is segment))
        segment.leaving = segment.forced = True
        self._saver.wanted = True
        lost = list(log.open_within(segment.base, last))
        if log.name == "gateway":
            for first, end in lost:
                self._name_again(log, first, end)
        if lost:
            count = sum(end - first + 1 for first, end in lost)
            self._lose(log, lost[0][0], lost[-1][1], reason, count)

    def _lose(
        self,
        log: StreamLog,
        first: int,
        last: int,
        reason: Literal["full", "expired", "corrupt", "refused", "overflow"],
        count: int | None = None,
    ) -> None:
        """Take note of a loss: not read any more from now on, named in `gateway` next, settled when that is durable."""
        count = last - first + 1 if count is None else count
        log.named.add(first, last)
        self._count("lost", count)
        self._owe(Loss(log.name, reason, first, last, count))

    def _name_again(self, log: StreamLog, first: int, last: int) -> None:
        """Owe again what the loss records in `first..last` of stream `gateway` name: nobody received them."""
        while first <= last:
            got = read_entries(self._disk, self.id, log, first, last, NAMED_AT_ONCE, SHED_BYTES, log.next_open)
            for entry in got.entries:
                if (told := told_loss(entry.payload)) is not None:
                    self._owe(told)
            first = got.entries[-1].sequence + 1 if got.entries else last + 1

    def _owe(self, loss: Loss) -> None:
        """Name a loss with the next commit, in one record with its neighbours."""
        for index, other in enumerate(self._owed):
            if (
                (other.stream, other.reason) == (loss.stream, loss.reason)
                and other.first <= loss.last + 1
                and loss.first <= other.last + 1
            ):
                first, last = min(loss.first, other.first), max(loss.last, other.last)
                count = min(last - first + 1, other.count + loss.count)
                self._owed[index] = Loss(loss.stream, loss.reason, first, last, count)
                return
        self._owed.append(loss)

    def _count(self, name: str, by: int) -> None:
        self._counters[name] = self._counters.get(name, 0) + by
        self._saver.dirty = True

    # Taking in results.

    def _take_in(self, done: Done, now: Instant) -> None:
        job, error = done.job, done.error
        if isinstance(job, Append):
            seal = self._committer.take_in(job, done.value, error, now)
            if seal is not None:
                self._submit(seal)
            if error is None:
                self._settle_losses()
        elif isinstance(job, Begin):
            self._saver.saving = False
            if error is not None:
                self._committer.fail("state", error, now)
                if error.errno == errno.EROFS and self._found is not None:
                    self._found.certain.clear()  # a card that is read-only for good is drained of all
            else:
                self._begun(job)
        elif isinstance(job, Save):
            self._take_in_save(job, error, now)
        elif isinstance(job, Remove):
            self._bad += len(job.aside)
            if error is not None:
                self._measure()
        elif isinstance(job, Trim) and error is None:
            for log in self._logs.values():
                for segment in log.segments:
                    if segment.path == job.path:
                        segment.size_bytes = done.value

    def _begun(self, job: Begin) -> None:
        found, self._found = self._found, None
        assert found is not None
        self._saver.saved(job.slot, synced=True)
        self._committer.recover("state")
        self._remove([(path, False) for path in found.void] + [(path, True) for path in found.aside])
        for torn in found.torn:
            self._submit(Trim(torn.segment.path, torn.end, torn.solid_end, torn.clean))
        for (
            log
        ) in self._logs.values():  # `gateway`: a loss can be named on a full disk; all: the files prove the outbox
            self._committer.want_file(log)

    def _take_in_save(self, job: Save, error: OSError | None, now: Instant) -> None:
        saver = self._saver
        saver.saving = False
        if error is not None:
            saver.going.clear()
            saver.dirty = True
            self._committer.fail("state", error, now)
            return
        saver.saved(job.slot, job.synced)
        if not job.synced:
            return
        self._committer.recover("state")
        going, saver.going = saver.going, []
        if going:
            for log, segment in going:
                log.segments = [other for other in log.segments if other is not segment]
            self._remove([(segment.path, segment.damaged) for _, segment in going])

    def _remove(self, paths: list[tuple[str, bool]]) -> None:
        if paths:
            aside = tuple(path for path, damaged in paths if damaged)
            self._submit(Remove(tuple(path for path, damaged in paths if not damaged), aside))

    def _settle_losses(self) -> None:
        durable = self._logs["gateway"].durable
        while self._losing and self._losing[0][0] <= durable:
            _, loss = self._losing.pop(0)
            log = self._logs[loss.stream]
            log.settle(loss.first, loss.last)
            self._saver.dirty = True
            if any(segment.leaving for segment in log.segments):
                self._saver.wanted = True
        if not self._losing and not self._owed:
            for log in self._logs.values():
                log.named = type(log.named)()

    # Looking.

    def _wait(self, now: Instant, until: Callable[[], bool]) -> None:
        for _ in range(CLOSE_WAITS_MAX):
            self.step(now)
            if until():
                return
            self._writer.wait(50 * NS_PER_MS / NS_PER_S)

    def _measure(self) -> None:
        """Count what else lies in the directory: it counts in `bytes_max` too."""
        known = {segment.path for log in self._logs.values() for segment in log.segments}
        total, self._bad = 0, 0
        for directory in (self._directory, *(log.directory for log in self._logs.values())):
            with contextlib.suppress(OSError):
                for name in self._disk.names(directory):
                    path = os.path.join(directory, name)
                    if path not in known and name not in STREAMS:
                        self._bad += name.endswith(".bad")
                        with contextlib.suppress(OSError):
                            total += -(-self._disk.size(path) // 4096) * 4096
        self._retention.other_bytes = total + 2 * min(256 * 1024, self._settings.bytes_max // REFUSED_PART)

    def _oldest_entry_ms(self) -> int | None:
        ages = []
        for name, log in self._logs.items():
            first = log.next_open(log.settled.through + 1)
            if first > log.durable:
                continue
            known = self._oldest.get(name)
            if known is None or known[0] != first:
                entries = read_entries(self._disk, self.id, log, first, first, 1, 1, lambda sequence: sequence).entries
                known = self._oldest[name] = (first, *_times_ms(entries[0].payload)) if entries else (first, None, None)
            _, wall_ms, boot_ms = known
            if boot_ms is not None and first > self._since[name][1]:
                ages.append(self._now.boot_ns // NS_PER_MS - boot_ms)
            elif wall_ms is not None and self._now.clock == "synced":
                ages.append(self._now.wall_ns // NS_PER_MS - wall_ms)
        return max(0, *ages) if ages else None


def _times_ms(payload: bytes) -> tuple[int | None, int | None]:
    """Return when the event happened: wall clock, where it could be trusted, and since boot."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = json.loads(payload)
        boot_ms = int(said["uptimems"])
        wall_ms = int(datetime.fromisoformat(said["time"]).timestamp() * 1000) if said["clock"] != "unsynced" else None
        return wall_ms, boot_ms
    return None, None


def _readable(disk: Disk, directory: str) -> bool:
    try:
        disk.names(directory)
    except OSError:
        return False
    return True
