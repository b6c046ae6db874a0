"""The steps of `scripts/bundle`: every wheel built or fetched, packages that pip has not, the installer, sums."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from .place import HERE, MANIFEST, SUMS, Failed, Place, digest, files_of, say, this_python

EXTRAS = "pi,bthome"
SCRIPTS = ("install", "uninstall")
LGPIO_PACKAGES = ("python3-lgpio", "liblgpio1")


def main(arguments: Sequence[str]) -> int:
    """Make a bundle."""
    parser = argparse.ArgumentParser(prog="bundle", description="Make an offline installer for machines like this one.")
    parser.add_argument("--output", type=Path, default=HERE.parent / "dist", help="folder for the archive")
    parser.add_argument("--source", type=Path, default=HERE.parent, help="the source tree")
    parser.add_argument("--python", default="/usr/bin/python3", help="the Python of the machines it is for")
    parser.add_argument("--extras", default=EXTRAS, help="extras to include (default: %(default)s)")
    parser.add_argument(
        "--wheels-from", type=Path, metavar="BUNDLE", help="take the dependencies of an unpacked bundle"
    )
    options = parser.parse_args(arguments)
    python, machine = this_python(options.python)
    version = str(tomllib.loads((options.source / "pyproject.toml").read_text())["project"]["version"])
    name = f"gateway-{version}-py{python}-{machine}"
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        (folder / "wheels").mkdir(parents=True)
        wheels(options.python, options.source, options.extras, folder / "wheels", options.wheels_from, Path(scratch))
        debs = debian_packages(folder / "debs", python)
        shutil.copytree(options.source / "systemd", folder / "systemd")
        for script in SCRIPTS:
            shutil.copy2(HERE / script, folder / script)
        shutil.copytree(HERE / "installer", folder / "installer", ignore=shutil.ignore_patterns("__pycache__"))
        about = {"version": version, "python": python, "machine": machine, "extras": options.extras, "debs": debs}
        (folder / MANIFEST).write_text(json.dumps(about, indent=1) + "\n")
        lines = [f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files_of(folder)]
        (folder / SUMS).write_text("".join(lines))
        archive = options.output / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(folder, name, filter=without_owner)
    sum_file = archive.with_name(f"{archive.name}.sha256")
    sum_file.write_text(f"{digest(archive)}  {archive.name}\n")
    say(f"{archive}: {archive.stat().st_size >> 20} MiB, {len(lines)} files, for Python {python} on {machine}.")
    say(f"On the Pi: sha256sum --check {sum_file.name} && tar xzf {archive.name} && sudo {name}/install")
    return 0


def wheels(python: str, source: Path, extras: str, into: Path, ready: Path | None, scratch: Path) -> None:
    """Fill `into` with the wheel of the gateway and of all that it needs; nothing is left to compile on the Pi."""
    place = Place()
    tool = scratch / "tool"
    say("Making the wheels.")
    place.run(python, "-m", "venv", tool)
    pip: list[str | Path] = [tool / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    clean = scratch / "source"  # setuptools leaves its traces where it builds
    shutil.copytree(source, clean, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist"))
    if ready is not None:
        for wheel in (ready / "wheels").glob("*.whl"):
            if not wheel.name.startswith("store_gateway-"):
                shutil.copy2(wheel, into / wheel.name)
        place.run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", into, clean)
    else:
        # Bookworm's pip would build bluepy the old way, and lacks the package `wheel` for it.
        place.run(*pip, "wheel", "--quiet", "--use-pep517", "--wheel-dir", into, f"{clean}[{extras}]", "pip")
    unbuilt = [path.name for path in into.iterdir() if path.suffix != ".whl"]
    if unbuilt:
        raise Failed(f"Not built: {', '.join(unbuilt)}.")


def debian_packages(into: Path, python: str) -> list[str]:
    """Fetch the packages that stand in for a wheel that is not there; says so where they cannot be had."""
    if tuple(map(int, python.split("."))) < (3, 13):
        return []
    into.mkdir()
    done = subprocess.run(
        ["apt-get", "download", *LGPIO_PACKAGES], cwd=into, capture_output=True, text=True, check=False
    )
    found = sorted(path.name for path in into.glob("*.deb"))
    if done.returncode or not found:
        say(
            f"Not in the bundle: {', '.join(LGPIO_PACKAGES)} (apt has none here); Raspberry Pi OS brings python3-lgpio."
        )
    return found


def without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make the archive the same whoever packs it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
