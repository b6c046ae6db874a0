"""Home Assistant's MQTT discovery, for those who want to see their shop at home: off unless `broker.discovery` asks.

Law: retained descriptions and nothing else. Home Assistant reads the values out of the events and the state that are
published anyway, so what leaves the store grows by names of sensors, never by anything about people: door totals and
beams, shelf levels, the gateway's health. What is only in the backfill lane it does not see; totals are right again
with the next passage. Published at each connect; what is published no more is cleared (`daemon.announcing`).

Page: home-assistant.io/integrations/mqtt, "MQTT Discovery".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.shown import Shown, newest
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
class Announcement:
    """A message to be published retained at each connect; an empty payload clears what was retained."""

    topic: str
    payload: bytes


def announced(
    settings: BrokerSettings, store: str, gateway: str, version: str, sensors: Iterable[Iterable[Shown]]
) -> list[Announcement]:
    """Return what this configuration wants announced. `sensors` are what each sensor's kind shows of it."""
    if settings.discovery == "none":
        return []
    prefix = Wire(store, gateway, "", settings.topic_prefix).prefix
    node = f"{store}-{gateway}"
    device = {
        "identifiers": [node],
        "name": f"Store {store} {gateway}",
        "model": "store-gateway",
        "sw_version": version,
    }
    shown = [one for one in map(tuple, sensors) if one][:SHOWN_MAX]
    return [
        Announcement(
            f"{PREFIX}/{one.component}/{node}/{one.name}/config",
            json.dumps(
                {
                    **one.described,
                    "state_topic": f"{prefix}/{one.described['state_topic']}",
                    "unique_id": f"{node}-{one.name}",
                    "object_id": f"{node}-{one.name}",
                    "device": device,
                },
                separators=(",", ":"),
                ensure_ascii=False,
            ).encode(),
        )
        for one in (*_of_the_gateway(), *(one for sensor in shown for one in sensor))
    ]


def _of_the_gateway() -> Iterator[Shown]:
    yield Shown(
        "binary_sensor",
        "online",
        {
            "name": "Online",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": "state",
            "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
        },
    )
    for key, name, more in _HEALTH:
        described = newest("gateway", "gateway", "store.gateway.health", key)
        yield Shown("sensor", f"health-{key}", {"name": name, "entity_category": "diagnostic", **described, **more})
