"""MQTT 5 properties as paho takes them, packed once for all messages that share them.

Law: what many messages have in common (the content type, the compression) is built and packed once a connection: it
costs paho more than the rest of a PUBLISH. What only one has (the correlation of an answer) is built for it.
"""

from __future__ import annotations

from typing import TypeVar

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.model import Message

SHARED_MAX = 16  # kinds of messages: the state, events, batches, and gzip of them

_P = TypeVar("_P", bound=Properties)


class SharedProperties:
    """The properties of one connection's messages; None for every message where the protocol has none."""

    def __init__(self, is_v5: bool) -> None:
        self._is_v5 = is_v5
        self._shared: dict[tuple[str | None, tuple[tuple[str, str], ...]], _PackedOnce] = {}

    def of(self, message: Message) -> Properties | None:
        """Return the properties of a message to be published."""
        if not self._is_v5:
            return None
        if message.correlation:
            return _written(Properties, PacketTypes.PUBLISH, message)
        key = (message.content_type, message.properties)
        shared = self._shared.get(key)
        if shared is None:
            if len(self._shared) >= SHARED_MAX:
                self._shared.clear()
            shared = self._shared[key] = _written(_PackedOnce, PacketTypes.PUBLISH, message)
        return shared

    def of_will(self, message: Message) -> Properties | None:
        """Return the properties of the will."""
        return _written(Properties, PacketTypes.WILLMESSAGE, message) if self._is_v5 else None

    def of_connect(self, inbound_bytes_max: int) -> Properties | None:
        """Return the properties of CONNECT: how large a packet we take."""
        if not self._is_v5:
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = inbound_bytes_max
        return properties


class _PackedOnce(Properties):
    """Keeps its bytes."""

    def pack(self) -> bytes:
        packed: bytes | None = self.__dict__.get("_bytes")
        if packed is None:
            packed = self.__dict__["_bytes"] = super().pack()  # type: ignore[no-untyped-call]
        return packed


def _written(form: type[_P], packet: int, message: Message) -> _P:
    properties = form(packet)
    if message.content_type:
        properties.ContentType = message.content_type
    if message.properties:
        properties.UserProperty = list(message.properties)
    if message.correlation:
        properties.CorrelationData = message.correlation
    return properties
