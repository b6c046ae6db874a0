"""Scanners: settings of `[[scanner]]`, advertisements, and what they say of tags (arrived, moved, left) and strangers.

Who an advertisement belongs to is decided in `tags`, presence in `presence`, decoding in `advertisement`. This file
joins them into events. Choices where the contract leaves room: a visit keeps the identity that it began with, so that
its `left` fits its `arrived` over midnight; the end of readings ends every visit; telemetry is told of tags whose rule
says `telemetry = true`, also while they are too weak for a visit.

Law: a stranger is counted and nothing else. Its address stands in no event, no log line and no `repr`.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, Event, Fact, Instant, Reading, Stream, rfc3339
from gateway.sensors import Driver, Kind, Surroundings
from gateway.sensors.ciphers import Decrypt
from gateway.sensors.counting import Interval
from gateway.sensors.presence import Arrived, Attendance, Change, Left, Moved, Zone
from gateway.sensors.tags import Content, Match, Rulebook, TagRule, repeated_selectors
from gateway.sensors.telemetry import NOTHING, BtHomeOpener, Telemetry
from gateway.units import Identifier, Pattern, Seconds

RSSI_DBM_MIN = -126
RSSI_DBM_MAX = 20
"""Outside, RSSI is not available (Core Specification vol 4 part E section 7.7.65.2: 127)."""
PAYLOAD_BYTES_MAX = 1650  # the most that extended advertising can carry
STRANGERS_MAX = 50_000
"""Addresses held to count strangers, some 6 MB; above, a known share of them is held and the count is an estimate."""
TOLD_MAX = 8192
"""Tags of which is remembered when their telemetry was last told."""

AddressType = Literal["public", "random"]


@dataclass(frozen=True, slots=True)
class ScannerSettings:
    """One `[[scanner]]`."""

    id: Identifier
    adapter: Annotated[str, Pattern(r"hci[0-9]{1,2}", 'a Bluetooth adapter such as "hci0"')] = "hci0"
    driver: Literal["bluepy", "bleak"] = "bluepy"
    mode: Literal["passive", "active"] = "passive"
    left_after_s: Annotated[Seconds, Ge(1), Le(86_400)] = 30.0
    counted_every: Annotated[Seconds, Ge(1), Le(86_400)] = 900.0
    telemetry_every: Annotated[Seconds, Ge(0), Le(86_400)] = 300.0
    arrive_rssi_dbm: Annotated[int, Ge(RSSI_DBM_MIN), Le(RSSI_DBM_MAX)] = -90
    path_loss_exponent: Annotated[float, Gt(0), Le(10)] = 2.5
    tags: tuple[TagRule, ...] = ()

    def __post_init__(self) -> None:
        if repeated := repeated_selectors(self.tags):
            raise ValueError(f"two rules of tags look for the same: {', '.join(repeated)}")


@dataclass(frozen=True, slots=True)
class Advertisement(Reading):
    """One advertisement as the radio heard it: `address` in lower case, `payload` the raw AD structures.

    `rssi_dbm` and `address_type` are None where not available. Address and payload stand in no `repr`: that may be
    logged.
    """

    address: str = field(repr=False)
    address_type: AddressType | None
    rssi_dbm: int | None
    payload: bytes = field(repr=False)


def sane_rssi_dbm(rssi_dbm: int | None) -> int | None:
    """Return an RSSI, or None where the number means that it is not available."""
    return rssi_dbm if rssi_dbm is not None and RSSI_DBM_MIN <= rssi_dbm <= RSSI_DBM_MAX else None


_ADDRESS = Pattern(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", 'six hex bytes such as "c4:64:e3:00:00:01"')


def reading_of(sensor: str, at: Instant, line: Mapping[str, Any]) -> Advertisement:
    """Read a recording's line; ValueError says what is wrong."""
    address, kind, rssi_dbm, payload = (line.get(key) for key in ("address", "address_type", "rssi_dbm", "payload"))
    if not isinstance(address, str):
        raise ValueError('"address" must be six hex bytes such as "c4:64:e3:00:00:01"')
    try:
        _ADDRESS.read(address)
    except ValueError as error:
        raise ValueError(f'"address" {error}') from None
    if kind not in (None, "public", "random"):
        raise ValueError(f'"address_type" must be "public" or "random", not {kind!r}')
    if rssi_dbm is not None and (isinstance(rssi_dbm, bool) or not isinstance(rssi_dbm, int)):
        raise ValueError(f'"rssi_dbm" must be a whole number, not {rssi_dbm!r}')
    if not isinstance(payload, str):
        raise ValueError('"payload" must be the advertising data in hex')
    try:
        data = bytes.fromhex(payload)
    except ValueError:
        raise ValueError('"payload" must be hex digits, two a byte') from None
    if len(data) > PAYLOAD_BYTES_MAX:
        raise ValueError(f'"payload" must be {PAYLOAD_BYTES_MAX} bytes at most, not {len(data)}')
    return Advertisement(sensor, at, address.lower(), kind, sane_rssi_dbm(rssi_dbm), data)


