"""The daemon: signals, the loop, the watchdog, and everything that has a thread of its own.

Law: the loop is `engine.step`; all else only offers to it. SIGTERM and SIGINT stop cleanly within 5 s: drivers end,
what is pending is decided, `stopped` is recorded, sent and acknowledged where the link is up, the outbox is closed.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from gateway import __version__
from gateway.assembly import World, assemble, intervals_of, kinds_of, stopping
from gateway.clock import SystemClock
from gateway.commands import CommandRefused, resend_of, resent, understood
from gateway.config import Configuration, require_broker
from gateway.control import ControlServer
from gateway.disk import RealDisk
from gateway.engine import Due, Engine, Question, Say
from gateway.health import look
from gateway.model import NS_PER_S, CommandReceived, DriverFailed, Event, Instant
from gateway.mqtt import PahoLink
from gateway.network import NetworkWatch
from gateway.outbox import ThreadWriter
from gateway.privacy import DayKeys, Pseudonyms
from gateway.recording import Recording
from gateway.scheduler import Scheduler
from gateway.sensing import Player
from gateway.sensors import Driver
from gateway.status import health_of, status_of
from gateway.tap import Tap

log = logging.getLogger(__name__)

STOP_WITHIN_S = 5.0
FLUSH_WITHIN_S = 3.0
"""Of the 5 s: what is left belongs to the drivers' end, the last commit and the disconnect."""
DRIVER_HUNG_AFTER_S = 30.0
ANSWER_WITHIN_S = 5.0
DAY_ASKED_EVERY_S = 60.0
"""How late the key of a day may be destroyed."""
SPOILED = ("_spoiled", "_settling", "_out_of_step", "_bad")
"""How the names of drivers' counters end that count readings thrown away."""
KEY_FILE = "privacy.key"


def pseudonyms_of(configuration: Configuration) -> Pseudonyms:
    """The identities of this store, under keys kept beside the outbox."""
    keys = DayKeys(Path(configuration.outbox.directory) / KEY_FILE)
    return Pseudonyms(configuration.privacy, configuration.site.zone, keys)


def client_id_of(configuration: Configuration) -> str:
    """The MQTT client id: as configured, else `{store}.{gateway}`."""
    site = configuration.site
    return configuration.broker.client_id or f"{site.store}.{site.gateway}"


def real_world() -> World:
    """The machine's own clock, disk, threads and network."""
    disk = RealDisk()
    return World(
        clock=SystemClock(),
        disk=disk,
        open_writer=lambda wake: ThreadWriter(disk, wake),
        open_link=lambda configuration, emit: PahoLink(configuration.broker, client_id_of(configuration), emit),
        random=random.Random(),
    )


def run(
    configuration: Configuration,
    *,
    simulated: bool = False,
    recording: Path | None = None,
    speed: float | None = 1.0,
    stay: bool = False,
) -> int:
    """Run the daemon until it is told to stop; with `recording`, until all of it is acknowledged (unless `stay`).

    Returns the exit status. Raises ConfigurationError without a broker, OutboxUnusable where the outbox cannot be used.
    """
    require_broker(configuration)
    service = Service(configuration, real_world(), simulated=simulated)
    if recording is not None:
        service.play(Recording(recording), speed, stay)
    return service.run()


