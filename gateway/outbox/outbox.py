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

import json
import os
import secrets
from collections.abc import Iterator

from gateway.errors import ConfigurationError
from gateway.machine.disk import Disk
from gateway.model import SHED_ORDER, Entry, Instant, Stream, rfc3339
from gateway.outbox.adopted import refuse_another
from gateway.outbox.directory import require_state, take_directory, unusable
from gateway.outbox.intervals import Run
from gateway.outbox.jobs import REFUSED_BYTES_MAX, Seal, SetAside
from gateway.outbox.losses import DescribeLoss
from gateway.outbox.memory import Memory
from gateway.outbox.reading import everything, read_entries
from gateway.outbox.record import check_payload
from gateway.outbox.recovery import LEAP_MAX, Created, Found, find_outbox, leap_epoch, settle_files
from gateway.outbox.sealing import PLAIN, Sealing, refused_place
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.status import Ages, OutboxStatus, Positions
from gateway.outbox.stream import StreamLog
from gateway.outbox.upkeep import (
    JOBS_WAITING_MAX,
    PENDING_BYTES_MAX,
    PENDING_PATIENT_BYTES,
    REFUSED_PART,
    Upkeep,
)
from gateway.outbox.writing import CLOSE_WAIT_S, Writer

SHED_BYTES = 128 * 1024  # at a time, so that a flood is named in few records; more than the largest payload
REFUSED_NAME = "refused.jsonl"


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
        self._lock = lock
        self.not_kept: str | None = None  # why the next start does not find it, where somebody has looked
        self.created: Created | None = found.created
        self.clean = bool(found.state is not None and found.state.clean)
        self.remembers = False  # once closed: whether the next opening knows what was lost
        self._upkeep = Upkeep(directory, settings, disk, writer, now, describe_loss, found)
        self._handout, self._strangers = self._upkeep.handout, found.strangers
        self.id = self._upkeep.id
        self.memory = self._upkeep.memory
        self._logs, self._saver, self._committer = found.logs, self._upkeep.saver, self._upkeep.committer
        self._since = {name: (log.mark + 1, log.durable) for name, log in self._logs.items()}
        self._ages = Ages(self._logs, self._look)

    @classmethod
    def open(
        cls,
        directory: str,
        settings: OutboxSettings,
        disk: Disk,
        writer: Writer,
        now: Instant,
        describe_loss: DescribeLoss,
        leap: int | None = None,
        sealing: Sealing = PLAIN,
        source: str = "",
    ) -> Outbox:
        """Open the outbox in `directory`, making it where there is none; whatever lies there, it opens.

        `describe_loss` turns a loss into the payload of its record. Raises OutboxUnusable where the directory cannot be
        made, another daemon holds it, or a file in it may not be read, OutboxSealed where `sealing` has not the key of
        what lies there, ConfigurationError where that was recorded under another name than `source`: then nothing has
        been changed. On a disk that takes no writes it opens to drain; `status` says
        so. `leap` is a random number below LEAP_MAX, drawn here where it is None: so far the epoch rises above the
        next, so that a card put back or copied uses no id again.
        """
        lock = take_directory(disk, directory)
        try:
            require_state(disk, directory)
            settle_files(disk, directory)
            found = find_outbox(disk, directory, settings, sealing=sealing)
            if found.state is not None and source:
                refuse_another(directory, Memory.of(found.state.memory).source, source)
        except (OSError, ConfigurationError) as error:
            if lock is not None:
                disk.close(lock)
            raise (unusable(directory, error) if isinstance(error, OSError) else error) from None
        if found.state is not None:  # a new outbox has a random name
            found.epoch = leap_epoch(found.epoch, secrets.randbelow(LEAP_MAX) if leap is None else leap)
        outbox = cls(directory, settings, disk, writer, now, describe_loss, found, lock)
        outbox.memory.source = source or outbox.memory.source
        outbox._upkeep.measure()
        outbox.step(now)
        outbox._upkeep.trust_memory(is_whole=True)  # by the next step the engine has added `recorded_since_memory`
        return outbox

    @property
    def epoch(self) -> int:
        """The epoch of what is recorded now; an entry's own is that of the file it stands in."""
        return self._committer.epoch

    @property
    def now(self) -> Instant:
        """The moment of the last call that gave one."""
        return self._upkeep.now

    # What the engine and the uplink do.

    def append(self, stream: Stream, payload: bytes, now: Instant) -> int | None:
        """Give the event its sequence and let it be recorded within the stream's commit interval.

        `payload` is a compact JSON object of at most 64 KiB. Returns None where the disk takes nothing and memory is
        full: the event is lost under its number, counted, and named as soon as the disk takes it.
        """
        check_payload(payload)
        self._upkeep.now = now
        log = self._logs[stream]
        self._saver.dirty = True
        if self._upkeep.pending_bytes() + len(payload) > PENDING_BYTES_MAX and not self._shed_for(stream):
            log.next += 1
            self._upkeep.lose(log, log.next - 1, log.next - 1, "overflow")
            return None
        return log.push(log.sealed(self.id, payload), now.boot_ns)

    def _shed_for(self, stream: Stream) -> bool:
        """Forget waiting events of a less valuable stream; return whether there were any."""
        for name in SHED_ORDER[: SHED_ORDER.index(stream)]:
            shed = self._logs[name].shed(SHED_BYTES)
            for run in shed:
                self._upkeep.lose(self._logs[name], *run, "overflow")
            if shed:
                return True
        return False

    def has_room(self) -> bool:
        """Return whether little waits for the disk: a source that can wait gives no more while it does not."""
        return self._upkeep.pending_bytes() < PENDING_PATIENT_BYTES

    def commit(self, now: Instant) -> None:
        """Hand everything that waits to the writer now, whatever its interval; durable once `idle`."""
        for log in self._logs.values():
            log.urgent = bool(log.pending)
        self.step(now)

    def read(self, stream: Stream, after: int, limit: int, bytes_max: int, through: int | None = None) -> list[Entry]:
        """Return entries behind sequence `after`, ascending: durable, not acknowledged, not lost.

        At most `limit` entries and about `bytes_max` of payload, one in any case; up to sequence `through`. Numbers
        that are found missing are named as lost with reason `corrupt`; what cannot be read now is waited for
        (`patience`).
        """
        log = self._logs[stream]
        end = self._recorded_through(log) if through is None else min(through, self._recorded_through(log))
        return self._handout.read(log, after + 1, end, limit, bytes_max, self._upkeep.now)

    @property
    def stopped_short(self) -> bool:
        """Return whether the last `read` was held up: there is more, to be read later."""
        return self._handout.stopped_short

    def take_recovered(self) -> list[tuple[Stream, int, int]]:
        """Return, once, the numbers that `read` has passed over because the card could not be read, and now can."""
        if not self._handout.recovered:
            return []
        recovered, self._handout.recovered = self._handout.recovered, []
        return recovered

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
            "refused": rfc3339(self._upkeep.now.wall_ns),
            "why": why,
        }
        event = log.sealing.seal(entry.payload, refused_place(about["id"]))
        line = json.dumps(about)[:-1].encode() + b', "event": ' + event + b"}\n"
        path = os.path.join(self._directory, REFUSED_NAME)
        if self._upkeep.jobs_open < JOBS_WAITING_MAX:  # a copy for the technician; what waits in memory is bounded
            self._upkeep.submit(SetAside(path, line, min(REFUSED_BYTES_MAX, self._settings.bytes_max // REFUSED_PART)))
        self._upkeep.count("refused", 1)
        self._upkeep.lose(log, entry.sequence, entry.sequence, "refused")

    def kept(self, stream: Stream, first: int, last: int) -> list[Run]:
        """Return the parts of `first..last` that are still on the disk, acknowledged or not."""
        log = self._logs[stream]
        runs: list[Run] = []
        for index, segment in enumerate(log.segments):
            start, end = max(first, segment.base), min(last, log.last_of(index), self._recorded_through(log))
            present = log.gone.open_within(start, end)
            for begin, finish in (run for there in present for run in log.lost.open_within(*there)):
                if runs and runs[-1][1] + 1 == begin:
                    runs[-1] = (runs[-1][0], finish)
                else:
                    runs.append((begin, finish))
        return runs

    def read_kept(self, stream: Stream, first: int, last: int, limit: int, bytes_max: int) -> list[Entry]:
        """Return durable entries of `first..last`, acknowledged ones too, as far as they are still kept."""
        log = self._logs[stream]
        return read_entries(self._disk, self.id, log, first, last, limit, bytes_max, everything).entries

    def positions(self, stream: Stream) -> Positions:
        """Return where the stream stands."""
        log = self._logs[stream]
        through = self._recorded_through(log)
        return Positions(through, min(log.settled.through, through), through - log.settled.count(1, through))

    def _recorded_through(self, log: StreamLog) -> int:
        """Return the last durable sequence: while the opening is not, not what the last run may have left unsynced."""
        return log.durable if self._upkeep.found is None else self._upkeep.found.certain.get(log.name, log.durable)

    def next_sequence(self, stream: Stream) -> int:
        """Return the number that the stream's next event will get."""
        return self._logs[stream].next

    def waiting(self, stream: Stream) -> list[Entry]:
        """Return what is appended and not durable yet; it is not shown to anybody outside."""
        log = self._logs[stream]
        waiting = ((number, log.opened(self.id, number, sealed)) for number, sealed in (*log.inflight, *log.pending))
        return [Entry(stream, number, self.epoch, payload) for number, payload in waiting if payload is not None]

    def recorded_since_memory(self) -> Iterator[Entry]:
        """Yield what was recorded after the state that carried `memory`, stream by stream, acknowledged or not."""
        for name, (first, last) in self._since.items():
            while entries := self.read_kept(name, first, last, 256, 1 << 18):
                yield from entries
                first = entries[-1].sequence + 1

    def saved_memory(self) -> Memory:
        """Return the memory as the last synced state has it: what of it survives a power cut."""
        return Memory.of(json.loads(self._saver.synced.text))

    def hold_memory(self) -> None:
        """Leave the saved memory as it is, to the end: for one who repairs, and does not know what was recorded."""
        self._upkeep.trust_memory(is_whole=False)

    def save_soon(self) -> None:
        """Let state and memory be saved and synced with the next step."""
        self._saver.wanted = True

    def idle(self) -> bool:
        """Return whether all that was appended is durable, every loss is named, and the writer has nothing to do."""
        waiting = any(log.pending or log.inflight for log in self._logs.values())
        return not (waiting or self._upkeep.jobs_open or self._upkeep.losses.owed or self._upkeep.losses.losing)

    def due_ns(self) -> int | None:
        """Return the `boot_ns` at which `step` has something to do by the clock alone."""
        return self._upkeep.due_ns()

    def step(self, now: Instant) -> None:
        """Take in what the writer finished; hand it what is due. Returns without waiting for the disk."""
        self._upkeep.step(now)

    def close(self, now: Instant) -> None:
        """Record what waits, save the state as cleanly stopped, close the files, free the directory for the next.

        A disk that does not answer is waited for 3 s, or not at all where that is known. What it does not take
        (`waiting`) is lost: the state has it for the next opening, which names it, wherever the state can be saved.
        """
        self._committer.try_now()  # what refused may have been put right meanwhile, and there is no later
        self.commit(now)
        self._upkeep.wait(now, self._is_at_rest)
        answers = not self._upkeep.jobs_open
        if self._upkeep.found is None and answers:
            clean = self.idle() and (self.clean or not self._upkeep.opening)
            self._upkeep.save(synced=True, clean=clean, is_end=True)
            self._upkeep.wait(now, lambda: not self._upkeep.jobs_open)
            self.remembers = not (self._upkeep.jobs_open or self._committer.has_trouble("state"))
        for log in self._logs.values():
            if log.active is not None and not log.busy:
                self._upkeep.submit(Seal(log.active.fd, log.active.offset))
                log.active = None
        self._writer.close(CLOSE_WAIT_S if answers else 0.0)
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    def _is_at_rest(self) -> bool:
        """Return whether the disk has taken everything, or has refused and has nothing in its hands, or hangs."""
        if self._upkeep.trouble is None:
            return self.idle()
        return self._upkeep.silence.is_hung or not self._upkeep.jobs_open

    @property
    def trouble(self) -> str | None:
        """What the disk says where it refuses again and again, or that it does not answer: then all waits in memory."""
        trouble = self._upkeep.trouble
        return trouble.detail if trouble is not None and trouble.failures > 1 else None

    @property
    def recorded(self) -> int:
        """How many entries have become durable since the opening; records of losses are among them."""
        return self._committer.recorded

    def progress_ns(self) -> int | None:
        """Return the `boot_ns` since which the disk has given nothing back; None while it has nothing to do."""
        return self._upkeep.silence.progress_ns()

    def unnamed(self) -> int:
        """Return how many events were given up of which no record is durable yet."""
        losses = self._upkeep.losses
        return sum(loss.count for loss in (*losses.owed, *(loss for _, loss in losses.losing)))

    @property
    def unreadable(self) -> str | None:
        """What keeps recorded events from being read and sent, where it lasts; nothing is lost by it."""
        return self._upkeep.unreadable

    def free_bytes(self) -> int | None:
        """Return the room of the file system, for an ordinary user; None where the disk does not say."""
        try:
            return self._disk.space(self._directory).free_bytes
        except OSError:
            return None

    def moved(self) -> str | None:
        """Say where the directory is now, if it was moved away; None where it is in its place, or cannot be asked."""
        try:
            place = self._disk.moved_to(self._directory)
        except OSError:
            return None
        if place is None:
            return None
        if place == self._directory:
            return f"something else was put over {place}, which the next start would use; take that away"
        return f"the folder {self._directory} is now {place}, where the next start does not look; move it back"

    @property
    def strangers(self) -> list[str]:
        """What had the name of a segment at the opening and is no file: passed over, never touched."""
        return list(self._strangers)

    def name_unread(self, now: Instant) -> None:
        """Try a last time what the card could not read, and name what it still cannot: for one who repairs."""
        self._handout.try_again(now, is_last=True)

    def status(self) -> OutboxStatus:
        """Return the outbox at a glance; reads at most one entry, the oldest, and that only when it changed."""
        trouble = self._upkeep.trouble
        return OutboxStatus(
            self.id,
            self.epoch,
            sum(log.backlog() for log in self._logs.values()),
            self._upkeep.retention.used_bytes(),
            self._settings.bytes_max,
            self._ages.oldest_ms(self._upkeep.now),
            self.trouble is not None,
            trouble.detail if trouble is not None else None,
            trouble.errno if trouble is not None else None,
            self._upkeep.bad + sum(segment.damaged for log in self._logs.values() for segment in log.segments),
            self._upkeep.counters.get("refused", 0),
            self._upkeep.pending_bytes(),
            self._upkeep.counters.get("lost", 0),
            self.unreadable,
        )

    def _look(self, log: StreamLog, sequence: int) -> Entry | None:
        found = read_entries(self._disk, self.id, log, sequence, sequence, 1, 1, everything).entries
        return found[0] if found else None
