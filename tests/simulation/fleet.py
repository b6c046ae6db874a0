"""Ten thousand gateways and one broker, in simulated time: `python -m tests.simulation.fleet [--quick] [--json]`.

Every gateway is the product's own `Uplink`. Two parts, because a fleet's traffic is more than one core simulates:
`return_of` sends all of them through an outage with empty outboxes, counting connects; `traffic_of` takes a sample with
backlog and live events against its share of the broker's capacity. What is bounded: connects a second (the rest is
refused by 0x9F), messages and bytes a second. Of outages beyond an hour the last hour is simulated, from back-offs that
have long reached their cap. paho's own back-off (1, 2, 4 .. 120 s, no jitter) stands beside it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from gateway.model import (
    NS_PER_S,
    Acknowledged,
    Connect,
    Disconnect,
    Entry,
    Event,
    Instant,
    LinkDown,
    LinkUp,
    Message,
    Stream,
)
from gateway.outbox.memory import Memory
from gateway.uplink.policy import Uplink
from gateway.uplink.settings import BrokerSettings
from gateway.wire import Wire, record
from tests.uplink.memory_outbox import MemoryPositions, Passed

WALL_NS = 1_795_000_000 * NS_PER_S
ROUND_TRIP_NS = NS_PER_S // 20
UP_BEFORE_S = 120.0
LONGEST_S = 3600.0
EVENTS_PER_S = 1.65
MESSAGES_PER_S = 20_000.0  # of the whole broker; AWS IoT Core's default for an account
BYTES_PER_S = 40_000_000.0
PROFILE_MESSAGES_PER_S, PROFILE_BYTES_PER_S = 100, 512 * 1024
PAYLOAD = record(Event("entrance", Instant(NS_PER_S, WALL_NS), Passed("in", "x" * 80)), "969b0c7f")


@dataclass(slots=True)
class CountedOutbox:
    """As many equal events as are asked for, acknowledged in order or not; costs nothing while they wait."""

    id: str = "0badcafe"
    epoch: int = 1
    memory: Memory = field(default_factory=Memory)
    recorded: int = 0
    recorded_ns: dict[int, int] = field(default_factory=dict)
    stopped_short: bool = False
    _through: int = 0
    _beyond: set[int] = field(default_factory=set)

    def positions(self, stream: Stream) -> MemoryPositions:
        if stream != "door":
            return MemoryPositions(0, 0, 0)
        return MemoryPositions(self.recorded, self._through, self.recorded - self._through - len(self._beyond))

    def next_sequence(self, stream: Stream) -> int:
        return self.positions(stream).recorded_through + 1

    def read(self, stream: Stream, after: int, limit: int, bytes_max: int, through: int | None = None) -> list[Entry]:
        first = max(after, self._through) + 1
        last = min(self.recorded if through is None else min(through, self.recorded), first + limit - 1)
        return [Entry("door", n, 1, PAYLOAD) for n in range(first, last + 1) if n not in self._beyond]

    def take_recovered(self) -> list[tuple[Stream, int, int]]:
        return []

    def acknowledge(self, stream: Stream, first: int, last: int) -> None:
        self._beyond.update(range(max(first, self._through + 1), last + 1))
        while self._through + 1 in self._beyond:
            self._through += 1
            self._beyond.remove(self._through)

    def refuse(self, entry: Entry, why: str) -> None:
        raise AssertionError(f"nothing is ever refused here: {why}")

    def kept(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]:
        return []

    def read_kept(self, stream: Stream, first: int, last: int, limit: int, bytes_max: int) -> list[Entry]:
        return []

    trouble: str | None = None
    not_kept: str | None = None
    unreadable: str | None = None

    def save_soon(self) -> None:
        return


class Store:
    """One gateway of the fleet."""

    def __init__(self, number: int, settings: BrokerSettings) -> None:
        self.outbox = CountedOutbox()
        self.random = Random(number)
        wire = Wire(f"{number:05d}", "front", self.outbox.id)
        described = {"version": "0", "config_sha256": "0", "sensors": []}
        self.uplink = Uplink(settings, self.outbox, wire, self.random, lambda: described, self.outbox.memory, {})
        self.link = 0
        self.is_up = False
        self.due_ns = -1
        self.second = 0
        self.messages = 0
        self.size = 0


class Fleet:
    """Stores, the broker, and a heap of what happens next."""

    def __init__(self, stores: int, connects_per_s: float, share: float = 1.0, profile: Any = "generic") -> None:
        settings = BrokerSettings(url="mqtt://broker.test", profile=profile)
        self.stores = [Store(number, settings) for number in range(stores)]
        self.now_ns = 5 * NS_PER_S
        self.is_out = False
        self.connects_per_s = connects_per_s
        self.connects: Counter[int] = Counter()
        self.refused = 0
        self.breaches = 0
        self.latencies_ms: list[float] = []
        self._admitted: Counter[int] = Counter()
        self._ns_per_message = NS_PER_S / (MESSAGES_PER_S * share)
        self._ns_per_byte = NS_PER_S / (BYTES_PER_S * share)
        self._free_ns = 0.0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        for store in self.stores:
            self.at(self.now_ns + int(store.random.uniform(0, 60) * NS_PER_S), lambda store=store: self.step(store))  # type: ignore[misc]

    def at(self, at_ns: int, work: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at_ns, self._count, work))

    def run(self, until_ns: int, done: Callable[[], bool] | None = None) -> None:
        """Move on to that moment, or until `done`, which is asked every 100 events."""
        turns = 0
        while self._heap and self._heap[0][0] <= until_ns:
            self.now_ns, _, work = heapq.heappop(self._heap)
            work()
            turns += 1
            if done is not None and turns % 100 == 0 and done():
                return
        self.now_ns = max(self.now_ns, until_ns)

    def moment(self) -> Instant:
        return Instant(self.now_ns, WALL_NS + self.now_ns)

    def step(self, store: Store) -> None:
        """Let one store's policy act, and come back when it wants to."""
        for order in store.uplink.step(self.moment()):
            if isinstance(order, Connect):
                self._connect(store, order.link)
            elif isinstance(order, Message):
                self._publish(store, order)
            elif isinstance(order, Disconnect):
                store.is_up = False
        due_ns = store.uplink.due_ns()
        if due_ns is not None and due_ns != store.due_ns:
            store.due_ns = due_ns

            def due() -> None:
                if store.due_ns == due_ns:
                    store.due_ns = -1
                    self.step(store)

            self.at(max(due_ns, self.now_ns + 1), due)

    def tell(self, store: Store, signal: LinkUp | LinkDown | Acknowledged) -> None:
        store.uplink.handle(signal, self.moment())
        self.step(store)

    def _connect(self, store: Store, link: int) -> None:
        store.link = link
        second = self.now_ns // NS_PER_S
        self.connects[second] += 1
        answer: LinkUp | LinkDown
        if self.is_out:
            answer = LinkDown(link, "tcp.refused", "nothing listens")
        elif self._admitted[second] >= self.connects_per_s:
            self.refused += 1
            answer = LinkDown(link, "connack.rate_exceeded", "too many", connack=0x9F, had_connack=True)
        else:
            self._admitted[second] += 1
            answer = LinkUp(link, "5")

        def arrive() -> None:
            if store.link == link:
                store.is_up = isinstance(answer, LinkUp)
                self.tell(store, answer)

        self.at(self.now_ns + ROUND_TRIP_NS, arrive)

    def _publish(self, store: Store, message: Message) -> None:
        size, second, link = len(message.payload) + len(message.topic) + 80, self.now_ns // NS_PER_S, store.link
        if second != store.second:
            store.second, store.messages, store.size = second, 0, 0
        store.messages += 1
        store.size += size
        self.breaches += store.messages > PROFILE_MESSAGES_PER_S or store.size > 2 * PROFILE_BYTES_PER_S
        self._free_ns = max(self._free_ns, float(self.now_ns)) + max(self._ns_per_message, size * self._ns_per_byte)
        sent_ns, is_live = self.now_ns, "/event/" in message.topic

        def acknowledge() -> None:
            if store.link == link and store.is_up:
                if is_live:
                    self.latencies_ms.append((self.now_ns - sent_ns) / 1e6)
                self.tell(store, Acknowledged(link, message.token))

        self.at(int(self._free_ns) + ROUND_TRIP_NS, acknowledge)

    def break_all(self) -> None:
        """The broker dies: every link is lost in the same moment."""
        self.is_out = True
        for store in self.stores:
            if store.is_up:
                store.is_up = False
                self.tell(store, LinkDown(store.link, "link.lost", "reset", had_connack=True))

    def live(self, until_ns: int) -> None:
        """Each store records live events from now on."""
        for store in self.stores:
            self._live(store, until_ns)

    def _live(self, store: Store, until_ns: int) -> None:
        next_ns = self.now_ns + int(store.random.expovariate(EVENTS_PER_S) * NS_PER_S)
        if next_ns > until_ns:
            return

        def happen() -> None:
            store.outbox.recorded += 1
            self.step(store)
            self._live(store, until_ns)

        self.at(next_ns, happen)


