"""What we ship, on a Pi's processors under qemu-user: built, installed by its own installer, imported, and at its work.

It shows that the table of wheels holds, and that the same readings make the same bytes. Of pins, radios and time it
says nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import __version__
from gateway.simulated import configuration_text
from tests.lab.arm import (
    ARM64,
    ARMHF,
    BUILD_WITHIN_S,
    Emulated,
    Processor,
    Target,
    bundle,
    debian,
    emulated,
    wheels,
    why_not,
)
from tests.lab.cache import ROOT, Missing, sweep

pytestmark = pytest.mark.lab

TARGETS = [Target("bookworm", ARM64), Target("trixie", ARM64), Target("bookworm", ARMHF)]
WHEELS = tomllib.loads((ROOT / "hardware/wheels.toml").read_text())
GROUPS = ("direct", "pi", "bthome", "brought")
RECORDING = ROOT / "hardware/recordings/simulated-morning.jsonl"
RELEASE = "/opt/gateway/current"
IMPORT_ALL = """
import importlib, json, pkgutil, sys, sysconfig
from importlib.metadata import distributions, packages_distributions
import gateway

here = list(distributions(path=[sysconfig.get_path("purelib")]))
names = {one.name for one in here}
ours = [one.name for one in pkgutil.walk_packages(gateway.__path__, "gateway.") if not one.name.endswith("__main__")]
theirs = {top: found for top, found in packages_distributions().items() if names.intersection(found)}
files = [file for one in here for file in one.files if file.suffix == ".so" and not file.parts[0].endswith(".libs")]
compiled = [".".join((*file.parent.parts, file.name.partition(".")[0])) for file in files]
for name in (*ours, *theirs, *compiled, *sys.argv[1:]):
    importlib.import_module(name)
brought = sorted(name.lower().replace("_", "-") for found in theirs.values() for name in found)
print(json.dumps({"modules": len(ours), "distributions": brought, "compiled": compiled}))
"""


@pytest.fixture(scope="module", params=TARGETS, ids=str)
def pi(request: pytest.FixtureRequest) -> Iterator[Emulated]:
    """A target's Debian with the product installed from its own bundle; a skip where that Debian cannot be had."""
    why = why_not()
    if why:
        pytest.skip(why)
    target: Target = request.param
    try:
        sweep()
        debian(target).get()
    except Missing as missing:
        pytest.skip(str(missing))
    with emulated(target) as found:
        found.put("/root/ready", wheels(target).get())
        bundle(found, "--wheels-from /root/ready")
        found.put("/root/install.log", found.sh("/root/unpacked/*/install", BUILD_WITHIN_S))
        yield found


def kinds_of(wheel: str) -> set[str]:
    """Return how a wheel may have come to be, by its name: of plain `linux` tags PyPI takes those of 32 bits alone."""
    platform = wheel.removesuffix(".whl").rpartition("-")[2]
    if platform == "any":
        return {"pure"}
    return {"linux_aarch64": {"build"}, "linux_armv7l": {"build", "wheel"}}.get(platform, {"wheel"})


def is_for(processor: Processor, file: Path) -> bool:
    """Is this an ELF file of the processor."""
    head = file.read_bytes()[:20]
    return head[:4] == b"\x7fELF" and (head[4], int.from_bytes(head[18:20], "little")) == processor.elf


def test_wheels_are_what_the_table_says(pi: Emulated) -> None:
    column = WHEELS["targets"].index(str(pi.target))
    rows = {name: row for group in GROUPS for name, row in WHEELS[group].items()}
    found: dict[str, tuple[str, set[str]]] = {}
    for file in (wheels(pi.target).path / "wheels").glob("*.whl"):
        name, version, *_ = file.name.split("-")
        found[re.sub(r"[-_.]+", "-", name).lower()] = (version, kinds_of(file.name))
    told = {name: (row["version"], row["is"][column]) for name, row in rows.items()}
    for name, (version, kinds) in found.items():
        told_version, told_kind = told.get(name, (version, "pure"))
        assert version == told_version, name
        assert told_kind in kinds, name
    is_left_out = {
        name
        for name, row in rows.items()
        if row["is"][column] == "none"
        or row.get("for") == "bleak"
        or (pi.target.processor == ARMHF and "amqtt" in (name, row.get("for")))
    }
    assert rows.keys() - found.keys() <= is_left_out


