"""Who may read what the gateway writes: the real verbs under the widest and the narrowest umask, and all they made.

A file or folder that the table does not name fails the test: say here who may read it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import gateway
from gateway.config import load
from gateway.config.overlay import Ordered, write_ordered
from gateway.control.asking import ask
from gateway.errors import Unavailable
from gateway.machine.disk import RealDisk
from gateway.privacy import DayKeys, Period
from gateway.sensors.shelf.calibration import StoredCalibration
from gateway.technician.calibration_store import CalibrationStore
from tests.daemon import Shop, passages, stop, wait_for
from tests.technician.shelves import SHELF_TOML
from tests.uplink.brokers import free_port

UMASKS = (0o000, 0o077)
WHO_ASKED = -1
"""A file that a person named on the command line: as that person's umask has it."""

MODES: tuple[tuple[str, int], ...] = (
    (r"outbox", 0o750),
    (r"outbox/(door|shelf|beacon|gateway)", 0o750),
    (r"outbox/(door|shelf|beacon|gateway)/\d+-[0-9a-f]+\.json", 0o640),
    (r"outbox/(state\.ack|ballast|control|lock)", 0o640),
    (r"outbox/refused\.jsonl(\.1)?", 0o640),
    (r"outbox/privacy\.key", 0o600),
    (r"outbox\.config\.json", 0o640),
    (r"calibration", 0o750),
    (r"calibration/[a-z0-9-]+\.json(\.previous)?", 0o640),
    (r"outbox[.-][^/]*", 0o750),
    (r"outbox[.-][^/]*/[^/]+", 0o640),
    (r"bundle\.tar\.gz|recorded\.jsonl|wiring\.svg", WHO_ASKED),
)


def look(folder: Path, given: set[str], umask: int) -> list[str]:
    """Return what has another mode than it should, or should not be there."""
    wrong = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in given:
            continue
        wanted = next((mode for pattern, mode in MODES if re.fullmatch(pattern, name)), None)
        mode = path.lstat().st_mode & 0o777
        if wanted is None:
            wrong.append(f"{name} ({mode:04o}) is in no line of the table")
        elif wanted == WHO_ASKED:
            if mode & umask or mode & 0o111:
                wrong.append(f"{name} has {mode:04o} under umask {umask:04o}")
        elif mode != wanted:
            wrong.append(f"{name} has {mode:04o}, not {wanted:04o}")
    return wrong


