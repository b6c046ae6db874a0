"""The steps of `scripts/bundle`: every wheel built or fetched, packages that pip has not, the installer, sums.

Law: what is fetched has the hashes of the locks, and what is installed is described (CycloneDX) and signed.
"""

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

from .place import BILL, HERE, MANIFEST, Place, absolute, open_modes, say, this_python
from .trust import PUBLIC_KEY, SUMS, Failed, digest, files_of, public_key_of, sign, verify

EXTRAS = "pi,bthome"
"""What is installed beside the core; scripts/lock locks these."""
SCRIPTS = ("install", "uninstall", "upgrade")
OURS = ("__init__.py", "machine/__init__.py", "machine/bounded.py", "machine/safe_files.py")
"""Modules of the gateway that the installer uses too."""
LOCK, TOOLS_LOCK = "locks/gateway.txt", "locks/tools.txt"
TRACES = (".*", "__pycache__", "*.egg-info", "build", "dist", "tests")
LGPIO_PACKAGES = ("python3-lgpio", "liblgpio1")


def main(arguments: Sequence[str]) -> int:
    """Make a bundle."""
    parser = argparse.ArgumentParser(prog="bundle", description="Make an offline installer for machines like this one.")
    parser.add_argument("--output", type=Path, default=HERE.parent / "dist", help="folder for the archive")
    parser.add_argument("--source", type=Path, default=HERE.parent, help="the source tree")
    parser.add_argument("--python", default="/usr/bin/python3", help="the Python of the machines it is for")
    parser.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign with this SSH key (Ed25519), or the agent's (.pub)"
    )
    parser.add_argument(
        "--wheels-from", type=Path, metavar="BUNDLE", help="take the dependencies of an unpacked bundle"
    )
    options = parser.parse_args(arguments)
    key = options.sign.resolve() if options.sign is not None else None
    interpreter = absolute(options.python)
    python, machine = this_python(interpreter)
    version = version_of(options.source)
    name = f"gateway-{version}-py{python}-{machine}"
    options.output.mkdir(parents=True, exist_ok=True)
    ready = options.wheels_from.resolve() if options.wheels_from is not None else None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        count = fill(folder, options.source.resolve(), interpreter, Path(scratch), ready=ready, key=key)
        archive = options.output / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(folder, name, filter=without_owner)
    sum_file = archive.with_name(f"{archive.name}.sha256")
    sum_file.write_text(f"{digest(archive)}  {archive.name}\n")
    say(f"{archive}: {archive.stat().st_size >> 20} MiB, {count} files, for Python {python} on {machine}.")
    if key is None:
        say("It is not signed (--sign KEY): a device that has a release key will not take it.")
    say(f"On a new Pi: sha256sum --check {sum_file.name} && tar xzf {archive.name} && sudo {name}/install")
    say(f"On one that has the gateway and a release key: sudo gateway-upgrade {archive.name}")
    return 0


