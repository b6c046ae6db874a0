"""The real uplink on the real link in real time, over an outbox in memory: what the engine does, in thirty lines."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from random import Random

from gateway.machine.clock import SystemClock
from gateway.model import NS_PER_S, Acknowledgements, CommandReceived, LinkDown, LinkUp, Signal, Subscribed
from gateway.mqtt.link import LinkTimes, PahoLink
from gateway.uplink.policy import Pace, Uplink
from gateway.uplink.settings import BrokerSettings
from gateway.uplink.subscriptions import commands
from gateway.wire import Wire
from tests.uplink.memory_outbox import MemoryOutbox

QUICK = LinkTimes(connect_s=2.0, connack_s=1.0, ping_s=1, user_timeout_s=2.0)

BRISK = Pace(connect_spacing_s=0.0, backfill_delay_max_s=0.0)


class Shop:
    """One gateway that only sends."""

    def __init__(
        self,
        settings: BrokerSettings,
        outbox: MemoryOutbox | None = None,
        times: LinkTimes = QUICK,
        pace: Pace = BRISK,
        store: str = "0042",
    ) -> None:
        self.clock = SystemClock()
        self.outbox = outbox or MemoryOutbox()
        self.wire = Wire(store, "front", self.outbox.id, settings.topic_prefix)
        self.signals: queue.SimpleQueue[Signal] = queue.SimpleQueue()
        self.commands: list[CommandReceived] = []
        self.downs: list[LinkDown] = []
        self.ups: list[LinkUp] = []
        self.subscribed: list[Subscribed] = []
        self.uplink = Uplink(
            settings,
            self.outbox,
            self.wire,
            Random(store),
            lambda: {"version": "0", "config_sha256": "0", "sensors": []},
            self.outbox.memory,
            {},
            pace,
            subscriptions=[commands(self.wire, ["ping", "resend"])],
        )
        self.link = PahoLink(settings, settings.client_id or f"{store}.front", self.signals.put, times)

    def passed(self, count: int = 1, note: str | None = None) -> None:
        for _ in range(count):
            self.outbox.passed(self.clock.now(), note=note)

    def step(self, wait_s: float = 0.05) -> None:
        now = self.clock.now()
        for order in self.uplink.step(now):
            self.link.obey(order)
        due_ns = self.uplink.due_ns()
        if due_ns is not None:
            wait_s = min(wait_s, max(0.0, (due_ns - now.boot_ns) / NS_PER_S))
        try:
            signal = self.signals.get(timeout=wait_s)
            while True:
                self._hear(signal)
                signal = self.signals.get_nowait()
        except queue.Empty:
            pass

    def _hear(self, signal: Signal) -> None:
        if isinstance(signal, CommandReceived):
            self.commands.append(signal)
            return
        if isinstance(signal, LinkDown):
            self.downs.append(signal)
        elif isinstance(signal, LinkUp):
            self.ups.append(signal)
        elif isinstance(signal, Subscribed):
            self.subscribed.append(signal)
        assert isinstance(signal, LinkUp | LinkDown | Acknowledgements | Subscribed)
        self.uplink.handle(signal, self.clock.now())

    def until(self, condition: Callable[[], object], within_s: float = 8.0, hurry: bool = False) -> None:
        """Run until the condition holds; `hurry` cuts each back-off short."""
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, f"not within {within_s} s: {self.uplink.status(self.clock.now())}"
            if hurry:
                self.uplink.hurry(self.clock.now())
            self.step()

    def down_by(self, code: str) -> LinkDown:
        """Run until the link has ended for this reason, and return that end.

        With TLS 1.3 a broker's reset may overtake its alert: then that try knows only that the line was closed.
        """
        self.until(lambda: any(down.code == code for down in self.downs), hurry=True)
        return next(down for down in self.downs if down.code == code)

    def drain(self, within_s: float = 8.0, hurry: bool = False) -> None:
        self.until(self.uplink.drained, within_s, hurry)

    def close(self) -> None:
        self.uplink.stop(self.clock.now())
        end = time.monotonic() + 2
        while not self.uplink.is_stopped and time.monotonic() < end:
            self.step()
        self.step(0)
        self.link.close()
