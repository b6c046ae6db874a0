"""The streams of the outbox: which there are, how soon each is made durable, and which goes first on a full disk.

A package from outside that brings a kind of sensor may declare a stream for it, by an entry point of the group
`store_gateway.streams` that names a `Declared`. That module imports nothing of ours but this file: everything else
here knows the streams already.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

GROUP = "store_gateway.streams"


@dataclass(frozen=True, slots=True)
class Declared:
    """One stream. `commit_interval_ms` is what a power cut may cost; the least `worth` is shed first."""

    name: str
    commit_interval_ms: float = 1000.0
    worth: int = 15


OURS = (
    Declared("door", 50.0, worth=30),
    Declared("shelf", 200.0, worth=20),
    Declared("beacon", 1000.0, worth=10),
    Declared("gateway", 1000.0, worth=100),
)


@cache
def declared() -> tuple[Declared, ...]:
    """Return every stream, ours first. One that cannot be loaded is left out: loading its kind tells why."""
    found = {one.name: one for one in OURS}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            one = point.load()
        except Exception:  # noqa: BLE001 (somebody else's module may raise anything; its kind fails alike, with words)
            continue
        if isinstance(one, Declared):
            found.setdefault(one.name, one)
    return tuple(found.values())