class Service:
    """One run of the daemon."""

    def __init__(self, configuration: Configuration, world: World, *, simulated: bool = False) -> None:
        self.configuration = configuration
        self.world = world
        self.simulated = simulated
        self.player: Player | None = None
        self.engine: Engine
        self._recording: tuple[Recording, float | None, bool] | None = None
        self._drivers: dict[str, Driver] = {}
        self._played = threading.Event()
        self._stop_reason: str | None = None
        self._notify = Notify()
        self._tap = Tap(kinds_of(configuration))
        site = configuration.site
        self._prefix = f"{configuration.broker.topic_prefix}/v1/{site.store}/{site.gateway}"
        self._pseudonyms = pseudonyms_of(configuration)

    def play(self, recording: Recording, speed: float | None, stay: bool) -> None:
        """Put a recording in the hardware's place."""
        self._recording = (recording, speed, stay)

    def run(self) -> int:
        if self._recording is not None:
            recording, speed, _ = self._recording
            self.player = Player(
                recording,
                kinds_of(self.configuration),
                speed,
                self.world.clock,
                lambda item: self.engine.offer(item),
                lambda: self.engine.has_room(),
                self._player_finished,
            )
        self.engine = assemble(self.configuration, self.world, self._pseudonyms.identify, self.player)
        scheduler = Scheduler(self.engine.offer, self.configuration.site.zone)
        self._wire(scheduler)
        control = ControlServer(self.configuration, self._ask)
        network = NetworkWatch(lambda: self.engine.offer(Due("network")))
        with self._signals():
            control.start()
            scheduler.start()
            network.start()
            self._start_sensors()
            self._notify.say("READY=1")
            log.info("started version=%s outbox=%s", __version__, self.engine.outbox.id)
            try:
                self._loop()
            finally:
                self._notify.say("STOPPING=1")
                scheduler.close()
                control.close()
                network.close()
                self._stop()
        return 0

    # Starting.

    def _wire(self, scheduler: Scheduler) -> None:
        engine = self.engine
        engine.routines.update(
            interval=self._close_intervals, health=self._health, day=self._turn_day, network=self._network_came_up
        )
        engine.answer = self._answer
        engine.command = self._command
        engine.clock_stepped = scheduler.rearm
        engine.listeners.append(self._tap.take)
        for every_s in intervals_of(self.configuration):
            scheduler.every("interval", every_s)
        scheduler.every("health", self.configuration.health.every)
        scheduler.every("day", DAY_ASKED_EVERY_S)

    def _start_sensors(self) -> None:
        now = self.engine.clock.now()
        self.engine.record(self.engine.interpretation.tick(self.engine.sensed(now)), now)
        if self.player is not None:
            self.player.start()
            return
        self._drivers = self._open_drivers()
        for driver in self._drivers.values():
            driver.start(self.engine.emit)

    def _open_drivers(self) -> dict[str, Driver]:
        if self.simulated:
            from gateway.simulated import drivers

            return dict(drivers(self.configuration, self.world.clock))
        opened = {}
        for kind, settings in self.configuration.sensors:
            try:
                opened[settings.id] = kind.driver(settings, self.world.clock)
            except Exception as error:  # the supervisor of drivers: one that cannot be made is that sensor's fault
                log.exception("a driver cannot be made sensor=%s", settings.id)
                detail = f"its driver cannot be made ({type(error).__name__}: {error})"
                self.engine.offer(DriverFailed(settings.id, self.engine.clock.now(), "driver_missing", detail))
        return opened

    def _player_finished(self) -> None:
        self.engine.offer(Due("played"))

    # Running.

    def _loop(self) -> None:
        engine = self.engine
        engine.routines["played"] = self._recording_ended
        while self._stop_reason is None:
            engine.step(wait_s=1.0)
            self._feed_watchdog()
            if self._played.is_set() and self._all_acknowledged():
                self._stop_reason = "recording_ended"

    def _recording_ended(self, now: Instant) -> Iterable[Event]:
        assert self._recording is not None
        log.info("the recording has been played")
        yield from self.engine.interpretation.finish(self.engine.sensed(now))
        if not self._recording[2]:
            self._played.set()

    def _all_acknowledged(self) -> bool:
        return self.engine.outbox.idle() and self.engine.uplink.drained()

    def _feed_watchdog(self) -> None:
        now_ns = self.engine.clock.now().boot_ns
        hung = [
            sensor
            for sensor, driver in self._drivers.items()
            if (progress_ns := driver.progress_ns()) is not None
            and now_ns - progress_ns > DRIVER_HUNG_AFTER_S * NS_PER_S
        ]
        if hung:
            log.error("a driver's thread makes no progress sensors=%s", ",".join(hung))
        else:
            self._notify.say("WATCHDOG=1")

    def _close_intervals(self, now: Instant) -> Iterable[Event]:
        return self.engine.interpretation.tick(self.engine.sensed(now))

    def _health(self, now: Instant) -> Iterable[Event]:
        self._count_spoiled()
        yield health_of(self.engine, look(Path(self.configuration.outbox.directory)), now)

    def _turn_day(self, now: Instant) -> Iterable[Event]:
        self._pseudonyms.turn(now)
        return ()

    def _network_came_up(self, now: Instant) -> Iterable[Event]:
        self.engine.uplink.hurry(now)
        return ()

    def _count_spoiled(self) -> None:
        for sensor, driver in self._drivers.items():
            thrown_away = (count for name, count in driver.counters().items() if name.endswith(SPOILED))
            self.engine.interpretation.senses[sensor].spoiled = sum(thrown_away)

    # Answering.

    def _ask(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Put a question to the engine from the control socket's thread and wait for the answer."""
        answered = threading.Event()
        answers: list[dict[str, Any]] = []

        def reply(answer: dict[str, Any]) -> None:
            answers.append(answer)
            answered.set()

        self.engine.offer(Question(verb, arguments, reply))
        if not answered.wait(ANSWER_WITHIN_S):
            return {"error": f"the daemon did not answer within {ANSWER_WITHIN_S:g} s"}
        return answers[0]

    def _answer(self, verb: str, arguments: Mapping[str, Any], now: Instant) -> dict[str, Any]:
        match verb:
            case "ping":
                return {"ok": True}
            case "status":
                return self._status(now)
            case "readings":
                after = arguments.get("after")
                return self._tap.since(after if isinstance(after, int) else None, now)
            case "reconnect":
                self.engine.uplink.hurry(now)
                return {"ok": True}
            case _:
                return {"error": f'this daemon does not know "{verb}"'}

    def _status(self, now: Instant) -> dict[str, Any]:
        self._count_spoiled()
        status = status_of(self.engine, self.configuration, now)
        for sensor, driver in self._drivers.items():
            status["sensors"][sensor]["driver"] = dict(driver.counters())
        return status

    def _command(self, command: CommandReceived, now: Instant) -> None:
        if command.retained:
            log.warning("a retained command is ignored verb=%s", command.verb)
            return
        try:
            arguments = understood(command.verb, command.payload, self.configuration.commands.allow)
            result = self._carry_out(command, arguments, now)
        except CommandRefused as refused:
            log.warning("command refused verb=%s code=%s", command.verb, refused.code)
            self._reply(command, refused.answer())
        else:
            if result is not None:
                self._reply(command, {"ok": True, "result": result})

    def _carry_out(self, command: CommandReceived, arguments: Mapping[str, Any], now: Instant) -> Any:
        match command.verb:
            case "ping":
                return {"time_ms": now.wall_ns // 1_000_000, "uptime_ms": now.boot_ns // 1_000_000}
            case "status":
                return self._status(now)
            case "resend":
                asked = resend_of(arguments)
                return resent(asked, self.engine.uplink.resend(asked.stream, asked.first, asked.last))
            case "restart":
                self._stop_reason = "restart_command"
                return {}
            case "doctor":
                threading.Thread(target=self._examine, args=(command,), name="doctor", daemon=True).start()
                return None
            case _:
                raise CommandRefused("failed", f'this version cannot "{command.verb}" from afar; use the command line')

    def _examine(self, command: CommandReceived) -> None:
        """Run the doctor beside the engine: its checks take seconds."""
        from gateway.doctor import examine

        answer = {"ok": True, "result": examine(self.configuration)}
        self.engine.offer(Say(self._result_topic(command), orjson.dumps(answer), command.correlation))

    def _reply(self, command: CommandReceived, answer: Mapping[str, Any]) -> None:
        self.engine.uplink.answer(self._result_topic(command), orjson.dumps(answer), command.correlation)

    def _result_topic(self, command: CommandReceived) -> str:
        return command.response_topic or f"{self._prefix}/command/{command.verb}/result"

    # Stopping.

    def _signals(self) -> Any:
        return SignalsStop(self._on_signal)

    def _on_signal(self, number: int) -> None:
        self._stop_reason = self._stop_reason or signal.Signals(number).name.lower()
        self.engine.offer(Due("stop"))

    def _stop(self) -> None:
        engine = self.engine
        deadline_ns = engine.clock.now().boot_ns + int(FLUSH_WITHIN_S * NS_PER_S)
        if self.player is not None:
            self.player.close()
        for driver in self._drivers.values():
            driver.close()
        engine.step()
        now = engine.clock.now()
        if not self._played.is_set():
            engine.record(engine.interpretation.finish(engine.sensed(now)), now)
        engine.record([stopping(self.configuration, self._stop_reason or "error", now)], now)
        engine.outbox.commit(now)
        while engine.clock.now().boot_ns < deadline_ns and not self._all_acknowledged():
            if engine.outbox.idle() and not engine.uplink.status().up:
                break
            engine.step(wait_s=0.1)
        engine.uplink.stop(engine.clock.now())
        while engine.clock.now().boot_ns < deadline_ns + NS_PER_S and not engine.uplink.is_stopped:
            engine.step(wait_s=0.05)
        engine.link.close()
        engine.outbox.close(engine.clock.now())
        log.info("stopped reason=%s", self._stop_reason)


class SignalsStop:
    """While entered, SIGTERM and SIGINT call `told` instead of ending the process."""

    def __init__(self, told: Any) -> None:
        self._told = told
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, lambda received, frame: self._told(received))

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)


class Notify:
    """systemd's notification socket (sd_notify(3)): one datagram a word; nothing where there is no systemd."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")

    def say(self, word: str) -> None:
        """Send a word such as `READY=1`; a systemd that does not listen is not waited for."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(word.encode(), address)
