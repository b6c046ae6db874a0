"""A life of the outbox on the recorded card, and what must hold after each cut (as in `tests.outbox.histories`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from gateway.machine.disk import Disk, RealDisk
from gateway.model import NS_PER_S, STREAMS, Entry, Instant, Stream
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter, ThreadWriter, Writer
from tests.blocks.subjects import DoesNotOpen, Known, Mark, Violation, payload
from tests.outbox.histories import WALL_NS, describe_loss

BYTES_MAX = 512 << 10  # segments of 8 KiB: new files, shedding and unlinking are met often
SETTLES_S = 5.0  # for the writer's thread; nothing here is slow
PATIENCE_S = 12  # of the outbox's time, until what was appended must be durable
ROUNDS = 5  # reading finds holes, whose names then have to be read as well


class Held(RealDisk):
    """The real disk, of which everything can be let go: a file left open would keep the card mounted."""

    def __init__(self) -> None:
        self._fds: set[int] = set()

    def open(self, path: str, create: bool = False) -> int:
        return self._hold(super().open(path, create))

    def open_reading(self, path: str) -> int:
        return self._hold(super().open_reading(path))

    def lock(self, path: str) -> int:
        return self._hold(super().lock(path))

    def _hold(self, fd: int) -> int:
        self._fds.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self._fds.discard(fd)
        super().close(fd)

    def let_go(self) -> None:
        """Close what is open, as the end of the process does."""
        for fd in tuple(self._fds):
            self.close(fd)


class Life:
    """Appends, commits, reads, acknowledges, refuses, reopens; marks each promise."""

    def __init__(
        self, directory: Path, position: Callable[[], int], seed: int, wrap: Callable[[Disk], Disk], threaded: bool
    ) -> None:
        self.directory, self.position, self.random = str(directory / "outbox"), position, Random(seed)
        self.held, self.threaded = Held(), threaded
        self.disk = wrap(self.held)
        self.marks: list[Mark] = []
        self.now = Instant(0, WALL_NS)
        self.count = 0
        self.volatile: dict[tuple[Stream, int], bytes] = {}
        self.after: dict[Stream, int] = {}
        self.open()

    def open(self) -> None:
        self.writer: Writer = ThreadWriter(self.disk) if self.threaded else InlineWriter(self.disk)
        chosen = OutboxSettings(bytes_max=BYTES_MAX, keep_acknowledged=self.random.choice((0.0, 5.0)))
        self.outbox = Outbox.open(self.directory, chosen, self.disk, self.writer, self.now, describe_loss)
        self.settle()
        self.mark("opened", None, (self.outbox.id, self.outbox.epoch))
        self.after = dict.fromkeys(STREAMS, 0)
        self.note_durable(reopened=True)
        self.volatile = {}

    def mark(self, kind: str, key: Any, value: Any = None) -> None:
        self.marks.append(Mark(self.position(), kind, key, value))

    def settle(self) -> None:
        """Let the writer come to rest."""
        for _ in range(1000):
            if not self.outbox._upkeep.jobs_open:
                return
            self.writer.wait(SETTLES_S / 1000)
            self.outbox.step(self.now)

    def run(self, acts: int) -> list[Mark]:
        for _ in range(acts):
            self.act(self.random.choice(STREAMS), self.random.random())
            if self.random.random() < 0.4:
                self.settle()
            self.note_durable()
        self.settle()
        self.note_durable()
        self.outbox.close(self.now)
        return self.marks

    def act(self, stream: Stream, dice: float) -> None:
        if dice < 0.5:
            for _ in range(self.random.choice((1, 1, 2, 5))):
                self.append(stream)
        elif dice < 0.64:
            self.now = self.now.later(self.random.choice((10, 60, 300, 1100, 12_000)) * 1_000_000)
            self.outbox.step(self.now)
        elif dice < 0.76:
            self.outbox.commit(self.now)
        elif dice < 0.94:
            self.take(stream)
        elif dice < 0.985:
            self.outbox.save_soon()
            self.outbox.step(self.now)
        elif dice < 0.992:
            self.outbox.close(self.now)
            self.now = self.now.later(1_000_000_000)
            self.open()
        else:
            self.settle()
            self.abandon()
            self.open()

    def abandon(self) -> None:
        """Leave it as a kill would."""
        self.writer.close()
        self.held.let_go()

    def append(self, stream: Stream) -> None:
        self.count += 1
        content = payload(self.random, self.count)
        number = self.outbox.next_sequence(stream)
        self.mark("given", (stream, number), content)
        self.outbox.append(stream, content, self.now)
        self.volatile[stream, number] = content

    def note_durable(self, reopened: bool = False) -> None:
        recorded = {name: self.outbox.positions(name).recorded_through for name in STREAMS}
        for stream, number in [key for key in self.volatile if key[1] <= recorded[key[0]]]:
            content = self.volatile.pop((stream, number))
            if reopened and content not in [
                entry.payload for entry in self.outbox.read_kept(stream, number, number, 1, 1 << 20)
            ]:
                continue  # it was not durable, and its number is another's now
            self.mark("durable", (stream, number), content)

    def take(self, stream: Stream) -> None:
        after = self.after[stream] if self.random.random() < 0.7 else self.random.randrange(self.after[stream] + 1)
        entries = self.outbox.read(stream, after, self.random.randrange(1, 8), 10_000)
        for entry in entries:
            self.mark("id", (self.outbox.id, entry.epoch, stream, entry.sequence), entry.payload)
            for key in losses_in(entry):
                self.mark("named", key)
        if entries:
            self.after[stream] = max(self.after[stream], entries[-1].sequence)
            self.random.shuffle(entries)
            for entry in entries[: self.random.randrange(len(entries) + 1)]:
                if self.random.random() < 0.05:
                    self.outbox.refuse(entry, "not authorized")
                else:
                    self.mark("acknowledged", (stream, entry.sequence))
                    self.outbox.acknowledge(stream, entry.sequence, entry.sequence)


def losses_in(entry: Entry) -> dict[tuple[Stream, int], str]:
    """Return the numbers whose loss the entry names, and why they are lost."""
    if entry.stream != "gateway" or b"events_dropped" not in entry.payload:
        return {}
    said = json.loads(entry.payload)["data"]
    return {
        (said["stream"], number): said["reason"] for number in range(said["first_sequence"], said["last_sequence"] + 1)
    }


class Ours:
    """The outbox; `wrap` may take a safety step away, `threaded` lets a thread write."""

    def __init__(self, wrap: Callable[[Disk], Disk] = lambda disk: disk, threaded: bool = True) -> None:
        self.wrap, self.threaded = wrap, threaded

    def live(self, directory: Path, position: Callable[[], int], seed: int, acts: int) -> list[Mark]:
        life = Life(directory, position, seed, self.wrap, self.threaded)
        try:
            return life.run(acts)
        finally:
            life.held.let_go()

    def judge(self, directory: Path, known: Known) -> None:
        """Open twice, drain, append between: everything owed is delivered byte for byte or named, ids stay unique."""
        disk = Held()
        try:
            self._judge(disk, str(directory / "outbox"), known)
        finally:
            disk.let_go()

    def _judge(self, disk: Held, path: str, known: Known) -> None:
        outbox = self._open(disk, path, known, Instant(0, WALL_NS + 3600 * NS_PER_S))
        found, named = drain(outbox, known)
        self._account(outbox, found, named, known)
        for stream in STREAMS:
            number = outbox.next_sequence(stream)
            content = b'{"type":"after","of":"%b"}' % stream.encode()
            outbox.append(stream, content, outbox.now)
            found[stream, number] = content
            check_id(known, (outbox.id, outbox.epoch, stream, number), content)
        outbox.commit(outbox.now)
        for _ in range(PATIENCE_S):
            if not outbox.idle():  # a full outbox makes room once the state is saved
                outbox.commit(outbox.now.later(NS_PER_S))
        if not outbox.idle():
            raise Violation(f"stuck: nothing can be recorded after the cut: {outbox.status().trouble}")
        disk.let_go()
        again = self._open(disk, path, known, outbox.now)
        if again.epoch <= outbox.epoch:
            raise Violation(f"identity: epoch {again.epoch} after {outbox.epoch}")
        later, still_named = drain(again, known)
        for key, content in found.items():
            if later.get(key) != content and key not in still_named:
                raise Violation(f"lost: {key} was there at the first opening, not at the second")
        again.close(again.now)

    @staticmethod
    def _open(disk: Held, path: str, known: Known, now: Instant) -> Outbox:
        try:
            outbox = Outbox.open(
                path, OutboxSettings(bytes_max=BYTES_MAX), disk, InlineWriter(disk), now, describe_loss
            )
        except Exception as error:  # whatever it is, it did not open
            raise DoesNotOpen(f"does not open: {error!r}") from error
        name, epoch = known.opened
        if epoch and outbox.id != name:
            raise Violation("identity: the outbox was given up")
        if outbox.epoch <= epoch:
            raise Violation(f"identity: epoch {outbox.epoch} after {epoch}")
        return outbox

    @staticmethod
    def _account(outbox: Outbox, found: Any, named: dict[Any, str], known: Known) -> None:
        for key, content in known.owed().items():
            if key in found:
                if found[key] != content:
                    raise Violation(f"changed: {key}")
            elif key not in known.named and named.get(key, "corrupt") == "corrupt":
                raise Violation(f"lost: {key} was durable{', and is named corrupt' if key in named else ''}")
        for stream in STREAMS:
            for number in range(1, outbox.positions(stream).recorded_through + 1):
                key = (stream, number)
                if not (key in found or key in named or key in known.named or key in known.acknowledged):
                    raise Violation(f"gap: {key} is neither delivered nor named")


def check_id(known: Known, place: Any, content: bytes) -> None:
    if known.ids.get(place, content) != content:
        raise Violation(f"identity: {place} names two events")


def drain(outbox: Outbox, known: Known) -> tuple[dict[Any, bytes], dict[Any, str]]:
    """Read everything; return what is there, and what is named lost and why."""
    found: dict[Any, bytes] = {}
    named: dict[Any, str] = {}
    for _ in range(ROUNDS):
        before = len(found)
        for stream in STREAMS:
            after = 0
            while entries := outbox.read(stream, after, 100, 1 << 20):
                after = entries[-1].sequence
                for entry in entries:
                    key = (stream, entry.sequence)
                    if found.get(key) != entry.payload:
                        check_entry(outbox, entry, known)
                        named |= losses_in(entry)
                    found[key] = entry.payload
        outbox.commit(outbox.now.later(2 * NS_PER_S))
        if len(found) == before:
            break
    return found, named


def check_entry(outbox: Outbox, entry: Entry, known: Known) -> None:
    """Require that the entry was appended so, and that its id names no other."""
    key = (entry.stream, entry.sequence)
    check_id(known, (outbox.id, entry.epoch, *key), entry.payload)
    ours = b"events_dropped" in entry.payload or b'"type":"after"' in entry.payload
    if not ours and entry.payload not in known.given.get(key, ()):
        raise Violation(f"phantom: {key} was never appended so")
