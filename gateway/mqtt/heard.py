"""What the broker said on one connection: paho's callbacks, which note what they are told.

Law: nothing here blocks or decides. What belongs to the uplink is told at once (`LinkUp`, commands) or collected for
one telling (acknowledgements); what the loop must know is a field. paho itself swallows and logs what a callback might
raise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, topic_matches_sub
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.model import (
    Acknowledgements,
    CommandReceived,
    Connect,
    LinkUp,
    Signal,
    Subscribe,
    Subscribed,
)
from gateway.mqtt import reasons
from gateway.mqtt.reasons import Cause

FAILURE = 0x80
QOS_NOT_SUPPORTED = 0x9B
COMMANDS_PER_S_MAX = 50
COMMAND_BYTES_MAX = 64 * 1024  # what is handed on; the contract's own limit (16 KiB) is judged where it is answered


@dataclass(frozen=True, slots=True)
class Reader:
    """Takes every message that arrives, in place of commands: topic, payload, whether it was kept by the broker.

    `take` may wait: meanwhile nothing is read, and TCP holds the broker back. Larger packets end the connection.
    """

    take: Callable[[str, bytes, bool], None]
    bytes_max: int


class Heard:
    """See the module. `down` is why the connection is over; `probe_s` the silence after which to ask the broker."""

    def __init__(
        self, order: Connect, emit: Callable[[Signal], None], ping_s: int, reader: Reader | None = None
    ) -> None:
        self._order = order
        self._reader = reader
        self._emit = emit
        self._ping_s = ping_s
        self._acknowledged: list[tuple[int, int]] = []
        self._commands_second = 0
        self._commands = 0
        self._asked: dict[int, Subscribe] = {}
        self._wanted: tuple[str, ...] = ()
        self._granted: Subscribe | None = None
        self.tokens: dict[int, int] = {}
        """Of what is under way, by packet id."""
        self.is_up = False
        self.connack: int | None = None
        self.had_connack = False
        self.down: Cause | None = None
        self.in_order = False
        self.probe_s: float | None = None
        self.probe_sent: float | None = None

    def listen(self, client: Client) -> None:
        """Let this client tell what it hears."""
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe

    def tell_acknowledged(self) -> None:
        """Tell what one reading brought in one go: each word between two system calls would wake the engine alone."""
        if self._acknowledged:
            acknowledged, self._acknowledged = self._acknowledged, []
            self._emit(Acknowledgements(self._order.link, tuple(acknowledged)))

    def subscribe(self, client: Client, order: Subscribe) -> None:
        """Ask for what the uplink wants to be told."""
        self._wanted += tuple(topic for topic in order.filters if topic not in self._wanted)
        if self._order.protocol == "5":  # 2: nothing retained is sent; as published: what is retained says so
            if order.retained:
                options = SubscribeOptions(qos=1)
            else:
                options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=2)
            _, mid = client.subscribe([(topic, options) for topic in order.filters])
        else:
            _, mid = client.subscribe([(topic, 1) for topic in order.filters])
        if mid is not None:
            self._asked[mid] = order

    def ask(self, client: Client) -> None:
        """Ask the broker for a sign of life: for what it granted once more, or to end what never was."""
        if self._granted is not None:
            self.subscribe(client, self._granted)
        else:
            client.unsubscribe("$gateway/nothing")

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self.had_connack:
            return
        self.had_connack = True
        said = {name: getattr(properties, name, None) for name in ("ReasonString", "ServerReference")}
        if reason.is_failure:
            self.connack = reason.value
            self.down = reasons.told(reasons.of_connack(reason.value), *said.values())
            return
        qos_max = getattr(properties, "MaximumQoS", 2)
        if qos_max == 0:  # it accepts us and would refuse every event
            self.connack = QOS_NOT_SUPPORTED
            self.down = reasons.told(reasons.of_connack(QOS_NOT_SUPPORTED), *said.values())
            return
        self.is_up = True
        keepalive_s = getattr(properties, "ServerKeepAlive", None)
        if keepalive_s is not None and (keepalive_s == 0 or keepalive_s > self._ping_s):
            self.probe_s = self._ping_s
        self._emit(
            LinkUp(
                self._order.link,
                self._order.protocol,
                getattr(properties, "ReceiveMaximum", None),
                getattr(properties, "MaximumPacketSize", None),
                keepalive_s,
                bool(getattr(properties, "RetainAvailable", 1)),
                qos_max,
                bool(getattr(properties, "WildcardSubscriptionAvailable", 1)),
                bool(getattr(properties, "SharedSubscriptionAvailable", 1)),
                getattr(properties, "SessionExpiryInterval", None),
                reasons.quoted(getattr(properties, "AssignedClientIdentifier", None)),
                reasons.quoted(said["ReasonString"]),
            )
        )

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self.down is not None:
            return
        if flags.is_disconnect_packet_from_server:
            self.in_order = reason.value not in reasons.BLAMES_NO_MESSAGE
            said = (getattr(properties, name, None) for name in ("ReasonString", "ServerReference"))
            self.down = reasons.told(reasons.of_disconnect(reason.value), *said)
        elif reason.value == 0x8D:  # paho's word for a PINGRESP that did not come
            self.down = reasons.LINK_SILENT
        elif reason.value == 0x82:
            self.down = reasons.NOT_MQTT
        elif reason.value != 0:
            self.down = reasons.LINK_RESET  # the loop finds the true cause

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        token = self.tokens.pop(mid, None)
        if token is not None:
            self._acknowledged.append((token, reason.value))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        if self._reader is not None:
            self._reader.take(topic, bytes(message.payload), bool(message.retain))
            return
        if not any(topic_matches_sub(wanted, topic) for wanted in self._wanted):
            return
        second = int(time.monotonic())
        self._commands = self._commands + 1 if second == self._commands_second else 1
        self._commands_second = second
        if self._commands > COMMANDS_PER_S_MAX:
            return
        properties = message.properties
        above, _, verb = topic.rpartition("/")
        if not above.endswith("/command"):
            return
        self._emit(
            CommandReceived(
                self._order.link,
                verb,
                bytes(message.payload[:COMMAND_BYTES_MAX]),
                bool(message.retain),
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        self.probe_sent = None
        order = self._asked.pop(mid, None)
        if order is None:
            return
        codes = tuple(int(reason.value) for reason in reasons)
        if all(code < FAILURE for code in codes):
            self._granted = order
        self._emit(Subscribed(self._order.link, order.filters, codes))

    def _on_unsubscribe(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        self.probe_sent = None
