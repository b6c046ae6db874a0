"""A link and a broker in simulated time for the sending policy: a seeded storm, then calm.

The broker journals what it acknowledges, checks the window it announced, and does in the storm what it likes: refuses
connects, closes in order or not, forgets, delays, reorders and doubles acknowledgements, refuses messages.
"""

from __future__ import annotations

import gzip
import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from gateway.model import (
    NS_PER_MS,
    NS_PER_S,
    STREAMS,
    Acknowledged,
    Connect,
    Disconnect,
    Instant,
    LinkDown,
    LinkUp,
    Message,
    Order,
    Stream,
    Subscribe,
    Subscribed,
)
from gateway.uplink.policy import Uplink
from gateway.uplink.settings import BrokerSettings
from gateway.uplink.subscriptions import commands
from gateway.wire import Wire
from tests.uplink.memory_outbox import MemoryOutbox

WALL_NS = 1_795_000_000 * NS_PER_S


def events_of(message: Message) -> list[tuple[Stream, int]]:
    """Return (stream, sequence) of each event in a message; none for state and answers."""
    if message.topic.endswith("/state") or "/command/" in message.topic:
        return []
    payload = message.payload
    document = json.loads(gzip.decompress(payload) if payload[:2] == b"\x1f\x8b" else payload)
    events = document if isinstance(document, list) else [document]
    return [(event["stream"], int(event["sequence"])) for event in events]


@dataclass
class Weather:
    """How bad it is: chances for each connect and message."""

    refuse_connect: float = 0.0
    drop: float = 0.0  # the link breaks at this message
    close: float = 0.0  # the broker closes in order at this message
    mute: float = 0.0  # never acknowledged
    refuse: float = 0.0  # a passing refusal
    double: float = 0.0
    round_trip_ms: float = 20.0


