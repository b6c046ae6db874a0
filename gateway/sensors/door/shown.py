"""What a home automation is shown of a door: its totals, and whether a beam stays broken. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.sensors.door.facts import DoorBlocked, DoorCleared, DoorPassed
from gateway.sensors.door.settings import DoorSettings
from gateway.shown import Shown, newest


def shown(settings: DoorSettings) -> Iterator[Shown]:
    """Yield what is shown of one door; one of a single beam knows no direction."""
    is_single = settings.beam_pin is not None
    ways = {"unknown_total": "passages"} if is_single else {"in_total": "in", "out_total": "out"}
    for key, way in ways.items():
        described = newest("door", settings.id, DoorPassed.type, key)
        more = {"state_class": "total_increasing", "icon": "mdi:walk"}
        yield Shown("sensor", f"{settings.id}-{key}", {"name": f"{settings.id} {way}", **described, **more})
    blocked = (
        f"{{% if value_json.type == '{DoorBlocked.type}' %}}ON"
        f"{{% elif value_json.type == '{DoorCleared.type}' %}}OFF{{% else %}}{{{{ this.state }}}}{{% endif %}}"
    )
    topic = f"event/door/{settings.id}"
    described = {"name": f"{settings.id} blocked", "device_class": "problem", "state_topic": topic}
    yield Shown("binary_sensor", f"{settings.id}-blocked", {**described, "value_template": blocked})
