"""Every reason code that may come reaches the policy, also one that paho's table lacks.

paho 2.2.0 raises at a code that its table does not have for that packet (`ReasonCode.unpack`): then one PUBACK 0x95
(mosquitto's `message_size_limit`) ends the connection, and the message is sent again for ever. Law: an answer that has
no name is an answer all the same.
"""

from __future__ import annotations

from functools import cache

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

ANSWERS = (
    PacketTypes.CONNACK,
    PacketTypes.PUBACK,
    PacketTypes.SUBACK,
    PacketTypes.UNSUBACK,
    PacketTypes.DISCONNECT,
)


@cache
def complete() -> None:
    """Give paho's public table, `ReasonCode.names`, a name for each code of each answer; once a process."""
    table = {code: {name: list(packets) for name, packets in names.items()} for code, names in ReasonCode.names.items()}
    for code in range(256):
        names = table.setdefault(code, {})
        missing = [packet for packet in ANSWERS if not any(packet in packets for packets in names.values())]
        if 0 < code < 0x80:  # no CONNACK or DISCONNECT of version 5 says that: it may be another protocol's
            missing = [packet for packet in missing if packet not in (PacketTypes.CONNACK, PacketTypes.DISCONNECT)]
        if missing:
            names[f"reason 0x{code:02x}"] = missing
    ReasonCode.names = table
