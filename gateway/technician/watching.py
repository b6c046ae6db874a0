"""What a person sees who watches sensors live: latest readings, rates, plots, and the events they would make. Pure.

Law: it only shows. Readings and the moment they arrived go in, words and lines of characters come out; memory is
bounded however long one watches. Radio addresses of strangers are counted for a moment and shown nowhere.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gateway.engine.interpretation import Interpretation
from gateway.model import NS_PER_S, Event, Reading, data_of
from gateway.sensors.beacon import Advertisement, ScannerSettings
from gateway.sensors.door import BEAMS, BeamChanged
from gateway.sensors.shelf import Calibration, ScaleSampled
from gateway.sensors.tags import Rulebook

NO_KEYS: Mapping[int, bytes] = MappingProxyType({})
RATE_OVER_S = 5.0
ARRIVALS_MAX = 5_000
PLOTTED_S = 60.0
POINTS_MAX = 4_800
"""A minute of a scale at 80 samples a second."""
LEVELS_MAX = 600
EVENTS_KEPT = 50
ADDRESSES_MAX = 5_000
TAG_SILENT_S = 30.0

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The dots of a braille character, four rows of two (Unicode 28xx)."""


@dataclass(slots=True)
class Signal:
    """How a tag was heard last."""

    rssi_dbm: int | None
    heard_ns: int
    count: int = 0


