"""`driver = "bleak"`: not part of this version; the sensor fails by name, and the rest of the gateway runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.clock import Clock
from gateway.model import DriverFailed, Reading
from gateway.sensors.beacon import ScannerSettings


class BleakScan:
    """Tells once that it cannot scan. There is no thread, so none to hang."""

    def __init__(self, settings: ScannerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def start(self, emit: Callable[[Reading], None]) -> None:
        """Tell the failure."""
        detail = 'driver = "bleak" is not part of this version of the gateway; set driver = "bluepy"'
        emit(DriverFailed(self._settings.id, self._clock.now(), "driver_missing", detail))

    def close(self) -> None:
        """There is nothing to end."""

    def progress_ns(self) -> int | None:
        return None

    def counters(self) -> Mapping[str, int]:
        return {}
