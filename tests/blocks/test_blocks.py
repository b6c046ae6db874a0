"""A real ext4 loses its power at any moment: the outbox keeps its promises there, as SQLite does and TinyDB does not.

The cards live in memory, behind FUSE. Needs root, FUSE and loop devices; where they are missing each test says what.
A directory sync left out is not caught here, for an ext4 writes a new file's name with its content; the model disk
(`tests.outbox`) catches it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.machine.disk import Disk
from tests.bench.stalls import one_row
from tests.blocks.card import ROOT, card
from tests.blocks.kills import kill_again_and_again
from tests.blocks.mounts import Missing
from tests.blocks.ours import Ours
from tests.blocks.replay import Recording, stage
from tests.blocks.subjects import SqliteFull, StockTinyDB, Subject
from tests.blocks.trial import Verdicts, try_cuts
from tests.outbox.test_planted_bugs import epoch_is_not_raised, handed_out_before_the_sync

CARD_BYTES = 16 << 20
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


@contextmanager
def skipped_where_impossible() -> Iterator[None]:
    try:
        yield
    except Missing as error:
        pytest.skip(str(error))


def verdicts_of(subject: Subject, acts: int, cuts: int, until_broken: bool = False) -> Verdicts:
    with skipped_where_impossible():
        return try_cuts(subject, 1, acts, cuts, until_broken)


def test_what_was_synced_is_there_after_any_cut_and_what_was_not_may_be_gone(tmp_path: Path) -> None:
    synced: list[tuple[int, int]] = []
    with skipped_where_impossible(), card(tmp_path, CARD_BYTES) as made:
        with (made.path / "name").open("xb", buffering=0) as file:
            made.record()
            for size_bytes in range(100, 1100, 100):
                file.write(b"x" * 100)
                if size_bytes % 200 == 0:
                    os.fsync(file.fileno())
                    synced.append((made.position(), size_bytes))
        made.dump(tmp_path / "log")
    recording = Recording.read(tmp_path / "log")
    assert len(recording.log) == synced[-1][0]
    sizes: dict[int, int] = {}
    with stage(tmp_path) as show:
        for cut, flushed, survivors in recording.states(recording.cuts(12, 1)):
            show(flushed, survivors, lambda path: sizes.update({cut.position: (path / "name").stat().st_size}))  # noqa: B023
            assert sizes[cut.position] >= max([size for position, size in synced if position <= cut.position] or [0])
    assert len(set(sizes.values())) > 2


LIVING = """
import sys, time
from pathlib import Path
from tests.blocks.card import card
with card(Path(sys.argv[1]), 16 << 20) as made:
    print(made.device, flush=True)
    time.sleep(60)
"""


def test_a_kill_leaves_no_mount_and_no_loop_device_behind(tmp_path: Path) -> None:
    with skipped_where_impossible(), card(tmp_path, CARD_BYTES):
        pass
    child = subprocess.Popen([sys.executable, "-c", LIVING, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    device = child.stdout.readline().strip()
    assert Path(f"/sys/block/{device}/loop").exists()
    child.send_signal(signal.SIGKILL)
    child.wait()
    ends_s = time.monotonic() + 10
    while _backing(device).startswith(str(tmp_path)) and time.monotonic() < ends_s:
        time.sleep(0.01)  # the kernel tidies up behind the last process
    assert not _backing(device).startswith(str(tmp_path))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text(encoding="utf-8")


def _backing(device: str) -> str:
    try:
        return Path(f"/sys/block/{device}/loop/backing_file").read_text(encoding="utf-8")
    except OSError:
        return ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_power_cut_of_a_real_ext4_takes_what_the_outbox_promised() -> None:
    verdicts = verdicts_of(Ours(), 900, 60)
    assert verdicts.cuts == 60
    assert not verdicts.broken


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_cuts_spare_sqlite_and_break_tinydb() -> None:
    assert not verdicts_of(SqliteFull(), 150, 30).broken
    stock = verdicts_of(StockTinyDB(), 150, 30)
    assert stock.kinds["does not open"] > 5


class Without:
    """The disk with calls that do nothing."""

    def __init__(self, disk: Disk, *skipped: str) -> None:
        self._disk, self._skipped = disk, skipped

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: None) if name in self._skipped else getattr(self._disk, name)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", [None, handed_out_before_the_sync, epoch_is_not_raised])
def test_a_safety_step_taken_away_is_caught(
    monkeypatch: pytest.MonkeyPatch, bug: Callable[[pytest.MonkeyPatch], None] | None
) -> None:
    subject = Ours(threaded=False)
    if bug is None:
        subject = Ours(lambda disk: Without(disk, "sync"), threaded=False)
    else:
        bug(monkeypatch)
    assert verdicts_of(subject, 300, 40, until_broken=True).broken


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_at_any_moment_lose_nothing_that_was_told() -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place:
        assert kill_again_and_again(Path(place), 100, 1) > 500


@pytest.mark.slow
def test_a_card_that_stalls_while_syncs_fail_loses_no_reading() -> None:
    with skipped_where_impossible():
        row = one_row("stalls, one sync in twenty fails", stalls=True, failing=0.05, seconds=6.0)
    assert row["stalled"] >= 1
    assert row["failed_syncs"] >= 1
    assert (row["passages"], row["lost"]) == (120, 0)