def line_of(reading: Advertisement) -> dict[str, Any]:
    """Return what a recording's line says of the reading; what is not available is absent."""
    line: dict[str, Any] = {"address": reading.address}
    if reading.address_type is not None:
        line["address_type"] = reading.address_type
    if reading.rssi_dbm is not None:
        line["rssi_dbm"] = reading.rssi_dbm
    line["payload"] = reading.payload.hex()
    return line


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


class Strangers:
    """Counts distinct addresses in bounded memory: exactly up to a limit, above it by adaptive sampling.

    Each time the limit is reached only addresses whose hash has one more leading zero stay, and each stands for twice
    as many (Wegman; Flajolet 1990). The standard error is 1.2 / sqrt(limit): 0.5 % here.
    """

    def __init__(self, limit: int = STRANGERS_MAX) -> None:
        self._limit = limit
        self._depth = 0
        self._held: set[str] = set()

    def add(self, address: str) -> None:
        if self._depth and not self._is_sampled(address):
            return
        self._held.add(address)
        if len(self._held) > self._limit:
            self._depth += 1
            self._held = {held for held in self._held if self._is_sampled(held)}

    def discard(self, address: str) -> None:
        """Forget one that turned out to be a tag."""
        self._held.discard(address)

    def count(self) -> int:
        return len(self._held) << self._depth

    def _is_sampled(self, address: str) -> bool:
        return zlib.crc32(address.encode()) >> (32 - self._depth) == 0


