"""The installer stopped half-way, by a full disk, foreign files or a kill: what ran before goes on, and is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.installer.installing import go_back, judge_configuration, own_files, switch
from scripts.installer.place import OWN_FILES, STAMP, Place, ended, stamp_of
from scripts.installer.trust import Failed, read_keys
from tests.test_install import SCRIPTS, Pi


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path / "pi")


def test_what_purging_does_not_reach_is_named(pi: Pi) -> None:
    pi.configure()
    pi.place.configuration.write_text('[site]\nstore = "1"\n[outbox]\ndirectory = "/srv/outbox"\n')
    for folder in ("srv/outbox", "disk/state", "var/lib"):
        (pi.root / folder).mkdir(parents=True)
    pi.place.state.symlink_to(pi.root / "disk/state")
    said = pi.run(SCRIPTS / "uninstall", "--purge").stdout
    assert "Not removed: pi:/srv/outbox" in said
    assert "Not removed: pi:/disk/state" in said


def test_a_release_key_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "release.pub")
    with pytest.raises(Failed, match="no regular file"):
        read_keys(tmp_path / "release.pub")


def test_a_folder_that_is_not_there_and_an_environment_that_is_empty(tmp_path: Path) -> None:
    for script in ("install", "uninstall", "upgrade"):
        words = [sys.executable, str(SCRIPTS / script), "--root", str(tmp_path / "none"), "archive"]
        words = words if script == "upgrade" else words[:-1]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env={})
        assert (done.returncode, "There is no folder" in done.stderr) == (1, True), done.stderr


def test_what_the_machine_refuses_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "opt").touch()
    umask = os.umask(0o022)
    before = signal.getsignal(signal.SIGHUP)
    try:
        assert ended(["x"], lambda _: Place(tmp_path).folder(tmp_path / "opt/gateway")) == 1
    finally:
        os.umask(umask)
        signal.signal(signal.SIGHUP, before)
    assert f"{tmp_path}/opt/gateway: Not a directory." in capsys.readouterr().err


def release_of(pi: Pi, name: str) -> Path:
    """A release as small as can be, with a unit that tells whose it is."""
    release = pi.place.releases / name
    (release / "bin").mkdir(parents=True)
    (release / "bin/gateway").write_text("#!/bin/sh\n")
    for file in (release / "bin/gateway", release, *release.parents):
        if file.is_relative_to(pi.root) and file != pi.root:
            file.chmod(0o755)
    (release / STAMP).write_text(json.dumps({"version": name}))
    (release / "systemd").mkdir()
    for own in OWN_FILES:
        (release / "systemd" / own).write_text(f"# {own} of {name}\n")
    return release


@pytest.mark.parametrize("in_the_way", ["usr/local/bin/gateway", "usr/local/sbin", "etc/gateway"])
def test_an_upgrade_that_cannot_be_put_in_place_changes_nothing(pi: Pi, in_the_way: str) -> None:
    old, new = release_of(pi, "1.0"), release_of(pi, "2.0")
    own_files(pi.place, old / "systemd")
    pi.place.link(pi.place.current, "releases/1.0")
    if in_the_way == "usr/local/bin/gateway":
        pi.place.command.mkdir(parents=True)
    else:
        (pi.root / in_the_way).parent.mkdir(parents=True, exist_ok=True)
        (pi.root / in_the_way).touch()
    source = SimpleNamespace(folder=new, release_key=None)
    with pytest.raises(OSError):
        switch(pi.place, source, new, old)  # type: ignore[arg-type]
    assert os.readlink(pi.place.current) == "releases/1.0"
    assert all((pi.root / to).read_text() == f"# {own} of 1.0\n" for own, to in OWN_FILES.items())


@pytest.mark.parametrize("what", ["folder", "dangling"])
def test_a_configuration_that_is_no_file_is_neither_passed_over_nor_replaced(pi: Pi, what: str) -> None:
    release = release_of(pi, "1.0")
    (release / "bin/gateway").unlink()
    (release / "bin/gateway").symlink_to(Path(sys.executable).with_name("gateway"))
    pi.place.configuration.parent.mkdir(parents=True)
    if what == "folder":
        pi.place.configuration.mkdir()
    else:
        pi.place.configuration.symlink_to(pi.root / "a-disk-that-is-not-mounted.toml")
    with pytest.raises(Failed, match="nothing was switched"):
        judge_configuration(pi.place, release)
    assert not (pi.root / "a-disk-that-is-not-mounted.toml").exists()


def test_going_back_does_all_that_can_be_done(pi: Pi, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = release_of(pi, "1.0"), release_of(pi, "2.0")
    pi.place.link(pi.place.current, "releases/2.0")
    (pi.root / OWN_FILES["gateway.rules"]).mkdir(parents=True)
    go_back(pi.place, old, new)
    assert os.readlink(pi.place.current) == "releases/1.0"
    assert not new.exists()
    assert "could not all be put back" in capsys.readouterr().out


@pytest.mark.parametrize("stamp", ["{", "[]", "{}"])
def test_a_release_whose_note_is_damaged_is_one_without_a_version(pi: Pi, stamp: str) -> None:
    release = release_of(pi, "1.0")
    (release / STAMP).write_text(stamp)
    pi.place.link(pi.place.current, "releases/1.0")
    assert pi.place.release() == release
    assert stamp_of(release).get("version") is None


def test_what_an_interrupted_upgrade_left_goes_with_the_next(pi: Pi, tmp_path: Path) -> None:
    pi.place.release_key.parent.mkdir(parents=True)
    pi.place.release_key.write_text("ssh-ed25519 AAAA")
    left, running = pi.place.opt / ".upgrade-left", pi.place.opt / ".upgrade-now"
    for folder in (left, running):
        (folder / "bundle").mkdir(parents=True)
    os.utime(left, (0, 0))
    done = pi.run(SCRIPTS / "upgrade", str(tmp_path / "none"), systemd=False)
    assert "cannot be unpacked" in done.stderr
    assert (left.exists(), running.exists()) == (False, True)
