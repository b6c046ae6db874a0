"""Checks of what the sensors hang on: the GPIO chip, SPI and Bluetooth, the libraries, and who may use them.

Nothing is opened that the running daemon holds: whether a pin answers is known to the daemon, which is asked.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gateway.config import Configuration
from gateway.sensors.check import INSTALL
from gateway.sensors.kind import Kind
from gateway.technician.checks import Check, Examination

DEVICES = Path("/dev")

INSTALL_LGPIO = f"{INSTALL}; from Python 3.13 on: apt install python3-lgpio, and run scripts/install again"
"""PyPI has no wheel of it for 3.13 (`hardware/wheels.toml`); Raspberry Pi OS has the package."""


def examinations(configuration: Configuration) -> Iterator[Examination]:
    """Yield what there is to look at for the sensors that are configured."""
    pins = {
        f"{sensor.id}.{key}": pin
        for sensor in configuration.sensors
        for key, pin in sensor.kind.pins(sensor.settings).items()
    }
    if pins:
        yield Examination("sensors", "pins", lambda: _pins(pins))
        yield Examination("sensors", "gpio library", _gpio_library)
    for sensor in configuration.sensors:
        yield Examination("sensors", sensor.id, partial(_of, sensor.kind, sensor.settings))


def _pins(pins: dict[str, int]) -> Check:
    words = ", ".join(f"{key} GPIO{pin}" for key, pin in pins.items())
    chips = sorted(DEVICES.glob("gpiochip*"))
    why = "these sensors are read through the GPIO chip"
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


def _of(kind: Kind[Any], settings: Any) -> Iterator[Check]:
    for one in kind.check(settings):
        yield Check("sensors", settings.id, one.result, one.found, one.why, one.advice, one.code)
