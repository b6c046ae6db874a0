"""The link on paho: obeys the uplink's orders, tells what the broker says.

Law: one thread a connection (`connection`), at most one connection that counts; what an older one still says is told
with its own number, and nobody listens. `obey` never blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.machine.threads import ADVICE, REFUSED, started
from gateway.model import Connect, Disconnect, LinkDown, Order, Signal
from gateway.mqtt.connection import Connection
from gateway.mqtt.dial import AS_SHIPPED, LinkTimes
from gateway.mqtt.heard import Reader
from gateway.uplink.settings import BrokerSettings

__all__ = ["LinkTimes", "PahoLink"]

STUCK_MAX = 4  # threads that hang in a resolver, before no more are started


class PahoLink:
    """The link to a broker. `emit` takes what it says, from its own thread; it must neither block nor raise."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        emit: Callable[[Signal], None],
        times: LinkTimes = AS_SHIPPED,
        reader: Reader | None = None,
    ) -> None:
        if settings.url is None:
            raise ValueError("there is no broker.url to connect to")
        self._settings = settings
        self._client_id = client_id
        self._emit = emit
        self._times = times
        self._reader = reader
        self._current: Connection | None = None
        self._past: list[Connection] = []

    def obey(self, order: Order) -> None:
        """Take an order from the engine's thread; never blocks. Orders for a connection that is over are ignored."""
        if isinstance(order, Connect):
            self._open(order)
        elif self._current is not None and (not isinstance(order, Disconnect) or order.link == self._current.link):
            self._current.obey(order)

    def _open(self, order: Connect) -> None:
        if self._current is not None:
            self._current.obey(Disconnect(self._current.link, gently=False))
            self._past.append(self._current)
        self._past = [past for past in self._past if past.thread.is_alive()]
        if len(self._past) > STUCK_MAX:
            detail = "earlier attempts still hang in the name server or the handshake"
            self._emit(LinkDown(order.link, "connect.stuck", detail, "check the network and its name server"))
            return
        self._current = Connection(self._settings, self._client_id, order, self._emit, self._times, self._reader)
        if not started(self._current.thread):
            self._current = None
            self._emit(LinkDown(order.link, "connect.refused_here", REFUSED, ADVICE))

    def close(self) -> None:
        """End within about 2 s. A thread that hangs in the resolver is left to end by itself; its words are lost."""
        if self._current is not None:
            self._current.obey(Disconnect(self._current.link, gently=True))
            self._past.append(self._current)
            self._current = None
        until = time.monotonic() + self._times.close_s
        for past in self._past:
            past.thread.join(max(0.0, until - time.monotonic()))
        self._past = [past for past in self._past if past.thread.is_alive()]
