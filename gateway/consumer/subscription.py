"""A consumer's connection to the broker, made as the daemon makes its own; what arrives waits in a bounded queue.

Law: when nobody takes from the queue, nothing more is read, and TCP holds the broker back: nothing is dropped here.
After a lost link `next` connects again, with the version that the broker took, and subscribes at every connect.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from gateway.consumer.messages import PAYLOAD_BYTES_MAX
from gateway.errors import ConfigurationError, Unavailable
from gateway.machine.clock import SystemClock
from gateway.model import NS_PER_S, LinkDown, LinkUp, Subscribe, Subscribed
from gateway.mqtt.dial import AS_SHIPPED
from gateway.mqtt.visit import Arrived, Visit, as_error
from gateway.uplink.fallback import Protocol
from gateway.uplink.settings import BrokerSettings
from gateway.uplink.subscriptions import refused

PACKET_BYTES_MAX = PAYLOAD_BYTES_MAX + 128 * 1024
"""With a topic and the properties, each of which may have 64 KiB."""
SUBSCRIBED_WITHIN_S = 10.0
RECONNECT_MIN_S, RECONNECT_MAX_S = 1, 10
TIMES = replace(AS_SHIPPED, ping_s=30)
"""A pause in reading (a pager, a slow terminal) may be longer than the daemon's silence."""


def topics_of(prefix: str, store: str = "+", gateway: str = "+") -> tuple[str, ...]:
    """Return what to subscribe to for one gateway, or for all: events, backfill and state; no commands."""
    return tuple(f"{prefix}/v1/{store}/{gateway}/{rest}" for rest in ("event/#", "backfill", "state"))


class Subscription:
    """Listens on `topics`; a context manager. `next` gives what has arrived."""

    def __init__(self, settings: BrokerSettings, topics: Sequence[str]) -> None:
        if settings.url is None:
            raise ConfigurationError("broker.url is missing; there is nothing to listen to")
        self.protocol: Protocol | None = None
        self._url = settings.url
        self._topics = tuple(topics)
        self._visit = Visit(settings, f"listen-{secrets.token_hex(6)}", TIMES, PACKET_BYTES_MAX)
        self._clock = SystemClock()
        self._early: deque[Arrived] = deque()
        self._again_ns: int | None = None
        self._pause_s = RECONNECT_MIN_S

    def __enter__(self) -> Subscription:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect and subscribe. Raises Unavailable with the broker's or the network's reason."""
        try:
            said = self._visit.connect()
            if isinstance(said, LinkDown):
                raise as_error(self._url, said)
            self.protocol = said.protocol
            self._subscribe()
            self._await_subscribed()
        except BaseException:
            self.close()
            raise

    def next(self, timeout_s: float) -> Arrived | None:
        """Return the next message, or None where none comes within `timeout_s`; connect again where it is time."""
        if self._again_ns is not None and self._clock.now().boot_ns >= self._again_ns:
            assert self.protocol is not None
            self._again_ns = None
            self._visit.begin(self.protocol)
        if self._early:
            return self._early.popleft()
        said = self._visit.next(timeout_s)
        if isinstance(said, Arrived):
            return said
        if isinstance(said, LinkUp):
            self._pause_s = RECONNECT_MIN_S
            self._subscribe()
        elif isinstance(said, LinkDown):
            self._again_ns = self._clock.now().boot_ns + self._pause_s * NS_PER_S
            self._pause_s = min(RECONNECT_MAX_S, 2 * self._pause_s)
        return None

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._visit.close()

    def _subscribe(self) -> None:
        self._visit.obey(Subscribe(self._visit.number, self._topics, retained=True))

    def _await_subscribed(self) -> None:
        """Wait for the answer to what was asked for; a broker may send messages before it."""
        said = self._visit.next(SUBSCRIBED_WITHIN_S)
        while isinstance(said, Arrived):
            self._early.append(said)
            said = self._visit.next(SUBSCRIBED_WITHIN_S)
        if isinstance(said, LinkDown):
            raise as_error(self._url, said)
        if isinstance(said, Subscribed) and (why := refused(said)):
            advice = "let this user read them (the broker's access list)"
            raise Unavailable(f"the broker {self._url} refuses the subscription: {why}", advice)
        if said is None:
            why = f"it did not answer the subscription within {SUBSCRIBED_WITHIN_S:g} s"
            raise Unavailable(f"the broker {self._url} does not take this consumer: {why}", "look at its log")
