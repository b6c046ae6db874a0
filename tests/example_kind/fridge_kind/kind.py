"""The kind `fridge`: what the gateway knows of fridges, in one value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.model import Reading
from gateway.sensors.check import Checked
from gateway.sensors.gauge import Gauge
from gateway.sensors.kind import Kind
from gateway.shown import Shown, newest

from .diagnosis import judge
from .driver import FridgeDriver
from .facts import FridgeCool, FridgeMeasured, FridgeWarm
from .interpreter import FridgeInterpreter
from .reading import FridgeRead, line_of, reading_of
from .settings import FridgeSettings
from .simulated import simulate


class FridgeGauge(Gauge):
    """One fridge as it is watched."""

    celsius: float | None = None

    def show(self, reading: Reading, now_ns: int) -> None:
        if isinstance(reading, FridgeRead):
            self.celsius = reading.celsius

    def latest(self, now_ns: int) -> str:
        return f"{self.celsius:.1f} °C"

    def figures(self, now_ns: int) -> dict[str, object]:
        return {} if self.celsius is None else {"celsius": self.celsius}


def check(settings: FridgeSettings) -> Iterator[Checked]:
    """Yield whether the kernel shows the thermometer."""
    folder = Path(settings.bus) / settings.device
    if folder.is_dir():
        yield Checked("ok", f"{folder} is there", code="fridge.there")
    else:
        why, advice = "the fridge is read through it", "check its wires, and dtoverlay=w1-gpio in config.txt"
        yield Checked("failed", f"there is no {folder}", why, advice, "fridge.absent")


def shown(settings: FridgeSettings) -> Iterator[Shown]:
    """Yield what a home automation is shown."""
    described = newest("fridge", settings.id, FridgeMeasured.type, "most_celsius")
    more = {"device_class": "temperature", "unit_of_measurement": "°C"}
    yield Shown("sensor", f"{settings.id}-celsius", {"name": f"{settings.id} warmest", **described, **more})


EXAMPLE = """\
[[fridge]]
id = "dairy"
device = "28-0316a2795bff"            # its folder below /sys/bus/w1/devices
# warm_above_celsius = 8
# warm_after = "10 min"
"""

KIND: Kind[FridgeSettings] = Kind(
    table="fridge",
    stream="fridge",
    settings=FridgeSettings,
    facts=(FridgeMeasured, FridgeWarm, FridgeCool),
    interpreter=FridgeInterpreter,
    driver=FridgeDriver,
    reading_of=reading_of,
    line_of=line_of,
    interval_s=lambda settings: settings.measured_every,
    judge=judge,
    gauge=FridgeGauge,
    check=check,
    discovery=shown,
    simulate=simulate,
    example=EXAMPLE,
    changeable="warm_above_celsius warm_after read_every measured_every",
)
