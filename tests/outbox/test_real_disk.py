"""The real disk: whose its files are, what it does not open, and the lock that cannot be deleted."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.config.overlay import Ordered, path_of, write_ordered
from gateway.control.asking import POINTER
from gateway.errors import OutboxUnusable
from gateway.machine.disk import NotAFile, RealDisk, refusal
from gateway.machine.owner import put
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from gateway.privacy import DayKeys, Period
from tests.outbox.conftest import event
from tests.outbox.histories import WALL_NS, describe_loss

NOBODY = 65534
NOW = Instant(0, WALL_NS)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def opened(directory: Path, disk: RealDisk | None = None) -> Outbox:
    disk = disk or RealDisk()
    return Outbox.open(str(directory), OutboxSettings(), disk, InlineWriter(disk), NOW, describe_loss)


def record(outbox: Outbox, count: int) -> None:
    for number in range(count):
        outbox.append("door", event(number), NOW)
    outbox.commit(NOW)


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@as_root
def test_what_root_makes_is_the_folders_owners_with_the_modes_of_always(tmp_path: Path, umask: None) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    outbox = opened(tmp_path / "state" / "outbox")
    record(outbox, 3)
    outbox.refuse(outbox.read("door", 0, 1, 1000)[0], "not wanted")
    outbox.step(NOW.later(60 * 10**9))
    outbox.close(NOW)
    directory = tmp_path / "state" / "outbox"
    put(directory / POINTER, b"/run/gateway/one.sock\n")
    write_ordered(directory, Ordered({"broker": {"keepalive": 30}}))
    DayKeys(directory / "privacy.key").key_of(Period("2026-11-29"))
    made = list(tmp_path.rglob("*"))
    assert {path.name for path in made} >= {"door", "state.ack", "ballast", "refused.jsonl", POINTER, "privacy.key"}
    assert path_of(directory).exists()
    for path in made:
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY), path
        wanted = 0o750 if path.is_dir() else 0o600 if path.name == "privacy.key" else 0o640
        assert stat.S_IMODE(found.st_mode) == wanted, path


def test_what_is_no_file_is_neither_waited_for_nor_followed(tmp_path: Path) -> None:
    disk, names = RealDisk(), ("fifo", "folder", "link", "dangling", "socket")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in names:
            for act in (disk.open, disk.open_reading, disk.size):
                with pytest.raises(NotAFile):
                    act(str(tmp_path / name))
            with pytest.raises(FileExistsError):
                disk.open(str(tmp_path / name), create=True)
    assert not (tmp_path / "nowhere").exists()


def test_deleting_names_does_not_let_a_second_writer_in(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox")
    for path in (tmp_path / "outbox").iterdir():
        if path.is_file():
            path.unlink()
    with pytest.raises(OutboxUnusable, match="another gateway is running"):
        opened(tmp_path / "outbox")
    outbox.close(NOW)
    opened(tmp_path / "outbox").close(NOW)


def test_a_folder_moved_away_is_still_written_and_read_and_its_successor_is_not_touched(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox")
    record(outbox, 5)
    (tmp_path / "outbox").rename(tmp_path / "away")
    second = opened(tmp_path / "outbox")
    record(outbox, 5)
    assert [entry.sequence for entry in outbox.read("door", 0, 100, 1 << 20)] == list(range(1, 11))
    outbox.acknowledge("door", 1, 5)
    outbox.close(NOW)
    second.close(NOW)
    moved, successor = OutboxReader(str(tmp_path / "away")), OutboxReader(str(tmp_path / "outbox"))
    assert (moved.id, moved.positions("door").backlog) == (outbox.id, 5)
    assert (successor.id, successor.positions("door").backlog) == (second.id, 0)


def test_what_is_no_file_has_no_size_and_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    disk = RealDisk()
    for ask in (disk.size, disk.open_reading):
        with pytest.raises(NotAFile) as refused:
            ask(str(tmp_path / "link"))
        assert (refused.value.errno, refused.value.filename) == (errno.EINVAL, str(tmp_path / "link"))
        assert "no regular file" in str(refused.value)
    assert disk.size(str(tmp_path / "file")) == 3


def test_a_folder_that_takes_files_is_asked_without_a_trace(tmp_path: Path) -> None:
    assert refusal(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    refused = refusal(tmp_path / "absent")
    assert refused is not None
    assert refused.errno == errno.ENOENT


def test_a_folder_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asker, pid = tmp_path / "asker", tmp_path / "pid"
    asker.write_text(f"#!/bin/sh\necho stuck >&2\necho $$ > {pid}\nexec sleep 60\n")
    asker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(asker))
    refused = refusal(tmp_path, within_s=1.0)
    assert refused is not None
    assert refused.errno == errno.ETIMEDOUT
    assert capfd.readouterr().err == "", "what the asker says is no word of ours"
    with suppress(ChildProcessError):
        os.waitpid(int(pid.read_text()), 0)  # it was ended, or this does not return
