"""Events in words, one line each, for people who watch: `gateway listen`, the demonstration. Pure.

Law: whatever stands in `data` never raises; a type without words of its own is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.consumer.messages import Delivery

Data = Mapping[str, Any]
WORDS_MAX = 160


def _duration(ms: Any) -> str:
    if not isinstance(ms, int | float):
        return "-"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 120_000 else f"{ms / 60_000:.0f} min"


def _passed(d: Data) -> str:
    way = {"in": "came in", "out": "went out"}.get(str(d.get("direction")), "passed")
    return f"somebody {way}   in {d.get('in_total', '-')}, out {d.get('out_total', '-')}"


def _goods(verb: str, d: Data) -> str:
    left = f"   {d['remaining_count']} left" if "remaining_count" in d else ""
    return f"{d.get('count', '?')} x {d.get('sku', '?')} {verb}{left}"


def _interval(d: Data) -> str:
    counts = ", ".join(f"{key} {d[key]}" for key in ("in", "out", "unknown", "devices") if key in d)
    return f"{str(d.get('from'))[11:16]} to {str(d.get('to'))[11:16]}: {counts or 'too few to tell'}"


def _telemetry(d: Data) -> str:
    units = {"temperature_celsius": "°C", "humidity_percent": "%", "battery_mv": "mV", "battery_percent": "% battery"}
    return f"{d.get('tag', '?')}: " + ", ".join(f"{d[key]} {unit}" for key, unit in units.items() if key in d)


def _dropped(d: Data) -> str:
    return f"{d.get('stream')} {d.get('first_sequence')}..{d.get('last_sequence')} lost: {d.get('reason')}"


WORDS: Mapping[str, Callable[[Data], str]] = {
    "store.door.passed": _passed,
    "store.door.counted": _interval,
    "store.door.blocked": lambda d: f"beam {d.get('beam')} is blocked",
    "store.door.cleared": lambda d: f"beam {d.get('beam')} is clear after {_duration(d.get('blocked_ms'))}",
    "store.shelf.picked": lambda d: _goods("picked", d),
    "store.shelf.placed": lambda d: _goods("put back", d),
    "store.shelf.changed": lambda d: f"{d.get('grams')} g that no product explains",
    "store.shelf.level": lambda d: (
        f"{d.get('sku')}: {d.get('state')}   {d.get('count', '-')} of {d.get('capacity', '-')}"
    ),
    "store.beacon.arrived": lambda d: f"{d.get('tag')} arrived, {d.get('proximity')}   {d.get('rssi_dbm')} dBm",
    "store.beacon.moved": lambda d: f"{d.get('tag')} moved from {d.get('from')} to {d.get('to')}",
    "store.beacon.left": lambda d: f"{d.get('tag')} left after {_duration(d.get('dwell_ms'))}",
    "store.beacon.telemetry": _telemetry,
    "store.beacon.counted": _interval,
    "store.sensor.failed": lambda d: f"failed: {d.get('reason')}   {d.get('detail', '')}",
    "store.sensor.recovered": lambda d: f"reads again after {_duration(d.get('failed_ms'))}",
    "store.gateway.started": lambda d: f"started {d.get('version')}, {d.get('reason')}",
    "store.gateway.stopped": lambda d: f"stopped: {d.get('reason')}",
    "store.gateway.health": lambda d: (
        f"healthy   {d.get('memory_rss_bytes', 0) // 2**20} MiB, {d.get('outbox_entries', '-')} events in the outbox"
    ),
    "store.gateway.clock_set": lambda d: f"clock set by {_duration(d.get('by_ms'))}",
    "store.gateway.events_dropped": _dropped,
    "store.gateway.outbox_created": lambda d: f"a new outbox: {d.get('reason')}",
}


def words_of(delivery: Delivery) -> str:
    """Say what an event says, in one line without control characters."""
    say = WORDS.get(delivery.type)
    try:
        text = say(delivery.data) if say else f"{delivery.type.removeprefix('store.')} {dict(delivery.data)}"
    except (TypeError, ValueError):
        text = f"{delivery.type.removeprefix('store.')} {dict(delivery.data)}"
    return printable(text)[:WORDS_MAX]


def printable(text: str) -> str:
    """Return the text with everything that could move a terminal's cursor replaced."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def line_of(delivery: Delivery) -> str:
    """Write an event for a terminal: `09:00:01.234  entrance    somebody came in   in 3, out 2`."""
    time = printable(str(delivery.envelope.get("time")))[11:23]
    late = "  (late)" if delivery.lane == "backfill" else ""
    return f"{time}  {printable(delivery.subject):<12} {words_of(delivery)}{late}"
