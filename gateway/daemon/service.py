"""The daemon: the loop, the watchdog, and everything that has a thread of its own.

Law: the loop is `engine.step`; all else only offers to it. SIGTERM and SIGINT stop cleanly within 5 s: drivers end,
what is pending is decided, `stopped` is recorded, sent and acknowledged where the link is up, the outbox is closed.
SIGHUP reads the configuration again: a good one is taken over by a clean stop and start within the same process id,
a bad one is refused with its mistakes in the log, and the old one stays in force.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gateway import __version__
from gateway.config import Configuration, require_broker
from gateway.config.known_secrets import redactor_of
from gateway.config.outbox_key import reader_of, sealing_of
from gateway.control.serving import ControlServer
from gateway.daemon.announcing import with_withdrawals
from gateway.daemon.answers import Answers
from gateway.daemon.remote import RemoteConfiguration
from gateway.daemon.scheduler import Scheduler
from gateway.daemon.status import health_of
from gateway.engine.assembly import World, assemble, intervals_of, kinds_of, stopping
from gateway.engine.engine import Due, Engine
from gateway.errors import EXIT_GOOD, ConfigurationError, GatewayError
from gateway.facts import ConfigChanged
from gateway.machine.asker import OPENING_WITHIN_S, Ask, at_once
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.machine.health import look, not_kept
from gateway.machine.network import NetworkWatch
from gateway.machine.process import Notify, Readiness, Signals, Watchdog
from gateway.machine.threads import joined, started
from gateway.model import NS_PER_S, STREAMS, DriverFailed, Event, Instant
from gateway.mqtt.certificates import days_left
from gateway.mqtt.link import PahoLink
from gateway.outbox.directory import unusable
from gateway.outbox.sealing import PLAIN, Sealing
from gateway.outbox.writing import ThreadWriter
from gateway.privacy import DayKeys, Pseudonyms
from gateway.recordings.player import Player
from gateway.recordings.recording import Recording
from gateway.recordings.tap import Tap
from gateway.redaction import Redactor
from gateway.sensors.kind import Driver
from gateway.technician.scales import Scales

log = logging.getLogger(__name__)

T = TypeVar("T")

FLUSH_WITHIN_S = 3.0
"""Of the 5 s of a stop: what is left belongs to the drivers' end, the last commit and the disconnect."""
STOPPING_STEPS_MAX = 20
DAY_ASKED_EVERY_S = 60.0
"""How late the key of a day may be destroyed."""
LOOK_EVERY_NS = 5 * NS_PER_S
"""How late it is reported that the outbox's folder was moved away."""
KEY_FILE = "privacy.key"
RELOAD = "reload"


def pseudonyms_of(configuration: Configuration, ask: Ask = at_once) -> Pseudonyms:
    """The identities of this store, under keys kept beside the outbox, whose disk is asked by `ask`."""
    keys = DayKeys(Path(configuration.outbox.directory) / KEY_FILE, ask=ask)
    return Pseudonyms(configuration.privacy, configuration.site.zone, keys)


def client_id_of(configuration: Configuration) -> str:
    """The MQTT client id: as configured, else `{store}.{gateway}`."""
    site = configuration.site
    return configuration.broker.client_id or f"{site.store}.{site.gateway}"


def real_world(outbox_directory: Path | str, sealing: Sealing = PLAIN) -> World:
    """The machine's own clock, disk, threads and network; `sealing` are the outbox's keys."""
    disk = RealDisk()
    return World(
        clock=SystemClock(),
        disk=disk,
        open_writer=lambda wake: ThreadWriter(disk, wake),
        open_link=lambda configuration, emit: PahoLink(configuration.broker, client_id_of(configuration), emit),
        random=random.Random(),
        sealing=sealing,
        withdrawing=partial(with_withdrawals, outbox_directory),
    )


