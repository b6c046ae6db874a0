"""Install, upgrade, roll back, uninstall: run here into a folder that stands for the machine, without network or root.

The slow ones build a real bundle once and install it with pip's index switched off; a script stands for systemd and
starts and stops the real daemon.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.installer.installing import to_go_back_to
from scripts.installer.place import BILL, CAME_UP, OWN_FILES, STAMP, Place
from scripts.installer.trust import SUMS, Failed, digest, files_of, verify
from tests.uplink.brokers import free_port

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
PYTHON = sys.base_prefix + "/bin/python3"

SYSTEMCTL = """#!/bin/sh
# Stands for systemd: starts and stops what the link names.
echo "$@" >> "{root}/asked"
stop() {{ [ -f "{root}/pid" ] && kill "$(cat "{root}/pid")" 2>/dev/null && for i in $(seq 60); do
    kill -0 "$(cat "{root}/pid")" 2>/dev/null || break; sleep 0.1; done; rm -f "{root}/pid"; }}
case "$1" in
    restart|start) stop; "{root}/opt/gateway/current/bin/gateway" run --simulated \
        --config "{root}/etc/gateway/gateway.toml" >"{root}/log" 2>&1 </dev/null & echo $! >"{root}/pid" ;;
    disable|stop) stop ;;
