"""The facts of stream `beacon`: tags that arrive, move and leave, their telemetry, and how many strangers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.model import Fact, Stream
from gateway.sensors.scanner.presence import Zone


class BeaconFact(Fact):
    """A fact of stream `beacon`, the first to be shed."""

    __slots__ = ()
    stream: ClassVar[Stream] = "beacon"


@dataclass(frozen=True, slots=True)
class BeaconArrived(BeaconFact):
    type: ClassVar[str] = "store.beacon.arrived"
    tag: str
    identity: str | None
    proximity: Zone
    rssi_dbm: int


@dataclass(frozen=True, slots=True)
class BeaconMoved(BeaconFact):
    type: ClassVar[str] = "store.beacon.moved"
    tag: str
    identity: str | None
    from_: Zone
    to: Zone
    rssi_dbm: int


@dataclass(frozen=True, slots=True)
class BeaconLeft(BeaconFact):
    type: ClassVar[str] = "store.beacon.left"
    tag: str
    identity: str | None
    dwell_ms: int
    rssi_max_dbm: int


@dataclass(frozen=True, slots=True)
class BeaconTelemetry(BeaconFact):
    """What a tag's frame carries; the rest is absent."""

    type: ClassVar[str] = "store.beacon.telemetry"
    tag: str
    identity: str | None
    battery_mv: int | None = None
    battery_percent: int | None = None
    temperature_celsius: float | None = None
    humidity_percent: float | None = None
    pressure_pascal: int | None = None
    uptime_ms: int | None = None
    advertisements: int | None = None


@dataclass(frozen=True, slots=True)
class BeaconCounted(BeaconFact):
    """`devices`: distinct addresses of strangers heard in the interval; absent below `anonymous_min`."""

    type: ClassVar[str] = "store.beacon.counted"
    from_: str
    to: str
    devices: int | None
