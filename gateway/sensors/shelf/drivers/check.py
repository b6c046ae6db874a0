"""What a shelf hangs on beside its pins: the SPI bus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gateway.sensors.check import Checked
from gateway.sensors.shelf.settings import ShelfSettings

DEVICES = Path("/dev")


def check(settings: ShelfSettings) -> Iterator[Checked]:
    """Yield what is found about the SPI bus, where this scale is read over it."""
    if settings.driver != "hx711-spi":
        return
    device = DEVICES / f"spidev{settings.bus or 0}.0"
    why = "this scale is read over SPI"
    if not device.exists():
        advice = "switch it on: raspi-config nonint do_spi 0, then restart"
        yield Checked("failed", f"there is no {device}", why, advice, "spi.absent")
        return
    if not os.access(device, os.R_OK | os.W_OK):
        advice = "add the gateway's user to the group spi: usermod -aG spi gateway"
        yield Checked("failed", f"this user may not use {device}", why, advice, "spi.no_permission")
        return
    yield Checked("ok", f"{device} can be used", code="spi.there")
