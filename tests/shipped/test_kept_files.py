"""Small files that must survive a power cut, watched at their system calls: the old one or the new one, never a piece.

Also taking over a card: whatever the moment of the cut, at most one of the two outboxes can run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.commands.signed import Believed, write_believed
from gateway.config import loads
from gateway.config.overlay import Ordered, Probation, write_ordered
from gateway.machine.disk import RealDisk
from gateway.machine.owner import put, written
from gateway.model import Instant
from gateway.outbox.adopted import MARK
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from gateway.privacy import DayKeys, Period
from gateway.sensors.shelf.calibration import StoredCalibration
from gateway.technician.adoption import adopt
from gateway.technician.calibration_store import CalibrationStore
from tests.outbox.conftest import event
from tests.outbox.histories import describe_loss
from tests.shipped.calls import Call, Calls, Tree

NOW = Instant(10**9, 1_795_000_000 * 10**9)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(tmp_path, monkeypatch)


def order(folder: Path, number: int) -> None:
    write_ordered(folder / "outbox", Ordered({"health": {"every": number}}, Probation("0" * 64, 20, "topic")))


def believe(folder: Path, number: int) -> None:
    write_believed(folder / "outbox", Believed(number, ((number, "0" * 16),)))


def no_order(folder: Path, number: int) -> None:
    write_ordered(folder / "outbox", Ordered())


def calibrate(folder: Path, number: int) -> None:
    stored = StoredCalibration("calibrate", 84_213.0 + number, 21.5, "2026-11-22", "a technician")
    CalibrationStore(folder / "outbox", RealDisk()).save("aisle", stored)


def key_of_a_day(folder: Path, number: int) -> None:
    DayKeys(folder / "outbox/privacy.key").key_of(Period(f"2026-11-{number:02}"))


KEPT: dict[str, tuple[Callable[[Path, int], None], str]] = {
    "what the cloud ordered": (order, "outbox.config.json"),
    "which commands were believed": (believe, "outbox.signed.json"),
    "a calibration": (calibrate, "calibration/aisle.json"),
}


@pytest.mark.parametrize("what", list(KEPT))
@pytest.mark.parametrize("is_there", [False, True], ids=["new", "again"])
def test_the_old_one_or_the_new_one_and_the_new_one_on_return(
    tmp_path: Path, calls: Calls, what: str, is_there: bool
) -> None:
    write, name = KEPT[what]
    (tmp_path / "outbox").mkdir()
    if is_there:
        write(tmp_path, 1)
    before = (tmp_path / name).read_bytes() if is_there else None
    seen: list[Tree] = []
    with calls:
        calls.each = lambda call: seen.extend(calls.cuts())
        write(tmp_path, 2)
        safe = calls.safe()
    after = (tmp_path / name).read_bytes()
    assert after != before
    assert {tree.get(name) for tree in seen} <= {before, after}, "a piece of a file"
    assert safe[name] == after, "said to be kept, and not on the card"
    assert all(path.startswith(("outbox", "calibration")) and not path.endswith(".new") for path in safe)


@pytest.mark.parametrize("planted", ["report.json", "report.json.new"])
def test_a_small_file_is_not_written_through_a_planted_link(tmp_path: Path, planted: str) -> None:
    secret = tmp_path / "elsewhere"
    secret.write_text("untouched")
    (tmp_path / planted).symlink_to(secret)
    put(tmp_path / "report.json", b"new")
    assert (secret.read_text(), (tmp_path / "report.json").read_bytes()) == ("untouched", b"new")
    assert not (tmp_path / "report.json").is_symlink()


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_a_file_that_a_person_named_is_no_link_and_no_pipe(tmp_path: Path, kind: str) -> None:
    secret, named = tmp_path / "elsewhere", tmp_path / "backlog.jsonl"
    if kind == "pipe":
        os.mkfifo(named)
    else:
        named.symlink_to(secret)
    if kind == "link":
        secret.write_text("untouched")
    with pytest.raises(OSError, match="a link, a pipe or a device"), written(named) as file:
        file.write(b"events")
    assert (secret.read_text() if secret.exists() else "untouched") == "untouched"
    assert not secret.exists() or kind == "link"


def test_a_file_that_a_person_named_is_whole_or_as_it_was(tmp_path: Path) -> None:
    named = tmp_path / "backlog.jsonl"
    named.write_bytes(b"before")
    with pytest.raises(TypeError), written(named) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert (named.read_bytes(), os.listdir(tmp_path)) == (b"before", ["backlog.jsonl"])
    with written(named) as file:
        file.write(b"after")
    assert named.read_bytes() == b"after"


def test_the_calibration_before_it_is_kept_before_it_is_replaced(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "outbox").mkdir()
    calibrate(tmp_path, 1)
    first = (tmp_path / "calibration/aisle.json").read_bytes()
    with calls:

        def look(call: Call) -> None:
            for tree in calls.cuts():
                kept = (tree["calibration/aisle.json"], tree.get("calibration/aisle.json.previous"))
                assert first in kept, "the one before is gone"

        calls.each = look
        calibrate(tmp_path, 2)
        assert calls.safe()["calibration/aisle.json.previous"] == first


def test_what_the_cloud_no_longer_orders_is_gone_for_good(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "outbox").mkdir()
    order(tmp_path, 1)
    with calls:
        no_order(tmp_path, 0)
        assert "outbox.config.json" not in calls.safe()


def test_the_key_of_a_day_is_whole_and_the_one_before_is_overwritten(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "outbox").mkdir()
    name = "outbox/privacy.key"
    key_of_a_day(tmp_path, 1)
    first = (tmp_path / name).read_bytes()
    inode = os.open(tmp_path / name, os.O_RDONLY)
    seen: list[Tree] = []
    with calls:
        calls.each = lambda call: seen.extend(calls.cuts())
        key_of_a_day(tmp_path, 2)
        safe = calls.safe()
        order_of_it = calls.names("write", "fsync", "fdatasync", "unlink", "replace", "rename")
    second = (tmp_path / name).read_bytes()
    assert os.pread(inode, 999, 0).strip(b"\0") == b"", "the blocks of the old key"
    os.close(inode)
    assert {tree.get(name) for tree in seen} <= {None, first, bytes(len(first)), second}
    assert safe[name] == second
    assert order_of_it[:3] == ["write", "fsync", "unlink"], "overwritten and synced before it is unlinked"
    assert json.loads(second)["day"] == "2026-11-02"


def test_a_day_that_is_over_is_forgotten_in_memory_too(tmp_path: Path) -> None:
    keys = DayKeys(tmp_path / "privacy.key")
    first = keys.key_of(Period("2026-11-01"))
    keys.destroy_others(Period("2026-11-01"))
    assert keys.key_of(Period("2026-11-01")) == first
    keys.destroy_others(Period("2026-11-02"))
    assert keys._key == b""
    assert keys.key_of(Period("2026-11-01")) != first, "nor can it be had again"


def test_ordering_nothing_where_nothing_was_ordered(tmp_path: Path) -> None:
    no_order(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_keeps_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    for path in (tmp_path, tmp_path / "outbox"):
        os.chown(path, 12_345, 12_346)
    order(tmp_path, 1)
    key_of_a_day(tmp_path, 1)
    for name in ("outbox.config.json", "outbox/privacy.key"):
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid) == (12_345, 12_346), name


# Taking over a card.


def card(folder: Path) -> None:
    """A card with an outbox in which something waits, a calibration, and the key of its day."""
    directory = folder / "card/var/lib/gateway/outbox"
    disk = RealDisk()
    outbox = Outbox.open(str(directory), OutboxSettings(), disk, InlineWriter(disk), NOW, describe_loss)
    for number in range(1, 6):
        outbox.append("door", event(number), NOW)
    outbox.close(NOW)
    (directory / "privacy.key").write_text("secret")
    (directory.parent / "calibration").mkdir()
    (directory.parent / "calibration/aisle.json").write_text('{"old": 1}')


def test_at_most_one_outbox_can_run_wherever_the_power_goes(tmp_path: Path, calls: Calls) -> None:
    card(tmp_path)
    old, new = "card/var/lib/gateway/outbox", "new/outbox"
    here = loads(f'[site]\nstore = "1"\n[broker]\nurl = "mqtt://localhost"\n[outbox]\ndirectory = "{tmp_path}/{new}"\n')
    left_behind = (MARK, "lock", "control", "privacy.key")
    wanted = {
        path.relative_to(tmp_path / old).as_posix(): path.read_bytes()
        for path in (tmp_path / old).rglob("*")
        if path.is_file() and path.name not in left_behind
    }
    (tmp_path / "new").mkdir()
    turns = {"copied": 0, "marked": 0, "moved": 0}

    def look(call: Call) -> None:
        for tree in calls.cuts():
            is_marked = f"{old}/{MARK}" in tree
            copies = [
                {
                    path.removeprefix(f"{place}/"): content
                    for path, content in tree.items()
                    if path.startswith(f"{place}/")
                }
                for place in (new, f"{new}.adopting")
            ]
            is_whole = wanted in copies
            is_moved = bool(copies[0])
            assert not is_moved or is_marked, "both can run: the copy is in place, the old one is not marked"
            assert not is_marked or is_whole, "neither can run: the old one is marked, the copy is not whole"
            assert all(tree[f"{old}/{name}"] == content for name, content in wanted.items()), "the card was changed"
            turns["copied"] += is_whole
            turns["marked"] += is_marked
            turns["moved"] += is_moved

    with calls:
        calls.each = look
        done = adopt(here, tmp_path / "card")
        assert done.marked
        safe = calls.safe()
    assert turns["copied"] > turns["marked"] > turns["moved"] > 0, turns
    assert {name: safe[f"{new}/{name}"] for name in wanted} == wanted
    assert f"{old}/{MARK}" in safe
    assert safe["new/calibration/aisle.json"] == b'{"old": 1}'
    assert not [path for path in safe if path.endswith("privacy.key")], "the key of the day never leaves its gateway"
