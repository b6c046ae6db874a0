"""Which driver reads a shelf: the one that its settings name. Each is imported where it is wanted."""

from __future__ import annotations

from gateway.machine.clock import Clock
from gateway.sensors.kind import Driver
from gateway.sensors.shelf.settings import ShelfSettings


def driver_for(settings: ShelfSettings, clock: Clock) -> Driver:
    """Return the driver that a shelf's settings name."""
    if settings.driver == "hx711-spi":
        from gateway.sensors.shelf.drivers.hx711_spi import Hx711SpiDriver

        return Hx711SpiDriver(settings, clock)
    if settings.driver == "hx711-iio":
        from gateway.sensors.shelf.drivers.hx711_iio import Hx711IioDriver

        return Hx711IioDriver(settings, clock)
    from gateway.sensors.shelf.drivers.hx711 import Hx711Driver

    return Hx711Driver(settings, clock)
