"""One message to be: its lane, topic and bytes, and the entries that it carries. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.model import Entry, Stream

PACKET_SPARE = 160  # fixed header 5, topic length 2, packet id 2, content type, user property: at most this

Lane = Literal["control", "live", "backfill", "resend"]


@dataclass(slots=True)
class Parcel:
    """One message to be: its lane, its entries, its bytes. `is_batch`: on the backfill topic, a JSON array.

    `size` is that of its packet, never fewer bytes than it will have. Nobody changes one; that the class does not
    forbid it halves the cost of making one, and there is one a message.
    """

    lane: Lane
    topic: str
    payload: bytes
    content_type: str
    entries: tuple[Entry, ...] = ()
    is_batch: bool = False
    properties: tuple[tuple[str, str], ...] = ()
    retain: bool = False
    correlation: bytes | None = None
    size: int = 0

    def __post_init__(self) -> None:
        self.size = len(self.payload) + len(self.topic) + PACKET_SPARE + len(self.correlation or b"")

    def exact_size(self) -> int:
        """Return the bytes of its PUBLISH in MQTT 5 (sections 2.1.4, 3.3): for the few where `size` is too careful."""
        properties = 3 + len(self.content_type.encode())
        properties += sum(5 + len(name.encode()) + len(value.encode()) for name, value in self.properties)
        if self.correlation:
            properties += 3 + len(self.correlation)
        rest = 2 + len(self.topic.encode()) + 2 + _varint_bytes(properties) + properties + len(self.payload)
        return 1 + _varint_bytes(rest) + rest


def _varint_bytes(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def runs(entries: tuple[Entry, ...]) -> list[tuple[Stream, int, int]]:
    """Return the entries (one at least) as (stream, first, last) of unbroken sequences: all between is among them."""
    found: list[tuple[Stream, int, int]] = []
    stream, first, last = entries[0].stream, entries[0].sequence, entries[0].sequence - 1
    for entry in entries:
        sequence = entry.sequence
        if sequence != last + 1 or entry.stream != stream:
            found.append((stream, first, last))
            stream, first = entry.stream, sequence
        last = sequence
    found.append((stream, first, last))
    return found
