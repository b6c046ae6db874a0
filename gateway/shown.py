"""What a home automation is shown of a sensor: values that it reads out of the events, declared by the sensor's kind.

A description is an entity's table in Home Assistant's MQTT discovery; its `state_topic` begins below the gateway's own
topics (`event/door/entrance`), and `gateway.uplink.discovery` puts the prefix before it. Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shown:
    """One entity: its component ("sensor", "binary_sensor"), its name in the gateway, and its description."""

    component: str
    name: str
    described: Mapping[str, Any]


def newest(area: str, subject: str, event_type: str, key: str) -> dict[str, Any]:
    """Read one key out of the events of a type; any other event, and an absent value, leaves it as it was."""
    template = (
        "{% if value_json.type == 'TYPE' and value_json.data.KEY is defined %}{{ value_json.data.KEY }}"
        "{% else %}{{ this.state }}{% endif %}"
    )
    template = template.replace("TYPE", event_type).replace("KEY", key)
    return {"state_topic": f"event/{area}/{subject}", "value_template": template}
