"""The product's own offline installers, made by `scripts/bundle`, and the disk of tools that every machine has on /lab.

Three releases of one source tree: the one at hand, a newer one that differs by its version, and a newer one whose
daemon ends as soon as it is started. The wheels of the dependencies are fetched once and shared.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.cache import HERE, ROOT, Artefact, Missing, key_of
from tests.lab.system import module, write_image

PYTHON = "/usr/bin/python3"
TOOLS_SIZE = "160M"
PRODUCT = (
    "gateway",
    "scripts/installer",
    "scripts/install",
    "scripts/uninstall",
    "scripts/upgrade",
    "systemd",
    "locks",
    "pyproject.toml",
)
KEPT = "LAB_KEPT"
"""This variable names the key of a disk of tools to go on with, however the product has changed since."""
NOT_COPIED = (".*", "__pycache__", "*.egg-info", "build", "dist", "tests")


def as_it_is(source: Path) -> None:
    """Leave the source tree alone."""


def newer(source: Path) -> None:
    """Count the version up."""
    raise_version(source, 1)


def broken(source: Path) -> None:
    """Count the version up, and let the daemon die before it has said anything."""
    raise_version(source, 2)
    service = source / "gateway/daemon/service.py"
    text = service.read_text()
    begin = "    require_broker(configuration)\n    service = "
    assert begin in text
    service.write_text(text.replace(begin, '    raise RuntimeError("a bad release")\n' + begin))


def raise_version(source: Path, by: int) -> None:
    """Add to the last number of the version, where it is written."""
    for name, pattern in (("pyproject.toml", r'^version = "(.*)\.(\d+)"$'), ("gateway/__init__.py", r'"(.*)\.(\d+)"$')):
        path = source / name
        lines = path.read_text().splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if "version" in line and re.search(pattern, line))
        lines[at] = re.sub(r"\.(\d+)\"", lambda found: f'.{int(found[1]) + by}"', lines[at])
        path.write_text("".join(lines))


@dataclass(frozen=True, slots=True)
class Release:
    """A release of the product: its name on /lab, and what is done to the source tree for it."""

    name: str
    change: Callable[[Path], None]


RELEASES = (Release("current", as_it_is), Release("newer", newer), Release("broken", broken))


def bundle(*arguments: str | Path) -> None:
    """Run the product's own `scripts/bundle`."""
    command = ["nice", "-n", "5", PYTHON, str(ROOT / "scripts/bundle"), "--python", PYTHON, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-6:]
        raise Missing("\n  ".join(("scripts/bundle could not make the installer:", *last)))


def dependencies() -> Artefact:
    """An unpacked bundle, whose wheels the others take."""

    def build(path: Path) -> None:
        with TemporaryDirectory(prefix="bundle-") as scratch:
            bundle("--output", scratch)
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as packed:
                packed.extractall(scratch, filter="data")
            shutil.move(next(one for one in Path(scratch).iterdir() if one.is_dir()), path)

    return Artefact("wheels", key_of(ROOT / "locks"), "", build, "the wheels of the dependencies")


def tools(root: Path) -> Artefact:
    """The image on /lab: the product's bundles, the kernel's module, and what runs inside for the tests."""

    def build(path: Path) -> None:
        wheels = dependencies().get()
        gpio = module(root).get()
        with TemporaryDirectory(prefix="tools-") as scratch:
            place = Path(scratch) / "lab"
            shutil.copytree(HERE / "guest", place / "guest", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy2(gpio, place / "gpio-sim.ko")
            (place / "bundles").mkdir()
            for release in RELEASES:
                source = Path(scratch) / release.name
                shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_COPIED))
                release.change(source)
                bundle("--output", Path(scratch) / "out", "--source", source, "--wheels-from", wheels)
                made = next((Path(scratch) / "out").glob("*.tar.gz"))
                made.rename(place / "bundles" / f"{release.name}.tar.gz")
            write_image(place, path, TOOLS_SIZE)

    product = [ROOT / name for name in PRODUCT]
    key = os.environ.get(KEPT) or key_of(HERE / "guest", Path(__file__), module(root).key, dependencies().key, *product)
    return Artefact("tools", key, ".img", build, "the product's bundles and the disk of tools")
