"""What is installed is locked, transitively and by hash: the lock is of this pyproject.toml, for each Pi there is."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.installer.bundling import EXTRAS, LOCK, TOOLS_LOCK

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = [(machine, python) for machine in ("x86_64", "aarch64", "armv7l") for python in ("3.11", "3.13")]
ADVICE = "run scripts/lock"


def locked(name: str) -> dict[str, tuple[Requirement, int]]:
    """Return each package of a lock with the number of its hashes."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found: dict[str, tuple[Requirement, int]] = {}
    for line in (line for line in text.splitlines() if line and not line.startswith("#")):
        words, hashes = line.split(" --hash=", 1)[0], re.findall(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)", line)
        requirement = Requirement(words.strip())
        found[canonicalize_name(requirement.name)] = (requirement, len(hashes))
    return found


def environment(machine: str, python: str) -> dict[str, str]:
    there = {key: str(value) for key, value in default_environment().items()}
    return {**there, "platform_machine": machine, "python_version": python, "python_full_version": f"{python}.2"}


def direct() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [
        Requirement(line)
        for line in (*PROJECT["dependencies"], *(one for name in EXTRAS.split(",") for one in extras[name]))
    ]


def applies(marker: Marker | None, there: dict[str, str], extra: str = "") -> bool:
    return marker is None or marker.evaluate({**there, "extra": extra})


@pytest.mark.parametrize("name", [LOCK, TOOLS_LOCK])
def test_every_package_is_pinned_with_hashes_and_no_index_is_named(name: str) -> None:
    found = locked(name)
    assert len(found) > 15
    for package, (requirement, hashes) in found.items():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), package
        assert hashes, package
    assert not re.search(r"https?://|--(extra-)?index|--trusted|--find-links", (ROOT / name).read_text())


@pytest.mark.parametrize(("machine", "python"), TARGETS)
def test_the_lock_is_of_this_project(machine: str, python: str) -> None:
    """Every direct dependency is locked at its pin, and all that those bring along, as far as it is installed here."""
    there, found = environment(machine, python), locked(LOCK)
    waiting = [requirement for requirement in direct() if applies(requirement.marker, there)]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        assert name in found, f"{wanted} is not locked: {ADVICE}"
        pin, _ = found[name]
        assert applies(pin.marker, there), f"{name} is not locked for {machine}, Python {python}: {ADVICE}"
        version = str(pin.specifier).removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted}, but {version} is locked: {ADVICE}"
        for extra in ("", *wanted.extras):
            if f"{name}[{extra}]" in seen:
                continue
            seen.add(f"{name}[{extra}]")
            try:
                brings = [Requirement(line) for line in requires(name) or ()]
            except PackageNotFoundError:
                continue  # of another platform
            waiting += [one for one in brings if applies(one.marker, there, extra)]
    assert len(seen) > 20


def test_the_tools_are_locked_as_they_are_asked_for() -> None:
    found = locked(TOOLS_LOCK)
    for line in (ROOT / "locks/tools.in").read_text().splitlines():
        if line and not line.startswith("#"):
            wanted = Requirement(line)
            assert found[canonicalize_name(wanted.name)][0].specifier == wanted.specifier, ADVICE
