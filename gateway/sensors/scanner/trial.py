"""The trial of a scanner: each tag held at it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.model import Reading
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import Rulebook
from gateway.sensors.trial import Verdict

NO_KEYS: Mapping[int, bytes] = MappingProxyType({})
NEAR_DBM, NEAR_HEARD = -70, 3
"""A tag held at the scanner is heard above -60; three of its advertisements above -70 are no stray ones."""


class ScannerTrial:
    """Each tag held at the scanner; where none is configured, anything that is heard."""

    def __init__(self, settings: ScannerSettings, identity_keys: Mapping[int, bytes] = NO_KEYS) -> None:
        self._tags = tuple(dict.fromkeys(rule.tag for rule in settings.tags))
        self._rules = Rulebook(settings.tags, identity_keys)
        self.acts = tuple(f'hold the tag "{tag}" at the scanner' for tag in self._tags) or (
            "hold anything with Bluetooth at the scanner",
        )
        self._act = 0
        self._heard = 0
        self._strengths: list[int] = []

    def begin(self, act: int) -> Verdict | None:
        self._act, self._heard, self._strengths = act, 0, []
        return None

    def take(self, reading: Reading) -> Verdict | None:
        if not isinstance(reading, Advertisement):
            return None
        self._heard += 1
        if self._tags:
            match = self._rules.match(self._rules.content(reading.payload), reading.address, reading.at.wall_ns)
            if match is None or match.tag != self._tags[self._act]:
                return None
        if reading.rssi_dbm is not None:
            self._strengths.append(reading.rssi_dbm)
        if sum(1 for rssi in self._strengths if rssi >= NEAR_DBM) < NEAR_HEARD:
            return None
        return Verdict("ok", f"heard {len(self._strengths)} times, at best {max(self._strengths)} dBm")

    def passed(self, since_last_ns: int) -> Verdict | None:
        return None

    def give_up(self) -> Verdict:
        if self._strengths:
            found = f"heard {len(self._strengths)} times, at best {max(self._strengths)} dBm: too weak for so near"
            return Verdict("failed", found, "hold it closer; check its battery, the antenna and metal around the Pi")
        if self._heard:
            found = f"{self._heard} advertisements of others, none of it"
            return Verdict("failed", found, "check that the tag is awake, and its rule in `tags`")
        return Verdict("failed", "nothing was heard", "check the adapter: gateway doctor")