def test_installer_took_its_bundle(pi: Emulated) -> None:
    said = (pi.upper / "root/install.log").read_text()
    assert "The bundle is whole" in said
    assert "Done." in said
    machine, *_, version = pi.sh("uname -m; gateway --version").split()
    assert (machine, version) == (pi.target.processor.machine, __version__)


def test_every_module_and_every_dependency_imports(pi: Emulated) -> None:
    """But for lgpio where the table has none: Debian has no package of it, Raspberry Pi OS does."""
    pi.put("/root/import_all.py", IMPORT_ALL)
    has_lgpio = WHEELS["pi"]["lgpio"]["is"][WHEELS["targets"].index(str(pi.target))] != "none"
    more = "bluepy.btle lgpio gpiozero.pins.lgpio" if has_lgpio else "bluepy.btle"
    said = json.loads(pi.sh(f"cd /root; {RELEASE}/bin/python import_all.py {more}").splitlines()[-1])
    assert said["modules"] > 100
    assert {"_cffi_backend", "orjson.orjson", "pydantic_core._pydantic_core"} <= set(said["compiled"])
    assert set(said["distributions"]) >= {"apscheduler", "bluepy", "gpiozero", "orjson", "paho-mqtt", "tinydb"}


def test_second_driver_of_scanners_installs_and_imports(pi: Emulated) -> None:
    """With the extra `bleak`, which no bundle has; for 32 bits what it brings would be compiled for an hour here."""
    if pi.target.processor == ARMHF:
        pytest.skip("dbus-fast has no wheel for 32 bits, and was not compiled here.")
    requirement = f"bleak=={WHEELS['bleak']['bleak']['version']}"
    pi.sh(
        f"cd /root; python3 -m venv bleak; bleak/bin/pip install -q {requirement}; bleak/bin/python -c 'import bleak'"
    )


def test_what_is_compiled_is_for_the_processor(pi: Emulated) -> None:
    release = next((pi.upper / "opt/gateway/releases").iterdir())
    compiled = [path for path in release.rglob("*.so*") if path.is_file()]
    helper = next(release.rglob("bluepy-helper"))
    assert {path.name.partition(".")[0] for path in compiled} >= {"orjson", "_pydantic_core"}
    assert [path for path in (helper, *compiled) if not is_for(pi.target.processor, path)] == []
    said = pi.sh(f"echo quit | {RELEASE}/{helper.relative_to(release)}")
    assert f"version {WHEELS['pi']['bluepy']['version']}" in said


def test_verbs_answer(pi: Emulated) -> None:
    pi.put("/root/gateway.toml", configuration_text("mqtt://127.0.0.1:1883", "/var/lib/gateway/outbox"))
    assert "Verbs:" in pi.sh("gateway --help")
    pi.sh("gateway config check --config /root/gateway.toml")


def test_recording_gives_the_same_bytes(pi: Emulated, tmp_path: Path) -> None:
    configuration = configuration_text("mqtt://127.0.0.1:1883", "/var/lib/gateway/outbox")
    (tmp_path / "gateway.toml").write_text(configuration)
    command = [sys.executable, "-m", "gateway", "replay", str(RECORDING), "--config", str(tmp_path / "gateway.toml")]
    here = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    pi.put("/root/gateway.toml", configuration)
    pi.sh(f"cd /root; gateway replay source/{RECORDING.relative_to(ROOT)} --config gateway.toml > there.jsonl")
    there = (pi.upper / "root/there.jsonl").read_bytes()
    assert len(here.splitlines()) > 50
    assert there == here


def test_shop_is_played_and_all_is_delivered(pi: Emulated) -> None:
    """The daemon, its outbox and a consumer on that processor, the line cut between them."""
    said = pi.sh("gateway demo --script --for 40s --broker mosquitto --json")
    summary = json.loads(said[said.index("{") :])
    assert summary["complete"], said
    assert summary["recorded"] == summary["delivered"] > 0
    assert summary["cuts"] == 1
