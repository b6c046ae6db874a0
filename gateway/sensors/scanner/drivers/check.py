"""What a scanner hangs on: the library, the Bluetooth adapter, and whether this user may scan."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from gateway.machine.bounded import read_text
from gateway.sensors.check import INSTALL, Checked
from gateway.sensors.scanner.settings import ScannerSettings

BLUETOOTH = Path("/sys/class/bluetooth")
PROCESS = Path("/proc/self/status")
KERNEL_BYTES_MAX = 64 * 1024
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13  # <linux/capability.h>


def check(settings: ScannerSettings) -> Iterator[Checked]:
    """Yield what is found about the library, the adapter, and the right to scan."""
    why = "beacons are heard through this Bluetooth adapter"
    library = settings.driver
    if importlib.util.find_spec(library) is None:
        found = f"the Python library {library} is not installed"
        yield Checked("failed", found, why, INSTALL, "library.missing")
    adapter = BLUETOOTH / settings.adapter
    if not adapter.exists():
        others = sorted(path.name for path in BLUETOOTH.glob("hci[0-9]*") if ":" not in path.name)
        found = f"there is no adapter {settings.adapter}" + (f"; there is {', '.join(others)}" if others else "")
        advice = (
            f"set adapter to {others[0]}"
            if others
            else "is Bluetooth switched on? See dmesg and /boot/firmware/config.txt"
        )
        yield Checked("failed", found, why, advice, "bluetooth.no_adapter")
        return
    if blocked := _blocked(adapter):
        advice = "rfkill unblock bluetooth"
        yield Checked("failed", f"{settings.adapter} is switched off ({blocked})", why, advice, "bluetooth.off")
        return
    if settings.driver != "bleak" and not _may_scan():  # BlueZ scans for us
        found = "this user may not scan: it lacks the capabilities CAP_NET_ADMIN and CAP_NET_RAW"
        advice = "the unit gateway.service gives them to the daemon; for this check use sudo"
        yield Checked("warning", found, why, advice, "bluetooth.no_permission")
        return
    yield Checked("ok", f"{settings.adapter} is there and on", code="bluetooth.there")


def _blocked(adapter: Path) -> str:
    for switch in adapter.glob("rfkill*"):
        for kind in ("hard", "soft"):
            try:
                if read_text(switch / kind, KERNEL_BYTES_MAX).strip() == "1":
                    return f"{kind}-blocked"
            except (OSError, ValueError):
                continue
    return ""


def _may_scan() -> bool:
    try:
        line = next(line for line in read_text(PROCESS, KERNEL_BYTES_MAX).splitlines() if line.startswith("CapEff:"))
    except (OSError, ValueError, StopIteration):
        return False
    effective = int(line.split()[1], 16)
    return bool(effective >> CAP_NET_ADMIN & 1 and effective >> CAP_NET_RAW & 1)