def version_of(source: Path) -> str:
    """Return the version of a source tree."""
    return str(tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"])


def fill(
    folder: Path, source: Path, interpreter: str, scratch: Path, *, ready: Path | None = None, key: Path | None = None
) -> int:
    """Fill `folder` with an unpacked bundle of a source tree; return of how many files. Raises Failed."""
    python, machine = this_python(interpreter)
    (folder / "wheels").mkdir(parents=True)
    tool = wheels(interpreter, source, folder / "wheels", ready, scratch)
    debs = debian_packages(folder / "debs", python)
    about = {"version": version_of(source), "python": python, "machine": machine, "extras": EXTRAS, "debs": debs}
    (folder / MANIFEST).write_text(json.dumps(about, indent=1) + "\n")
    bill_of_materials(interpreter, tool, folder, scratch / "described")
    copy_installer(source, folder)
    shutil.copytree(source / "systemd", folder / "systemd")
    if key is not None:
        (folder / PUBLIC_KEY).write_text(public_key_of(key))
    open_modes(folder)
    lines = [f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files_of(folder)]
    (folder / SUMS).write_text("".join(lines))
    if key is not None:
        sign(folder, key)
    return len(lines)


def copy_installer(source: Path, into: Path) -> None:
    """Copy the scripts of an installation, with what they need of the gateway."""
    into.mkdir(exist_ok=True)
    for script in SCRIPTS:
        shutil.copy2(HERE / script, into / script)
    shutil.copytree(HERE / "installer", into / "installer", ignore=shutil.ignore_patterns("__pycache__"))
    (into / "gateway/machine").mkdir(parents=True)
    for module in OURS:
        shutil.copy2(source / "gateway" / module, into / "gateway" / module)


def wheels(interpreter: str, source: Path, into: Path, ready: Path | None, scratch: Path) -> Path:
    """Fill `into` with the wheel of the gateway and of all that it needs; nothing is left to compile on the Pi.

    What is fetched must have the hashes of the locks, what builds it too. Returns the Python that has the tools.
    """
    place = Place()
    say("Making the wheels.")
    place.run(interpreter, "-I", "-m", "venv", scratch / "tool")
    tool = scratch / "tool/bin/python"
    pip: list[str | Path] = [tool, "-I", "-m", "pip", "--disable-pip-version-check"]
    locked: list[str | Path] = ["--no-deps", "--require-hashes", "--requirement"]
    place.run(*pip, "wheel", "--quiet", *locked, source / TOOLS_LOCK, "--wheel-dir", scratch / "tools")
    place.run(*pip, "install", "--quiet", "--no-deps", "--no-index", *sorted((scratch / "tools").glob("*.whl")))
    clean = scratch / "source"  # setuptools leaves its traces where it builds
    shutil.copytree(source, clean, ignore=shutil.ignore_patterns(*TRACES))
    build: list[str | Path] = [*pip, "wheel", "--quiet", "--no-build-isolation", "--wheel-dir", into]
    if ready is not None:
        verify(ready)
        for wheel in (ready / "wheels").glob("*.whl"):
            if not wheel.name.startswith("store_gateway-"):
                shutil.copy2(wheel, into / wheel.name)
    else:
        # Bookworm's pip would build bluepy the old way without this.
        place.run(*build, "--use-pep517", *locked, source / LOCK)
        for wheel in (scratch / "tools").glob("pip-*.whl"):
            shutil.copy2(wheel, into / wheel.name)
    place.run(*build, "--no-deps", clean)
    unbuilt = [path.name for path in into.iterdir() if path.suffix != ".whl"]
    if unbuilt:
        raise Failed(f"Not built: {', '.join(unbuilt)}.")
    return tool


def pip_of(folder: Path, python: Path) -> list[str | Path]:
    """Return the command that installs a bundle's wheels, all of them and nothing else, where there is no pip.

    Neither an index nor the machine's settings of pip have a part, nor what the distribution has installed already.
    """
    found = sorted((folder / "wheels").glob("*.whl"))
    (pip,) = (wheel for wheel in found if wheel.name.startswith("pip-"))
    command: list[str | Path] = [python, "-I", pip / "pip", "install", "--isolated", "--quiet", "--no-compile"]
    command += ["--no-index", "--no-deps", "--ignore-installed", "--find-links", folder / "wheels"]
    # By name and not by file, of which a release would keep the path.
    return [*command, *("==".join(wheel.name.split("-")[:2]) for wheel in found if wheel != pip)]


def bill_of_materials(interpreter: str, tool: Path, folder: Path, scratch: Path) -> None:
    """Write what the bundle installs, as CycloneDX, of an environment in which it is installed."""
    place = Place()
    place.run(interpreter, "-I", "-m", "venv", "--without-pip", scratch)
    place.run(*pip_of(folder, scratch / "bin/python"))
    words = ["-I", "-m", "cyclonedx_py", "environment", "--output-reproducible", "--no-validate"]
    place.run(tool, *words, "--output-format", "JSON", "--output-file", folder / BILL, scratch / "bin/python")
    found = json.loads((folder / BILL).read_text())
    for package in sorted((folder / "debs").glob("*.deb")):  # NAME_VERSION_ARCHITECTURE.deb
        name, version, machine = package.stem.split("_")
        version = version.replace("%3a", ":")
        found["components"].append(
            {
                "bom-ref": package.stem,
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:deb/debian/{name}@{version}?arch={machine}",
                "hashes": [{"alg": "SHA-256", "content": digest(package)}],
            }
        )
    (folder / BILL).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def debian_packages(into: Path, python: str) -> list[str]:
    """Fetch the packages that stand in for a wheel that is not there; says so where they cannot be had."""
    if tuple(map(int, python.split("."))) < (3, 13):
        return []
    into.mkdir(exist_ok=True)
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
