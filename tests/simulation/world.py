"""The machine under simulation: power, process, time. The one test call to `assemble`, and the loop around the engine.

Law: the engine is the real one, from interpreters to uplink; around it nothing is real. It takes a step when something
has reached it or when it says that something is due, never because a second has passed: what it forgets to say is
found. An exception that leaves a step is a violation.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Literal

import orjson

from gateway.commands.verbs import CommandRefused, resend_of, resent, understood
from gateway.config import Configuration, loads
from gateway.daemon.status import health_of
from gateway.engine.assembly import World, assemble, stopping
from gateway.engine.engine import Due, Engine
from gateway.errors import OutboxUnusable
from gateway.machine.health import Machine as Looked
from gateway.model import NS_PER_MS, NS_PER_S, STREAMS, CommandReceived, Event, Instant, Stream
from gateway.outbox.outbox import Outbox
from gateway.outbox.recovery import LEAP_MAX
from gateway.outbox.sealing import PLAIN
from gateway.outbox.writing import InlineWriter, Writer
from tests.simulation.broker import Broker, BrokerLink
from tests.simulation.checker import Checker
from tests.simulation.clock import Agenda, SimulatedClock, Trace
from tests.simulation.disk import ModelDisk, PowerCut
from tests.simulation.lives import Violation
from tests.simulation.shop import SENSORS_TOML, Saying
from tests.simulation.writer import SlowWriter

SPIN_MAX = 200
"""Steps on end at which the engine says that it is due at once, although nothing has happened: a hot loop."""
FLUSH_WITHIN_NS = 3 * NS_PER_S
RESTART_NS = 2 * NS_PER_S
COUNTED_EVERY_NS = 900 * NS_PER_S
COMMIT_SLACK_NS = 50 * NS_PER_MS
HANG_TOLD_NS = 6 * NS_PER_S
Death = Literal["power cut", "kill"]
TOML = f"""
[site]
store = "0042"
gateway = "front"
timezone = "Europe/Berlin"
[broker]
url = "mqtt://broker"
[outbox]
directory = "/outbox"
{SENSORS_TOML}
"""


@cache
def plain_configuration() -> Configuration:
    """The shop's configuration; histories vary broker and outbox."""
    return loads(TOML)


@dataclass(slots=True)
class Pace:
    """How the machine runs: steps come up to `lag_ns` late, an idle engine's up to `doze_ns`; the card may stall."""

    lag_ns: int = 0
    doze_ns: int = 0
    slow_card: bool = False


class Witnessed:
    """The outbox as the engine has it, with the checker looking over its shoulder at what is appended."""

    def __init__(self, outbox: Outbox, checker: Checker) -> None:
        self._outbox, self._checker = outbox, checker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    def append(self, stream: Stream, payload: bytes, now: Instant) -> int | None:
        sequence = self._outbox.append(stream, payload, now)
        self._checker.given(stream, sequence, payload)
        return sequence


