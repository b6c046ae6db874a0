"""A file that cannot be read is not a file that is bad: what passes costs time, and a bad sector what stands in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from gateway.errors import EXIT_CANNOT_CREATE, OutboxUnusable
from gateway.machine.disk import RealDisk
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.repair import repair
from gateway.outbox.sectors import SECTOR_BYTES
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from tests.outbox.conftest import Bench, event
from tests.outbox.histories import DIRECTORY, WALL_NS, describe_loss

PATIENCE_S = 90  # 1 + 2 + 5 + 15 + 60, and room
OF_THE_MOMENT = [errno.EACCES, errno.EMFILE, errno.ESTALE]


def long(number: int) -> bytes:
    return event(number)[:-1] + b',"x":"%b"}' % (b"y" * 260)


def filled(files: int = 3, each: int = 100) -> Bench:
    """Return an outbox of several files of door events, the last one ended by a kill."""
    bench = Bench()
    bench.open(bytes_max=64 << 20)
    for _ in range(files):
        bench.record("door", each, long)
        bench.open()
    return bench


def waited(bench: Bench, seconds: int = PATIENCE_S) -> None:
    for _ in range(seconds):
        bench.pass_time(1)


def standing_in(bench: Bench, path: str, start: int, end: int) -> set[int]:
    """Return the numbers of the records of which a byte lies in these."""
    content, at, found = bytes(bench.disk.content(path)), 0, set()
    for line in content.splitlines(keepends=True):
        if line[1:2] == b'"' and line[2:3].isdigit() and at < end and start < at + len(line):
            found.add(int(line[2:].partition(b'"')[0]))
        at += len(line)
    return found


@pytest.mark.parametrize("number", OF_THE_MOMENT)
def test_what_is_of_the_moment_holds_its_stream_and_loses_nothing(number: int) -> None:
    bench = filled()
    before = bench.files("door")
    bench.record("beacon", 3)
    bench.disk.deny(before[1], number)
    assert bench.sequences("door") == list(range(1, 101))
    assert bench.outbox.stopped_short
    for _ in range(600):
        bench.pass_time(1)
        bench.outbox.read("door", 100, 10, 1 << 20)
    assert before[1] in str(bench.outbox.status().unreadable)
    assert len(bench.sequences("beacon")) == 3, "another stream goes on"
    bench.disk.mend()
    waited(bench, 31)
    assert bench.sequences("door") == list(range(1, 301))
    assert (bench.outbox.status().lost, bench.outbox.status().unreadable) == (0, None)
    assert [path for path in bench.disk.paths() if path.endswith(".bad")] == []


def test_what_cannot_be_read_is_not_tried_in_a_hot_loop() -> None:
    bench = filled()
    bench.disk.deny(bench.files("door")[0])
    tried = []
    opening = bench.disk.open_reading
    bench.disk.open_reading = lambda path: tried.append(path) or opening(path)  # type: ignore[func-returns-value,method-assign]
    for _ in range(10_000):
        assert bench.outbox.read("door", 0, 10, 1 << 20) == []
    assert len(tried) == 1


@pytest.mark.parametrize("folder", [DIRECTORY, f"{DIRECTORY}/door"])
def test_a_folder_that_is_away_for_a_while_loses_nothing(folder: str) -> None:
    bench = filled()
    bench.disk.away = folder
    for _ in range(4):
        assert bench.sequences("door") == []
        bench.pass_time(1)
    bench.disk.mend()
    waited(bench, 31)
    assert bench.sequences("door") == list(range(1, 301))
    assert bench.outbox.status().lost == 0


@pytest.mark.parametrize("start", [0, SECTOR_BYTES, 3 * SECTOR_BYTES])
@pytest.mark.parametrize("sectors", [2])
@pytest.mark.parametrize("which", [1, 2])
def test_a_bad_sector_costs_what_stands_in_it(start: int, sectors: int, which: int) -> None:
    bench = filled()
    path = bench.files("door")[which]
    end = start + sectors * SECTOR_BYTES
    inside = standing_in(bench, path, start, end)
    bench.disk.spoil(path, start, end)
    rest = [number for number in range(1, 301) if number not in inside]
    assert bench.sequences("door") == rest
    assert bench.outbox.status().lost == 0
    bench.open()
    assert bench.sequences("door") == rest
    waited(bench)
    assert bench.outbox.status().lost == len(inside)
    bench.open()
    assert bench.sequences("door") == rest
    assert bench.outbox.next_sequence("door") >= 301, "no number is given twice"


def test_a_sector_that_can_be_read_again_costs_nothing() -> None:
    bench = filled()
    path = bench.files("door")[1]
    bench.disk.spoil(path, SECTOR_BYTES, 2 * SECTOR_BYTES)
    inside = standing_in(bench, path, SECTOR_BYTES, 2 * SECTOR_BYTES)
    assert len(bench.sequences("door")) == 300 - len(inside)
    waited(bench, 10)
    bench.disk.mend()
    waited(bench)
    ((stream, first, last),) = bench.outbox.take_recovered()
    assert (stream, set(range(first, last + 1))) == ("door", inside)
    assert bench.sequences("door") == list(range(1, 301))
    assert bench.outbox.status().lost == 0


def test_an_error_that_passes_at_once_is_not_even_seen() -> None:
    bench = filled()
    bench.disk.random, bench.disk.read_error_chance = Random(3), 0.1
    found: set[int] = set()
    for _ in range(PATIENCE_S):
        found.update(bench.sequences("door"))
        bench.pass_time(1)
    assert found == set(range(1, 301))
    assert bench.outbox.status().lost == 0


@pytest.mark.parametrize("where", ["header", "middle", "tail"])
def test_the_newest_file_with_a_bad_sector_gives_no_number_twice(where: str) -> None:
    bench = Bench()
    bench.open(bytes_max=64 << 20)
    bench.record("door", 100, long)
    path = bench.files("door")[-1]
    end = bytes(bench.disk.content(path)).rstrip(b"\0 ").rindex(b"\n")
    start = {"header": 0, "middle": 2 * SECTOR_BYTES, "tail": end // SECTOR_BYTES * SECTOR_BYTES}[where]
    inside = standing_in(bench, path, start, start + SECTOR_BYTES)
    bench.disk.spoil(path, start, start + SECTOR_BYTES)
    bench.open()
    assert bench.outbox.next_sequence("door") > 100
    assert bench.sequences("door") == [number for number in range(1, 101) if number not in inside]
    bench.disk.mend()
    waited(bench)
    assert set(bench.sequences("door")) >= set(range(1, 101))


def test_a_slot_of_the_state_that_cannot_be_read_leaves_the_other() -> None:
    bench = filled()
    bench.outbox.save_soon()
    bench.pass_time(1)
    name = bench.outbox.id
    bench.disk.spoil(f"{DIRECTORY}/state.ack", 0, SECTOR_BYTES)
    bench.open()
    assert (bench.outbox.id, bench.sequences("door")) == (name, list(range(1, 301)))


def test_what_is_read_out_by_hand_passes_over_a_sector_and_says_so() -> None:
    bench = filled()
    path = bench.files("door")[1]
    bench.disk.spoil(path, SECTOR_BYTES, 2 * SECTOR_BYTES)
    inside = standing_in(bench, path, SECTOR_BYTES, 2 * SECTOR_BYTES)
    reader = OutboxReader(DIRECTORY, bench.disk)
    assert len(list(reader.entries("door"))) == 300 - len(inside)
    assert any("cannot be read" in damage.detail for damage in reader.verify())


def test_what_may_not_be_read_is_no_part_taken_for_the_whole() -> None:
    bench = filled()
    reader = OutboxReader(DIRECTORY, bench.disk)
    bench.disk.deny(bench.files("door")[1])
    with pytest.raises(OutboxUnusable):
        list(reader.entries("door"))


def test_a_repair_keeps_what_lies_around_a_bad_sector() -> None:
    bench = filled()
    path = bench.files("door")[1]
    bench.disk.spoil(path, SECTOR_BYTES, 2 * SECTOR_BYTES)
    inside = standing_in(bench, path, SECTOR_BYTES, 2 * SECTOR_BYTES)
    bench.outbox.close(bench.now)
    damages = list(OutboxReader(DIRECTORY, bench.disk).verify())
    done = repair(DIRECTORY, "/originals", damages, bench.settings, bench.disk, bench.now, describe_loss)
    assert done.lost == len(inside)
    bench.open()
    assert bench.sequences("door") == [number for number in range(1, 301) if number not in inside]
    assert list(OutboxReader(DIRECTORY, bench.disk).verify()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("which", ["state", "oldest", "newest"])
def test_a_start_that_may_not_read_a_file_changes_nothing(number: int, which: str) -> None:
    bench = filled()
    bench.outbox.close(bench.now)
    path = {"state": f"{DIRECTORY}/state.ack", "oldest": bench.files("door")[0], "newest": bench.files("door")[2]}[
        which
    ]
    bench.disk.deny(path, number)
    before = {path: bytes(bench.disk.content(path)) for path in bench.disk.paths()}
    with pytest.raises(OutboxUnusable, match=path) as refused:
        bench.open()
    assert refused.value.exit_code == EXIT_CANNOT_CREATE
    assert {path: bytes(bench.disk.content(path)) for path in bench.disk.paths()} == before
    bench.disk.mend()
    bench.open()
    assert bench.sequences("door") == list(range(1, 301))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_fifo, _link, _folder])
@pytest.mark.parametrize("base", [1, 4, 99])
def test_what_is_named_like_a_file_and_is_none_is_passed_over(
    tmp_path: Path, make: Callable[[Path], None], base: int
) -> None:
    disk, directory, now = RealDisk(), str(tmp_path / "outbox"), Instant(0, WALL_NS)

    def opened() -> Outbox:
        return Outbox.open(directory, OutboxSettings(), disk, InlineWriter(disk), now, describe_loss)

    outbox = opened()
    for number in range(1, 6):
        outbox.append("door", event(number), now)
    outbox.commit(now)
    outbox.close(now)
    stranger = tmp_path / "outbox" / "door" / f"{base:016d}-0000ffff.json"
    make(stranger)
    outbox = opened()
    assert [entry.sequence for entry in outbox.read("door", 0, 99, 1 << 20)] == [1, 2, 3, 4, 5]
    assert outbox.strangers == [str(stranger)]
    assert outbox.append("door", event(6), now) == 6
    outbox.close(now)
    assert stranger.is_symlink() or stranger.exists(), "it is not ours to remove"
