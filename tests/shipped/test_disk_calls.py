"""The disk that ships, watched: what it asks of the kernel, in which order, and that nothing counts before its sync.

The model disk of the simulator proves the orders of the outbox; here the thing itself is caught at its system calls.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.model import STREAMS, Instant
from gateway.outbox.jobs import (
    Append,
    Begin,
    Confirm,
    Create,
    Job,
    LoadBallast,
    Remove,
    Save,
    Seal,
    SetAside,
    Trim,
)
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.record import FOOTER
from gateway.outbox.repair import repair
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import SLOT_BYTES, STATE_NAME
from gateway.outbox.writing import InlineWriter
from tests.outbox.conftest import event
from tests.outbox.histories import describe_loss
from tests.shipped.calls import Call, Calls, Tree, first

NOW = SystemClock().now()
DISK = RealDisk()


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls below the test's folder; enter it once what is to lie there does."""
    return Calls(tmp_path, monkeypatch)


def put(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


# Each call of the disk, as the kernel sees it.


def test_a_file_is_made_once_and_never_over_another(tmp_path: Path, calls: Calls) -> None:
    path = str(tmp_path / "file")
    with calls:
        fd = DISK.open(path, create=True)
        (made,) = calls.of("open")
        assert made.rest[0] & (os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC) == (
            os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        )
        assert os.fstat(fd).st_mode & 0o777 == 0o640
        with pytest.raises(FileExistsError):
            DISK.open(path, create=True)
        DISK.close(fd)
    with pytest.raises(FileNotFoundError):
        DISK.open(str(tmp_path / "absent"))
    for descriptor in (DISK.open(path), DISK.open_reading(path), DISK.lock(str(tmp_path))):
        assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC, "a child must not inherit it"
        DISK.close(descriptor)


def test_reading_opens_for_reading_alone(tmp_path: Path) -> None:
    fd = DISK.open_reading(put(tmp_path / "file", b"abc"))
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert (DISK.read_at(fd, 2, 1), DISK.read_at(fd, 9, 3)) == (b"bc", b"")
    os.close(fd)


def test_what_the_kernel_takes_in_pieces_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = DISK.open(put(tmp_path / "file", b"........."))
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, content, offset: real(fd, bytes(content)[:2], offset))
    DISK.write_at(fd, b"abcdefg", 1)
    assert (tmp_path / "file").read_bytes() == b".abcdefg."
    os.close(fd)


@pytest.mark.parametrize(
    ("act", "asked"),
    [
        (lambda fd, path: DISK.sync(fd), [("fdatasync", ())]),
        (lambda fd, path: DISK.forget(fd), [("posix_fadvise", (0, 0, os.POSIX_FADV_DONTNEED))]),
        (lambda fd, path: DISK.allocate(fd, 8192), [("posix_fallocate", (0, 8192))]),
        (lambda fd, path: DISK.truncate(fd, 1), [("ftruncate", (1,))]),
        (lambda fd, path: DISK.write_at(fd, b"x", 5), [("pwrite", (b"x", 5))]),
        (lambda fd, path: DISK.unlink(f"{path}/file"), [("unlink", ())]),
        (lambda fd, path: DISK.rename(f"{path}/file", f"{path}/to"), [("rename", ("to",))]),
        (lambda fd, path: DISK.sync_directory(path), [("open", ()), ("fsync", ()), ("close", ())]),
    ],
    ids=["sync", "forget", "allocate", "truncate", "write", "unlink", "rename", "sync-directory"],
)
def test_each_act_is_that_call(
    tmp_path: Path, calls: Calls, act: Callable[[int, str], None], asked: list[tuple[str, tuple[Any, ...]]]
) -> None:
    fd = DISK.open(put(tmp_path / "file", b"content"))
    with calls:
        act(fd, str(tmp_path))
        assert [call.name for call in calls.made] == [name for name, _ in asked]
        for call, (_, rest) in zip(calls.made, asked, strict=True):
            given = [bytes(one) if isinstance(one, memoryview) else one for one in call.rest]
            told = [os.path.basename(one) if isinstance(one, str) else one for one in given]
            assert told[: len(rest)] == list(rest)
    os.close(fd)