def run(
    configuration: Configuration,
    *,
    simulated: bool = False,
    recording: Path | None = None,
    speed: float | None = 1.0,
    stay: bool = False,
    reread: Callable[[], Configuration] | None = None,
    overlaid: Callable[[Mapping[str, Any]], Configuration] | None = None,
) -> int:
    """Run the daemon until a signal stops it; with `recording`, until all of it is acknowledged (unless `stay`).

    `reread` loads the configuration again on SIGHUP, `overlaid` with another overlay of the cloud's. Returns the exit
    status. Raises ConfigurationError without a broker, OutboxUnusable where the outbox cannot be used, OutboxSealed
    without its key.
    """
    require_broker(configuration)
    world = real_world(configuration.outbox.directory, sealing_of(configuration.outbox))
    service = Service(configuration, world, simulated=simulated, reread=reread, overlaid=overlaid)
    if recording is not None:
        service.play(Recording(recording), speed, stay)
    return service.run()


class Service:
    """One run of the daemon."""

    def __init__(
        self,
        configuration: Configuration,
        world: World,
        *,
        simulated: bool = False,
        reread: Callable[[], Configuration] | None = None,
        overlaid: Callable[[Mapping[str, Any]], Configuration] | None = None,
    ) -> None:
        self.configuration = configuration
        self.world = world
        self.simulated = simulated
        self.player: Player | None = None
        self.engine: Engine
        self.answers: Answers
        self._reread = reread
        self._stays = False
        self._played = False
        self._drivers: dict[str, Driver] = {}
        self._stop_reason: str | None = None
        self._disk_refuses = False
        self._disk_unreadable = False
        self._in_memory: str | None = None
        self._looked_ns = 0
        self._notify = Notify()
        self._readiness = Readiness(self._notify)
        self._watchdog = Watchdog(self._notify)
        self._pseudonyms = pseudonyms_of(configuration, world.asker.call)
        world.asker.limit(OPENING_WITHIN_S)
        self._scales = self._ask_at_start(Scales, configuration, world.disk, self._pseudonyms.identify)
        self.configuration = self._scales.configuration
        ask = world.asker.patiently
        self._remote = RemoteConfiguration(self.configuration, overlaid, lambda: self.stop(RELOAD), ask)

    def play(self, recording: Recording, speed: float | None, stay: bool) -> None:
        """Put a recording in the hardware's place."""
        self._stays = stay
        self.player = Player(
            recording,
            kinds_of(self.configuration),
            speed,
            self.world.clock,
            offer=lambda item: self.engine.offer(item),
            has_room=lambda: self.engine.has_room(),
            finished=lambda: self.engine.offer(Due("played")),
        )

    def run(self) -> int:
        """Run from the opening of the outbox to its closing; return the exit status."""
        with Signals(self._on_signal, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._ask_at_start(self._remote.count_start)
            self.engine = engine = assemble(self.configuration, self.world, self._pseudonyms.identify, self.player)
            self._in_memory = self._ask_at_start(not_kept, Path(self.configuration.outbox.directory))
            self._look_where_it_lies(engine.clock.now())
            self.world.asker.limit()
            tap = Tap(kinds_of(self.configuration))
            self.answers = Answers(
                engine,
                self.configuration,
                tap,
                self._drivers,
                self.stop,
                self._scales,
                self._remote,
                redactor_of(self.configuration),
                self.world.asker.patiently,
            )
            scheduler = Scheduler(engine.offer, self.configuration.site.zone)
            self._wire(scheduler)
            beside = (
                ControlServer(self.configuration, self.answers.ask),
                NetworkWatch(lambda: engine.offer(Due("network"))),
                scheduler,
            )
            try:
                for one in beside:
                    one.start()
                self._start_sensors()
                self._remote.begin(engine, engine.clock.now())
                log.info("started version=%s outbox=%s", __version__, engine.outbox.id)
                self._loop()
            finally:
                if self._stop_reason == RELOAD:
                    self._notify.reloading()
                else:
                    self._notify.say("STOPPING=1")
                for one in beside:
                    one.close()
                self._stop()
        if self._stop_reason == RELOAD:
            # -P: not from the current folder
            os.execv(sys.executable, [sys.executable, "-P", "-m", "gateway", *sys.argv[1:]])
        return EXIT_GOOD

    def stop(self, reason: str) -> None:
        """Ask the loop to end; the first reason counts. From any thread, or a signal."""
        self._stop_reason = self._stop_reason or reason

    # Starting.

    def _ask_at_start(self, act: Callable[..., T], *arguments: Any) -> T:
        """Call what reads the outbox's disk; raises OutboxUnusable where that does not answer."""
        try:
            return self.world.asker.call(act, *arguments)
        except TimeoutError as error:
            raise unusable(str(self.configuration.outbox.directory), error) from None

    def _wire(self, scheduler: Scheduler) -> None:
        engine = self.engine
        engine.routines.update(
            interval=self._close_intervals,
            health=self._health,
            day=self._turn_day,
            network=self._network_came_up,
            played=self._recording_ended,
            reload=self._reload,
        )
        engine.answer = self.answers.answer
        engine.command = self.answers.command
        engine.clock_stepped = scheduler.rearm
        engine.listeners.append(self.answers.tap.take)
        self._scales.begin(engine)
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
        self._open_drivers()
        for driver in self._drivers.values():
            driver.start(self.engine.emit)

    def _open_drivers(self) -> None:
        if self.simulated:
            from gateway.simulated import drivers

            self._drivers.update(drivers(self.configuration, self.world.clock))
            return
        for sensor in self.configuration.sensors:
            try:
                self._drivers[sensor.id] = sensor.kind.driver(sensor.settings, self.world.clock)
            except Exception as error:  # the supervisor of drivers: one that cannot be made is that sensor's fault
                log.exception("a driver cannot be made sensor=%s", sensor.id)
                detail = Redactor()(f"its driver cannot be made ({type(error).__name__}: {error})")
                self.engine.offer(DriverFailed(sensor.id, self.engine.clock.now(), "driver_missing", detail))

    # Running.

    def _loop(self) -> None:
        now = self.engine.clock.now()
        while self._stop_reason is None:
            self._readiness.tell(self._drivers, now)
            self.engine.step(wait_s=1.0)
            now = self.engine.clock.now()
            self._watchdog.feed(self._drivers, self.engine.outbox, now)
            self._remote.watch(self.engine, now)
            self._watch_disk()
            if now.boot_ns - self._looked_ns >= LOOK_EVERY_NS:
                self._look_where_it_lies(now)
            if self._played and not self._stays and self._all_acknowledged():
                self.stop("recording_ended")

    def _look_where_it_lies(self, now: Instant) -> None:
        """Warn where the outbox lies in memory, or was moved away: then the first guarantee does not hold."""
        self._looked_ns = now.boot_ns
        directory, before = self.configuration.outbox.directory, self.engine.outbox.not_kept
        lost = self.engine.outbox.not_kept = self.engine.outbox.moved() or self._in_memory
        if lost != before and lost is not None:
            log.error("%s does not outlast a power cut, %s; what is not delivered goes with it", directory, lost)
        elif lost != before:
            log.warning("%s is in its place again", directory)

    def _watch_disk(self) -> None:
        """Say once that the disk refuses or cannot be read, and once that it takes events or can be read again."""
        unreadable = self.engine.outbox.unreadable
        if (unreadable is not None) != self._disk_unreadable:
            self._disk_unreadable = unreadable is not None
            if unreadable is None:
                log.warning("the outbox can be read again")
            else:
                log.error("%s", unreadable)
        trouble = self.engine.outbox.trouble
        if (trouble is not None) == self._disk_refuses:
            return
        self._disk_refuses = trouble is not None
        self._notify.say(f"STATUS={trouble or ''}")
        if trouble is None:
            log.warning("the disk takes events again")
        else:
            log.error("%s; what happens waits in memory, and a power cut would take it: gateway doctor", trouble)

    def _all_acknowledged(self) -> bool:
        return self.engine.outbox.idle() and self.engine.uplink.drained()

    def _recording_ended(self, now: Instant) -> Iterable[Event]:
        log.info("the recording has been played")
        self._played = True
        return self.engine.interpretation.finish(self.engine.sensed(now))

    def _close_intervals(self, now: Instant) -> Iterable[Event]:
        return self.engine.interpretation.tick(self.engine.sensed(now))

    def _health(self, now: Instant) -> Iterable[Event]:
        self.answers.count_spoiled()
        days = days_left(self.configuration.broker, now)
        yield health_of(self.engine, look(Path(self.configuration.outbox.directory)), now, days)

    def _turn_day(self, now: Instant) -> Iterable[Event]:
        self._pseudonyms.turn(now)
        return ()

    def _network_came_up(self, now: Instant) -> Iterable[Event]:
        self.engine.uplink.hurry(now)
        return ()

    def _reload(self, now: Instant) -> Iterable[Event]:
        """Judge the configuration as it is on the disk now; take it over by a stop and a start, or refuse it."""
        if self._reread is None:
            return
        try:
            fresh = self.world.asker.patiently(self._reread)
            require_broker(fresh)
            self._require_same_directory(fresh)
            self.world.asker.patiently(reader_of, fresh.outbox)  # under the keys that it would be opened with
        except (GatewayError, TimeoutError) as error:
            log.error("the new configuration is refused, the old one stays in force\n%s", error)
            yield Event("gateway", now, ConfigChanged(self.configuration.sha256, "sighup", "rejected"))
            return
        if fresh.sha256 == self.configuration.sha256:
            log.info("the configuration is the same")
            return
        yield Event("gateway", now, ConfigChanged(fresh.sha256, "sighup", "applied"))
        self.stop(RELOAD)

    def _require_same_directory(self, fresh: Configuration) -> None:
        """Refuse to leave behind what waits; raises ConfigurationError."""
        if fresh.outbox.directory != (directory := self.configuration.outbox.directory):
            raise ConfigurationError(
                f"[outbox] directory cannot change while the gateway runs: what waits in {directory} would stay there",
                "stop the gateway, move the directory, start it again",
            )

    # Stopping.

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            if hasattr(self, "engine"):
                self.engine.offer(Due("reload"))
            return
        self.stop(signal.Signals(number).name.lower())
        if hasattr(self, "engine"):
            self.engine.offer(Due("stop"))

    def _stop(self) -> None:
        engine, clock = self.engine, self.engine.clock
        deadline_ns = clock.now().boot_ns + int(FLUSH_WITHIN_S * NS_PER_S)
        close_all(self._drivers.values(), self.player)
        for _ in range(STOPPING_STEPS_MAX):
            engine.step()
            if engine.is_idle():
                break
        now = clock.now()
        if not self._played or self._stays:
            engine.record(engine.interpretation.finish(engine.sensed(now)), now)
        engine.record([stopping(self.configuration, self._stop_reason or "error", now)], now)
        engine.outbox.commit(now)
        while clock.now().boot_ns < deadline_ns and not self._all_acknowledged():
            if engine.outbox.idle() and not engine.uplink.status().up:
                break
            engine.step(wait_s=0.1)
        engine.uplink.stop(clock.now())
        while clock.now().boot_ns < deadline_ns + NS_PER_S and not engine.uplink.is_stopped:
            engine.step(wait_s=0.05)
        engine.link.close()
        engine.outbox.close(clock.now())
        self.world.asker.close()
        named = "the next start names them" if engine.outbox.remembers else "nothing of it could be written"
        for stream in STREAMS:
            if waiting := engine.outbox.waiting(stream):
                log.error("%d events of stream %s could not be recorded, and are lost; %s", len(waiting), stream, named)
        if unnamed := engine.outbox.unnamed():
            log.error("%d events were given up before, without a record of it; %s", unnamed, named)
        log.info("stopped reason=%s", self._stop_reason)


def close_all(drivers: Iterable[Driver], player: Player | None) -> None:
    """Close all drivers side by side: each may take its 2 s, together they must not take more."""
    closing = [driver.close for driver in drivers] + ([player.close] if player is not None else [])
    threads = [threading.Thread(target=close, name="close", daemon=True) for close in closing]
    refused = [close for thread, close in zip(threads, closing, strict=True) if not started(thread)]
    for close in refused:
        close()
    for thread in threads:
        joined(thread, 2.5)
