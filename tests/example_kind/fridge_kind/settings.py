"""The settings of a fridge: which thermometer, and what is too warm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from gateway.units import Identifier, Pattern, Seconds

CELSIUS_MIN, CELSIUS_MAX = -55.0, 125.0
"""What a DS18B20 can measure."""


@dataclass(frozen=True, slots=True)
class FridgeSettings:
    """One `[[fridge]]`. `bus` is the folder in which the kernel shows the devices on the 1-Wire bus."""

    id: Identifier
    device: Annotated[str, Pattern(r"28-[0-9a-f]{12}", 'a 1-Wire thermometer such as "28-0316a2795bff"')]
    warm_above_celsius: Annotated[float, Ge(CELSIUS_MIN), Le(CELSIUS_MAX)] = 8.0
    warm_after: Annotated[Seconds, Ge(0), Le(86_400)] = 600.0
    read_every: Annotated[Seconds, Ge(0.1), Le(3600)] = 10.0
    measured_every: Annotated[Seconds, Ge(1), Le(86_400)] = 900.0
    bus: str = "/sys/bus/w1/devices"
