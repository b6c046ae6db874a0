"""What is kept over restarts beside the events: a part for each owner, saved with the outbox's state. Pure.

    door, shelf, ...   what is known of the stream's recorded events, by sensor        the kinds of sensors
    gateway            the same of this stream: its opening                            the engine
    anchors            boots whose wall clock is known                                 the engine
    shutdown           how the daemon ended before the machine last started            the engine
    source             as whose the events were recorded                               the engine
    link               which protocol the broker speaks                                the uplink

Law: each part has a bound of its own, and all bounds together fit `MEMORY_BYTES_MAX`. What a sensor may take is known
from its configuration, which is refused where the sensors together take more than `SENSORS_BYTES_MAX`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gateway.model import STREAMS, Stream

MEMORY_BYTES_MAX = 6144  # of JSON; with 4 x 64 intervals of real size it still fits a slot of the state, sealed too
SENSORS_BYTES_MAX = 5120  # of the streams of sensors: 28 doors, one on each pin, with the longest names take 4151
ANCHORS_MAX = 8  # boots; entries of older boots keep their `unsynced` time
BOOTID_LENGTH_MAX = 36  # a UUID
CHECK_LENGTH = 16
SOURCE_LENGTH_MAX = 160  # /stores/{64}/gateways/{64}


@dataclass(frozen=True, slots=True)
class LinkMemory:
    """What was learnt of a broker: whether it ever spoke MQTT 5, and when it was last found to speak only 3.1.1.

    `broker` is a check value of its URL (`CHECK_LENGTH` characters), `fallback_ms` is UTC in milliseconds.
    """

    broker: str = ""
    spoke_5: bool = False
    fallback_ms: int | None = None


@dataclass(slots=True)
class Memory:
    """All parts. A stream's part is replaced, never changed where it stands: it is saved only as of a durable event."""

    streams: dict[Stream, Any] = field(default_factory=dict)
    anchors: dict[str, int] = field(default_factory=dict)
    """Wall minus boot in milliseconds, by the boot's id; the newest last."""
    shutdown: Literal["ordered", "unclean"] | None = None
    source: str = ""
    """The `source` of every event of this outbox; empty where it is new, or of a version that did not keep it."""
    link: LinkMemory = field(default_factory=LinkMemory)

    def anchor(self, bootid: str, offset_ms: int) -> None:
        """Keep a boot's anchor; the oldest leave where there are more than `ANCHORS_MAX`."""
        assert len(bootid) <= BOOTID_LENGTH_MAX, f"a boot id of {len(bootid)} characters"
        self.anchors[bootid] = offset_ms
        while len(self.anchors) > ANCHORS_MAX:
            del self.anchors[next(iter(self.anchors))]

    def text(self, streams: Mapping[Stream, Any] | None = None) -> str:
        """Write the memory as it is saved, with `streams` in place of its own; an assertion fails past its bound."""
        parts: dict[str, Any] = dict(self.streams if streams is None else streams)
        if self.anchors:
            parts["anchors"] = self.anchors
        if self.shutdown is not None:
            parts["shutdown"] = self.shutdown
        if self.source:
            parts["source"] = self.source
        if self.link.broker:
            parts["link"] = asdict(self.link)
        text = _json(parts)
        assert len(text) <= MEMORY_BYTES_MAX, f"memory of {len(text)} bytes, at most {MEMORY_BYTES_MAX}"
        return text

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Memory:
        """Read what was saved, by this version or another; what is no part, or not within its bound, is left out."""
        streams = {name: parts[name] for name in STREAMS if name in parts}
        while len(_json(streams)) > SENSORS_BYTES_MAX + BOOTID_LENGTH_MAX * 3:
            del streams[max(streams, key=lambda name: len(_json(streams[name])))]
        memory = cls(streams)
        anchors = parts.get("anchors")
        for bootid, offset_ms in anchors.items() if isinstance(anchors, dict) else ():
            if len(bootid) <= BOOTID_LENGTH_MAX and _is_number(offset_ms):
                memory.anchor(bootid, offset_ms)
        if (shutdown := parts.get("shutdown")) in ("ordered", "unclean"):
            memory.shutdown = shutdown
        if isinstance(source := parts.get("source"), str) and len(source) <= SOURCE_LENGTH_MAX:
            memory.source = source
        match parts.get("link"):
            case {"broker": str(broker), "spoke_5": bool(spoke_5), "fallback_ms": fallback_ms} if len(
                broker
            ) == CHECK_LENGTH and (fallback_ms is None or _is_number(fallback_ms)):
                memory.link = LinkMemory(broker, spoke_5, fallback_ms)
        return memory


def sensors_bytes(sensors: Iterable[tuple[Stream, str, int]]) -> int:
    """Return how much of `SENSORS_BYTES_MAX` sensors take: each its stream, its id, and the bytes of what is known."""
    taken: dict[Stream, int] = {}
    for stream, sensor, known_bytes in sensors:
        if known_bytes:
            taken[stream] = taken.get(stream, 0) + len(f'"{sensor}":,') + known_bytes
    return sum(len(f'"{stream}":{{}},') + inside for stream, inside in taken.items())


def known_bytes(known: Any) -> int:
    """Return how many bytes what is known of a sensor takes where it is saved."""
    return len(_json(known))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53
