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
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from gateway.model import NS_PER_S, Event, Instant, Reading, rfc3339
from gateway.sensors.counting import Interval
from gateway.sensors.kind import Context
from gateway.sensors.scanner.ciphers import Decrypt
from gateway.sensors.scanner.facts import (
    BeaconArrived,
    BeaconCounted,
    BeaconFact,
    BeaconLeft,
    BeaconMoved,
    BeaconTelemetry,
)
from gateway.sensors.scanner.presence import Arrived, Attendance, Change, Left, Moved
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import Content, Match, Rulebook
from gateway.sensors.scanner.telemetry import NOTHING, BtHomeOpener, Telemetry

STRANGERS_MAX = 50_000
"""Addresses held to count strangers, some 6 MB; above, a known share of them is held and the count is an estimate."""
TOLD_MAX = 8192
"""Tags of which is remembered when their telemetry was last told."""


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
        context: Context,
        keys: Mapping[int, Decrypt] = MappingProxyType({}),
        troubles: Sequence[str] = (),
        identity_keys: Mapping[int, bytes] = MappingProxyType({}),
    ) -> None:
        self.settings = settings
        self.context = context
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
            self._interval = Interval(after, self.settings.counted_every, self.context.timezone)

    def finish(self, now: Instant) -> Iterator[Event]:
        """End every visit at when it was last heard, and close the begun interval."""
        yield from self.tick(now)
        for left in self._attendance.close():
            yield self._told_change(left, now)
        assert self._interval is not None
        if self._interval.began.boot_ns < now.boot_ns:
            yield self._counted(*self._interval.cut(now, now))

    def _begin(self, now: Instant) -> Iterator[Event]:
        self._interval = Interval(now, self.settings.counted_every, self.context.timezone)
        if self._troubles:
            yield from self.context.faults.fail(now, "driver_missing", "; ".join(self._troubles))

    def _counted(self, began: Instant, ended: Instant) -> Event:
        devices = self._strangers.count()
        self._strangers = Strangers()
        shown = devices if devices >= self.context.anonymous_min else None
        return Event(self.settings.id, ended, BeaconCounted(rfc3339(began.wall_ns), rfc3339(ended.wall_ns), shown))

    def _identity(self, identity: str | None, at: Instant) -> str | None:
        return None if identity is None else self.context.identify(identity, at)

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
