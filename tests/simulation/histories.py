"""Histories from a seed: what a shop, a card, a network, a broker and a clock do to a gateway in minutes or days.

A seed draws a plan (what kind of site this is), then act after act with pauses between, then a fair period in which the
link stays up and the disk works; what must hold then is `Checker.finish`. Equal seeds give equal histories.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from gateway.config import Configuration
from gateway.model import NS_PER_MS, NS_PER_S, STREAMS
from gateway.outbox.sealing import Sealing
from gateway.outbox.settings import OutboxSettings
from tests.simulation.broker import Broker, Nature
from tests.simulation.cards import Cards
from tests.simulation.checker import Checker
from tests.simulation.clock import Agenda, SimulatedClock, Trace
from tests.simulation.consumer import Consumer
from tests.simulation.disk import ModelDisk
from tests.simulation.faults import Faults
from tests.simulation.lives import Number, Violation
from tests.simulation.shop import Shop
from tests.simulation.world import Machine, Pace, plain_configuration

ACTS_MAX = 60
FAIR_NS = 7200 * NS_PER_S
TRADE_EVERY_NS = 300 * NS_PER_S  # a gateway tells its health as often
BYTES_MAX_AMPLE = 8 << 20
BYTES_MAX_LEAST = 320 * 1024
"""Below what can be configured, so that the bound is met with few events."""
ILL_MAX_NS = 300 * NS_PER_S
TAIL = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a history was worth."""

    steps: int
    recorded: int
    virtual_s: float


class Failed(AssertionError):
    """A history that broke a guarantee: the seed, the sentence, the end of the trace."""


def run(seed: int, aloud: bool = False) -> Outcome:
    """Run the history of this seed; raises Failed where a guarantee does not hold."""
    history = History(seed, aloud)
    try:
        with chance_of(history.random):
            return history.run()
    except Violation as violation:
        trace = history.trace.tail(TAIL)
        raise Failed(
            f"seed {seed}: {violation}\n{trace}\nagain: python -m tests.simulation --seed {seed} -v"
        ) from violation


@contextmanager
def chance_of(random: Random) -> Iterator[None]:
    """Let a new outbox's id come from the seed; it is the one number that the outbox draws from the system."""
    before = secrets.token_hex
    secrets.token_hex = lambda nbytes=None: random.randbytes(nbytes or 32).hex()
    try:
        yield
    finally:
        secrets.token_hex = before


