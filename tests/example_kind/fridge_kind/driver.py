"""The thermometer as the kernel shows it: a file with thousandths of a degree, which takes 0.75 s to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.machine.bounded import read_text
from gateway.machine.clock import Clock
from gateway.sensors.drivers import DriverError, Supervised

from .reading import FridgeRead
from .settings import FridgeSettings

KERNEL_BYTES_MAX = 4096
POWERED_ON_CELSIUS = 85.0
"""What the chip says before its first conversion: no temperature of a fridge."""


class FridgeDriver(Supervised):
    """The driver of one `[[fridge]]`."""

    def __init__(self, settings: FridgeSettings, clock: Clock) -> None:
        super().__init__(settings.id, clock)
        self._settings = settings
        self._file = Path(settings.bus) / settings.device / "temperature"
        self._counters = {"conversions": 0, "powered_on": 0}

    def counted(self) -> Mapping[str, int]:
        return dict(self._counters)

    def work(self) -> None:
        while not self.stopping.is_set():
            self.alive()
            celsius = self._celsius()
            if celsius == POWERED_ON_CELSIUS:
                self._counters["powered_on"] += 1
            else:
                self._counters["conversions"] += 1
                self.emit(FridgeRead(self.sensor, self.clock.now(), celsius))
                self.good()
            self.stopping.wait(self._settings.read_every)

    def _celsius(self) -> float:
        try:
            return int(read_text(self._file, KERNEL_BYTES_MAX)) / 1000
        except FileNotFoundError:
            detail = f"there is no {self._file}: check the wiring, and dtoverlay=w1-gpio in /boot/firmware/config.txt"
            raise DriverError("driver_missing", detail) from None
        except (OSError, ValueError) as error:
            raise DriverError("driver_died", f"{self._file} gives no temperature ({error})") from error
