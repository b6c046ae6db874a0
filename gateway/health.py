"""How the machine is: temperature, throttling, memory, free disk. Read from the kernel's files; unknown is None."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
THERMAL_ZONE = Path("/sys/class/thermal/thermal_zone0/temp")
HWMON = Path("/sys/class/hwmon")
CELSIUS_RANGE = (-40.0, 150.0)


@dataclass(frozen=True, slots=True)
class Machine:
    """One look at the machine. `throttled`: the Pi's supply is or was too low (hwmon `rpi_volt`); None off a Pi."""

    memory_rss_bytes: int
    disk_free_bytes: int | None
    cpu_celsius: float | None
    throttled: bool | None


def look(directory: Path) -> Machine:
    """Return how the machine is now; `directory` names the file system whose room is told."""
    return Machine(_memory_rss_bytes(), _disk_free_bytes(directory), _cpu_celsius(), _throttled())


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _memory_rss_bytes() -> int:
    fields = (_read(Path("/proc/self/statm")) or "0 0").split()
    return int(fields[1]) * PAGE_BYTES


def _disk_free_bytes(directory: Path) -> int | None:
    try:
        room = os.statvfs(directory)
    except OSError:
        return None
    return room.f_bavail * room.f_frsize


def _cpu_celsius() -> float | None:
    text = _read(THERMAL_ZONE)
    try:
        celsius = int(text) / 1000 if text is not None else None
    except ValueError:
        return None
    if celsius is None or not CELSIUS_RANGE[0] <= celsius <= CELSIUS_RANGE[1]:
        return None
    return round(celsius, 1)


def _throttled() -> bool | None:
    """Kernel documentation, hwmon/raspberrypi-hwmon: the number of the device varies, so it is found by name."""
    try:
        devices = sorted(HWMON.iterdir())
    except OSError:
        return None
    for device in devices:
        if _read(device / "name") == "rpi_volt":
            return _read(device / "in0_lcrit_alarm") == "1"
    return None
