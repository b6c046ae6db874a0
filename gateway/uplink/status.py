"""What `gateway status` says of the uplink, and what it counts. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from gateway.model import NS_PER_MS, Instant, LinkUp, rfc3339
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


def limits_of(signal: LinkUp) -> tuple[str, ...]:
    """Return what the broker said of itself when it let us in, in words; empty where it said nothing."""
    said = (
        (signal.receive_maximum is not None, f"takes {signal.receive_maximum} messages at once"),
        (signal.packet_bytes_max is not None, f"takes packets of {signal.packet_bytes_max} bytes at most"),
        (bool(signal.keepalive_s), f"wants a sign of life every {signal.keepalive_s} s"),
        (signal.qos_max < 2, f"takes QoS {signal.qos_max} at most"),
        (not signal.retain_available, "keeps no retained messages: who comes later does not see this gateway's state"),
        (not signal.wildcards_available, "has no wildcards in subscriptions: commands are asked for verb by verb"),
        (not signal.shared_available, "has no shared subscriptions: consumers cannot divide the events among them"),
        (bool(signal.session_expiry_s), f"keeps the session for {signal.session_expiry_s} s"),
        (signal.client_id is not None, f"calls this client {signal.client_id}"),
        (signal.reason is not None, f'says "{signal.reason}"'),
    )
    return tuple(words for is_said, words in said if is_said)


STATE_REFUSED = "give this client the right to publish to it, retained (the broker's access list)"


def told(status: UplinkStatus, now: Instant) -> list[dict[str, str]]:
    """Return what is not as it should be, as the state document has it; empty where all is well."""
    found = [asdict(note) for note in status.notes]
    if status.held_since_ms is not None and status.reason is not None:
        probe_ns = now.wall_ns + (status.next_probe_ms or 0) * NS_PER_MS
        found.insert(0, {**asdict(status.reason), "next_probe": rfc3339(probe_ns)})
    return found


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
    state_refused: str | None = None
    held_since_ms: int | None = None
    """Since when (UTC) the broker refuses every event; None: it does not."""
    next_probe_ms: int | None = None
    """When, from now, a held link is asked again by one message; None unless sending is held."""
    counters: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Reason, ...] = ()
    """What is not as it should be though the link may be up."""
    limits: tuple[str, ...] = ()
    """What the broker said of itself, while the link is up."""
