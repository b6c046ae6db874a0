"""Where a person lets a verb write: a link, a pipe or a device that stands there is refused and left as it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import gateway
from gateway.machine.owner import begun, written

DOOR = '[site]\nstore = "0042"\ngateway = "front"\n[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n'
VERBS = {
    "record": ("record", "--for", "0.1s", "--force", "--output"),
    "support-bundle": ("support-bundle", "--output"),
    "wiring": ("wiring", "--svg"),
}


def link(place: Path) -> None:
    (place.parent / "precious").write_text("precious")
    place.symlink_to(place.parent / "precious")


def dangling(place: Path) -> None:
    place.symlink_to(place.parent / "not-made")


def hard_link(place: Path) -> None:
    (place.parent / "precious").write_text("precious")
    place.hardlink_to(place.parent / "precious")


def device(place: Path) -> None:
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes a device")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("plant", [link, dangling, hard_link, os.mkfifo, device])
def test_what_is_no_file_of_its_own_is_left_as_it_is(plant: Callable[[Path], None], verb: str, tmp_path: Path) -> None:
    (config := tmp_path / "gateway.toml").write_text(f'{DOOR}[outbox]\ndirectory = "{tmp_path}/outbox"\n')
    plant(place := tmp_path / "there")
    before = os.lstat(place)
    done = CliRunner().invoke(gateway, [*VERBS[verb], str(place), "--config", str(config)])
    assert done.exit_code == 1
    assert "it is a link, a pipe or a device" in " ".join(done.output.split())
    after = os.lstat(place)
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert not (tmp_path / "not-made").exists()
    if (tmp_path / "precious").exists():
        assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_that_is_there_is_replaced_whole_or_written_in_its_place(tmp_path: Path) -> None:
    (place := tmp_path / "there").write_text("what was there before")
    with written(place) as whole:
        whole.write(b"new")
        assert place.read_text() == "what was there before"
    assert place.read_text() == "new"
    with begun(place) as line:
        line.write(b"a line")
        assert place.read_text() == "a line"
