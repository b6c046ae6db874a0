"""How the machine is: supply, heat, memory, disk and its wear, board, last reboot. Read from the kernel's files.

Law: unknown is None, never zero and never an error; nothing is written. Every file lies below `root`, so that a test
can lay out a board of its own. Sources: kernel documentation hwmon/raspberrypi-hwmon (the supply) and
driver-api/mmc/mmc-dev-attrs (wear); vcgencmd's get_throttled (the bits); watchdog-api (bootstatus).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.machine.bounded import read_bounded
from gateway.machine.mounts import why_not_kept

KERNEL_BYTES_MAX = 64 * 1024

ROOT = Path("/")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CELSIUS_RANGE = (-40.0, 150.0)
OCTAL = re.compile(r"\\([0-7]{3})")

THROTTLING = {
    0: "under_voltage",
    1: "frequency_capped",
    2: "throttled",
    3: "soft_temperature_limit",
    16: "under_voltage_since_boot",
    17: "frequency_capped_since_boot",
    18: "throttled_since_boot",
    19: "soft_temperature_limit_since_boot",
}
"""Bits of the firmware's get_throttled: what holds now, and what has been since the machine started."""
NOW = frozenset(word for bit, word in THROTTLING.items() if bit < 16)

PRE_EOL: Mapping[int, CardSpare] = {1: "normal", 2: "warning", 3: "urgent"}
"""JEDEC eMMC 5.0, PRE_EOL_INFO: spare blocks used below 80 %, below 90 %, above."""
WORN_EXCEEDED = 0x0B
CARD_RESET = 0x20  # WDIOF_CARDRESET of <linux/watchdog.h>: the watchdog had to restart the machine

CardSpare = Literal["normal", "warning", "urgent"]
Trace = Literal["watchdog", "panic"]
Reboot = Literal["ordered", "watchdog", "panic", "unclean"]
Shutdown = Literal["ordered", "unclean"]
"""How the daemon ended before the machine last started: told to stop, or not told."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One look at the machine. `throttled`: the Pi's supply is or was too low, or it slows itself down; None off a Pi.

    `throttling` says which (words of `THROTTLING`). `card_worn_percent` is the upper end of what the card tells, above
    100 where its rated life is over. `trace` is what the kernel kept of the last end: `watchdog` or `panic`.
    """

    memory_rss_bytes: int
    cpu_celsius: float | None
    throttled: bool | None
    throttling: tuple[str, ...] | None = None
    disk_read_only: bool | None = None
    card_worn_percent: int | None = None
    card_spare: CardSpare | None = None
    board: str | None = None
    serial: str | None = None
    trace: Trace | None = None


def look(directory: Path, root: Path = ROOT) -> Machine:
    """Return how the machine is now; `directory` names the file system whose state is told."""
    throttling = _throttling(root)
    alarm = _voltage_alarm(root)
    return Machine(
        memory_rss_bytes=_memory_rss_bytes(root),
        cpu_celsius=_cpu_celsius(root),
        throttled=None if throttling is None and alarm is None else bool(throttling) or bool(alarm),
        throttling=throttling,
        disk_read_only=is_read_only(directory, root),
        card_worn_percent=_card_worn_percent(root),
        card_spare=_card_spare(root),
        board=read(root / "proc/device-tree/model"),
        serial=read(root / "proc/device-tree/serial-number"),
        trace=_trace(root),
    )


def last_reboot(trace: Trace | None, shutdown: Shutdown | None) -> Reboot | None:
    """Say why the machine last started: `ordered`, `watchdog`, `panic`, or `unclean` (the plug, most likely).

    `shutdown` is what the daemon knows of its own end before; None, and unknown, on a first start. An ordered end
    overrules the watchdog's trace, for a Pi restarts itself by its watchdog.
    """
    return (trace or shutdown) if shutdown == "unclean" else shutdown


def read(path: Path) -> str | None:
    """Return a kernel file's text without its ends (device-tree strings end in a zero byte), None where unknown."""
    try:
        return read_bounded(path, KERNEL_BYTES_MAX).decode(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def not_kept(directory: Path, root: Path = ROOT) -> str | None:
    """Return why what is written into `directory` is gone after a power cut; None where it is kept, or unknown."""
    mountinfo, command_line = read(root / "proc/self/mountinfo"), read(root / "proc/cmdline")
    return why_not_kept(mountinfo or "", command_line or "", os.path.realpath(directory))


def is_read_only(directory: Path, root: Path = ROOT) -> bool | None:
    """Return whether the file system of `directory` is mounted read-only now, as the kernel does after an I/O error."""
    mounts = read(root / "proc/self/mounts")
    if mounts is None:
        return None
    where = os.path.abspath(directory)
    found: tuple[int, bool] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        # fstab(5): space, tab, line end and backslash in a path are written in octal.
        point = OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[1]).rstrip("/")
        if (where == point or where.startswith(f"{point}/")) and (found is None or len(point) >= found[0]):
            found = len(point), "ro" in fields[3].split(",")  # the later of two on one point lies on top
    return None if found is None else found[1]


def _number(text: str | None, base: int) -> int | None:
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


def _memory_rss_bytes(root: Path) -> int:
    fields = (read(root / "proc/self/statm") or "0 0").split()
    return int(fields[1]) * PAGE_BYTES


def _cpu_celsius(root: Path) -> float | None:
    thousandths = _number(read(root / "sys/class/thermal/thermal_zone0/temp"), 10)
    if thousandths is None or not CELSIUS_RANGE[0] <= thousandths / 1000 <= CELSIUS_RANGE[1]:
        return None
    return round(thousandths / 1000, 1)


def _throttling(root: Path) -> tuple[str, ...] | None:
    bits = _number(read(root / "sys/devices/platform/soc/soc:firmware/get_throttled"), 16)
    return None if bits is None else tuple(word for bit, word in THROTTLING.items() if bits >> bit & 1)


def _voltage_alarm(root: Path) -> bool | None:
    """The number of the device varies from board to board, so it is found by name."""
    for device in _below(root / "sys/class/hwmon", "hwmon*"):
        if read(device / "name") == "rpi_volt" and (alarm := read(device / "in0_lcrit_alarm")) is not None:
            return alarm == "1"
    return None


def _card_worn_percent(root: Path) -> int | None:
    """The worse of the two kinds of memory, in steps of ten: 1 is up to 10 %, 10 up to 100 %, 11 beyond."""
    steps = [
        step
        for card in _below(root / "sys/block", "mmcblk*")
        for word in (read(card / "device/life_time") or "").split()
        if (step := _number(word, 16)) is not None and 1 <= step <= WORN_EXCEEDED
    ]
    return max(steps) * 10 if steps else None


def _card_spare(root: Path) -> CardSpare | None:
    levels = [_number(read(card / "device/pre_eol_info"), 16) or 0 for card in _below(root / "sys/block", "mmcblk*")]
    return PRE_EOL.get(max(levels, default=0))


def _trace(root: Path) -> Trace | None:
    if any(name.name.startswith("dmesg-") for name in _below(root / "sys/fs/pstore", "*")):
        return "panic"
    status = _number(read(root / "sys/class/watchdog/watchdog0/bootstatus"), 0)
    return "watchdog" if status is not None and status & CARD_RESET else None


def _below(directory: Path, pattern: str) -> Iterable[Path]:
    try:
        return sorted(directory.glob(pattern))
    except OSError:
        return ()
