"""What `install`, `uninstall` and `bundle` share: where things lie, plain words, and what systemd is asked.

Only the standard library: it runs on a machine where nothing is installed yet, from the source tree or from a bundle.
Law: everything that is done to the machine is said in a sentence first; with `dry_run` it is only said. With a `root`
other than `/` nothing outside it is touched: no packages, no user, and no systemd but one that is named.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .trust import PUBLIC_KEY, SUMS, Failed, digest, files_of, verify

__all__ = ["SUMS", "Failed", "Place", "digest", "files_of", "verify"]

HERE = Path(__file__).resolve().parent.parent
"""Where the scripts lie: `scripts/` of the source tree, or the top of a bundle."""
PYTHON_LEAST = (3, 11)
LAST_WORDS = 12
"""Lines: why a wheel does not compile stands above what pip makes of it."""
STAMP = "installed.json"
"""Written last into a release: one without it was never finished."""
CAME_UP = "came-up"
"""Written into a release when its daemon has answered after the switch."""
MANIFEST = "bundle.json"
BILL = "sbom.cdx.json"
"""What a release consists of (CycloneDX), in each bundle and in each release."""
FOLDER_MODE, FILE_MODE, PROGRAM_MODE = 0o755, 0o644, 0o755
UMASK = 0o022
SERVICE_USER = "gateway"

OWN_FILES = {
    "gateway.service": "etc/systemd/system/gateway.service",
    "gateway.sysusers": "usr/lib/sysusers.d/gateway.conf",
    "gateway.tmpfiles": "usr/lib/tmpfiles.d/gateway.conf",
    "gateway.rules": "usr/lib/udev/rules.d/60-gateway.rules",
}
KERNEL_CLOCK = "etc/systemd/system/gateway.service.d/kernel-clock.conf"
HARDWARE_WATCHDOG = "etc/systemd/system.conf.d/gateway-watchdog.conf"
OTHER_TIME_SERVICES = ("usr/sbin/chronyd", "usr/sbin/ntpd")


def say(words: str) -> None:
    """Tell the person who installs; one who went away (a lost ssh) stops nothing half-way."""
    with suppress(BrokenPipeError):
        print(words, flush=True)


@dataclass(frozen=True)
class Place:
    """A machine, or a folder that stands for one, and where the gateway lies on it."""

    root: Path = Path("/")
    dry_run: bool = False
    systemctl: str = ""

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise Failed(f"There is no folder {self.root}. Nothing was done.")

    @property
    def is_this_machine(self) -> bool:
        return self.root == Path("/")

    @property
    def opt(self) -> Path:
        return self.root / "opt/gateway"

    @property
    def releases(self) -> Path:
        return self.opt / "releases"

    @property
    def current(self) -> Path:
        """The link that says which release runs."""
        return self.opt / "current"

    @property
    def command(self) -> Path:
        return self.root / "usr/local/bin/gateway"

    @property
    def configuration(self) -> Path:
        return self.root / "etc/gateway/gateway.toml"

    @property
    def state(self) -> Path:
        """Outbox, calibrations, keys."""
        return self.root / "var/lib/gateway"

    @property
    def upgrade(self) -> Path:
        """The command that takes signed archives."""
        return self.root / "usr/local/sbin/gateway-upgrade"

    @property
    def release_key(self) -> Path:
        """The public keys that may sign a bundle for this device."""
        return self.root / "etc/gateway" / PUBLIC_KEY

    def release(self) -> Path | None:
        """Return the release that `current` names, None where nothing is installed."""
        found = self.releases / os.readlink(self.current).rpartition("/")[2] if self.current.is_symlink() else None
        return found if found is not None and (found / STAMP).is_file() else None

    def shown(self, path: Path) -> str:
        """Write a path as it is on the machine."""
        return str(path) if self.is_this_machine else f"{self.root.name}:/{os.path.relpath(path, self.root)}"

    def run(
        self, *command: str | Path, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program quietly; raises Failed with its last words. Not for a dry run.

        From `/` and without Python's variables: whoever owns the current folder has no part in what root runs.
        """
        words = [str(word) for word in command]
        given = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, errors="replace", check=False, cwd=cwd or "/", env=given
            )
        except OSError as error:
            raise Failed(f"{words[0]} cannot be run: {error.strerror}.") from None
        if check and done.returncode:
            last = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-LAST_WORDS:])
            raise Failed(f"{shlex.join(words)} ended with {done.returncode}:\n  {last}")
        return done

    def systemd(self) -> list[str] | None:
        """Return how systemd is asked here, None where there is none to ask."""
        if self.systemctl:
            return shlex.split(self.systemctl)
        here = self.is_this_machine and Path("/run/systemd/system").is_dir() and shutil.which("systemctl")
        return ["systemctl"] if here else None

    def ask_systemd(self, *words: str, check: bool = False) -> bool:
        """Ask systemd for something; True where it did it, False where it did not or is not here."""
        command = self.systemd()
        if command is None or self.dry_run:
            return False
        return self.run(*command, *words, check=check).returncode == 0

    def write(self, path: Path, content: bytes, mode: int = 0o644) -> bool:
        """Put a file in place at once, whole; True where it differed."""
        if path.is_file() and path.read_bytes() == content:
            return False
        say(f"{'Changing' if path.exists() else 'Writing'} {self.shown(path)}.")
        if not self.dry_run:
            # The entry script has seen to it that this is the bundle's own.
            from gateway.machine.safe_files import opened

            self.folder(path.parent)
            with opened(path.parent) as folder:
                folder.write(path.name, content, mode)
        return True

    def folder(self, path: Path) -> None:
        """Make a folder and what leads to it, open to all whatever the umask; those of ours are made so again."""
        for there in reversed((path, *path.parents)):
            if not there.is_relative_to(self.root) or there == self.root:
                continue
            with suppress(FileExistsError):
                there.mkdir(mode=FOLDER_MODE)
                there.chmod(FOLDER_MODE)
            if there.is_relative_to(self.opt) and not there.is_symlink():
                there.chmod(FOLDER_MODE)

    def link(self, path: Path, to: str | Path) -> None:
        """Point a link elsewhere in one step: at each moment it leads to the old place or the new one."""
        if self.dry_run:
            return
        self.folder(path.parent)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(to)
        os.replace(fresh, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def clear(self, path: Path) -> None:
        """Have nothing under a name of ours, whatever it was; a link goes itself, not what it leads to."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def remove(self, path: Path) -> None:
        """Take a file, a link or a folder away; one that is not there is no error."""
        if not path.exists() and not path.is_symlink():
            return
        say(f"Removing {self.shown(path)}.")
        if self.dry_run:
            return
        self.clear(path)


def stamp_of(release: Path) -> dict[str, Any]:
    """Return what a release says of itself (`version`, `fingerprint`); nothing where that cannot be used."""
    try:
        found = json.loads((release / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def in_words(error: Exception) -> str:
    """Say what failed; of a system call also with which file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename2 or error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


def state_of(release: Path, configuration: Path) -> dict[str, Any] | None:
    """Ask the running daemon through a release's own command; None where none answers."""
    command = [str(release / "bin/gateway"), "status", "--json", "--config", str(configuration)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return found if found.get("running") else None


def comes_up(release: Path, configuration: Path, version: str, within_s: float, steady_s: float) -> str:
    """Wait until the daemon of this version answers, and still does `steady_s` later; return "" or what was wrong."""
    until = time.monotonic() + within_s
    found: dict[str, Any] | None = None
    while time.monotonic() < until:
        found = state_of(release, configuration)
        if found is not None and found.get("version") == version:
            break
        time.sleep(0.5)
    else:
        if found is None:
            return f"it did not answer within {within_s:g} s"
        return f"version {found.get('version')} answers, not {version}"
    boot_ms = found.get("uptime_ms", 0)
    time.sleep(steady_s)
    again = state_of(release, configuration)
    if again is None or again.get("version") != version or again.get("uptime_ms", 0) < boot_ms:
        return f"it answered once, and {steady_s:g} s later no more"
    epochs = {found.get("outbox", {}).get("epoch"), again.get("outbox", {}).get("epoch")}
    return "" if len(epochs) == 1 else f"it restarted by itself within {steady_s:g} s"


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """Return what a bundle is for (`version`, `python`, `machine`); None in the source tree."""
    path = folder / MANIFEST
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def absolute(python: str) -> str:
    """Return a program's name as it is found from any folder; links of a virtual environment stay."""
    return os.path.abspath(python) if "/" in python else python


def this_python(python: str) -> tuple[str, str]:
    """Return the version ("3.11") and machine ("aarch64", "armv7l") of an interpreter; raises Failed if too old."""
    code = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sysconfig.get_platform().split('-', 1)[1])"
    try:
        said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        raise Failed(f"{python} does not run; name a Python with --python.") from None
    if tuple(map(int, said[0].split("."))) < PYTHON_LEAST:
        raise Failed(f"{python} is Python {said[0]}; 3.11 or newer is needed (Raspberry Pi OS Bookworm or newer).")
    return said[0], said[1]


def open_modes(folder: Path) -> None:
    """Let everybody read a release, and run its programs; only its owner may write. Links are left alone."""
    folder.chmod(FOLDER_MODE)
    for place, folders, names in os.walk(folder):
        for path in (Path(place, name) for name in folders):
            if not path.is_symlink():
                path.chmod(FOLDER_MODE)
        for path in (Path(place, name) for name in names):
            if not path.is_symlink():
                path.chmod(PROGRAM_MODE if path.stat().st_mode & 0o111 else FILE_MODE)


def closed_to_others(path: Path, root: Path) -> Path | None:
    """Return the first folder or file on the way from `root` to a program that not everybody may pass, or None."""
    way = [there for there in reversed((path, *path.parents)) if there.is_relative_to(root) and there != root]
    return next((there for there in way if not there.stat().st_mode & 0o001), None)


def ended(main: Sequence[str], function: Any) -> int:
    """Run a script's `function(arguments)`; what fails is said in words. Returns the exit status."""
    os.umask(UMASK)  # the service's user must read and run what root's own umask would close
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a lost ssh must not leave an upgrade half-way
    try:
        return int(function(main))
    except Failed as failed:
        print(f"{failed}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"It cannot go on: {in_words(error)} When that is mended, run it again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What is half done is taken up again by the next run.", file=sys.stderr)
        return 130
