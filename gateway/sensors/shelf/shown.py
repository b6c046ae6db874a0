"""What a home automation is shown of a shelf: how full it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.sensors.shelf.facts import ShelfLevel
from gateway.sensors.shelf.settings import ShelfSettings
from gateway.shown import Shown, newest


def shown(settings: ShelfSettings) -> Iterator[Shown]:
    """Yield what is shown of one shelf."""
    level = newest("shelf", settings.id, ShelfLevel.type, "state")
    options = {"device_class": "enum", "options": ["empty", "low", "ok", "over"], "icon": "mdi:tray-full"}
    yield Shown("sensor", f"{settings.id}-level", {"name": f"{settings.id} level", **level, **options})
    count = newest("shelf", settings.id, ShelfLevel.type, "count")
    yield Shown("sensor", f"{settings.id}-count", {"name": f"{settings.id} count", **count, "icon": "mdi:counter"})
