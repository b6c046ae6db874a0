"""Home Assistant's MQTT discovery, for those who want to see their shop at home: off unless `broker.discovery` asks.

Law: retained descriptions and nothing else. Home Assistant reads the values out of the events and the state that are
published anyway, so what leaves the store grows by names of sensors, never by anything about people: door totals and
beams, shelf levels, the gateway's health. What is only in the backfill lane it does not see; totals are right again
with the next passage. Told at each connect; who turns it off clears the retained topics, an empty message each.

Page: home-assistant.io/integrations/mqtt, "MQTT Discovery".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.uplink.settings import BrokerSettings
from gateway.wire import Wire

PREFIX = "homeassistant"
SHOWN_MAX = 256  # sensors; each has up to four descriptions

_HEALTH: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("cpu_celsius", "CPU temperature", {"device_class": "temperature", "unit_of_measurement": "°C"}),
    ("disk_free_bytes", "Free disk", {"device_class": "data_size", "unit_of_measurement": "B"}),
    ("memory_rss_bytes", "Memory", {"device_class": "data_size", "unit_of_measurement": "B"}),
    ("outbox_entries", "Waiting events", {}),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One sensor as far as it is shown. `is_single`: a door of one beam, which knows no direction."""

    kind: Literal["door", "shelf"]
    id: str
    is_single: bool = False


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message to be published retained at each connect."""

    topic: str
    payload: bytes


def announced(
    settings: BrokerSettings, store: str, gateway: str, version: str, sensors: Iterable[tuple[str, Any]]
) -> list[Announcement]:
    """Return what this configuration wants announced. `sensors` are tables (`door`, `shelf`) and their settings."""
    if settings.discovery == "none":
        return []
    shown = [
        Shown(table, sensor.id, getattr(sensor, "beam_pin", None) is not None)  # type: ignore[arg-type]
        for table, sensor in sensors
        if table in ("door", "shelf")
    ]
    return announcements(store, gateway, Wire(store, gateway, "", settings.topic_prefix).prefix, version, shown)


def announcements(store: str, gateway: str, prefix: str, version: str, shown: Sequence[Shown]) -> list[Announcement]:
    """Return the descriptions of a gateway and its sensors. `prefix` is that of its own topics (`{p}`)."""
    node = f"{store}-{gateway}"
    device = {
        "identifiers": [node],
        "name": f"Store {store} {gateway}",
        "model": "store-gateway",
        "sw_version": version,
    }
    return [
        Announcement(
            f"{PREFIX}/{component}/{node}/{name}/config",
            json.dumps(
                {**described, "unique_id": f"{node}-{name}", "object_id": f"{node}-{name}", "device": device},
                separators=(",", ":"),
                ensure_ascii=False,
            ).encode(),
        )
        for component, name, described in _described(prefix, shown[:SHOWN_MAX])
    ]


def _described(prefix: str, shown: Sequence[Shown]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield (
        "binary_sensor",
        "online",
        {
            "name": "Online",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{prefix}/state",
            "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
        },
    )
    for key, name, more in _HEALTH:
        described = _value(prefix, "gateway", "gateway", "store.gateway.health", key)
        yield "sensor", f"health-{key}", {"name": name, "entity_category": "diagnostic", **described, **more}
    for sensor in shown:
        yield from _door(prefix, sensor) if sensor.kind == "door" else _shelf(prefix, sensor)


def _door(prefix: str, door: Shown) -> Iterator[tuple[str, str, dict[str, Any]]]:
    ways = {"unknown_total": "passages"} if door.is_single else {"in_total": "in", "out_total": "out"}
    for key, way in ways.items():
        described = _value(prefix, "door", door.id, "store.door.passed", key)
        more = {"state_class": "total_increasing", "icon": "mdi:walk"}
        yield "sensor", f"{door.id}-{key}", {"name": f"{door.id} {way}", **described, **more}
    blocked = (
        "{% if value_json.type == 'store.door.blocked' %}ON"
        "{% elif value_json.type == 'store.door.cleared' %}OFF{% else %}{{ this.state }}{% endif %}"
    )
    topic = f"{prefix}/event/door/{door.id}"
    described = {"name": f"{door.id} blocked", "device_class": "problem", "state_topic": topic}
    yield "binary_sensor", f"{door.id}-blocked", {**described, "value_template": blocked}


def _shelf(prefix: str, shelf: Shown) -> Iterator[tuple[str, str, dict[str, Any]]]:
    level = _value(prefix, "shelf", shelf.id, "store.shelf.level", "state")
    options = {"device_class": "enum", "options": ["empty", "low", "ok", "over"], "icon": "mdi:tray-full"}
    yield "sensor", f"{shelf.id}-level", {"name": f"{shelf.id} level", **level, **options}
    count = _value(prefix, "shelf", shelf.id, "store.shelf.level", "count")
    yield "sensor", f"{shelf.id}-count", {"name": f"{shelf.id} count", **count, "icon": "mdi:counter"}


def _value(prefix: str, area: str, subject: str, kind: str, key: str) -> dict[str, Any]:
    """Read one key out of the events of a type; any other event, and an absent value, leaves it as it was."""
    template = (
        "{% if value_json.type == 'TYPE' and value_json.data.KEY is defined %}{{ value_json.data.KEY }}"
        "{% else %}{{ this.state }}{% endif %}"
    )
    template = template.replace("TYPE", kind).replace("KEY", key)
    return {"state_topic": f"{prefix}/event/{area}/{subject}", "value_template": template}
