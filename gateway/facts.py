"""The facts of the gateway's own stream (contract section 4): sensor faults, health, and every loss by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gateway.model import Fact, Stream


class GatewayFact(Fact):
    """A fact of stream `gateway`, the last to be shed."""

    __slots__ = ()
    stream: ClassVar[Stream] = "gateway"


@dataclass(frozen=True, slots=True)
class SensorFailed(GatewayFact):
    type: ClassVar[str] = "store.sensor.failed"
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class SensorRecovered(GatewayFact):
    type: ClassVar[str] = "store.sensor.recovered"
    reason: str
    detail: str
    failed_ms: int


@dataclass(frozen=True, slots=True)
class GatewayStarted(GatewayFact):
    type: ClassVar[str] = "store.gateway.started"
    version: str
    config_sha256: str
    reason: str
    clean: bool


@dataclass(frozen=True, slots=True)
class GatewayStopped(GatewayFact):
    type: ClassVar[str] = "store.gateway.stopped"
    version: str
    config_sha256: str
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayHealth(GatewayFact):
    """How the gateway and its machine are.

    `sensors` maps an id to `{"readings", "discarded", "age_ms"}`; `age_ms` absent before the first reading.
    `throttled`: the supply is or was too low, or the processor slows itself down; `throttling` says which, now and
    since the machine started. `card_worn_percent` and `card_spare` are the card's own words. `last_reboot` says why
    the machine last started: `ordered`, `watchdog`, `panic`, or `unclean` (power lost, or unknown). `not_kept`: why
    the outbox does not outlast a power cut, `unreadable`: why what is recorded cannot be read and waits.
    """

    type: ClassVar[str] = "store.gateway.health"
    memory_rss_bytes: int
    outbox_entries: int
    outbox_bytes: int
    sensors: Mapping[str, Mapping[str, int]]
    disk_free_bytes: int | None = None
    oldest_entry_ms: int | None = None
    cpu_celsius: float | None = None
    throttled: bool | None = None
    throttling: tuple[str, ...] | None = None
    disk_read_only: bool | None = None
    card_worn_percent: int | None = None
    card_spare: Literal["normal", "warning", "urgent"] | None = None
    board: str | None = None
    board_serial: str | None = None
    last_reboot: Literal["ordered", "watchdog", "panic", "unclean"] | None = None
    certificate_days: int | None = None
    not_kept: str | None = None
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class ClockSet(GatewayFact):
    type: ClassVar[str] = "store.gateway.clock_set"
    by_ms: int


@dataclass(frozen=True, slots=True)
class EventsDropped(GatewayFact):
    type: ClassVar[str] = "store.gateway.events_dropped"
    outbox: str
    stream_: str
    reason: Literal["full", "expired", "corrupt", "refused", "overflow"]
    first_sequence: int
    last_sequence: int
    count: int


@dataclass(frozen=True, slots=True)
class OutboxCreated(GatewayFact):
    type: ClassVar[str] = "store.gateway.outbox_created"
    reason: str
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class ReadingsDiscarded(GatewayFact):
    type: ClassVar[str] = "store.gateway.readings_discarded"
    sensor: str
    count: int
    reason: Literal["inbox_full", "memory_full", "disk_full", "disk_failed"]


@dataclass(frozen=True, slots=True)
class ConfigChanged(GatewayFact):
    type: ClassVar[str] = "store.gateway.config_changed"
    config_sha256: str
    by: str
    outcome: Literal["applied", "rejected", "rolled_back"]


FACTS: tuple[type[Any], ...] = (
    SensorFailed,
    SensorRecovered,
    GatewayStarted,
    GatewayStopped,
    GatewayHealth,
    ClockSet,
    EventsDropped,
    OutboxCreated,
    ReadingsDiscarded,
    ConfigChanged,
)
