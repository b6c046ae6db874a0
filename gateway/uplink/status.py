"""What `gateway status` says of the uplink, and what it counts. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from gateway.uplink.fallback import Protocol

Phase = Literal["off", "down", "connecting", "up", "stopped"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the link is as it is: a stable dotted code and sentences for a person."""

    code: str
    detail: str
    advice: str = ""


@dataclass(slots=True)
class Counters:
    """Since the process started, in events where not said otherwise."""

    sent: int = 0
    messages: int = 0
    acknowledged: int = 0
    resent: int = 0
    refused: int = 0
    no_subscriber: int = 0
    retried: int = 0
    unanswered: int = 0
    connects: int = 0
    reconnects: int = 0
    answers_dropped: int = 0

    def all(self) -> dict[str, int]:
        """Return every count by its name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UplinkStatus:
    """A picture of the uplink. `since_ms` is UTC; `next_attempt_ms` is from now, None unless the link is down."""

    phase: Phase
    up: bool
    since_ms: int | None
    reason: Reason | None
    protocol: Protocol | None
    in_flight: int
    in_flight_bytes: int
    window: int
    window_bytes: int
    round_trip_ms: float | None
    next_attempt_ms: int | None
    held_back: int
    counters: Mapping[str, int] = field(default_factory=dict)