@pytest.mark.parametrize("act", ["sync", "directory"])
def test_a_sync_that_failed_is_told(tmp_path: Path, calls: Calls, act: str) -> None:
    fd = DISK.open(put(tmp_path / "file", b"content"))
    with calls:
        calls.fail = first("fdatasync" if act == "sync" else "fsync")
        with pytest.raises(OSError, match="Input/output"):
            DISK.sync(fd) if act == "sync" else DISK.sync_directory(str(tmp_path))
    os.close(fd)


def test_one_lock_and_no_waiting_for_it(tmp_path: Path) -> None:
    disk, other = RealDisk(), RealDisk()
    fd = disk.lock(str(tmp_path))
    with pytest.raises(BlockingIOError):
        other.lock(str(tmp_path))
    disk.close(fd)
    other.close(other.lock(str(tmp_path)))


def test_room_is_what_an_ordinary_user_may_write(tmp_path: Path) -> None:
    found, space = os.statvfs(tmp_path), DISK.space(str(tmp_path))
    assert space.total_bytes == found.f_blocks * found.f_frsize
    assert abs(space.free_bytes - found.f_bavail * found.f_frsize) < 64 << 20


# Each job of the outbox, in its order.

ESSENTIAL = ("open", "write", "pwrite", "fdatasync", "fsync", "ftruncate", "posix_fallocate", "rename", "unlink")


def shortened(calls: Calls) -> list[str]:
    """Return the essential calls in their order; a folder's open and fsync as one word."""
    told: list[str] = []
    for call in calls.made:
        if call.name not in ESSENTIAL or (call.name == "open" and call.rest[0] & os.O_DIRECTORY):
            continue
        name = {"pwrite": "write", "fdatasync": "sync", "fsync": "sync folder", "posix_fallocate": "allocate"}
        word = name.get(call.name, call.name)
        if call.name == "open":
            word = "create" if call.rest[0] & os.O_CREAT else "open"
        told.append(word)
    return told


def jobs(folder: Path) -> dict[str, tuple[Job | Callable[[], Job], list[str]]]:
    segment, state = folder / "door" / "1-1.json", folder / STATE_NAME
    header = b'{"_header":{}}\n'

    def more() -> Job:
        return Append("door", DISK.open(str(segment)), 100, b"x")

    return {
        "append to a new file": (
            Append("door", -1, 0, b"x", Create(str(folder / "door/9-1.json"), 8192, header)),
            ["create", "allocate", "write", "sync", "sync folder"],
        ),
        "append": (more, ["open", "write", "sync"]),
        "save, synced": (Save(str(state), 1, b"text", True), ["open", "write", "sync"]),
        "save, not synced": (Save(str(state), 1, b"text", False), ["open", "write"]),
        "confirm": (Confirm((str(segment),)), ["open", "sync", "sync folder"]),
        "begin": (
            Begin(str(folder), (), str(state), 1, b"text", (str(segment),)),
            ["sync folder", "open", "sync", "sync folder", "open", "sync", "write", "sync", "sync folder"],
        ),
        "begin a new one": (
            Begin(str(folder), (), str(folder / "state.new"), 1, b"text"),
            ["sync folder", "create", "allocate", "sync", "write", "sync", "sync folder"],
        ),
        "trim": (Trim(str(segment), 100, 100, True), ["open", "write", "ftruncate"]),
        "seal": (lambda: Seal(DISK.open(str(segment)), 100), ["open", "write", "ftruncate"]),
        "remove": (Remove((str(segment),)), ["unlink", "sync folder"]),
        "set aside what is damaged": (Remove((), (str(segment),)), ["rename", "sync folder"]),
        "ballast": (LoadBallast(str(folder / "ballast"), 4096), ["create", "allocate", "sync"]),
        "what the broker refuses": (
            SetAside(str(folder / "refused.jsonl"), b"line\n"),
            ["create", "write", "sync", "sync folder"],
        ),
    }


@pytest.mark.parametrize("name", list(jobs(Path())))
def test_each_job_keeps_its_order(tmp_path: Path, calls: Calls, name: str) -> None:
    put(tmp_path / "outbox/door/1-1.json", b"-" * 200)
    put(tmp_path / "outbox" / STATE_NAME, bytes(2 * SLOT_BYTES))
    run, order = jobs(tmp_path / "outbox")[name]
    with calls:
        (run() if callable(run) else run).run(DISK)
        found = shortened(calls)
        for where in (one for one in order if one in ("create", "open")):
            assert where in found
        assert [word for word in found if word not in ("open",)] == [word for word in order if word != "open"]
        assert not any(path.endswith((".tmp", ".part")) for path in calls.now())