esac
exit 0
"""


@dataclass
class Pi:
    """A folder that stands for a machine."""

    root: Path

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.place = Place(self.root)
        self.systemctl = self.root / "systemctl"
        self.systemctl.write_text(SYSTEMCTL.format(root=self.root))
        self.systemctl.chmod(0o755)

    def configure(self) -> None:
        self.place.configuration.parent.mkdir(parents=True, exist_ok=True)
        self.place.configuration.write_text(
            f'[site]\nstore = "0042"\n[broker]\nurl = "mqtt://127.0.0.1:{free_port()}"\n'
            f'[outbox]\ndirectory = "{self.place.state}/outbox"\n[[door]]\nid = "entrance"\nbeam_pin = 17\n'
        )

    def run(
        self, script: Path, *arguments: str, systemd: bool = True, umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        asks = ["--systemctl", str(self.systemctl)] if systemd else []
        environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/"}
        command = [sys.executable, str(script), "--root", str(self.root), *asks, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=280, check=False, umask=umask
        )

    def install(
        self, folder: Path, *arguments: str, systemd: bool = True, umask: int = 0o022
    ) -> subprocess.CompletedProcess[str]:
        more = ["--python", PYTHON, "--within", "15", "--steady", "2", *arguments]
        return self.run(folder / "install", *more, systemd=systemd, umask=umask)

    def gateway(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.place.current / "bin/gateway"), *words, "--config", str(self.place.configuration)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def running(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.gateway("status", "--json").stdout)
        return found

    def tree(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*"))

    def kill(self) -> None:
        pid = self.root / "pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.fixture
def pi(tmp_path: Path) -> Iterator[Pi]:
    found = Pi(tmp_path / "pi")
    yield found
    found.kill()


def test_a_dry_run_says_it_all_and_touches_nothing(pi: Pi) -> None:
    before = pi.tree()
    done = pi.run(SCRIPTS / "install", "--dry-run", "--python", PYTHON)
    assert done.returncode == 0, done.stderr
    assert pi.tree() == before
    for word in ("Building release", "gateway.service", "Switching", "gateway.toml", "dry run"):
        assert word in done.stdout
    done = pi.run(SCRIPTS / "uninstall", "--dry-run", "--purge")
    assert (done.returncode, pi.tree()) == (0, before)


def test_the_installer_runs_where_nothing_is_installed() -> None:
    """Only the standard library, and nothing of ours: isolated from the environment's packages."""
    for script in ("install", "uninstall", "bundle"):
        done = subprocess.run([PYTHON, "-S", "-E", SCRIPTS / script, "--help"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_this_machine_is_for_root_alone() -> None:
    if os.geteuid() == 0:
        pytest.skip("root may")
    done = subprocess.run([PYTHON, SCRIPTS / "install"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "sudo" in done.stderr


def test_the_link_is_switched_at_once(pi: Pi) -> None:
    place = pi.place
    place.releases.mkdir(parents=True)
    for name in ("1", "2"):
        place.link(place.current, f"releases/{name}")
        assert os.readlink(place.current) == f"releases/{name}"
    assert [path.name for path in place.opt.iterdir() if path.name.startswith(".")] == []
    assert place.release() is None, "a release without its stamp was never finished"


def test_what_is_gone_back_to_after_an_interrupted_upgrade(pi: Pi) -> None:
    old, new, unfinished = (pi.place.releases / name for name in ("1", "2", "3"))
    for number, release in enumerate((old, new)):
        release.mkdir(parents=True)
        (release / STAMP).write_text("{}")
        os.utime(release / STAMP, (number, number))
    unfinished.mkdir()
    assert to_go_back_to(pi.place, new, old) == old
    assert to_go_back_to(pi.place, new, None) is None, "the first install"
    assert to_go_back_to(pi.place, new, new) == old, "switched to, and never asked"
    (new / CAME_UP).touch()
    assert to_go_back_to(pi.place, new, new) is None, "it ran before: a rerun changes nothing about it"


def packed(folder: Path) -> Path:
    """A bundle of two files, with its sums."""
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels/a.whl").write_bytes(b"a wheel")
    (folder / "bundle.json").write_text("{}")
    sums = "".join(f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files_of(folder))
    (folder / SUMS).write_text(sums)
    return folder


def test_a_whole_bundle_is_taken(tmp_path: Path) -> None:
    assert verify(packed(tmp_path / "bundle")) == 2


@pytest.mark.parametrize("how", ["damaged", "missing", "is not in the list", "has no list"])
def test_a_bundle_that_is_not_as_it_was_made_is_refused(tmp_path: Path, how: str) -> None:
    bundle = packed(tmp_path / "bundle")
    if how == "damaged":
        (bundle / "wheels/a.whl").write_bytes(b"a wheeL")
    elif how == "missing":
        (bundle / "wheels/a.whl").unlink()
    elif how == "is not in the list":
        (bundle / "wheels/evil.whl").write_bytes(b"")
    else:
        (bundle / SUMS).unlink()
    with pytest.raises(Failed, match=how):
        verify(bundle)


def test_uninstalling_keeps_what_was_recorded_unless_told_otherwise(pi: Pi) -> None:
    pi.configure()
    outbox = pi.place.state / "outbox/state.ack"
    outbox.parent.mkdir(parents=True)
    outbox.write_text("recorded")
    (pi.place.releases / "1").mkdir(parents=True)
    unit = pi.root / "etc/systemd/system/gateway.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    done = pi.run(SCRIPTS / "uninstall")
    assert done.returncode == 0, done.stderr
    assert outbox.read_text() == "recorded"
    assert pi.place.configuration.is_file()
    assert not pi.place.opt.exists()
    assert not unit.exists()
    assert "disable --now gateway.service" in (pi.root / "asked").read_text()
    (pi.root / "precious").mkdir()
    (pi.root / "precious/file").touch()
    (pi.place.state / "outbox/planted").symlink_to(pi.root / "precious")
    pi.run(SCRIPTS / "uninstall", "--purge")
    assert (pi.root / "precious/file").exists(), "a link that the service's user planted is removed, not followed"
    assert not pi.place.state.exists()
    assert not pi.place.configuration.exists()


# With a real bundle.


def changed_tree(folder: Path, version: str, **replaced: tuple[str, str]) -> Path:
    """The source tree as another version; `replaced` maps a module of the package to (text, its replacement)."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tests")
    shutil.copytree(ROOT, folder, ignore=ignored)
    for name, old, new in (
        ("pyproject.toml", 'version = "0.1.0"', f'version = "{version}"'),
        ("gateway/__init__.py", "0.1.0", version),
        *((f"gateway/daemon/{module}.py", *texts) for module, texts in replaced.items()),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
    return folder


def make_bundle(folder: Path, source: Path, wheels_from: Path | None = None) -> Path:
    more = ["--wheels-from", str(wheels_from)] if wheels_from else []
    where = ["--python", PYTHON, "--output", str(folder), "--source", str(source)]
    command = [sys.executable, str(SCRIPTS / "bundle"), *where, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        pytest.skip(f"no bundle can be made here: {done.stderr.strip()[-300:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as found:
        found.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), ROOT)


def installed(release: Path) -> set[tuple[str, str]]:
    """Return names and versions of what a release consists of, as its own Python sees it."""
    code = (
        "import importlib.metadata, sys\n"
        "for one in importlib.metadata.distributions(path=[p for p in sys.path if p.startswith(sys.prefix)]):\n"
        "    print(one.metadata['Name'].lower().replace('_', '-').replace('.', '-'), one.version)"
    )
    said = subprocess.run([release / "bin/python", "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    return {(line.split()[0], line.split()[1]) for line in said.splitlines()}


def described(bill: Path) -> set[tuple[str, str]]:
    """Return names and versions of an SBOM's components, without the distribution's packages."""
    found = json.loads(bill.read_text())
    assert (found["bomFormat"], found["specVersion"] >= "1.5") == ("CycloneDX", True)
    components = [one for one in found["components"] if not one["purl"].startswith("pkg:deb/")]
    return {(one["name"].lower().replace("_", "-").replace(".", "-"), one["version"]) for one in components}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("umask", [0o077, 0o027], ids=oct)
def test_a_release_is_what_its_bill_of_materials_says_and_others_can_run_it(
    pi: Pi, bundle: Path, tmp_path: Path, umask: int
) -> None:
    done = pi.install(bundle, umask=umask)
    assert done.returncode == 0, done.stderr
    release = pi.place.current.resolve()
    assert installed(release) == described(release / BILL) == described(bundle / BILL)
    assert ("store-gateway", "0.1.0") in installed(release)
    locks = {canonical for canonical, _ in installed(release)} - {"store-gateway"}
    locked = {line.split("==")[0] for line in (ROOT / "locks/gateway.txt").read_text().splitlines() if "==" in line}
    assert locks <= locked, "nothing is installed that is not locked"
    closed = [path for path in release.rglob("*") if not path.is_symlink() and not path.stat().st_mode & 0o004]
    assert closed == []
    writable = [path for path in release.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert writable == []
    own = [pi.root / to for to in OWN_FILES.values()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in own} == {0o644}
    assert stat.S_IMODE(pi.place.configuration.stat().st_mode) == 0o640
    assert (pi.place.upgrade).resolve() == release / "scripts/upgrade"
    if os.geteuid() == 0 and all(folder.stat().st_mode & 1 for folder in Path(PYTHON).resolve().parents):
        with tempfile.TemporaryDirectory() as reachable:  # pytest's own folders are root's alone
            Path(reachable).chmod(0o755)
            moved = Path(reachable) / "pi"
            shutil.copytree(pi.root, moved, symlinks=True)
            program = moved / release.relative_to(pi.root) / "bin/python"
            words: list[str | Path] = [program, "-c", "import gateway; print(gateway.__version__)"]
            done = subprocess.run(words, capture_output=True, text=True, cwd="/", user=65534, group=65534, check=False)
            assert (done.stdout.strip(), done.stderr) == ("0.1.0", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_life_from_a_bundle_without_network(pi: Pi, bundle: Path, tmp_path: Path) -> None:
    place = pi.place

    # The first time: a configuration to fill in, nothing started.
    done = pi.install(bundle)
    assert done.returncode == 0, done.stderr
    assert "Fill in" in done.stdout
    assert "The doctor says" in done.stdout
    assert "restart" not in (pi.root / "asked").read_text()
    assert os.readlink(place.current) == "releases/0.1.0"
    unit = (pi.root / "etc/systemd/system/gateway.service").read_text()
    assert "ExecStart=/opt/gateway/current/bin/gateway run" in unit
    assert (place.current / "bin/gateway").is_file()
    shebang = (place.current / "bin/gateway").read_text().splitlines()[0]
    assert "/releases/0.1.0/bin/python" in shebang, "a daemon that runs stays in its release when the link moves"
    subprocess.run([place.current / "bin/python", "-c", "import gateway, bluepy"], cwd="/", check=True)

    # Again, filled in: nothing is built, the daemon runs.
    pi.configure()
    done = pi.install(bundle)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "already installed" in done.stdout
    assert "Building" not in done.stdout
    assert pi.running()["version"] == "0.1.0"

    # An upgrade, beside the old one.
    newer = make_bundle(tmp_path / "newer", changed_tree(tmp_path / "tree2", "0.2.0"), bundle)
    done = pi.install(newer)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Version 0.2.0 runs." in done.stdout
    assert pi.running()["version"] == "0.2.0"
    assert sorted(path.name for path in place.releases.iterdir()) == ["0.1.0", "0.2.0"]

    # One that does not come up is taken back, its unit with it, and nothing recorded is lost.
    recorded = pi.running()["streams"]
    unit_before = (pi.root / "etc/systemd/system/gateway.service").read_text()
    bad = changed_tree(
        tmp_path / "tree3", "0.3.0", service=("import logging\n", "import logging\nimport nowhere_at_all\n")
    )
    (bad / "systemd/gateway.service").write_text(unit_before + "# of 0.3.0\n")
    done = pi.install(make_bundle(tmp_path / "bad", bad, bundle))
    assert done.returncode == 1
    assert "Going back to 0.2.0" in done.stdout
    assert "The old version 0.2.0 runs again." in done.stdout
    assert (pi.root / "etc/systemd/system/gateway.service").read_text() == unit_before
    found = pi.running()
    assert (found["running"], found["version"]) == (True, "0.2.0")
    assert found["streams"]["gateway"]["recorded_through"] > recorded["gateway"]["recorded_through"]  # type: ignore[index]
    assert sorted(path.name for path in place.releases.iterdir()) == ["0.1.0", "0.2.0"]

    # A configuration that the new one refuses stops the upgrade before anything is switched.
    good = place.configuration.read_text()
    place.configuration.write_text(good + "\n[nonsense]\nx = 1\n")
    done = pi.install(bundle)
    assert done.returncode == 1
    assert "does not take" in done.stderr
    assert os.readlink(place.current) == "releases/0.2.0"
    place.configuration.write_text(good)

    # A damaged bundle is not used.
    spoiled = tmp_path / "spoiled"
    shutil.copytree(newer, spoiled)
    next((spoiled / "wheels").glob("store_gateway-*.whl")).write_bytes(b"")
    done = pi.install(spoiled)
    assert done.returncode == 1
    assert "damaged" in done.stderr

    # Off again: the daemon is stopped, the outbox stays.
    assert pi.run(SCRIPTS / "uninstall").returncode == 0
    assert not place.opt.exists()
    assert (place.state / "outbox/state.ack").is_file()
    assert not (pi.root / "pid").exists()
