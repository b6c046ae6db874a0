"""Checks of the board: its supply and heat, the card's wear, whether the disk is still writable, the last reboot."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from gateway.errors import GatewayError
from gateway.machine.disk import refusal
from gateway.machine.health import NOW, ROOT, Machine, Shutdown, last_reboot, look
from gateway.outbox.sealing import PLAIN, Sealing
from gateway.technician.checks import Check, Examination

CELSIUS_HOT = 80.0  # the Pi slows itself down from here (Raspberry Pi documentation, frequency management)
WORN_PERCENT = 80
WORN_OUT_PERCENT = 100
GROUP = "machine"


def examinations(
    directory: Path, root: Path = ROOT, sealing: Callable[[], Sealing] = lambda: PLAIN
) -> Iterator[Examination]:
    """Yield the one examination; `directory` and `sealing` are the outbox's, `root` is where the kernel's files lie."""

    def board() -> Iterator[Check]:
        return checks(tried(look(directory, root), directory), shutdown_of(directory, sealing))

    yield Examination(GROUP, "board", board, disk=directory)


def tried(machine: Machine, directory: Path) -> Machine:
    """Return the machine as it is found when something is written: the mounts do not show all that refuses."""
    refused = refusal(directory)
    return replace(machine, disk_read_only=True) if refused is not None and refused.errno == errno.EROFS else machine


def checks(machine: Machine, shutdown: Shutdown | None) -> Iterator[Check]:
    """Judge one look at the machine."""
    yield _board(machine)
    yield supply(machine)
    yield heat(machine)
    yield disk_state(machine)
    yield wear(machine)
    yield reboot(machine, shutdown)


def shutdown_of(directory: Path, sealing: Callable[[], Sealing] = lambda: PLAIN) -> Shutdown | None:
    """Return how the daemon ended before the machine last started, as the outbox remembers; None where unknown."""
    from gateway.outbox.reader import OutboxReader

    try:
        return OutboxReader(str(directory), sealing=sealing()).memory.shutdown
    except GatewayError:
        return None


def _board(machine: Machine) -> Check:
    if machine.board is None:
        return Check(GROUP, "board", "skipped", "this machine does not tell its model", code="board.unknown")
    serial = f", serial {machine.serial}" if machine.serial else ""
    return Check(GROUP, "board", "ok", f"{machine.board}{serial}", code="board.known")


def supply(machine: Machine) -> Check:
    """Judge the supply: what the firmware counts, else what the voltage sensor says."""
    why = "with too little voltage the Pi slows down, scales read wrong and cards break"
    advice = "use the board's own power supply and a short cable; take heavy USB devices off"
    said = machine.throttling
    if (said is None and machine.throttled) or (said is not None and "under_voltage" in said):
        return Check(GROUP, "supply", "failed", "the supply's voltage is too low now", why, advice, "supply.low")
    if said is not None and "under_voltage_since_boot" in said:
        found = "the supply's voltage was too low since the machine started; now it is good"
        return Check(GROUP, "supply", "warning", found, why, advice, "supply.was_low")
    if machine.throttled is None:
        return Check(GROUP, "supply", "skipped", "this machine does not tell", code="supply.unknown")
    return Check(GROUP, "supply", "ok", "the voltage is good", code="supply.good")


def heat(machine: Machine) -> Check:
    """Judge the temperature, and whether the processor slows itself down for it."""
    why = "the processor slows itself down, and a scale's frames spoil"
    advice = "give it air or a heat sink, out of the sun and off the freezer's exhaust"
    found = "" if machine.cpu_celsius is None else f"the processor has {machine.cpu_celsius:g} °C"
    said = [word for word in machine.throttling or () if "under_voltage" not in word]
    told = ", ".join(word.replace("_", " ") for word in said)
    if any(word in NOW for word in said) or (machine.cpu_celsius or 0) >= CELSIUS_HOT:
        found = "; ".join(part for part in (found, f"the firmware says: {told}" if told else "") if part)
        return Check(GROUP, "heat", "warning", found, why, advice, "heat.high")
    if said:
        found = "; ".join(part for part in (found, f"the firmware says: {told}") if part)
        return Check(GROUP, "heat", "warning", found, why, advice, "heat.was_high")
    if not found:
        return Check(GROUP, "heat", "skipped", "this machine does not tell", code="heat.unknown")
    return Check(GROUP, "heat", "ok", found, code="heat.good")


def disk_state(machine: Machine) -> Check:
    """Judge whether the outbox's file system is still writable."""
    if machine.disk_read_only is None:
        return Check(GROUP, "disk", "skipped", "the mounts cannot be read", code="disk.unknown")
    if machine.disk_read_only:
        why = "nothing can be recorded any more: events wait in memory, and a power cut would lose them"
        advice = (
            "after an I/O error the kernel does that: see dmesg; take the backlog over to a new card (gateway adopt)"
        )
        found = "the outbox's file system is read-only"
        return Check(GROUP, "disk", "failed", found, why, advice, "disk.read_only")
    return Check(GROUP, "disk", "ok", "the outbox's file system is writable", code="disk.writable")


def wear(machine: Machine) -> Check:
    """Judge the card by its own words, which eMMC has and most SD cards have not."""
    worn, spare = machine.card_worn_percent, machine.card_spare
    if worn is None and spare is None:
        return Check(GROUP, "card", "skipped", "this card does not tell its wear", code="card.unknown")
    parts = [f"up to {worn} % of its rated life is used"] if worn is not None and worn <= WORN_OUT_PERCENT else []
    parts += ["its rated life is over"] if worn is not None and worn > WORN_OUT_PERCENT else []
    parts += [f"its spare blocks: {spare}"] if spare is not None else []
    found = "; ".join(parts)
    why = "a card that is worn out turns read-only, or forgets"
    if spare == "urgent" or (worn or 0) > WORN_OUT_PERCENT:
        advice = "replace it now, and bring the backlog over: gateway adopt DIRECTORY"
        return Check(GROUP, "card", "failed", found, why, advice, "card.worn_out")
    if spare == "warning" or (worn or 0) > WORN_PERCENT:
        return Check(GROUP, "card", "warning", found, why, "order a new one; raise commit_interval_ms", "card.worn")
    return Check(GROUP, "card", "ok", found, code="card.good")


def reboot(machine: Machine, shutdown: Shutdown | None) -> Check:
    """Say why the machine last started, where it can be known."""
    reason = last_reboot(machine.trace, shutdown)
    why = "what was not yet on the card was lost, and cards break so"
    if reason is None:
        return Check(GROUP, "last start", "skipped", "no earlier start is known", code="reboot.unknown")
    if reason == "ordered":
        return Check(GROUP, "last start", "ok", "after an ordered stop", code="reboot.ordered")
    found, advice = {
        "unclean": (
            "without an ordered stop: the power was cut",
            "see that nobody pulls the plug: sudo poweroff first",
        ),
        "watchdog": (
            "the hardware watchdog had to restart it",
            "look at the journal of the boot before: journalctl -b -1",
        ),
        "panic": ("its kernel crashed", "look at /sys/fs/pstore and /var/lib/systemd/pstore, and report it"),
    }[reason]
    return Check(GROUP, "last start", "warning", found, why, advice, f"reboot.{reason}")
