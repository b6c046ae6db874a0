"""Checks of what the sensors hang on: the GPIO chip, SPI and Bluetooth, the libraries, and who may use them.

Nothing is opened that the running daemon holds: whether a pin answers is known to the daemon, which is asked.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config import Configuration
from gateway.machine.bounded import read_text
from gateway.sensors.kind import Kind
from gateway.technician.checks import Check, Examination

DEVICES = Path("/dev")
BLUETOOTH = Path("/sys/class/bluetooth")
PROCESS = Path("/proc/self/status")
KERNEL_BYTES_MAX = 64 * 1024
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13  # <linux/capability.h>

LIBRARIES = {"bluepy": "bluepy", "bleak": "bleak"}
INSTALL = "pip install 'store-gateway[pi]' in the gateway's environment"
INSTALL_LGPIO = f"{INSTALL}; from Python 3.13 on: apt install python3-lgpio, and run scripts/install again"
"""PyPI has no wheel of it for 3.13 (`hardware/wheels.toml`); Raspberry Pi OS has the package."""


def examinations(configuration: Configuration) -> Iterator[Examination]:
    """Yield what there is to look at for the sensors that are configured."""
    pins = {
        f"{settings.id}.{key}": pin
        for kind, settings in configuration.sensors
        for key, pin in kind.pins(settings).items()
    }
    if pins:
        yield Examination("sensors", "pins", lambda: _pins(pins))
        yield Examination("sensors", "gpio library", _gpio_library)
    for kind, settings in configuration.sensors:
        if hasattr(settings, "adapter"):
            yield Examination("sensors", settings.id, lambda kind=kind, s=settings: _radio(kind, s))  # type: ignore[misc]
        elif getattr(settings, "driver", "") == "hx711-spi":
            yield Examination("sensors", settings.id, lambda s=settings: _spi(s))  # type: ignore[misc]


def _pins(pins: dict[str, int]) -> Check:
    words = ", ".join(f"{key} GPIO{pin}" for key, pin in pins.items())
    chips = sorted(DEVICES.glob("gpiochip*"))
    why = "doors and scales are read through the GPIO chip"
    if not chips:
        advice = "run this on the Pi; on another machine try gateway run --simulated"
        return Check(
            "sensors", "pins", "failed", f"this machine has no GPIO chip, for {words}", why, advice, "pins.no_chip"
        )
    if not any(os.access(chip, os.R_OK | os.W_OK) for chip in chips):
        found = f"this user may not use {', '.join(chip.name for chip in chips)}"
        advice = "add the gateway's user to the group gpio: usermod -aG gpio gateway"
        return Check("sensors", "pins", "failed", found, why, advice, "pins.no_permission")
    return Check("sensors", "pins", "ok", words, code="pins.chip")


def _gpio_library() -> Check:
    why = "pins are read through gpiozero and lgpio"
    for library, advice in (("gpiozero", INSTALL), ("lgpio", INSTALL_LGPIO)):
        if importlib.util.find_spec(library) is None:
            found = f"the Python library {library} is not installed"
            return Check("sensors", "gpio library", "failed", found, why, advice, "library.missing")
    return Check("sensors", "gpio library", "ok", "gpiozero and lgpio are installed", code="library.there")


def _spi(settings: Any) -> Check:
    device = DEVICES / f"spidev{getattr(settings, 'bus', 0)}.0"
    why = "this scale is read over SPI"
    if not device.exists():
        advice = "switch it on: raspi-config nonint do_spi 0, then restart"
        return Check("sensors", settings.id, "failed", f"there is no {device}", why, advice, "spi.absent")
    if not os.access(device, os.R_OK | os.W_OK):
        advice = "add the gateway's user to the group spi: usermod -aG spi gateway"
        return Check(
            "sensors", settings.id, "failed", f"this user may not use {device}", why, advice, "spi.no_permission"
        )
    return Check("sensors", settings.id, "ok", f"{device} can be used", code="spi.there")


def _radio(kind: Kind[Any], settings: Any) -> Iterator[Check]:
    name, why = settings.id, "beacons are heard through this Bluetooth adapter"
    library = LIBRARIES.get(settings.driver, settings.driver)
    if importlib.util.find_spec(library) is None:
        found = f"the Python library {library} is not installed"
        yield Check("sensors", name, "failed", found, why, INSTALL, "library.missing")
    adapter = BLUETOOTH / settings.adapter
    if not adapter.exists():
        others = sorted(path.name for path in BLUETOOTH.glob("hci[0-9]*") if ":" not in path.name)
        found = f"there is no adapter {settings.adapter}" + (f"; there is {', '.join(others)}" if others else "")
        advice = (
            f"set adapter to {others[0]}"
            if others
            else "is Bluetooth switched on? See dmesg and /boot/firmware/config.txt"
        )
        yield Check("sensors", name, "failed", found, why, advice, "bluetooth.no_adapter")
        return
    if blocked := _blocked(adapter):
        advice = "rfkill unblock bluetooth"
        yield Check(
            "sensors", name, "failed", f"{settings.adapter} is switched off ({blocked})", why, advice, "bluetooth.off"
        )
        return
    if settings.driver != "bleak" and not _may_scan():  # BlueZ scans for us
        found = "this user may not scan: it lacks the capabilities CAP_NET_ADMIN and CAP_NET_RAW"
        advice = "the unit gateway.service gives them to the daemon; for this check use sudo"
        yield Check("sensors", name, "warning", found, why, advice, "bluetooth.no_permission")
        return
    yield Check("sensors", name, "ok", f"{settings.adapter} is there and on", code="bluetooth.there")


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