@dataclass(frozen=True, slots=True)
class Returned:
    """How a fleet came back. Seconds from the end of the outage; connects in the worst second after it."""

    policy: str
    stores: int
    outage_s: float
    admits_per_s: float
    half_s: float
    all_s: float
    peak_per_s: int
    refused: int


def return_of(stores: int, outage_s: float, admits_per_s: float) -> Returned:
    """Send the product's policy through an outage."""
    fleet = Fleet(stores, float("inf"))
    fleet.run(fleet.now_ns + int(UP_BEFORE_S * NS_PER_S))
    assert all(store.is_up for store in fleet.stores)
    fleet.break_all()
    if outage_s > LONGEST_S:
        for store in fleet.stores:
            store.uplink._backoff.failures = 20
    fleet.run(fleet.now_ns + int(min(outage_s, LONGEST_S) * NS_PER_S))
    fleet.is_out, fleet.connects_per_s, ended_ns = False, admits_per_s, fleet.now_ns
    fleet.run(ended_ns + 7200 * NS_PER_S, lambda: 2 * sum(store.is_up for store in fleet.stores) >= stores)
    half_s = (fleet.now_ns - ended_ns) / NS_PER_S
    fleet.run(ended_ns + 7200 * NS_PER_S, lambda: all(store.is_up for store in fleet.stores))
    peak = max(count for second, count in fleet.connects.items() if second > ended_ns // NS_PER_S)
    took_s = (fleet.now_ns - ended_ns) / NS_PER_S
    return Returned("gateway", stores, outage_s, admits_per_s, round(half_s, 1), round(took_s, 1), peak, fleet.refused)


def paho_return_of(stores: int, outage_s: float, admits_per_s: float) -> Returned:
    """The same for paho's `reconnect_delay_set(1, 120)`: in lock-step, as after a broker's crash."""
    heap = [(0.0, number, 1.0) for number in range(stores)]
    admitted: Counter[int] = Counter()
    connects: Counter[int] = Counter()
    refused, back = 0, list[float]()
    while heap:
        at_s, number, delay_s = heapq.heappop(heap)
        second = int(at_s)
        if at_s >= outage_s:
            connects[second] += 1
            if admitted[second] < admits_per_s:
                admitted[second] += 1
                back.append(at_s - outage_s)
                continue
            refused += 1
        heapq.heappush(heap, (at_s + delay_s, number, min(120.0, delay_s * 2)))
    half_s, all_s = back[len(back) // 2], back[-1]
    return Returned("paho", stores, outage_s, admits_per_s, half_s, all_s, max(connects.values()), refused)


@dataclass(frozen=True, slots=True)
class Drained:
    """How a sample's traffic went after an outage. `drained_s` None: not within the time simulated."""

    stores: int
    outage_s: float
    backlog: int
    live_p50_ms: float
    live_p99_ms: float
    drained_s: float | None
    breaches: int


def traffic_of(stores: int, fleet_size: int, outage_s: float, watched_s: float) -> Drained:
    """Let a sample with the outage's backlog come back, live events beside it, on its share of the broker."""
    share = stores / fleet_size
    fleet = Fleet(stores, float("inf"), share, "aws-iot")
    fleet.is_out = True
    for store in fleet.stores:
        store.outbox.recorded = int(outage_s * EVENTS_PER_S)
    backlog = sum(store.outbox.recorded for store in fleet.stores)
    fleet.run(fleet.now_ns + int(UP_BEFORE_S * NS_PER_S))
    fleet.is_out, fleet.connects_per_s = False, max(1.0, 500 * share)
    ended_ns = fleet.now_ns
    until_ns = ended_ns + int(watched_s * NS_PER_S)
    fleet.live(until_ns)

    def is_drained() -> bool:
        return all(store.outbox.positions("door").backlog < 10 for store in fleet.stores)

    fleet.run(until_ns, is_drained)
    drained_s = (fleet.now_ns - ended_ns) / NS_PER_S if is_drained() else None
    late = sorted(fleet.latencies_ms) or [0.0]
    p50, p99 = late[len(late) // 2], late[int(0.99 * len(late))]
    drained_s = None if drained_s is None else round(drained_s)
    return Drained(stores, outage_s, backlog, round(p50), round(p99), drained_s, fleet.breaches)


def main() -> None:
    logging.disable(logging.ERROR)  # ten thousand gateways say that their link is down
    parser = argparse.ArgumentParser(description="A fleet's return after an outage, in simulated time.")
    parser.add_argument("--quick", action="store_true", help="1,000 gateways, a tenth of the broker")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    stores, scale = (1000, 10) if asked.quick else (10_000, 1)
    outages_s = (30.0, 600.0) if asked.quick else (30.0, 600.0, 8 * 3600.0, 7 * 86_400.0)
    returns = [
        function(stores, outage_s, admits / scale)
        for outage_s in outages_s
        for admits in (100.0, 500.0)
        for function in (return_of, paho_return_of)
        if not (function is paho_return_of and outage_s > LONGEST_S)
    ]
    drains = [traffic_of(20 if asked.quick else 100, 10_000, outage_s, 1200.0) for outage_s in outages_s[:2]]
    if asked.json:
        print(json.dumps({"returns": [asdict(one) for one in returns], "drains": [asdict(one) for one in drains]}))
        return
    print("| policy | gateways | outage s | admitted/s | half back s | all back s | peak connects/s | refused |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in returns:
        print("| " + " | ".join(str(value) for value in asdict(one).values()) + " |")
    print("\n| gateways | outage s | backlog | live p50 ms | live p99 ms | drained s | quota breaches |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for other in drains:
        print("| " + " | ".join(str(value) for value in asdict(other).values()) + " |")


if __name__ == "__main__":
    main()
