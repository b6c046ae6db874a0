"""Waiting at a scale until it is at rest: what `tare`, `calibrate` and `commission` do with a source of readings."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import GatewayError, Unavailable
from gateway.machine.clock import Clock
from gateway.model import NS_PER_S
from gateway.sensors.fault import Known
from gateway.sensors.shelf.settings import ShelfSettings
from gateway.sensors.shelf.settling import WINDOWS, Weighing, Weight
from gateway.technician.sources import Source

TOLD_EVERY_S = 5.0


class NotAtRest(GatewayError):
    """The scale gave samples, but no weight within the time."""


def weigh(
    source: Source,
    settings: ShelfSettings,
    clock: Clock,
    within_s: float,
    away_from: Weight | None = None,
    waiting: Callable[[str], object] = lambda why: None,
) -> Weight:
    """Return the next settled weight of samples that are taken from now on, other than `away_from`.

    `waiting` gets now and then why there is none yet. Raises NotAtRest, or Unavailable where no sample came at all.
    """
    source.poll(0)
    weighing = Weighing(settings.rate_hz, WINDOWS, away_from)
    began_ns = clock.now().boot_ns
    told_ns = began_ns
    while (now_ns := clock.now().boot_ns) - began_ns < within_s * NS_PER_S:
        for reading in source.poll():
            if reading.sensor == settings.id and (weight := weighing.take(reading)) is not None:
                return weight
        if now_ns - told_ns >= TOLD_EVERY_S * NS_PER_S:
            told_ns = now_ns
            waiting(weighing.why())
    if weighing.samples:
        raise NotAtRest(
            f"{settings.id} did not come to rest within {within_s:g} s: {weighing.why()}",
            f"gateway diagnose {settings.id} says more",
        )
    faults = source.known().get(settings.id, Known()).faults
    why = f" ({'; '.join(fault.sentence for fault in faults)})" if faults else ""
    raise Unavailable(
        f"no sample came from {settings.id} within {within_s:g} s{why}", f"gateway diagnose {settings.id} says more"
    )
