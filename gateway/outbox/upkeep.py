"""What the outbox does at its own pace: write jobs handed to the writer, and what came of them taken in.

Law: each act is a job, and the next step of an order of writes (see `outbox`) is taken when the job before it has
returned well. Until the opening is durable nothing is recorded and nothing leaves.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from typing import Literal

from gateway.machine.disk import Disk
from gateway.model import NS_PER_MS, NS_PER_S, SHED_ORDER, Instant, Loss, Stream
from gateway.outbox.commit import Committer, Trouble
from gateway.outbox.directory import BALLAST_NAME, foreign_files
from gateway.outbox.handout import HandOut
from gateway.outbox.intervals import Run
from gateway.outbox.jobs import (
    REFUSED_BYTES_MAX,
    Append,
    Begin,
    Confirm,
    Job,
    LoadBallast,
    Remove,
    Save,
    Trim,
)
from gateway.outbox.losses import DescribeLoss, Losses, Reason, told_loss
from gateway.outbox.memory import Memory
from gateway.outbox.reading import read_entries
from gateway.outbox.recovery import Found
from gateway.outbox.retention import Retention
from gateway.outbox.saving import Remembered, Saver
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.silence import NOT_READ, NOT_WRITTEN, Silence
from gateway.outbox.state import STATE_NAME
from gateway.outbox.stream import BLOCK_BYTES, RUNS_MAX, Segment, StreamLog
from gateway.outbox.writing import Done, Writer

PENDING_BYTES_MAX = 4 << 20  # in memory while the disk does not take it: some 14,000 events
PENDING_PATIENT_BYTES = PENDING_BYTES_MAX // 4  # where a source that can wait begins to
NAMED_AT_ONCE = 500  # entries of a file that leaves, looked at for the losses that they record
NAMED_BYTES = 128 * 1024
JOBS_WAITING_MAX = 64  # of those that can be left out; one has at most the largest payload in its hands
RETAIN_EVERY_NS = 10 * NS_PER_S
CLOSE_WAITS_MAX = 60  # of 50 ms: the service has 5 s to stop
ROUNDS_MAX = 100_000  # of one step; a writer that runs at once comes to rest long before
BALLAST_BYTES_MAX = 128 * 1024  # a `gateway` file of the last resort, and the directory's block
BALLAST_PART = 32  # of bytes_max at most
BAD_PART = 8  # of bytes_max: what damaged files that were set aside may take from those that wait
REFUSED_PART = 64  # of bytes_max, at most `REFUSED_BYTES_MAX` a file


class Upkeep:
    """The works behind `Outbox`: what is `found` is None once the opening is durable."""

    def __init__(
        self,
        directory: str,
        settings: OutboxSettings,
        disk: Disk,
        writer: Writer,
        now: Instant,
        describe_loss: DescribeLoss,
        found: Found,
    ) -> None:
        self._directory, self._settings, self._disk, self._writer = directory, settings, disk, writer
        self.now = now
        state = found.state
        self.id = state.outbox if state is not None else secrets.token_hex(4)
        self.memory = Memory.of(state.memory if state is not None else {})
        self.counters = dict(state.counters) if state is not None else {}
        self.logs = found.logs
        self._all = tuple(found.logs.values())
        marks: dict[Stream, int] = {name: log.mark for name, log in self.logs.items()}
        remembered = Remembered(self.memory.text(), marks)
        generation = state.generation if state is not None else 0
        self.saver = Saver(self.logs, found.slot, generation, remembered, remembered)
        self.saver.synced_ns = self.saver.unsynced_ns = now.boot_ns
        self.saver.sealing, self.saver.keys = found.sealing, found.keys
        self.retention = Retention(settings, self.logs, disk)
        self.committer = Committer(
            self.id, found.epoch, self.logs, self.retention, os.path.join(directory, BALLAST_NAME)
        )
        self.losses = Losses(self.id, self.logs, describe_loss, found.told)
        self.found: Found | None = found
        self.handout = HandOut(
            disk, self.id, self.logs, lambda log, first, last: self.lose(log, first, last, "corrupt")
        )
        self.opening = True  # the engine has not yet added `recorded_since_memory` to its memory
        for name, log in self.logs.items():
            log.remembered = (log.mark, self.memory.streams.get(name))
        self.silence = Silence(now.boot_ns, now.boot_ns)
        self._jobs = 0
        self.bad = 0
        self._retained_ns = now.boot_ns
        for _, loss in found.told:
            self.logs[loss.stream].lost.add(loss.first, loss.last)
        for name, run in found.owed:  # counted before
            self.losses.lose(self.logs[name], *run, "overflow", run[1] - run[0] + 1)
            self.logs[name].lost.add(*run)
        for name, run in found.lost:
            self.lose(self.logs[name], *run, "corrupt")

    @property
    def epoch(self) -> int:
        """The epoch of what is recorded now."""
        return self.committer.epoch

    def trust_memory(self, is_whole: bool) -> None:
        """Let the memory be saved from now on, for it knows all that is recorded; or never."""
        self.opening = not is_whole
        self.committer.known = self.memory.streams if is_whole else None

    @property
    def jobs_open(self) -> int:
        """How many jobs are in the writer's hands."""
        return self.silence.jobs

    @property
    def unreadable(self) -> str | None:
        """What keeps recorded events from being read and sent, where it lasts."""
        return NOT_READ if self.silence.is_unread else self.handout.patience.trouble

    @property
    def trouble(self) -> Trouble | None:
        """The worst trouble there is: the first refusal too, and a disk that does not answer."""
        return Trouble(NOT_WRITTEN, None, 2, self.now.boot_ns) if self.silence.is_hung else self.committer.trouble

    def pending_bytes(self) -> int:
        """Return what waits in memory, in bytes of payload."""
        pending = 0
        for log in self._all:
            pending += log.pending_bytes
        return pending

    def due_ns(self) -> int | None:
        """Return the `boot_ns` at which `step` has something to do by the clock alone."""
        times: list[int | None] = [self.silence.due_ns()]
        retry_record_ns = self.committer.retry_ns("record", self.now)
        retry_state_ns = self.committer.retry_ns("state", self.now)
        if self.found is not None:
            times.append(retry_state_ns)  # until the opening is durable nothing else is done
        else:
            times += [self._retained_ns + RETAIN_EVERY_NS, self.handout.patience.due_ns(self.now)]
            commits = [self.committer.due_ns(log) for log in self.logs.values()]
            times += commits if retry_record_ns is None else [retry_record_ns]
            save_ns = self.saver.due_ns()
            times.append(save_ns if retry_state_ns is None else retry_state_ns)
            if retry_record_ns is None and self.losses.is_due and self._may_name():
                times.append(0)
        return min((time for time in times if time is not None), default=None)

    def step(self, now: Instant) -> None:
        """Take in what the writer finished; hand it what is due. Returns without waiting for the disk."""
        self.now = now
        self.silence.look(now.boot_ns, self._disk.answers)
        if self.found is None:
            self.handout.step(now)
        for _ in range(ROUNDS_MAX):
            for done in self._writer.finished():
                self.silence.returned()
                self._take_in(done, now)
            before = self._jobs
            self._submit_due(now)
            if self._jobs == before:
                return
        raise AssertionError("the outbox does not come to rest")

    # Handing out work.

    def submit(self, job: Job) -> None:
        self._jobs += 1
        self.silence.given()
        self._writer.submit(job)

    def _submit_due(self, now: Instant) -> None:
        can_save = self.committer.retry_ns("state", now) is None
        if self.found is not None:
            if can_save and not self.saver.saving:
                self._begin(now)
            return
        if self.committer.retry_ns("record", now) is None:
            if self.losses.owed and self._may_name():
                self.losses.record(now, self.pending_bytes() > PENDING_BYTES_MAX // 2)
            for log in self._all:
                if self.committer.may_write(log):
                    self._commit_due(log, now)
        for victim in self.committer.take_victims():
            self._evict(*victim, "full")
        self._retain(now)
        if can_save:
            self._save_due(now)

    def _may_name(self) -> bool:
        """Return whether losses are named now: while the disk refuses one lot at a time, for room may wait for it."""
        return not (self.committer.has_trouble("record") and self.losses.losing)

    def _commit_due(self, log: StreamLog, now: Instant) -> None:
        job = self.committer.next_job(log, now)
        if job is not None:
            self.submit(job)

    def _begin(self, now: Instant) -> None:
        """Make the new epoch durable; before that nothing is recorded and nothing leaves."""
        assert self.found is not None
        owed = self.losses.unwritten(is_end=False)
        slot, text = self.saver.compose(
            self.id, self.epoch, self.counters, self.losses.told, certain=self.found.certain, owed=owed
        )
        path = os.path.join(self._directory, STATE_NAME)
        directories = tuple(log.directory for log in self.logs.values())
        self.saver.saving = True
        self.submit(Begin(self._directory, directories, path, slot, text, tuple(self.found.tails)))

    def _save_due(self, now: Instant) -> None:
        synced = self.saver.due(now.boot_ns)
        if synced is None or (synced and self.opening):
            return
        self.save(synced)

    def save(self, synced: bool, clean: bool = False, is_end: bool = False) -> None:
        """Hand the state to the writer; at the end of the process it names what waits as lost."""
        saver = self.saver
        if synced and not self.opening:
            saver.snapshot(self.memory)
        if synced:
            marks = saver.remembered.marks
            for log in self.logs.values():
                saver.going += [(log, segment) for segment in self.retention.leave(log, marks.get(log.name, 0))]
            saver.wanted = saver.dirty = False
            saver.synced_ns = self.now.boot_ns
        saver.acks = 0
        saver.unsynced_ns = self.now.boot_ns
        saver.saving = True
        if is_end:
            self.count("lost", sum(len(log.pending) for log in self._all) - len(self.losses.losing))
        owed = self.losses.unwritten(is_end)
        slot, text = saver.compose(self.id, self.epoch, self.counters, self.losses.told, clean, owed=owed)
        self.submit(Save(os.path.join(self._directory, STATE_NAME), slot, text, synced))

    def _retain(self, now: Instant) -> None:
        if now.boot_ns - self._retained_ns < RETAIN_EVERY_NS:
            return
        self._retained_ns = now.boot_ns
        self.retention.after_grace(now)
        self._load_ballast()
        old = self.retention.expired(now)
        if old is not None:
            self._evict(*old, "expired")
        if any(segment.leaving for log in self.logs.values() for segment in log.segments[:-1]):
            self.saver.wanted = True

    def _load_ballast(self) -> None:
        """Keep a little room that can be given up for the record of a loss when the disk is full."""
        size = min(BALLAST_BYTES_MAX, self._settings.bytes_max // BALLAST_PART // BLOCK_BYTES * BLOCK_BYTES)
        if self.trouble is None and self.retention.has_room(SHED_ORDER[0], size):
            self.submit(LoadBallast(os.path.join(self._directory, BALLAST_NAME), size))

    def _evict(self, log: StreamLog, segment: Segment, reason: Literal["full", "expired"]) -> None:
        if all(segment is not other for other in log.segments):
            return  # it left meanwhile
        last = log.last_of(next(index for index, other in enumerate(log.segments) if other is segment))
        lost = list(log.open_within(segment.base, last))
        told = self._told_in(log, lost) if log.name == "gateway" else []
        if told is None:
            return  # chosen again where it is still needed
        for loss in told:
            self.losses.owe(loss)
        segment.leaving = segment.forced = True
        self.saver.wanted = True
        if lost:
            first, end = lost[0][0], lost[-1][1]
            count = sum(end - first + 1 for first, end in lost) + log.lost.count(first, end)
            self.lose(log, first, end, reason, count)

    def _told_in(self, log: StreamLog, runs: list[Run]) -> list[Loss] | None:
        """Return what the loss records of `runs` name, to be named again: nobody received them. None: not readable."""
        told = []
        for first, last in runs:
            while first <= last:
                got = read_entries(self._disk, self.id, log, first, last, NAMED_AT_ONCE, NAMED_BYTES, log.open_run)
                if got.held is not None:
                    return None
                told += [loss for entry in got.entries if (loss := told_loss(entry.payload, self.id)) is not None]
                first = got.entries[-1].sequence + 1 if got.entries else last + 1
        return told

    def lose(self, log: StreamLog, first: int, last: int, reason: Reason, count: int | None = None) -> None:
        """Take note of a loss: named in `gateway` next, settled when that is durable."""
        count = last - first + 1 if count is None else count
        self.losses.lose(log, first, last, reason, count)
        log.lost.add(first, last)
        log.lost.forget_smallest(RUNS_MAX, lambda run: False)
        self.count("lost", count)

    def count(self, name: str, by: int) -> None:
        self.counters[name] = self.counters.get(name, 0) + by
        self.saver.dirty = True

    # Taking in results.

    def _take_in(self, done: Done, now: Instant) -> None:
        job, error = done.job, done.error
        if isinstance(job, Append):
            seal = self.committer.take_in(job, done.value, error, now)
            if seal is not None:
                self.submit(seal)
            if error is None:
                for log in self.losses.settle():
                    self.saver.dirty = True
                    self.saver.wanted |= any(segment.leaving for segment in log.segments)
        elif isinstance(job, Begin):
            self.saver.saving = False
            if error is not None:
                self.committer.fail("state", error, now)
                if error.errno == errno.EROFS and self.found is not None and self.found.certain:
                    self.submit(Confirm(job.tails))  # a card that is read-only for good is drained of all it holds
            else:
                self._begun(job)
        elif isinstance(job, Confirm):
            if error is None and self.found is not None:
                self.found.certain.clear()
        elif isinstance(job, Save):
            self._take_in_save(job, error, now)
        elif isinstance(job, Remove):
            if error is not None or job.aside:
                self.measure()
        elif isinstance(job, LoadBallast) and done.value:
            self.measure()
        elif isinstance(job, Trim) and error is None:
            for log in self.logs.values():
                for segment in log.segments:
                    if segment.path == job.path:
                        segment.size_bytes = done.value

    def _begun(self, job: Begin) -> None:
        found, self.found = self.found, None
        assert found is not None
        self.saver.saved(job.slot, synced=True)
        self.committer.recover("state")
        self._remove([(path, False) for path in found.void] + [(path, True) for path in found.aside])
        for torn in found.torn:
            self.submit(Trim(torn.segment.path, torn.end, torn.solid_end, torn.clean))
        for log in self.logs.values():  # `gateway`: to name a loss on a full disk; all: the files prove the outbox
            self.committer.want_file(log)

    def _take_in_save(self, job: Save, error: OSError | None, now: Instant) -> None:
        saver = self.saver
        saver.saving = False
        if error is not None:
            saver.going.clear()
            saver.dirty = True
            self.committer.fail("state", error, now)
            return
        saver.saved(job.slot, job.synced)
        if not job.synced:
            return
        self.committer.recover("state")
        going, saver.going = saver.going, []
        if going:
            for log, segment in going:
                log.segments = [other for other in log.segments if other is not segment]
            self._remove([(segment.path, segment.damaged) for _, segment in going])

    def _remove(self, paths: list[tuple[str, bool]]) -> None:
        if paths:
            aside = tuple(path for path, damaged in paths if damaged)
            self.submit(Remove(tuple(path for path, damaged in paths if not damaged), aside))

    # Around it.

    def wait(self, now: Instant, until: Callable[[], bool]) -> None:
        for _ in range(CLOSE_WAITS_MAX):
            self.step(now)
            if until():
                return
            self._writer.wait(50 * NS_PER_MS / NS_PER_S)

    def measure(self) -> None:
        """Count what else lies in the directory: it counts in `bytes_max` too."""
        total, bad = 0, []
        for path, size_bytes in foreign_files(self._disk, self._directory, self.logs):
            total += size_bytes
            if path.endswith(".bad"):
                bad.append((path, size_bytes))
        bad.sort(key=lambda found: os.path.basename(found[0]))
        excess = sum(size_bytes for _, size_bytes in bad) - self._settings.bytes_max // BAD_PART
        while bad and excess > 0:  # the oldest; what could be read of it was delivered, the rest has been named
            path, size_bytes = bad.pop(0)
            excess, total = excess - size_bytes, total - size_bytes
            self.submit(Remove((path,)))
        self.bad = len(bad)
        self.retention.other_bytes = total + 2 * min(REFUSED_BYTES_MAX, self._settings.bytes_max // REFUSED_PART)
