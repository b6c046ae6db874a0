"""One connection for a person's task (doctor, listen, import), made and worded exactly as the daemon's own.

Law: the same maker, proxy, limits and reasons as the daemon's link. MQTT 5, then 3.1.1 where the broker may refuse 5
and `broker.protocol` is "auto". Calls from one thread. What is heard waits in a bounded queue; when it is full the
connection's thread waits, and TCP holds the broker back: nothing is dropped.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

from gateway.errors import ConfigurationError, GatewayError, Unavailable
from gateway.machine.clock import SystemClock
from gateway.model import NS_PER_S, Connect, Disconnect, LinkDown, LinkUp, Message, Signal, Subscribe
from gateway.mqtt.dial import AS_SHIPPED, LinkTimes
from gateway.mqtt.heard import Reader
from gateway.mqtt.link import PahoLink
from gateway.mqtt.reasons import CONNACK_TIMEOUT
from gateway.uplink.fallback import Protocol, may_be_version, versions
from gateway.uplink.settings import BrokerSettings

CONNECT_WITHIN_S = 30.0
"""More than the link's own limits together: name, TCP, handshakes and CONNACK each tell their own reason."""
FIRST_WITHIN_S = 4.0
"""Of a version after which another is tried: a broker that does not know MQTT 5 may answer nothing at all."""
HEARD_MAX = 10_000
QUEUE_TRIED_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message from the broker; `retained`: it was kept there before we asked for it."""

    topic: str
    payload: bytes
    retained: bool


class Visit:
    """See the module. `reads`: the largest packet to be taken, where messages are wanted; None: none are."""

    def __init__(
        self, settings: BrokerSettings, client_id: str, times: LinkTimes = AS_SHIPPED, reads: int | None = None
    ) -> None:
        self._versions = versions(settings.protocol)
        self._heard: queue.Queue[Signal | Arrived] = queue.Queue(HEARD_MAX)
        self._closing = threading.Event()
        reader = None if reads is None else Reader(self._take, reads)
        self._link = PahoLink(settings, client_id, self._put, times, reader)
        self._clock = SystemClock()
        self.number = 0
        """Of the connection, as `Subscribe` and `Disconnect` name it."""

    def connect(self, will: Message | None = None, within_s: float = CONNECT_WITHIN_S) -> LinkUp | LinkDown:
        """Connect, with the last version within `within_s`; return what came of it, with the last version's reason."""
        for version in self._versions:
            self.begin(version, will)
            said = self._answer(within_s if version == self._versions[-1] else min(within_s, FIRST_WITHIN_S))
            if isinstance(said, LinkUp) or not may_be_version(said):
                break
        return said

    def begin(self, version: Protocol, will: Message | None = None) -> None:
        """Begin to connect; what comes of it is heard by `next`."""
        self.number += 1
        self._link.obey(Connect(self.number, version, will))

    def _answer(self, within_s: float) -> LinkUp | LinkDown:
        until_ns = self._clock.now().boot_ns + int(within_s * NS_PER_S)
        while (left_ns := until_ns - self._clock.now().boot_ns) > 0:
            said = self.next(left_ns / NS_PER_S)
            if isinstance(said, LinkUp | LinkDown):
                return said
        self._link.obey(Disconnect(self.number, gently=False))
        return LinkDown(self.number, CONNACK_TIMEOUT.code, CONNACK_TIMEOUT.detail, CONNACK_TIMEOUT.advice)

    def obey(self, order: Message | Subscribe) -> None:
        """Send, or ask for topics."""
        self._link.obey(order)

    def next(self, timeout_s: float) -> Signal | Arrived | None:
        """Return what was heard next, or None where nothing is within `timeout_s`; of an earlier connection nothing."""
        try:
            said = self._heard.get(timeout=timeout_s) if timeout_s > 0 else self._heard.get_nowait()
        except queue.Empty:
            return None
        return said if isinstance(said, Arrived) or said.link == self.number else None

    def close(self) -> None:
        """Disconnect; the thread ends within about 2 s."""
        self._closing.set()
        self._link.close()

    # Called from the connection's thread.

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        self._put(Arrived(topic, payload, retained))

    def _put(self, said: Signal | Arrived) -> None:
        while not self._closing.is_set():
            try:
                self._heard.put(said, timeout=QUEUE_TRIED_EVERY_S)
            except queue.Full:
                continue
            return


def as_error(url: str, down: LinkDown) -> GatewayError:
    """Return the end of a connection as an error for a person, in the words of the log and of `gateway status`."""
    if down.code.startswith("file."):
        return ConfigurationError(down.detail, down.advice)
    who = f"the broker {url} does not let us in" if down.connack is not None else f"no broker answers at {url}"
    if down.had_connack and down.connack is None:
        who = f"the connection to {url} ended"
    return Unavailable(f"{who}: {down.detail}", down.advice or "`gateway doctor` looks at each step of the way")