class BeaconInterpreter:
    """One scanner's advertisements into events.

    `keys` are decryptions, `identity_keys` keys, by the index of their rule; `troubles` are sentences about keys that
    cannot be used: they are told as a fault, and those tags have presence but no telemetry, or are strangers.
    """

    def __init__(
        self,
        settings: ScannerSettings,
        surroundings: Surroundings,
        keys: Mapping[int, Decrypt] = MappingProxyType({}),
        troubles: Sequence[str] = (),
        identity_keys: Mapping[int, bytes] = MappingProxyType({}),
    ) -> None:
        self.settings = settings
        self.surroundings = surroundings
        self._rules = Rulebook(settings.tags, identity_keys)
        self._attendance = Attendance(
            int(settings.left_after_s * NS_PER_S), settings.arrive_rssi_dbm, settings.path_loss_exponent
        )
        self._identities: dict[Any, str | None] = {}
        self._telemetry_every_ns = int(settings.telemetry_every * NS_PER_S)
        self._told: OrderedDict[Any, int] = OrderedDict()
        self._troubles = troubles
        self._openers = {
            index: BtHomeOpener(keys.get(index), must_be_encrypted=rule.bindkey_file is not None)
            for index, rule in enumerate(settings.tags)
            if rule.has_telemetry
        }
        self._interval: Interval | None = None
        self._strangers = Strangers()

    def read(self, reading: Reading) -> Iterator[Event]:
        """Take one advertisement."""
        if not isinstance(reading, Advertisement):
            return iter(())
        at = reading.at
        events: list[Event] = []
        interval, due_ns = self._interval, self._attendance.due_ns()
        if interval is None or at.wall_ns >= interval.until_ns or (due_ns is not None and due_ns <= at.boot_ns):
            events.extend(self.tick(at))
        content = self._rules.content(reading.payload)
        match = self._rules.match(content, reading.address, at.wall_ns)
        if match is None:
            if not self._rules.is_known(reading.address):
                self._strangers.add(reading.address)
            return iter(events)
        self._strangers.discard(reading.address)
        if changes := self._attendance.heard(match.key, at, reading.rssi_dbm, content.power_dbm):
            events.extend(self._told_change(change, at) for change in changes)
        if match.telemetry and (content.telemetry is not None or content.bthome is not None):
            events.extend(self._tell_telemetry(match, content, reading))
        return iter(events)

    def tick(self, now: Instant) -> Iterator[Event]:
        """End silent visits and intervals whose boundary has come, in the order of time."""
        if self._interval is None:
            yield from self._begin(now)
        assert self._interval is not None
        while True:
            due_ns = self._attendance.due_ns()
            boundary_ns = self._interval.until_ns - now.offset_ns
            if boundary_ns <= now.boot_ns and (due_ns is None or boundary_ns <= due_ns):
                if (span := self._interval.roll(now)) is None:
                    return
                yield self._counted(*span)
            elif due_ns is not None and due_ns <= now.boot_ns:
                for left in self._attendance.silent(due_ns):
                    yield self._told_change(left, now)
            else:
                return

    def due_ns(self) -> int | None:
        return self._attendance.due_ns()

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        """Cut the begun interval: it ends as the old clock has it, and the next begins as the new one has it."""
        yield from self.tick(before)
        assert self._interval is not None
        if self._interval.began.boot_ns < before.boot_ns:
            yield self._counted(*self._interval.cut(before, after))
        else:
            self._interval = Interval(after, self.settings.counted_every, self.surroundings.timezone)

    def finish(self, now: Instant) -> Iterator[Event]:
        """End every visit at when it was last heard, and close the begun interval."""
        yield from self.tick(now)
        for left in self._attendance.close():
            yield self._told_change(left, now)
        assert self._interval is not None
        if self._interval.began.boot_ns < now.boot_ns:
            yield self._counted(*self._interval.cut(now, now))

    def _begin(self, now: Instant) -> Iterator[Event]:
        self._interval = Interval(now, self.settings.counted_every, self.surroundings.timezone)
        if self._troubles:
            yield from self.surroundings.faults.fail(now, "driver_missing", "; ".join(self._troubles))

    def _counted(self, began: Instant, ended: Instant) -> Event:
        devices = self._strangers.count()
        self._strangers = Strangers()
        shown = devices if devices >= self.surroundings.anonymous_min else None
        return Event(self.settings.id, ended, BeaconCounted(rfc3339(began.wall_ns), rfc3339(ended.wall_ns), shown))

    def _identity(self, identity: str | None, at: Instant) -> str | None:
        return None if identity is None else self.surroundings.identify(identity, at)

    def _told_change(self, change: Change, now: Instant) -> Event:
        key: Any = change.key
        tag = key[0]
        fact: BeaconFact
        match change:
            case Arrived(_, _, zone, rssi_dbm):
                identity = self._identities[key] = self._identity(key[1], now)
                fact = BeaconArrived(tag, identity, zone, rssi_dbm)
            case Moved(_, _, from_, to, rssi_dbm):
                fact = BeaconMoved(tag, self._identities[key], from_, to, rssi_dbm)
            case Left(_, _, dwell_ms, rssi_max_dbm):
                fact = BeaconLeft(tag, self._identities.pop(key), dwell_ms, rssi_max_dbm)
        return Event(self.settings.id, change.at, fact)

    def _tell_telemetry(self, match: Match, content: Content, reading: Advertisement) -> Iterator[Event]:
        at, key = reading.at, match.key
        told_ns = self._told.get(key)
        if told_ns is not None and at.boot_ns - told_ns < self._telemetry_every_ns:
            return
        telemetry: Telemetry | None = content.telemetry
        if telemetry is None and content.bthome is not None:
            telemetry = self._openers[match.rule].open(content.bthome, reading.address)
        if telemetry is None or telemetry == NOTHING:
            return
        self._told[key] = at.boot_ns
        self._told.move_to_end(key)
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        identity = self._identities[key] if key in self._identities else self._identity(match.identity, at)
        yield Event(self.settings.id, at, BeaconTelemetry(match.tag, identity, **asdict(telemetry)))


def interpreter(settings: ScannerSettings, surroundings: Surroundings) -> BeaconInterpreter:
    """Build the interpreter of one scanner; reads the keys that its rules name."""
    from gateway.sensors.drivers.tag_keys import opened_keys

    keys = opened_keys(settings.tags)
    return BeaconInterpreter(settings, surroundings, keys.bind, keys.troubles, keys.identity)


def driver(settings: ScannerSettings, clock: Clock) -> Driver:
    """Build the driver that the settings name."""
    if settings.driver == "bleak":
        from gateway.sensors.drivers.bleak_scan import BleakScan

        return BleakScan(settings, clock)
    from gateway.sensors.drivers.bluepy_scan import BluepyScan

    return BluepyScan(settings, clock)


KIND: Kind[ScannerSettings] = Kind(
    table="scanner",
    stream="beacon",
    settings=ScannerSettings,
    facts=(BeaconArrived, BeaconMoved, BeaconLeft, BeaconTelemetry, BeaconCounted),
    interpreter=interpreter,
    driver=driver,
    reading_of=reading_of,
    line_of=line_of,
    interval_s=lambda settings: settings.counted_every,
)
