"""Machines made ready once, so that a test has one in seconds: booted, the product installed by its own installer.

Law: a test never writes to what is prepared; it has a copy (to wake from the snapshot `READY`) or an overlay (to boot).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.bundles import tools
from tests.lab.cache import Artefact, folder, key_of, own_folder, remove, say, sweep, why_not_to_build
from tests.lab.machine import REAL, Machine, Mode, copy, counted, overlay
from tests.lab.system import debian, image

READY = "ready"
INSTALL_WITHIN_S = 1200.0
DROP_IN = "/etc/systemd/system/gateway.service.d/lab.conf"
LAB_ALONE = "[Service]\n# The unit hides what is mounted over /proc/cpuinfo, and gpiozero must see a Pi.\n"
LAB_ALONE += "BindReadOnlyPaths=/run/lab/cpuinfo:/proc/cpuinfo\n"


def unpack(release: str) -> str:
    """Return the shell words that unpack a bundle from /lab; the folder is then the only one below /root/bundle."""
    return f"rm -rf /root/bundle && mkdir -p /root/bundle && tar xzf /lab/bundles/{release}.tar.gz -C /root/bundle"


def settle(machine: Machine) -> None:
    """Wait until the machine has done what it does at boot."""
    machine.sh("systemctl is-system-running --wait || true", 180)


def bare() -> Artefact:
    """A machine on which nothing of the product is; it has the snapshot, and its disk was shut down in order."""

    def build(path: Path) -> None:
        root = debian().get()
        overlay(path, image(root).get())
        with Machine(root, tools(root).get(), path) as machine:
            machine.start()
            settle(machine)
            machine.save(READY)
            machine.power_off()

    return Artefact("bare", key_of(tools(debian().get()).key, image_key()), ".qcow2", build, "the bare machine")


def installed() -> Artefact:
    """The machine with the product installed from its bundle, without internet, and its service not started yet."""

    def build(path: Path) -> None:
        root = debian().get()
        overlay(path, image(root).get())
        with Machine(root, tools(root).get(), path) as machine:
            say(f"  booted in {machine.start():.0f} s")
            settle(machine)
            machine.sh(unpack("current"), 120)
            began_s = time.monotonic()
            said = machine.sh("/root/bundle/*/install 2>&1", INSTALL_WITHIN_S)
            (folder() / "install.log").write_text(said)
            say(f"  installed in {time.monotonic() - began_s:.0f} s, by its own installer")
            machine.put(DROP_IN, LAB_ALONE)
            machine.sh("systemctl disable gateway; systemctl daemon-reload; rm -rf /root/bundle; sync")
            machine.save(READY)
            machine.power_off()

    return Artefact("installed", key_of(bare().key, Path(__file__)), ".qcow2", build, "the machine with the product")


def counting() -> Artefact:
    """The same machine, its time counting instructions: memory of one clock cannot be woken under another."""

    def build(path: Path) -> None:
        overlay(path, installed().get())
        root = debian().get()
        with Machine(root, tools(root).get(), path, counted()) as machine:
            say(f"  booted in {machine.start():.0f} s")
            settle(machine)
            machine.save(READY)

    return Artefact("counting", installed().key, ".qcow2", build, "the machine whose time counts instructions")


def image_key() -> str:
    """Return the key of the disk image beneath every machine."""
    return image(debian().get()).key


def build_all() -> None:
    """Build what the tests need, where it is not there. Raises Missing with a sentence where that cannot be done."""
    sweep()
    counting().get()


def is_built() -> bool:
    """Say whether everything is there, without building anything."""
    return debian().is_there and installed().is_there and counting().is_there


def what_is_missing() -> str:
    """Return why the lab is not built and cannot be, "" where it is or can."""
    return "" if is_built() else why_not_to_build()


@contextmanager
def woken(prepared: Artefact, mode: Mode = REAL) -> Iterator[Machine]:
    """Give a machine that runs on from the snapshot, its clock set to the host's."""
    with on_disk(prepared, mode, copied=True) as machine:
        machine.start(READY)
        machine.ask("clock", unix_s=time.time())
        yield machine


@contextmanager
def on_disk(prepared: Artefact, mode: Mode = REAL, copied: bool = False) -> Iterator[Machine]:
    """Give a machine that is off, on a disk of its own."""
    root = debian().get()
    place = own_folder("disk")
    try:
        disk = (copy if copied else overlay)(place / "disk.qcow2", prepared.get())
        with Machine(root, tools(root).get(), disk, mode) as machine:
            yield machine
    finally:
        shutil.rmtree(place, ignore_errors=True)


def forget() -> None:
    """Delete everything that was built."""
    remove(folder())