class History:
    """One history. Everything that is drawn comes from `random`, in the order of time."""

    def __init__(self, seed: int, aloud: bool = False) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.agenda = Agenda()
        self.trace = Trace(self.agenda, aloud=aloud)
        self.clock = SimulatedClock(self.agenda, random)
        self.disk = ModelDisk(Random(random.getrandbits(32)))
        self.checker = Checker(self.clock, "stores/v1/0042/front")
        self.broker = Broker(self.agenda, random, self.checker, self.trace, self._nature())
        self.shop = Shop(random)
        self.pause_s = random.choice((2.0, 20.0, 20.0, 200.0, 2000.0))
        self.acts = random.randint(15, ACTS_MAX)
        self.machine = Machine(
            self._configuration(),
            self.agenda,
            random,
            self.clock,
            self.disk,
            self.broker,
            self.checker,
            self.trace,
            self._pace(),
        )
        if seed % 8 == 5:
            self.machine.sealing = Sealing(bytes(32), chance=Random(seed).randbytes)
        self.cards = Cards(seed, self.machine, self.checker, self.trace)
        self.faults = Faults(seed, self.machine, self.checker, self.agenda, self.trace)

    def _nature(self) -> Nature:
        choice = self.random.choice
        return Nature(
            speaks_5=self.random.random() > 0.15,
            refuses_5_by=choice((0x84, 0x01, None)),
            receive_maximum=choice((None, 1, 2, 10, 20)),
            packet_bytes_max=choice((None, None, 2_000, 10_000)),
            hates_one_in=choice((0, 0, 0, 20, 60)),
            chokes=choice((False, True)),
            no_backfill=self.random.random() < 0.08,
        )

    def _pace(self) -> Pace:
        return Pace(
            lag_ns=self.random.choice((0, 1, 30, 300)) * NS_PER_MS,
            doze_ns=int(self.pause_s / 2) * NS_PER_S,
            slow_card=self.random.random() < 0.5,
        )

    def _configuration(self) -> Configuration:
        random = self.random
        plain = plain_configuration()
        intervals_ms = dict(plain.outbox.commit_interval_ms)
        if (interval_ms := random.choice((None, None, 0.0, 20.0, 500.0))) is not None:
            intervals_ms = dict.fromkeys(STREAMS, interval_ms)
        outbox = OutboxSettings(
            directory="/outbox",
            commit_interval_ms=intervals_ms,
            keep_acknowledged=random.choice((0.0, 60.0, 7200.0)),
        )
        bytes_max = random.choice((BYTES_MAX_AMPLE, BYTES_MAX_AMPLE, 1 << 20, BYTES_MAX_LEAST))
        object.__setattr__(outbox, "bytes_max", bytes_max)
        if bytes_max <= 1 << 20:
            self.checker.may_drop.add("full")
        broker = dataclasses.replace(
            plain.broker,
            inflight_max=random.choice((1, 5, 100, 100)),
            inflight_bytes_max=random.choice(("adaptive", "adaptive", 2000, 100_000)),
            resync=random.choice(("live-first", "live-first", "in-order")),
            backfill_compression=random.choice(("none", "gzip")),
            reconnect_max_s=random.choice((min(30.0, self.pause_s), 300.0)),
        )
        return dataclasses.replace(plain, outbox=outbox, broker=broker)

    # The history.

    def run(self) -> Outcome:
        """Play it to its end and check what must hold then."""
        machine = self.machine
        machine.boot()
        acts = self._weighted_acts()
        for _ in range(self.acts):
            act = self.random.choices(*acts)[0]
            act()
            self.cards.perhaps()
            self.faults.perhaps()
            pause_s = self.random.expovariate(1 / self.pause_s) if self.random.random() < 0.7 else 0.0
            machine.run_until(self.agenda.now_ns + int(pause_s * NS_PER_S))
        self._be_fair()
        self._after_all()
        self.checker.finish([number for number, _ in self._waiting()])
        recorded = sum(account.claimed for account in self.checker.accounts.values())
        return Outcome(machine.steps, recorded, self.agenda.now_ns / NS_PER_S)

    def _weighted_acts(self) -> tuple[list[Callable[[], None]], list[float]]:
        weights: dict[Callable[[], None], float] = {
            self._customers: 30,
            self._radio: 12,
            self._shift: 3,
            self._rush: 2,
            self._cut_network: 5,
            self._mend_network: 6,
            self._rude_broker: 4,
            self._polite_broker: 3,
            self._reset_broker: 2,
            self._power_cut: 3,
            self._cut_within_a_call: 6,
            self._kill: 2,
            self._clean_stop: 4,
            self._ill_disk: 4,
            self._one_fault: 3,
            self._well_disk: 6,
            self._full_disk: 2,
            self._set_clock: 3,
            self._time_service: 4,
            self._resend: 2,
            self._hurry: 1,
            self._new_card: 0.3,
        }
        return list(weights), list(weights.values())

    def _be_fair(self) -> None:
        """The link stays up and the disk works: what was recorded gets through."""
        self.trace.say("a fair period begins")
        self._well_disk()
        self.faults.end()
        self.disk.cut_at = None
        self.broker.manners.polite()
        self.checker.topics.begin_again()
        self._mend_network()
        machine = self.machine

        def is_through() -> bool:
            engine = machine.engine
            if engine is None or not engine.outbox.idle() or not engine.uplink.status().up:
                return False
            return engine.uplink.drained() or all(self.checker.topics.may_wait(event) for _, event in self._waiting())

        for _ in range(5):
            until_ns = self.agenda.now_ns + FAIR_NS
            while not machine.run_until(self.agenda.now_ns + TRADE_EVERY_NS, is_through):
                if self.agenda.now_ns >= until_ns:
                    raise Violation("two hours of fair weather, and the backlog is not drained")
                machine.hear(self.shop.passage(), False)  # trade goes on: what others fare is the only evidence
            machine.run_until(self.agenda.now_ns + 10 * NS_PER_S)
            if is_through():  # the ten seconds may have brought more to say
                return

    def _waiting(self) -> Iterator[tuple[Number, dict[str, Any]]]:
        """Yield the events that are not acknowledged, as far as one look shows them."""
        engine = self.machine.engine
        assert engine is not None
        for stream in STREAMS:
            for entry in engine.outbox.read(stream, 0, 10_000, 1 << 24):
                number = (engine.outbox.id, stream, entry.sequence)
                yield number, {**json.loads(entry.payload), "outbox": engine.outbox.id}

    def _after_all(self) -> None:
        """Words of links that are over; a last outage; and a consumer that asks as soon as the link is back."""
        random, manners = Random(self.seed), self.broker.manners
        manners.late_ack = manners.reorders_ack = 1.0
        manners.delay_ns = 500 * NS_PER_MS
        for _ in range(2):
            for _ in range(3):
                self.machine.hear(self.shop.radio(), True)
            self.machine.run_until(self.agenda.now_ns + random.randint(0, 6 * NS_PER_S))
            self.broker.reset()
        self.machine.run_until(self.agenda.now_ns + 30 * NS_PER_S)
        manners.polite()
        self._cut_network()
        for _ in range(random.randint(0, 12)):
            self.machine.hear(self.shop.radio(), True)
        self.machine.run_until(self.agenda.now_ns + 60 * NS_PER_S)
        self._mend_network()
        Consumer(random, self.agenda, self.machine, self.broker).asks_again()
        self._be_fair()

    # What happens.

    def _customers(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.machine.hear(self.shop.passage(), self.random.random() < 0.5)
            self.machine.run_until(self.agenda.now_ns + self.random.randint(0, 4 * NS_PER_S))

    def _radio(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.machine.hear(self.shop.radio(), False)

    def _shift(self) -> None:
        self.machine.hear(self.shop.shift(self.agenda.now_ns / NS_PER_S), True)

    def _rush(self) -> None:
        """More than the usual: passages and tags within seconds."""
        self.trace.say("rush")
        for _ in range(self.random.randint(20, 120)):
            self.machine.hear(self.shop.radio(), True)
        self.machine.run_until(self.agenda.now_ns + 5 * NS_PER_S)

    def _cut_network(self) -> None:
        self.broker.cut(hangs=self.random.random() < 0.5)

    def _mend_network(self) -> None:
        if not self.broker.reachable:
            self.broker.mend()

    def _rude_broker(self) -> None:
        self.trace.say("the broker is rude")
        self.broker.manners.worsen(self.random)

    def _polite_broker(self) -> None:
        self.broker.manners.polite()

    def _reset_broker(self) -> None:
        self.broker.reset()

    def _power_cut(self) -> None:
        if self.machine.engine is not None:
            self.machine.die("power cut")

    def _cut_within_a_call(self) -> None:
        self.machine.death = self.random.choice(("power cut", "power cut", "kill"))
        self.disk_now.cut_at = self.disk_now.calls + self.random.randint(1, 60)

    def _kill(self) -> None:
        if self.machine.engine is not None:
            self.machine.die("kill")

    def _clean_stop(self) -> None:
        if self.machine.engine is not None:
            self.machine.stop()
            if self.machine.engine is None:
                self.machine.rest(is_boot=self.random.random() < 0.5)

    @property
    def disk_now(self) -> ModelDisk:
        return self.machine.disk

    def _ill_disk(self) -> None:
        disk, chance = self.disk_now, self.random.choice((0.05, 0.3, 1.0))
        self.agenda.after(self.random.randint(NS_PER_S, ILL_MAX_NS), self._well_disk)
        self.checker.may_drop.add("overflow")
        kind = self.random.choice(("sync", "write", "read-only"))
        self.trace.say(f"disk is ill: {kind} {chance}")
        if kind == "sync":
            disk.sync_error_chance = chance
        elif kind == "write":
            disk.write_error_chance = chance
        else:
            disk.read_only = True

    def _one_fault(self) -> None:
        disk = self.disk_now
        code = self.random.choice((5, 28, 28))
        disk.fail_at[disk.calls + self.random.randint(1, 30)] = code
        self.checker.may_drop |= {"full", "overflow"}

    def _full_disk(self) -> None:
        disk = self.disk_now
        disk.capacity_bytes = disk.used_bytes() + self.random.choice((0, 5_000, 40_000))
        self.checker.may_drop |= {"full", "overflow"}
        self.trace.say("disk is filled by somebody else")

    def _well_disk(self) -> None:
        self.disk_now.heal()
        self.trace.say("disk is well")

    def _set_clock(self) -> None:
        by_s = self.random.choice((-86_400, -3600, -90, -2, 0.5, 2, 60, 3600, 10 * 86_400))
        self.trace.say(f"wall clock set by {by_s} s")
        self.clock.step(int(by_s * NS_PER_S))
        self.checker.note_anchor()

    def _time_service(self) -> None:
        if self.clock.is_synced and self.random.random() < 0.3:
            self.trace.say("clock no longer synced")
            self.clock.doubt()
        else:
            self.trace.say("clock synced")
            self.clock.synchronise()
            self.checker.note_anchor()

    def _resend(self) -> None:
        stream = self.random.choice(STREAMS)
        first = self.random.randint(1, 50)
        asked = {"stream": stream, "first_sequence": first, "last_sequence": first + self.random.randint(0, 80)}
        self.broker.command("resend", json.dumps(asked).encode())

    def _hurry(self) -> None:
        if self.machine.engine is not None:
            self.machine.engine.uplink.hurry(self.clock.now())

    def _new_card(self) -> None:
        if self.machine.engine is not None:
            self.machine.die("power cut")
            self.trace.say("new card")
            self.checker.lives.now.lost.add(self.checker.outbox)
            self.machine.swap_card(ModelDisk(Random(self.random.getrandbits(32))))
