"""The same outbox on real files: SIGKILL, a thread that writes, a second daemon, a disk that is full."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.errors import OutboxUnusable
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter, ThreadWriter
from tests.outbox.conftest import event
from tests.outbox.histories import describe_loss

WRITER = """
import sys
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import ThreadWriter
from tests.outbox.conftest import event
from tests.outbox.histories import describe_loss
disk, clock = RealDisk(), SystemClock()
outbox = Outbox.open(sys.argv[1], OutboxSettings(), disk, ThreadWriter(disk), clock.now(), describe_loss)
told = outbox.next_sequence("door") - 1  # an earlier run's; what is told is recorded under this run's epoch
while True:
    for _ in range(20):
        outbox.append("door", event(outbox.next_sequence("door")), clock.now())
    outbox.commit(clock.now())
    outbox._writer.wait(0.05)
    outbox.step(clock.now())
    recorded = outbox.positions("door").recorded_through
    if recorded > told:
        told = recorded
        print(told, flush=True)
"""


def open_real(directory: Path, bytes_max: int = 1 << 30) -> Outbox:
    disk = RealDisk()
    chosen = OutboxSettings(bytes_max=bytes_max)
    return Outbox.open(str(directory), chosen, disk, InlineWriter(disk), SystemClock().now(), describe_loss)


def test_kill_9_loses_nothing_that_was_told_to_be_durable(tmp_path: Path) -> None:
    told = 0
    epoch = 0
    for round_number in range(4):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(5 + round_number * 3):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait()
        told = int(rest[-1]) if rest and rest[-1].isdecimal() else told
        reader = OutboxReader(str(tmp_path))
        found = {entry.sequence: entry.payload for entry in reader.entries("door")}
        assert all(found[number] == event(number) for number in range(1, told + 1))
        assert reader.epoch > epoch
        epoch = reader.epoch


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    outbox = open_real(tmp_path)
    with pytest.raises(OutboxUnusable, match="another gateway") as refused:
        open_real(tmp_path)
    assert refused.value.exit_code == 73
    outbox.close(SystemClock().now())
    open_real(tmp_path).close(SystemClock().now())


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutboxUnusable, match="cannot be used"):
        open_real(tmp_path / "file" / "outbox")


def test_a_writer_thread_wakes_the_engine(tmp_path: Path) -> None:
    woken: list[float] = []
    disk, clock = RealDisk(), SystemClock()
    writer = ThreadWriter(disk, lambda: woken.append(time.monotonic()))
    outbox = Outbox.open(str(tmp_path), OutboxSettings(), disk, writer, clock.now(), describe_loss)
    outbox.append("door", event(1), clock.now())
    outbox.commit(clock.now())
    for _ in range(200):
        writer.wait(0.05)
        outbox.step(clock.now())
        if outbox.idle():
            break
    assert outbox.positions("door").recorded_through == 1
    assert woken
    outbox.close(clock.now())
    assert open_real(tmp_path).clean


def test_files_that_may_not_grow_are_survived_and_the_disk_recovers(tmp_path: Path) -> None:
    outbox = open_real(tmp_path, bytes_max=1 << 20)
    clock = SystemClock()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        for _ in range(200):
            outbox.append("door", event(outbox.next_sequence("door")), clock.now())
        outbox.commit(clock.now())
        outbox.commit(clock.now())
        assert outbox.status().degraded
        assert outbox.positions("door").backlog < 200
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    outbox.step(clock.now().later(40_000_000_000))
    outbox.commit(clock.now().later(80_000_000_000))
    assert not outbox.status().degraded
    assert [entry.payload for entry in outbox.read("door", 0, 999, 1 << 20)] == [event(n) for n in range(1, 201)]


def test_the_disk_used_stays_below_the_bound(tmp_path: Path) -> None:
    outbox = open_real(tmp_path, bytes_max=1 << 20)
    now = SystemClock().now()
    for _ in range(120):
        for _ in range(100):
            outbox.append("beacon", event(1), now)
        outbox.commit(now)
        blocks = sum(
            os.stat(os.path.join(where, name)).st_blocks for where, _, names in os.walk(tmp_path) for name in names
        )
        assert blocks * 512 <= 1 << 20
    assert outbox.positions("gateway").recorded_through > 0


def test_a_sync_that_a_read_only_file_system_only_pretends_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk()
    path = tmp_path / "file"
    path.write_bytes(b"x")
    writing, reading = disk.open(str(path)), disk.open_reading(str(path))
    disk.sync(writing)
    found = os.fstatvfs(writing)
    read_only = SimpleNamespace(f_flag=found.f_flag | os.ST_RDONLY)
    monkeypatch.setattr(os, "fstatvfs", lambda fd: read_only)
    with pytest.raises(OSError, match="Read-only") as refused:
        disk.sync(writing)
    assert refused.value.errno == errno.EROFS
    disk.sync(reading)  # who only reads asks whether all is on the card, and nothing is left to write
    disk.close(writing)
    disk.close(reading)
