"""The nouns: `Instant`, `Reading`, `Fact`, `Event`, `Entry`, and the signals of a link.

Law: values only. Everything here is frozen and knows nothing else of ours but the streams' names. Durations are taken
between `boot_ns`; `wall_ns` is data, it may step.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from gateway.streams import declared

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

Stream = str
"""The name of one of `STREAMS`."""
STREAMS: tuple[Stream, ...] = tuple(one.name for one in declared())
SHED_ORDER: tuple[Stream, ...] = tuple(one.name for one in sorted(declared(), key=lambda one: one.worth))
"""What goes first when the disk is full (contract section 10.5)."""

ClockTrust = Literal["synced", "estimated", "unsynced"]


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks: `boot_ns` of CLOCK_BOOTTIME, `wall_ns` of UTC, and how far UTC is to be trusted."""

    boot_ns: int
    wall_ns: int
    clock: ClockTrust = "synced"

    def later(self, by_ns: int) -> Instant:
        """Return the moment `by_ns` later (earlier where negative) on both clocks."""
        return Instant(self.boot_ns + by_ns, self.wall_ns + by_ns, self.clock)

    @property
    def offset_ns(self) -> int:
        """Wall minus boot: constant but for a step or slew of the wall clock."""
        return self.wall_ns - self.boot_ns


def rfc3339(wall_ns: int) -> str:
    """Write UTC nanoseconds since 1970 as `2026-11-22T09:00:00.000Z` (milliseconds, floored)."""
    ms = wall_ns // NS_PER_MS
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


@dataclass(frozen=True, slots=True)
class Reading:
    """What hardware said, raw. Each kind of sensor subclasses it in its own file."""

    sensor: str
    at: Instant


@dataclass(frozen=True, slots=True)
class DriverFailed(Reading):
    """A driver cannot read its hardware: `reason` from the contract's list, `detail` a sentence for a person."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class DriverRecovered(Reading):
    """A driver reads again; every fault that the driver told is over."""


class Fact:
    """The `data` of one event type: subclasses are frozen dataclasses whose fields are the contract's keys.

    A field named like a Python keyword ends in an underscore (`from_`); `None` means unknown, and unknown is absent.
    """

    __slots__ = ()
    type: ClassVar[str]
    stream: ClassVar[Stream]


@cache
def _fields_of(fact: type) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, field.name.rstrip("_")) for field in dataclasses.fields(fact))


def data_of(fact: Fact) -> dict[str, Any]:
    """Return the fact as the event's `data`: the contract's keys, unknown values absent."""
    kind: Any = type(fact)
    return {key: value for name, key in _fields_of(kind) if (value := getattr(fact, name)) is not None}


@dataclass(frozen=True, slots=True)
class Event:
    """What happened in the shop: a fact about `subject` (a sensor's id, or "gateway") at a moment."""

    subject: str
    at: Instant
    fact: Fact


class Entry(NamedTuple):
    """An event with its place in the outbox, durable. `payload` is the JSON object of `wire.record`, byte for byte.

    A tuple, for a backlog of millions is made of them: it takes half the time of a frozen dataclass.
    """

    stream: Stream
    sequence: int
    epoch: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Loss:
    """Entries `first..last` (inclusive) of a stream that will not be delivered; at most `count` of them are lost."""

    stream: Stream
    reason: Literal["full", "expired", "corrupt", "refused", "overflow"]
    first: int
    last: int
    count: int


# What a link says. `link` is the number of the connection, so that a late word of an old one changes nothing.


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A connection is accepted; limits as the broker stated them (None: not stated)."""

    link: int
    protocol: Literal["5", "3.1.1"]
    receive_maximum: int | None = None
    packet_bytes_max: int | None = None
    keepalive_s: int | None = None
    retain_available: bool = True
    qos_max: int = 2
    wildcards_available: bool = True
    shared_available: bool = True
    session_expiry_s: int | None = None
    client_id: str | None = None
    reason: str | None = None
    """What the broker said beside its yes (MQTT 5's Reason String), fit for a terminal."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A connection ended or could not be made.

    `code` is stable and dotted ("tls.unknown_ca"), `detail` and `advice` are sentences for a person. `connack` is the
    broker's refusal code if it gave one; `in_order` is true for a FIN or DISCONNECT, false for resets and time-outs.
    """

    link: int
    code: str
    detail: str
    advice: str = ""
    connack: int | None = None
    had_connack: bool = False
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker's PUBACK for the message `token`; `reason_code` as in MQTT 5 (0 on 3.1.1)."""

    link: int
    token: int
    reason_code: int = 0


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """Several PUBACKs that came in one reading, in their order: (token, reason code) as in `Acknowledged`."""

    link: int
    words: tuple[tuple[int, int], ...]


CommandVerb = Literal["ping", "status", "doctor", "tare", "resend", "config", "restart"]
VERBS: tuple[CommandVerb, ...] = get_args(CommandVerb)
"""What the cloud may ask a gateway to do."""


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A message on `{p}/command/{verb}`."""

    link: int
    verb: str
    payload: bytes
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker's answer to the order `Subscribe` with these filters: a reason code each, 0x80 and above a no."""

    link: int
    filters: tuple[str, ...]
    codes: tuple[int, ...]


Signal = LinkUp | LinkDown | Acknowledged | Acknowledgements | CommandReceived | Subscribed


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT publication, QoS 1. `token` names it in `Acknowledged`; `properties` are MQTT 5 user properties."""

    token: int
    topic: str
    payload: bytes
    retain: bool = False
    content_type: str | None = None
    properties: tuple[tuple[str, str], ...] = ()
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """The order to open connection number `link` with this will (QoS 1), if any."""

    link: int
    protocol: Literal["5", "3.1.1"]
    will: Message | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The order to ask for these topic filters; `retained`: also for what the broker keeps of them."""

    link: int
    filters: tuple[str, ...]
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The order to end connection `link`; `gently` sends DISCONNECT first (the will is then not sent)."""

    link: int
    gently: bool = True


Order = Connect | Message | Subscribe | Disconnect
