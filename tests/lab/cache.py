"""Where the lab keeps what it built, and what it needs to build: all of it in one folder, safe to delete.

Law: what is built is kept under a key of all that decides what it holds, so nothing stale is ever used. What is missing
is said in sentences, before anything is begun.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FREE_LEAST_BYTES = 6 << 30
TEMPORARY = ("vm", "disk", "unfinished")
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
}
"""What running needs, and the Debian package that has it."""
BUILDERS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
    "make": "make",
    "xz": "xz-utils",
}
"""What building needs beside that."""


class Missing(Exception):
    """The lab cannot be built or run here; the message says why and what to do."""


def folder() -> Path:
    """Return the folder of the lab; short, for the names of sockets lie below it."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "gateway-lab"


def say(words: str) -> None:
    """Tell the person who waits."""
    print(words, file=sys.stderr, flush=True)


def missing(programs: Iterable[str]) -> list[str]:
    """Return those programs that are not here."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return [name for name in programs if shutil.which(name, path=path) is None]


def why_not_to_run() -> str:
    """Return why no machine can run here, "" where one can."""
    absent = missing(PROGRAMS)
    if absent:
        packages = " ".join(dict.fromkeys(PROGRAMS[name] for name in absent))
        return f"{', '.join(absent)} not found. On Debian: apt install {packages}"
    return ""


def why_not_to_build() -> str:
    """Return why the lab cannot be built here, "" where it can."""
    if os.uname().machine != "x86_64":
        return f"The lab's machine is an x86-64 one, built by a host of its kind; here is {os.uname().machine}."
    if os.geteuid() != 0:
        return "Building the lab needs root (a chroot, and files of other owners): sudo scripts/lab build"
    absent = missing((*PROGRAMS, *BUILDERS))
    if absent:
        packages = " ".join(dict.fromkeys({**PROGRAMS, **BUILDERS}[name] for name in absent))
        return f"{', '.join(absent)} not found. On Debian: apt install {packages}"
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if "VERSION_CODENAME=bookworm" not in release:
        return "The lab is built on Debian bookworm: its Python makes the bundle, its apt has the kernel's source."
    folder().mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder()).free
    if free_bytes < FREE_LEAST_BYTES:
        return f"{folder()} has {free_bytes >> 20} MiB free; the lab needs {FREE_LEAST_BYTES >> 20} MiB."
    return ""


def key_of(*parts: str | Path) -> str:
    """Return a short key of texts, files, and all files below folders."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode() + b"\0")
            continue
        files = [part] if part.is_file() else sorted(path for path in part.rglob("*") if path.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(part.parent)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Artefact:
    """Something built: `name-key` with `suffix` in the lab's folder, made by `build(path)` where it is not there."""

    name: str
    key: str
    suffix: str
    build: Callable[[Path], None]
    about: str

    @property
    def path(self) -> Path:
        return folder() / f"{self.name}-{self.key}{self.suffix}"

    @property
    def is_there(self) -> bool:
        return self.path.exists()

    def get(self) -> Path:
        """Return its place, built where it is not there; what it replaces is deleted. Says how long it took."""
        if not self.is_there:
            say(f"Building {self.about}.")
            began_s = time.monotonic()
            with self._unfinished() as place:
                self.build(place)
            say(f"Built {self.path.name}: {time.monotonic() - began_s:.0f} s, {size_of(self.path) >> 20} MiB.")
        return self.path

    @contextmanager
    def _unfinished(self) -> Iterator[Path]:
        """Give a place to build in; only what was finished gets the name, and then the old ones go."""
        place = folder() / f"unfinished-{os.getpid()}-{self.name}{self.suffix}"
        remove(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield place
            for old in folder().glob(f"{self.name}-{'?' * len(self.key)}{self.suffix}"):
                remove(old)
            place.rename(self.path)
        finally:
            remove(place)


def own_folder(kind: str) -> Path:
    """Make a folder for as long as this process needs it; `sweep` takes it if the process could not."""
    folder().mkdir(parents=True, exist_ok=True)
    return Path(mkdtemp(prefix=f"{kind}-{os.getpid()}-", dir=folder()))


def sweep() -> None:
    """Take away what processes left that were killed."""
    for kind in TEMPORARY:
        for path in folder().glob(f"{kind}-*"):
            pid = re.search(r"-(\d+)", path.name)
            if pid is None or not Path(f"/proc/{pid[1]}").exists():
                remove(path)


def remove(path: Path) -> None:
    """Take a file or a folder away, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Return the bytes that a file or a folder takes on the disk."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(one.lstat().st_blocks * 512 for one in paths)
