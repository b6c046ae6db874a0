"""The HX711 read by the kernel's own driver (`avia,hx711`), through sysfs.

Law: the kernel clocks with interrupts off and resets the chip by itself, so its frames are sound; `in_voltage0_raw` is
offset binary (drivers/iio/adc/hx711.c). A read waits for a conversion and fails with EIO where none comes within 1 s.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from gateway.machine.bounded import read_text
from gateway.machine.clock import Clock
from gateway.sensors.drivers import DriverError, Supervised
from gateway.sensors.shelf.drivers.hx711 import SILENT_NS, signed_24, silent
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings

DEVICES = Path("/sys/bus/iio/devices")
KERNEL_BYTES_MAX = 4096
PASSING = (errno.EIO, errno.EAGAIN, errno.EBUSY)


class Hx711IioDriver(Supervised):
    """A `Driver` for one converter of the kernel; `devices` is the folder of the IIO devices."""

    def __init__(self, settings: ShelfSettings, clock: Clock, devices: Path = DEVICES) -> None:
        super().__init__(settings.id, clock)
        self.settings = settings
        self.folder = devices / f"iio:device{settings.device or 0}"
        self._counters = {"frames": 0, "ready_timeouts": 0}

    def counted(self) -> Mapping[str, int]:
        return dict(self._counters)

    def work(self) -> None:
        self.alive()
        try:
            name = read_text(self.folder / "name", KERNEL_BYTES_MAX).strip()
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            detail = f"{self.folder} cannot be read ({why}); load the kernel's hx711 overlay"
            raise DriverError("driver_missing", detail) from error
        if name != "hx711":
            detail = f"{self.folder} is a {name or 'nameless device'}, not an hx711; check device in the configuration"
            raise DriverError("driver_missing", detail)
        period_s = 1 / self.settings.rate_hz
        heard_ns = self.clock.now().boot_ns
        while not self.stopping.is_set():
            self.alive()
            began_ns = self.clock.now().boot_ns
            counts = self._read()
            if counts is None:
                if began_ns - heard_ns >= SILENT_NS:
                    heard_ns = began_ns
                    self.emit(silent(self.settings.id, self.clock.now()))
            else:
                heard_ns = began_ns
                self.emit(ScaleSampled(self.settings.id, self.clock.now(), counts))
                # After the sample, so that the recovery it tells never comes before its own proof.
                self.good()
            took_s = (self.clock.now().boot_ns - began_ns) / 1e9
            self.stopping.wait(max(0.0, period_s - took_s))

    def _read(self) -> int | None:
        try:
            raw = int(read_text(self.folder / "in_voltage0_raw", KERNEL_BYTES_MAX))
        except OSError as error:
            if error.errno not in PASSING:
                raise DriverError("driver_died", f"{self.folder} cannot be read ({error.strerror})") from error
            self._counters["ready_timeouts"] += 1
            return None
        except ValueError as error:
            raise DriverError("driver_died", f"{self.folder} gave no number") from error
        self._counters["frames"] += 1
        return signed_24((raw ^ 0x800000) & 0xFFFFFF)