@pytest.fixture(params=UMASKS, ids=[f"{umask:03o}" for umask in UMASKS])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """This process's umask, which its children inherit."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def invoke(shop: Shop, *words: str | Path) -> Result:
    """Run a verb in this process, under its umask."""
    done = CliRunner().invoke(gateway, [*map(str, words), "--config", str(shop.config)])
    assert done.exit_code in (0, 1), done.output
    return done


def status(shop: Shop) -> dict[str, Any]:
    try:
        return ask(load([shop.config]), "status")
    except Unavailable:
        return {}


def break_one(folder: Path) -> None:
    """Spoil the third passage."""
    (segment,) = (folder / "outbox/door").glob("*.json")
    content = segment.read_bytes()
    at = content.index(b'"in_total":3')
    segment.write_bytes(content[:at] + b'"xn_total":3' + content[at + 12 :])


def test_everything_that_the_verbs_make_has_its_mode(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    folder.chmod(0o755)
    shop = Shop(folder, f"mqtt://127.0.0.1:{free_port()}", SHELF_TOML)
    given = {"gateway.toml", "recording.jsonl"}
    process = shop.run("--recording", shop.recording(passages(6)), "--speed", "max", "--stay")
    wait_for(lambda: status(shop).get("streams", {}).get("door", {}).get("backlog", 0) >= 6, what="six passages")
    assert not look(folder, given, umask), "the daemon"
    invoke(shop, "support-bundle", "--output", folder / "bundle.tar.gz")
    invoke(shop, "record", "--output", folder / "recorded.jsonl", "--for", "0.1s")
    assert stop(process)[0] == 0
    invoke(shop, "wiring", "--svg", folder / "wiring.svg")
    break_one(folder)
    assert invoke(shop, "outbox", "repair", "--yes").exit_code == 0
    write_ordered(shop.outbox, Ordered({"health": {"every": 60}}))
    store = CalibrationStore(shop.outbox, RealDisk())
    for number in (1.0, 2.0):
        store.save("aisle-3", StoredCalibration("calibrate", number, 21.5, "2026-11-22", "a technician"))
    DayKeys(shop.outbox / "privacy.key").key_of(Period("2026-11-22"))
    assert not look(folder, given, umask)
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    for pattern, _ in MODES:
        if "control" not in pattern and "refused" not in pattern:
            assert any(re.fullmatch(pattern, name) for name in made), f"nothing made {pattern}"
    assert os.stat(folder / "outbox/privacy.key").st_mode & 0o077 == 0


# What the installer makes.


def test_what_the_installer_writes_has_its_mode(tmp_path: Path, umask: int) -> None:
    from scripts.installer.installing import configuration, own_files
    from scripts.installer.place import OWN_FILES, Place

    root = Path(__file__).resolve().parents[2]
    (tmp_path / "pi").mkdir()
    place = Place(tmp_path / "pi")
    release = place.releases / "1"
    (release / "bin").mkdir(parents=True)
    command = release / "bin/gateway"
    command.write_text("#!/bin/sh\necho '[site]'\n")
    command.chmod(0o755)
    own_files(place, root / "systemd", hardware_watchdog=True)
    assert configuration(place, release)
    modes = {
        path.relative_to(place.root).as_posix(): path.stat().st_mode & 0o777
        for path in place.root.rglob("*")
        if path.is_file() and release not in path.parents
    }
    assert modes.pop("etc/gateway/gateway.toml") == 0o640
    assert modes, "units and rules"
    assert set(OWN_FILES.values()) <= modes.keys()
    assert set(modes.values()) == {0o644}
    folders = {path for path in place.root.rglob("*") if path.is_dir() and release not in path.parents} - {release}
    for path in folders - {place.releases, place.opt, place.opt.parent}:
        assert path.stat().st_mode & 0o777 in (0o755, 0o750), f"{path} has {path.stat().st_mode & 0o777:04o}"
    assert not configuration(place, release), "one that is there is left alone"


def test_the_unit_and_its_folders_keep_strangers_out() -> None:
    systemd = Path(__file__).resolve().parents[2] / "systemd"
    unit = (systemd / "gateway.service").read_text().splitlines()
    for line in (
        "UMask=0027",
        "StateDirectoryMode=0750",
        "RuntimeDirectoryMode=0750",
        "ConfigurationDirectoryMode=0750",
        "User=gateway",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "WatchdogSec=30",
        "RestartPreventExitStatus=78",
        "LimitCORE=0",
        "MemorySwapMax=0",
    ):
        assert line in unit, line
    folders = {
        fields[1]: fields[2:5]
        for line in (systemd / "gateway.tmpfiles").read_text().splitlines()
        if (fields := line.split()) and not line.startswith("#")
    }
    assert folders["/etc/gateway/gateway.toml"] == ["0640", "root", "gateway"]
    assert folders["/etc/gateway/*.key"] == ["0640", "root", "gateway"]
    assert folders["/etc/gateway/secrets/*"] == ["0600", "root", "root"]
    assert folders["/var/lib/gateway/outbox"] == ["0750", "gateway", "gateway"]
    assert all(mode[0][-1] == "0" for mode in folders.values()), "nothing for everybody"


def test_a_bundle_that_is_not_as_it_was_made_is_not_installed(tmp_path: Path) -> None:
    """The installer itself refuses it, not only the function that looks."""
    from scripts.installer.place import MANIFEST, SUMS, Failed, Place, digest, files_of
    from scripts.installer.source import Source

    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels/a.whl").write_bytes(b"a wheel")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    about = {"version": "0.1.0", "python": python, "machine": os.uname().machine, "extras": "pi"}
    (folder / MANIFEST).write_text(json.dumps(about))
    (folder / SUMS).write_text(
        "".join(f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files_of(folder))
    )
    (tmp_path / "pi").mkdir()
    source = Source(Place(tmp_path / "pi"), folder, sys.executable)
    (folder / "wheels/a.whl").write_bytes(b"a wheeL")
    with pytest.raises(Failed, match="damaged"):
        source.check()