@dataclass
class Sky:
    """The whole little world: clock, outbox, uplink, broker. `run` moves it on."""

    seed: int
    settings: BrokerSettings = field(default_factory=lambda: BrokerSettings(url="mqtt://broker.test"))
    weather: Weather = field(default_factory=Weather)
    receive_maximum: int | None = None
    packet_bytes_max: int | None = None
    poison: set[tuple[Stream, int]] = field(default_factory=set)
    mute_for_ever: set[tuple[Stream, int]] = field(default_factory=set)
    refuses: dict[tuple[Stream, int], int] = field(default_factory=dict)
    refuses_state: int = 0
    """With this code; 0: it takes it."""
    closes_at: str | None = None
    """At every message on a topic that ends so."""
    denies: dict[str, int] = field(default_factory=dict)
    """With this code every message on a topic that ends so."""
    is_deaf_to: str | None = None
    """It never acknowledges what is on a topic that ends so."""
    anchors: dict[str, int] = field(default_factory=dict)
    """Wall minus boot in ms, of the boots whose clock was set."""
    refuses_as: str = "tcp.refused"
    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    bytes_per_s: float | None = None
    says: dict[str, Any] = field(default_factory=dict)
    """More of what CONNACK says, by `LinkUp`'s names."""
    at_subscribe: Callable[[Subscribe], tuple[int, ...] | Literal["close"] | None] = lambda order: (
        (1,) * len(order.filters)
    )

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.now = Instant(5 * NS_PER_S, WALL_NS)
        self.sent: list[tuple[int, Message]] = []
        self.delivered: set[tuple[Stream, int]] = set()
        self.connects: list[int] = []
        self.closed_beside: list[int] = []
        """How many other messages were under way when the broker closed at one."""
        self.wills: list[Connect] = []
        self.asked: list[tuple[int, Subscribe]] = []
        self.latencies_ms: dict[str, list[float]] = {"event": [], "backfill": []}
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._link = 0
        self._alive = False
        self._under_way = 0
        self._line_free_ns = 0
        self.under_way_max = 0
        self.restart()

    def restart(self) -> None:
        """A fresh process over the same outbox."""
        self._alive = False
        self._link += 1000
        wire = Wire("0042", "front", self.outbox.id)
        self.uplink = Uplink(
            self.settings,
            self.outbox,
            wire,
            Random(self.seed),
            self._describe,
            self.outbox.memory,
            self.anchors,
            subscriptions=[commands(wire, ["ping", "resend"])],
        )

    @staticmethod
    def _describe() -> dict[str, Any]:
        return {"version": "0", "config_sha256": "0", "sensors": []}

    def record(self, stream: Stream = "door", count: int = 1) -> None:
        for _ in range(count):
            self.outbox.passed(self.now, stream=stream)

    def after(self, ms: float, work: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._later, (self.now.boot_ns + int(ms * NS_PER_MS), self._count, work))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Move on by so many seconds, or until the condition holds; False: it never did."""
        end_ns = self.now.boot_ns + int(seconds * NS_PER_S)
        turns = 0
        while True:
            turns += 1
            assert turns < 2_000_000, "the world spins"
            for order in self.uplink.step(self.now):
                self._obey(order)
            if until is not None and until():
                return True
            due_ns = self.uplink.due_ns()
            next_ns = min(end_ns, self._later[0][0] if self._later else end_ns, end_ns if due_ns is None else due_ns)
            if next_ns > self.now.boot_ns:
                self.now = self.now.later(next_ns - self.now.boot_ns)
            if self.now.boot_ns >= end_ns:
                return until is None
            while self._later and self._later[0][0] <= self.now.boot_ns:
                heapq.heappop(self._later)[2]()

    def drain(self, seconds: float) -> None:
        """Run until all is acknowledged."""
        assert self.run(seconds, self.uplink.drained), f"{self.outbox.backlog} left: {self.uplink.status(self.now)}"

    def cut(self, code: str = "link.lost", in_order: bool = False) -> None:
        """The connection ends."""
        if self._alive:
            self._alive = False
            self._tell(LinkDown(self._number, code, code, had_connack=True, in_order=in_order))

    def _close_at(self, message: Message, link: int) -> None:
        if link == self._link and self._alive:
            self.closed_beside.append(self._under_way - 1)
            self.cut("broker.closed", True)

    def _tell(self, signal: LinkUp | LinkDown | Acknowledged | Subscribed) -> None:
        self.uplink.handle(signal, self.now)

    def _obey(self, order: Order) -> None:
        if isinstance(order, Connect):
            self.connects.append(self.now.boot_ns)
            self.wills.append(order)
            self._link += 1
            self._number = order.link
            link = self._link
            self._under_way = 0
            self._alive = False
            refused = self.random.random() < self.weather.refuse_connect
            self.after(self.weather.round_trip_ms, lambda: self._answer_connect(order, link, refused))
        elif isinstance(order, Disconnect):
            self._alive = False
            self._link += 1
        elif self._alive and isinstance(order, Subscribe):
            self.asked.append((self._link, order))
            self.after(self.weather.round_trip_ms, lambda link=self._link: self._answer_subscribe(order, link))  # type: ignore[misc]
        elif self._alive and isinstance(order, Message):
            self._publish(order)

    def _answer_subscribe(self, order: Subscribe, link: int) -> None:
        if link != self._link or not self._alive:
            return
        answer = self.at_subscribe(order)
        if answer == "close":
            self.cut("broker.closed", True)
        elif isinstance(answer, tuple):
            self._tell(Subscribed(order.link, order.filters, answer))

    def _answer_connect(self, order: Connect, link: int, refused: bool) -> None:
        if link != self._link:
            return
        if refused:
            self._tell(LinkDown(order.link, self.refuses_as, "no link"))
            return
        self._alive = True
        self._tell(LinkUp(order.link, order.protocol, self.receive_maximum, self.packet_bytes_max, **self.says))

    def _publish(self, message: Message) -> None:
        self.sent.append((self._link, message))
        self._under_way += 1
        self.under_way_max = max(self.under_way_max, self._under_way)
        events = set(events_of(message))
        weather, chance, link, number = self.weather, self.random.random, self._link, self._number
        is_bad = self.closes_at is not None and message.topic.endswith(self.closes_at)
        if events & self.poison or is_bad or chance() < weather.close:
            self.after(weather.round_trip_ms, lambda: self._close_at(message, link))
            return
        if chance() < weather.drop:
            self.after(weather.round_trip_ms, lambda: self.cut() if link == self._link else None)
            return
        is_deaf = self.is_deaf_to is not None and message.topic.endswith(self.is_deaf_to)
        if is_deaf or events & self.mute_for_ever or chance() < weather.mute:
            return
        code = 0x97 if chance() < weather.refuse else 0
        if self.refuses_state and message.topic.endswith("/state"):
            code = self.refuses_state
        code = next((said for end, said in self.denies.items() if message.topic.endswith(end)), code)
        code = next((self.refuses[event] for event in events if event in self.refuses), code)
        sent_ns = self.now.boot_ns
        wait_ms = weather.round_trip_ms * (1 + chance())
        if self.bytes_per_s is not None:
            self._line_free_ns = max(sent_ns, self._line_free_ns) + int(
                (len(message.payload) + 60) / self.bytes_per_s * NS_PER_S
            )
            wait_ms = weather.round_trip_ms + (self._line_free_ns - sent_ns) / NS_PER_MS

        def acknowledge() -> None:
            if link != self._link or not self._alive:
                return
            self._under_way -= 1
            if not code:
                self.delivered |= events
            lane = "backfill" if message.topic.endswith("/backfill") else "event"
            self.latencies_ms[lane].append((self.now.boot_ns - sent_ns) / NS_PER_MS)
            self._tell(Acknowledged(number, message.token, code))

        self.after(wait_ms, acknowledge)
        if chance() < weather.double:
            process = self.uplink  # a late word may come after another connect, but not into another process
            double = Acknowledged(number, message.token, code)
            self.after(wait_ms * 2, lambda: self._tell(double) if self.uplink is process else None)

    def check_complete(self) -> None:
        """Every recorded entry was delivered or refused by name, and none is acknowledged that was not delivered."""
        for stream in STREAMS:
            through = self.outbox.positions(stream).recorded_through
            refused = {(e.stream, e.sequence) for e, _ in self.outbox.refused}
            for sequence in range(1, through + 1):
                assert (stream, sequence) in self.delivered or (stream, sequence) in refused

    def check_order(self) -> None:
        """In each lane the first sendings of each stream ascend (over all connections, by what was sent before)."""
        seen: set[tuple[Stream, int]] = set()
        highest: dict[tuple[int, bool, Stream], int] = {}
        for link, message in self.sent:
            backfill = message.topic.endswith("/backfill")
            for stream, sequence in events_of(message):
                if (stream, sequence) in seen:
                    continue
                seen.add((stream, sequence))
                key = (link, backfill, stream)
                assert sequence > highest.get(key, 0), (key, sequence)
                highest[key] = sequence