class Machine:
    """See the module. `engine` is None while the process is dead; `boots_itself` false keeps it so."""

    def __init__(
        self,
        configuration: Configuration,
        agenda: Agenda,
        random: Random,
        clock: SimulatedClock,
        disk: ModelDisk,
        broker: Broker,
        checker: Checker,
        trace: Trace,
        pace: Pace,
    ) -> None:
        self.configuration, self.disk, self.clock, self.pace = configuration, disk, clock, pace
        self.engine: Engine | None = None
        self.sealing = PLAIN
        self.steps = 0
        self.death: Death = "power cut"  # what the disk's next cut means
        self.disk_trouble_ns = 0  # when the disk last misbehaved
        self._agenda, self._random, self._broker, self._checker, self._trace = agenda, random, broker, checker, trace
        self._writer: Writer | None = None
        self._link: BrokerLink | None = None
        self._life = 0
        self._leaps = Random(str(random.getstate()))  # of the epochs: its own, so that nothing else is drawn otherwise
        self._sync_has_failed = False  # in this boot, as far as anybody can tell
        self._awake_ns: int | None = None
        self._spins = 0
        self._agenda.after(COUNTED_EVERY_NS, self._quarter)

    # Power and process.

    def boot(self) -> None:
        """Start the process; where the directory cannot be used it ends, and is started again later."""
        if self.engine is not None:
            return
        self._life += 1
        self._trace.say(f"start, boot {self.clock.bootid}")
        with self._mortal():
            self._start()

    def _start(self) -> None:
        world = World(self.clock, self.disk, self._open_writer, self._open_link, self._random, self.sealing)
        try:
            engine = assemble(
                self.configuration, world, lambda identity, at: identity[:24], None, self._leaps.randrange(LEAP_MAX)
            )
        except OutboxUnusable as error:
            self._trace.say(f"cannot start: {error}")
            if self._cannot_open():
                self.disk_trouble_ns = self._agenda.now_ns
            if not self.disk.read_only and self._agenda.now_ns - self.disk_trouble_ns > 60 * NS_PER_S:
                raise Violation(f"the outbox cannot be used, although the disk works: {error}") from error
            self._end()
            self._agenda.after(RESTART_NS, self._wake, self._life, False)
            return
        except (Violation, PowerCut):
            raise
        except Exception as error:
            raise Violation(f"the gateway cannot start:\n{traceback.format_exc()}") from error
        outbox = engine.outbox
        self._checker.opened(outbox, outbox.created, self.disk.read_only)
        self._trace.say(f"outbox {outbox.id} epoch {outbox.epoch} {'clean' if outbox.clean else 'unclean'}")
        engine.outbox = Witnessed(outbox, self._checker)  # type: ignore[assignment]
        engine.command = self._command
        engine.routines.update(interval=self._intervals, health=self._health)
        self.engine = engine
        now = self.clock.now()
        engine.record(engine.interpretation.tick(engine.sensed(now)), now)
        self._step()

    @contextmanager
    def _mortal(self) -> Iterator[None]:
        """What is done here may be interrupted by a power cut or a kill within any call to the disk."""
        try:
            yield
        except PowerCut:
            self.die(self.death)

    def die(self, death: Death) -> None:
        """The process is killed, or the power cut: what is not on the card is lost. It starts again after a while."""
        if self.disk.history[-1:] == ["sync"]:
            death = "power cut"  # the model's sync that is cut off forgets, as only a power cut does
        self._trace.say(f"{death} at call {self.disk.calls}")
        self._end()
        self.disk.cut_at = None
        if death == "power cut":
            self.disk.power_cut()
        self.rest(is_boot=death == "power cut")

    def rest(self, is_boot: bool) -> None:
        """Start again after a while, with the machine's own boot where it was off.

        What a failed sync left in memory alone, a process that starts again in the same boot cannot tell from what is
        on the card; nor can the gateway. So such a machine is switched off.
        """
        if self._sync_has_failed:
            self.disk.power_cut()
            self._sync_has_failed, is_boot = False, True
        self._agenda.after(self._random.choice((1, 5, 60, 1800)) * NS_PER_S, self._wake, self._life, is_boot)

    def _wake(self, life: int, is_boot: bool) -> None:
        if self.engine is None and life == self._life:
            if is_boot:
                self.clock.boot()
            self.boot()

    def _end(self) -> None:
        self.engine = None
        if isinstance(self._writer, SlowWriter):
            self._writer.die()
        if self._link is not None:
            self._link.close()
        self._writer = self._link = None
        self.disk.kill()

    def stop(self) -> None:
        """Stop cleanly, as the service does on SIGTERM."""
        self._trace.say("clean stop")
        with self._mortal():
            self._stop()

    def _stop(self) -> None:
        engine = self.engine
        assert engine is not None
        assert self._link is not None
        deadline_ns = self._agenda.now_ns + FLUSH_WITHIN_NS
        self._step()
        now = self.clock.now()
        engine.record(engine.interpretation.finish(engine.sensed(now)), now)
        engine.record([stopping(self.configuration, "sigterm", now)], now)
        engine.outbox.commit(now)
        self._run_until(
            deadline_ns, lambda: engine.outbox.idle() and (engine.uplink.drained() or not engine.uplink.status().up)
        )
        engine.uplink.stop(self.clock.now())
        self._run_until(deadline_ns + NS_PER_S, lambda: engine.uplink.is_stopped)
        self._link.close()
        engine.outbox.close(self.clock.now())
        self._checker.stepped()
        self._end()

    def swap_card(self, disk: ModelDisk) -> None:
        """A technician puts in another card; the machine must be off."""
        assert self.engine is None
        self.disk = disk

    # Time.

    def run_until(self, end_ns: int, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until `end_ns` or `done()`; return whether it was. The machine may die and start again."""
        while self._agenda.now_ns < end_ns:
            with self._mortal():
                return self._run_until(end_ns, done)
        return done()

    def _run_until(self, end_ns: int, done: Callable[[], bool]) -> bool:
        self._awake_ns = self._agenda.now_ns
        while not done():
            awake_ns = None if self.engine is None else self._awake_ns
            at_ns = min(ns for ns in (end_ns, self._agenda.next_ns(), awake_ns) if ns is not None)
            self._agenda.move_to(at_ns)
            self._tells_of_a_hang()
            if self._agenda.happen():
                self._spins = 0
                if self.engine is not None:
                    lag_ns = self._random.randint(0, self.pace.lag_ns)
                    soon_ns = self._agenda.now_ns + lag_ns
                    self._awake_ns = soon_ns if self._awake_ns is None else min(self._awake_ns, soon_ns)
            if self.engine is not None and self._awake_ns is not None and self._awake_ns <= self._agenda.now_ns:
                self._step()
            elif at_ns >= end_ns:
                return done()
        return True

    def _step(self) -> None:
        engine = self.engine
        assert engine is not None
        self.steps += 1
        self._spins += 1
        try:
            engine.step()
        except (Violation, PowerCut):
            raise
        except Exception as error:
            raise Violation(f"an exception left the engine's step:\n{traceback.format_exc()}") from error
        self._checker.stepped()
        self._look()
        self._awake_ns = self._due_ns(engine)
        if self._awake_ns is not None and self._awake_ns <= self._agenda.now_ns:
            if self._spins > SPIN_MAX:
                raise Violation("the engine says again and again that it is due, and does nothing")
            self._awake_ns = self._agenda.now_ns + NS_PER_MS

    def _due_ns(self, engine: Engine) -> int | None:
        """When the engine wants its next step, in true time; an idle outbox may be kept waiting."""
        outbox_ns = engine.outbox.due_ns()
        if outbox_ns is not None and engine.outbox.idle():
            outbox_ns += self.pace.doze_ns
        dues = (outbox_ns, engine.uplink.due_ns(), engine.interpretation.due_ns())
        return min((self.clock.to_true_ns(due) for due in dues if due is not None), default=None)

    def _look(self) -> None:
        """The promises that hold at every moment."""
        settings = self.configuration.outbox
        used = self.disk.used_bytes()
        if used > settings.bytes_max:
            raise Violation(f"{used} bytes on the disk, bytes_max is {settings.bytes_max}")
        if self._disk_is_troubled():
            self._sync_has_failed = True
            self.disk_trouble_ns = self._agenda.now_ns
        if self._cannot_open():
            self.disk_trouble_ns = self._agenda.now_ns
        if self._agenda.now_ns - self.disk_trouble_ns < 60 * NS_PER_S:
            return
        slack_ns = self.pace.lag_ns + COMMIT_SLACK_NS
        if isinstance(self._writer, SlowWriter):
            slack_ns += 3 * self._writer.behind_ns()  # an append under way, a save behind it, and its own
        for stream in STREAMS:
            waits_ns = self._checker.waiting_ns(stream)
            if waits_ns > settings.interval_ns(stream) + slack_ns:
                raise Violation(f"{stream}: an event waits {waits_ns / 1e6:.0f} ms to be recorded")

    def _cannot_open(self) -> bool:
        return self.disk.is_denied or self.disk.away is not None

    def _tells_of_a_hang(self) -> None:
        """Whoever asks is told that the card does not answer, once it has not for longer than a worn one may take."""
        if self.engine is None or not isinstance(self._writer, SlowWriter):
            return
        late_ns = self._writer.silent_ns() - HANG_TOLD_NS - self.pace.lag_ns
        if late_ns > 0 and self.engine.outbox.status().trouble is None:
            raise Violation(f"the card has not answered for {self._writer.silent_ns() / 1e9:.0f} s, and nobody is told")

    def _disk_is_troubled(self) -> bool:
        disk = self.disk
        chances = disk.sync_error_chance + disk.write_error_chance
        to_come = any(call > disk.calls for call in disk.fail_at)
        return disk.read_only or chances > 0 or to_come or disk.capacity_bytes is not None

    # What reaches the engine.

    def hear(self, sayings: Iterable[Saying], at_once: bool) -> None:
        """Let the shop's sensors speak from now on; `at_once`: the loop was busy and finds all at the end."""
        said = list(sayings)
        if not said:
            return
        began_ns, life = self._agenda.now_ns, self._life
        for index, (after_s, reading) in enumerate(said):
            happens_ns = began_ns + int(after_s * NS_PER_S)
            heard_s = said[-1][0] if at_once else after_s
            self._agenda.at(began_ns + int(heard_s * NS_PER_S), self._hear, reading, happens_ns, life, index)

    def _hear(self, reading: Callable[[Instant], Any], happens_ns: int, life: int, index: int) -> None:
        if self.engine is not None and life == self._life:
            now = self.clock.now()
            self.engine.offer(reading(now.later(happens_ns - self._agenda.now_ns)))

    def _quarter(self) -> None:
        self._agenda.after(COUNTED_EVERY_NS, self._quarter)
        if self.engine is not None:
            self.engine.offer(Due("interval"))
            self.engine.offer(Due("health"))

    def _intervals(self, now: Instant) -> Iterator[Event]:
        assert self.engine is not None
        return self.engine.interpretation.tick(self.engine.sensed(now))

    def _health(self, now: Instant) -> Iterator[Event]:
        assert self.engine is not None
        yield health_of(self.engine, Looked(30 << 20, 48.5, False), now)

    def _command(self, command: CommandReceived, now: Instant) -> None:
        """Carry out `resend` as the service does."""
        assert self.engine is not None
        try:
            asked = resend_of(understood(command.verb, command.payload, self.configuration.commands.allow))
            kept = self.engine.uplink.resend(asked.stream, asked.first, asked.last)
            answer = {"ok": True, "result": resent(asked, kept)}
        except CommandRefused as refused:
            answer = refused.answer()
        self.engine.uplink.answer("stores/v1/0042/front/command/resend/result", orjson.dumps(answer), None)

    def _open_writer(self, wake: Callable[[], None]) -> Writer:
        slow = self.pace.slow_card
        self._writer = SlowWriter(self._agenda, self.disk, self._random, wake) if slow else InlineWriter(self.disk)
        return self._writer

    def _open_link(self, configuration: Configuration, emit: Callable[[Any], None]) -> BrokerLink:
        self._link = BrokerLink(self._broker, emit)
        return self._link