@dataclass(slots=True)
class Gauge:
    """One sensor as it is watched. `arrivals` and plotted moments are `boot_ns` of the watcher."""

    id: str
    kind: str
    calibration: Calibration | None = None
    arrivals: deque[int] = field(default_factory=lambda: deque(maxlen=ARRIVALS_MAX))
    points: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))
    beams: dict[str, deque[tuple[int, bool]]] = field(default_factory=dict)
    tags: dict[str, Signal] = field(default_factory=dict)
    rules: Rulebook | None = None
    counts: int | None = None
    addresses: dict[str, int] = field(default_factory=dict)
    readings: int = 0

    def take(self, reading: Reading, now_ns: int) -> None:
        """Take a reading that arrived at `now_ns`."""
        self.readings += 1
        self.arrivals.append(now_ns)
        match reading:
            case ScaleSampled():
                self.counts = reading.counts
                self.points.append((now_ns, self.value(reading.counts)))
            case BeamChanged():
                levels = self.beams.setdefault(reading.beam, deque(maxlen=LEVELS_MAX))
                if not levels or levels[-1][1] != reading.broken:
                    levels.append((now_ns, reading.broken))
            case Advertisement():
                self._heard(reading, now_ns)

    def _heard(self, reading: Advertisement, now_ns: int) -> None:
        self.addresses.pop(reading.address, None)
        if len(self.addresses) >= ADDRESSES_MAX:
            self.addresses.pop(next(iter(self.addresses)))
        self.addresses[reading.address] = now_ns
        if self.rules is None:
            return
        match = self.rules.match(self.rules.content(reading.payload), reading.address, reading.at.wall_ns)
        if match is None:
            return
        signal = self.tags.setdefault(match.tag, Signal(None, now_ns))
        signal.heard_ns, signal.count = now_ns, signal.count + 1
        signal.rssi_dbm = reading.rssi_dbm if reading.rssi_dbm is not None else signal.rssi_dbm

    def value(self, counts: int) -> float:
        """Return what is plotted of a sample: grams where calibrated, else counts."""
        return float(counts) if self.calibration is None else self.calibration.grams(counts)

    @property
    def unit(self) -> str:
        return "counts" if self.calibration is None else "g"

    def rate_hz(self, now_ns: int, watched_s: float = RATE_OVER_S) -> float:
        """Return the readings a second of the last seconds."""
        over_s = max(1.0, min(RATE_OVER_S, watched_s))
        since_ns = now_ns - int(over_s * NS_PER_S)
        return sum(1 for arrived in self.arrivals if arrived > since_ns) / over_s

    def age_s(self, now_ns: int) -> float | None:
        """Return how long ago the last reading arrived; None before the first."""
        return (now_ns - self.arrivals[-1]) / NS_PER_S if self.arrivals else None

    def devices(self, now_ns: int) -> int:
        """Return how many addresses were heard in the last seconds."""
        return sum(1 for heard in self.addresses.values() if now_ns - heard < TAG_SILENT_S * NS_PER_S)

    def words(self, now_ns: int) -> str:
        """Say the latest of it in a few words."""
        if not self.readings:
            return "nothing yet"
        if self.kind == "shelf" and self.counts is not None:
            grams = "" if self.calibration is None else f"{self.calibration.grams(self.counts):.1f} g, "
            return f"{grams}{self.counts} counts{self._noise_words()}"
        if self.kind == "door":
            return ", ".join(f"{beam} {'broken' if self.is_broken(beam) else 'clear'}" for beam in self.known_beams())
        if self.kind == "scanner":
            strong = [f"{tag} {signal.rssi_dbm} dBm" for tag, signal in self.present(now_ns) if signal.rssi_dbm]
            return f"{self.devices(now_ns)} devices" + (f", {', '.join(strong)}" if strong else "")
        return f"{self.readings} readings"

    def _noise_words(self) -> str:
        recent = [value for _, value in list(self.points)[-20:]]
        return f", noise {statistics.stdev(recent):.1f} {self.unit}" if len(recent) >= 10 else ""

    def known_beams(self) -> list[str]:
        return [beam for beam in BEAMS if beam in self.beams]

    def is_broken(self, beam: str) -> bool:
        return self.beams[beam][-1][1]

    def present(self, now_ns: int) -> list[tuple[str, Signal]]:
        """Return the tags heard of late, the strongest first."""
        near = [(tag, s) for tag, s in self.tags.items() if now_ns - s.heard_ns < TAG_SILENT_S * NS_PER_S]
        return sorted(near, key=lambda one: one[1].rssi_dbm if one[1].rssi_dbm is not None else -127, reverse=True)

    def strip(self, beam: str, now_ns: int, width: int) -> str:
        """Draw a beam's last minute, a character a moment: full where it was broken at all in it."""
        slot_ns = int(PLOTTED_S * NS_PER_S) // max(1, width)
        begin_ns = now_ns - width * slot_ns
        cells = [False] * width
        levels = list(self.beams.get(beam, ()))
        for index, (since_ns, broken) in enumerate(levels):
            until_ns = levels[index + 1][0] if index + 1 < len(levels) else now_ns
            if broken and until_ns >= begin_ns:
                first = max(0, (since_ns - begin_ns) // slot_ns)
                for cell in range(first, min(width - 1, (until_ns - begin_ns) // slot_ns) + 1):
                    cells[cell] = True
        return "".join("█" if cell else "▁" for cell in cells)


class Watch:
    """All watched sensors, and the events that their readings would make; `keys` are identity keys by scanner."""

    def __init__(
        self,
        sensors: Sequence[tuple[Any, Any]],
        interpretation: Interpretation,
        began_ns: int,
        keys: Mapping[str, Mapping[int, bytes]] = MappingProxyType({}),
    ) -> None:
        self.gauges = {s.id: gauge_of(kind.table, s, keys.get(s.id, NO_KEYS)) for kind, s in sensors}
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.began_ns = began_ns
        self._interpretation = interpretation

    def take(self, reading: Reading, now_ns: int) -> None:
        """Take a reading that arrived at `now_ns`; one of a sensor that is not watched is passed over."""
        gauge = self.gauges.get(reading.sensor)
        if gauge is not None:
            gauge.take(reading, now_ns)
            self.events.extend(self._interpretation.read(reading))

    def rate_hz(self, gauge: Gauge, now_ns: int) -> float:
        return gauge.rate_hz(now_ns, (now_ns - self.began_ns) / NS_PER_S)

    def line(self, now_ns: int, status: Mapping[str, Any] | None) -> str:
        """Say everything in one line: for a log, a pipe, a screen reader."""
        parts = [f"{g.id}: {g.words(now_ns)}, {self.rate_hz(g, now_ns):.1f}/s" for g in self.gauges.values()]
        return " | ".join([*parts, daemon_words(status)])

    def to_json(self, now_ns: int, status: Mapping[str, Any] | None) -> dict[str, Any]:
        """Say the same as a JSON object."""
        sensors = {}
        for gauge in self.gauges.values():
            found: dict[str, Any] = {"kind": gauge.kind, "rate_hz": round(self.rate_hz(gauge, now_ns), 2)}
            if gauge.counts is not None:
                found["counts"] = gauge.counts
                if gauge.calibration is not None:
                    found["grams"] = round(gauge.calibration.grams(gauge.counts), 2)
            if gauge.beams:
                found["broken"] = {beam: gauge.is_broken(beam) for beam in gauge.known_beams()}
            if gauge.kind == "scanner":
                found["devices"] = gauge.devices(now_ns)
                found["tags"] = {tag: signal.rssi_dbm for tag, signal in gauge.present(now_ns)}
            sensors[gauge.id] = found
        link = None if status is None else bool(status["link"]["up"])
        entries = None if status is None else status["outbox"]["entries"]
        return {"sensors": sensors, "outbox_entries": entries, "link_up": link}


def gauge_of(table: str, settings: Any, identity_keys: Mapping[int, bytes] = NO_KEYS) -> Gauge:
    """Return the gauge of one configured sensor; `identity_keys` are those of a scanner's tags, by rule."""
    gauge = Gauge(settings.id, table, getattr(settings, "calibration", None))
    if isinstance(settings, ScannerSettings):
        gauge.rules = Rulebook(settings.tags, identity_keys)
    return gauge


def daemon_words(status: Mapping[str, Any] | None) -> str:
    """Say how the daemon stands: what lies in the outbox, and the link."""
    if status is None:
        return "no daemon runs: read from the hardware"
    link = status["link"]
    words = "link up" if link["up"] else f"link down ({link.get('reason') or 'not connected yet'})"
    outbox = status["outbox"]
    degraded = f", DEGRADED: {outbox['degraded']}" if outbox.get("degraded") else ""
    return f"outbox {outbox['entries']} not acknowledged, {words}{degraded}"


def event_words(event: Event) -> str:
    """Say an event in a line."""
    told = ", ".join(f"{key} {value}" for key, value in data_of(event.fact).items())
    return f"{event.fact.type.removeprefix('store.')} {event.subject}: {told}"


def plot(points: Sequence[tuple[int, float]], now_ns: int, width: int, height: int, least: float) -> list[str]:
    """Draw the last minute of values as `height` lines of braille, newest at the right, with a scale at the left.

    `least` is the smallest range that fills the height: below it, noise is not blown up to look like movement.
    """
    since_ns = now_ns - int(PLOTTED_S * NS_PER_S)
    recent = [(at, value) for at, value in points if at > since_ns]
    if not recent or width < 12 or height < 1:
        return ["" for _ in range(height)]
    ordered = sorted(value for _, value in recent)
    # One word of bit errors in a hundred must not flatten the rest: it is drawn at the edge.
    low, high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    labels = [f"{high:.0f}", *[""] * (height - 2), f"{low:.0f}"][:height]
    margin = max(len(label) for label in labels) + 1
    columns, rows = 2 * (width - margin), 4 * height
    cells = [[0] * (width - margin) for _ in range(height)]
    for at, value in recent:
        column = min(columns - 1, (at - since_ns) * columns // int(PLOTTED_S * NS_PER_S))
        row = round((high - min(high, max(low, value))) / (high - low) * (rows - 1))
        cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    lines = zip(labels, cells, strict=True)
    return [f"{label:>{margin - 1}} " + "".join(chr(0x2800 + cell) for cell in line) for label, line in lines]


def bar(rssi_dbm: int | None, width: int) -> str:
    """Draw a strength between -100 and -40 dBm."""
    if rssi_dbm is None:
        return ""
    filled = round(min(1.0, max(0.0, (rssi_dbm + 100) / 60)) * width)
    return "█" * filled + "░" * (width - filled)
