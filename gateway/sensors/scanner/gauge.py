"""How a scanner is watched: how many devices it hears, and how strong each known tag is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.model import NS_PER_S, Reading
from gateway.sensors.gauge import Gauge, Tone, bar
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import Rulebook

NO_KEYS: Mapping[int, bytes] = MappingProxyType({})
ADDRESSES_MAX = 5_000
TAG_SILENT_S = 30.0
BAR_WIDTH = 24


@dataclass(slots=True)
class Signal:
    """How a tag was heard last."""

    rssi_dbm: int | None
    heard_ns: int
    count: int = 0


class ScannerGauge(Gauge):
    """One scanner as it is watched; `identity_keys` are those of its tags, by their rule's index."""

    def __init__(self, settings: ScannerSettings, identity_keys: Mapping[int, bytes] = NO_KEYS) -> None:
        super().__init__(settings)
        self.rules = Rulebook(settings.tags, identity_keys)
        self.tags: dict[str, Signal] = {}
        self.addresses: dict[str, int] = {}

    def show(self, reading: Reading, now_ns: int) -> None:
        if not isinstance(reading, Advertisement):
            return
        self.addresses.pop(reading.address, None)
        if len(self.addresses) >= ADDRESSES_MAX:
            self.addresses.pop(next(iter(self.addresses)))
        self.addresses[reading.address] = now_ns
        match = self.rules.match(self.rules.content(reading.payload), reading.address, reading.at.wall_ns)
        if match is None:
            return
        signal = self.tags.setdefault(match.tag, Signal(None, now_ns))
        signal.heard_ns, signal.count = now_ns, signal.count + 1
        signal.rssi_dbm = reading.rssi_dbm if reading.rssi_dbm is not None else signal.rssi_dbm

    def latest(self, now_ns: int) -> str:
        strong = [f"{tag} {signal.rssi_dbm} dBm" for tag, signal in self.present(now_ns) if signal.rssi_dbm]
        return f"{self.devices(now_ns)} devices" + (f", {', '.join(strong)}" if strong else "")

    def figures(self, now_ns: int) -> dict[str, Any]:
        tags = {tag: signal.rssi_dbm for tag, signal in self.present(now_ns)}
        return {"devices": self.devices(now_ns), "tags": tags}

    def picture(self, now_ns: int, width: int, height: int) -> Iterator[tuple[str, Tone]]:
        for tag, signal in self.present(now_ns):
            heard_s = (now_ns - signal.heard_ns) / NS_PER_S
            yield f"\n{tag[:20]:>20} {bar(signal.rssi_dbm, BAR_WIDTH)} ", "tag"
            yield f"{signal.rssi_dbm if signal.rssi_dbm is not None else '?'} dBm, {heard_s:.0f} s ago", "quiet"

    def devices(self, now_ns: int) -> int:
        """Return how many addresses were heard in the last seconds."""
        return sum(1 for heard in self.addresses.values() if now_ns - heard < TAG_SILENT_S * NS_PER_S)

    def present(self, now_ns: int) -> list[tuple[str, Signal]]:
        """Return the tags heard of late, the strongest first."""
        near = [(tag, s) for tag, s in self.tags.items() if now_ns - s.heard_ns < TAG_SILENT_S * NS_PER_S]
        return sorted(near, key=lambda one: one[1].rssi_dbm if one[1].rssi_dbm is not None else -127, reverse=True)
