"""A fridge in a simulated shop: somebody opens it now and then. Pure, seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from gateway.sensors.simulation import Lone

from .settings import FridgeSettings


def simulate(settings: FridgeSettings) -> Lone:
    """Return what one fridge says: about 5 °C, swinging with its compressor, warmer while it is open."""

    def said(rng: Random) -> Iterator[tuple[float, Mapping[str, Any]]]:
        t_s, open_until_s, warmth = 0.0, 0.0, 0.0
        while True:
            if rng.random() < 0.01:
                open_until_s = t_s + rng.uniform(20.0, 120.0)
            warmth += (8.0 - warmth) * 0.05 if t_s < open_until_s else -warmth * 0.02
            celsius = 5.0 + math.sin(t_s / 300.0) + warmth + rng.gauss(0.0, 0.05)
            yield t_s, {"celsius": round(celsius * 16) / 16}
            t_s += settings.read_every

    return Lone(settings.id, said)