def test_the_end_of_a_file_is_its_footer(tmp_path: Path) -> None:
    path = put(tmp_path / "file", b"-" * 200)
    Seal(DISK.open(path), 100).run(DISK)
    assert (tmp_path / "file").read_bytes() == b"-" * 100 + FOOTER


# The outbox on the real disk: whenever the power goes, what was said to be recorded is there.


class Claims:
    """An outbox on the real disk below `folder`, and what it has said so far."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        self.directory = folder / "outbox"
        self.settings = OutboxSettings(**{"bytes_max": 1 << 20, "keep_acknowledged": 0.0, **changed})
        self.now = Instant(NOW.boot_ns, NOW.wall_ns)
        self.disk = RealDisk()
        self.said: dict[Any, int] = {}
        self.settled: set[tuple[Any, int]] = set()
        self.outbox = self.open()

    def open(self) -> Outbox:
        self.outbox = Outbox.open(
            str(self.directory), self.settings, self.disk, InlineWriter(self.disk), self.now, describe_loss
        )
        return self.outbox

    def note(self) -> None:
        """Take note of what is said to be recorded."""
        for stream in STREAMS:
            self.said[stream] = max(self.said.get(stream, 0), self.outbox.positions(stream).recorded_through)

    def record(self, stream: Any, count: int) -> None:
        for _ in range(count):
            self.outbox.append(stream, event(self.outbox.next_sequence(stream)), self.now)
        self.outbox.commit(self.now)
        self.note()

    def pass_time(self, seconds: float) -> None:
        self.now = self.now.later(int(seconds * 1e9))
        self.outbox.step(self.now)
        self.note()

    def is_there(self, tree: Tree, folder: Path) -> None:
        """Look at what a power cut left, as the next start would: nothing that was said is missing."""
        outbox = {path: content for path, content in tree.items() if path.startswith("outbox/")}
        for path, content in outbox.items():
            put(folder / path, content)
        reader = OutboxReader(str(folder / "outbox"))
        for stream, through in self.said.items():
            there = {entry.sequence for entry in reader.entries(stream)}
            missing = [
                number
                for number in range(1, through + 1)
                if number not in there and (stream, number) not in self.settled
            ]
            assert not missing, f"{stream} {missing} were said to be recorded, and a power cut took them"


def a_life(claims: Claims) -> Iterator[str]:
    """What happens to an outbox, step by step."""
    yield "opened"
    claims.record("door", 3)
    yield "three recorded"
    for _ in range(3):
        claims.record("beacon", 60)
        claims.record("gateway", 1)
    yield "over several files"
    claims.outbox.acknowledge("door", 1, 2)
    claims.settled |= {("door", 1), ("door", 2)}
    claims.outbox.save_soon()
    claims.pass_time(1)
    yield "acknowledged"
    claims.record("door", 2)
    claims.outbox.close(claims.now)
    yield "closed"
    claims.open()
    claims.record("door", 1)
    yield "opened again"
    claims.outbox.close(claims.now)


def test_whenever_the_power_goes_what_was_said_to_be_recorded_is_there(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, calls: Calls
) -> None:
    with calls:
        claims = Claims(tmp_path, bytes_max=256 << 10)
        for step, name in enumerate(a_life(claims)):
            for end, tree in enumerate(calls.cuts()):
                claims.is_there(tree, tmp_path_factory.mktemp(f"{step}-{end}-{name.replace(' ', '-')}"))
        assert calls.of("fdatasync")
        assert calls.of("posix_fadvise"), "what is read at a start is what the card holds"


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
@pytest.mark.parametrize("after", range(4))
def test_a_sync_that_fails_once_is_believed_by_nobody(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, calls: Calls, call: str, after: int
) -> None:
    with calls:
        claims = Claims(tmp_path)
        claims.record("door", 2)
        calls.fail = first(call, after=after)
        for number in range(4):
            claims.record("door", 2)
            claims.record("gateway", 1)
            claims.pass_time(40)
            for end, tree in enumerate(calls.cuts()):
                claims.is_there(tree, tmp_path_factory.mktemp(f"{number}-{end}"))
        assert claims.said["door"] == 10, "what failed once is recorded again, under the same numbers"
        calls.fail = lambda call: None
        claims.outbox.close(claims.now)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM])
def test_a_file_that_cannot_be_opened_for_a_moment_is_not_damaged(tmp_path: Path, calls: Calls, number: int) -> None:
    claims = Claims(tmp_path)
    claims.record("door", 5)
    claims.outbox.close(claims.now)
    claims.open()
    before = sorted(path.name for path in tmp_path.rglob("*.json*"))
    with calls:
        calls.fail = lambda call: number if call.name == "open" and "door" in call.path else None
        assert claims.outbox.read("door", 0, 100, 1 << 20) == []
        claims.pass_time(1)
        calls.fail = lambda call: None
        assert [entry.sequence for entry in claims.outbox.read("door", 0, 100, 1 << 20)] == [1, 2, 3, 4, 5]
        claims.pass_time(1)
        assert claims.outbox.status().lost == 0
    claims.outbox.close(claims.now)
    assert sorted(path.name for path in tmp_path.rglob("*.json*")) == before


def test_what_is_not_durable_cannot_be_acknowledged(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.record("door", 2)
    for _ in range(3):
        claims.outbox.append("door", event(1), claims.now)
    claims.outbox.acknowledge("door", 1, 5)
    claims.outbox.commit(claims.now)
    found = claims.outbox.positions("door")
    assert (found.recorded_through, found.acknowledged_through, found.backlog) == (5, 2, 3)
    claims.outbox.close(claims.now)


def test_a_flood_of_the_worthiest_leaves_each_stream_its_floor(tmp_path: Path) -> None:
    claims = Claims(tmp_path, bytes_max=512 << 10)
    for stream, count in (("beacon", 1500), ("shelf", 1500), ("door", 12_000)):
        for _ in range(count // 100):
            claims.record(stream, 100)
    lost = {stream: claims.outbox.positions(stream) for stream in STREAMS}
    kept = {
        stream: sum(path.stat().st_size for path in (tmp_path / "outbox" / stream).glob("*.json"))
        for stream in ("beacon", "shelf", "door")
    }
    assert lost["beacon"].backlog < 1500, "something had to leave"
    assert all(size >= (512 << 10) // 16 - 8192 for size in kept.values()), kept
    claims.outbox.close(claims.now)


def test_a_repair_keeps_the_original_before_it_writes_anew(tmp_path: Path, calls: Calls) -> None:
    claims = Claims(tmp_path)
    claims.record("door", 9)
    claims.outbox.close(claims.now)
    (path,) = (tmp_path / "outbox/door").glob("*.json")
    content = path.read_bytes()
    at = content.index(b'"n":5')
    path.write_bytes(content[:at] + b'"x":5' + content[at + 5 :])
    name, spoiled = f"outbox/door/{path.name}", path.read_bytes()
    damages = list(OutboxReader(str(tmp_path / "outbox")).verify())
    assert damages
    with calls:

        def look(call: Call) -> None:
            for tree in calls.cuts():
                is_kept = any(at.startswith("originals/") and kept == spoiled for at, kept in tree.items())
                assert tree[name] == spoiled or is_kept
                assert len(tree[name]) > 100, "a whole file or the other"

        calls.each = look
        repair(
            str(tmp_path / "outbox"), str(tmp_path / "originals"), damages, claims.settings, DISK, NOW, describe_loss
        )
        safe = calls.safe()
    assert safe[name] == path.read_bytes() != spoiled
    assert [json.loads(line) for line in path.read_text().splitlines() if line.startswith("never")] == []


def test_expiry_takes_one_file_a_minute_and_not_the_outbox(tmp_path: Path) -> None:
    """A clock that jumps to 2036: each minute of steps lets one file go, until somebody sets it right."""
    claims = Claims(tmp_path, bytes_max=512 << 10)
    for _ in range(12):
        claims.record("beacon", 60)
    files = len(list((tmp_path / "outbox/beacon").glob("*.json")))
    assert files > 6
    claims.now = Instant(claims.now.boot_ns, claims.now.wall_ns + 3_650 * 86_400 * 10**9, "synced")
    for _ in range(2 * 60):
        claims.pass_time(1)
    left = len(list((tmp_path / "outbox/beacon").glob("*.json")))
    assert files - 3 <= left < files, "two minutes, two files or three"
    claims.outbox.close(claims.now)
