"""What a person sees who watches sensors live: latest readings, rates, and the events they would make. Pure.

Law: it only shows; memory is bounded however long one watches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.engine.interpretation import Interpretation
from gateway.model import NS_PER_S, Event, Reading, data_of
from gateway.sensors.fault import Known, faults_to_json
from gateway.sensors.gauge import Gauge
from gateway.sensors.kind import Sensor

EVENTS_KEPT = 50


class Watch:
    """All watched sensors, and the events that their readings would make."""

    def __init__(
        self,
        sensors: Sequence[Sensor[Any]],
        interpretation: Interpretation,
        began_ns: int,
    ) -> None:
        self.gauges: dict[str, Gauge] = {sensor.id: sensor.kind.gauge(sensor.settings) for sensor in sensors}
        self.tables: dict[str, str] = {sensor.id: sensor.kind.table for sensor in sensors}
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.known: Mapping[str, Known] = {}
        """What is known of each sensor beside its readings, as the feed last heard it."""
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

    def words(self, gauge: Gauge, now_ns: int) -> str:
        """Say the latest of a sensor, and what is wrong with it."""
        faults = "; ".join(fault.sentence for fault in self.known.get(gauge.id, Known()).faults)
        if not faults:
            return gauge.words(now_ns)
        return f"{gauge.words(now_ns)} ({faults})" if gauge.readings else faults

    def line(self, now_ns: int, status: Mapping[str, Any] | None) -> str:
        """Say everything in one line: for a log, a pipe, a screen reader."""
        parts = [f"{g.id}: {self.words(g, now_ns)}, {self.rate_hz(g, now_ns):.1f}/s" for g in self.gauges.values()]
        return " | ".join([*parts, daemon_words(status)])

    def to_json(self, now_ns: int, status: Mapping[str, Any] | None) -> dict[str, Any]:
        """Say the same as a JSON object."""
        sensors = {
            gauge.id: {
                "kind": self.tables[gauge.id],
                "rate_hz": round(self.rate_hz(gauge, now_ns), 2),
                "faults": faults_to_json(self.known.get(gauge.id, Known()).faults),
                **gauge.figures(now_ns),
            }
            for gauge in self.gauges.values()
        }
        link = None if status is None else bool(status["link"]["up"])
        entries = None if status is None else status["outbox"]["entries"]
        return {"sensors": sensors, "outbox_entries": entries, "link_up": link}


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
