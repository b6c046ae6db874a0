"""Who keeps the calibrations: the running daemon where one runs, else the verb itself; and `tare` from the cloud.

Law: the file comes first, then the interpreter: what a shelf is weighed with has been stored. A new calibration touches
this one shelf's interpreter alone, in the engine's thread; files are written in the asker's thread or one of their own.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.commands.verbs import CommandRefused
from gateway.config import Configuration
from gateway.control.asking import ask
from gateway.engine.assembly import Identify, context_of
from gateway.engine.engine import Due, Engine
from gateway.errors import GatewayError, NoDaemon
from gateway.machine.disk import Disk, RealDisk
from gateway.machine.threads import started
from gateway.model import NS_PER_S, Event, Instant, Reading, rfc3339
from gateway.sensors.shelf.calibration import CalibrationRefused, StoredCalibration, from_object, in_force, tared
from gateway.sensors.shelf.settings import Calibration, ShelfSettings
from gateway.sensors.shelf.settling import Weighing, Weight
from gateway.technician.calibration_store import CalibrationDamaged, CalibrationStore, calibrated

log = logging.getLogger(__name__)

VERB = "calibration"
"""The question of the local socket."""
ADOPTED, TARE_LATE = "calibrated", "tare_late"
ADOPTED_WITHIN_S = 5.0
TARE_WITHIN_S = 10.0
"""A scale at rest gives a weight within 4 s; who waits for the answer has the daemon's word before he gives up."""
CLOUD = "cloud"


@dataclass(frozen=True, slots=True)
class ShelfCalibration:
    """What is known of one shelf's calibrations. `damaged` is the sentence where the stored one cannot be used."""

    shelf: str
    configured: Calibration | None
    stored: StoredCalibration | None
    has_previous: bool
    damaged: str = ""

    @property
    def calibration(self) -> Calibration | None:
        return in_force(self.configured, self.stored)

    def to_json(self) -> dict[str, Any]:
        stored, calibration = self.stored, self.calibration
        return {
            "shelf": self.shelf,
            "in_force": None if calibration is None else dataclasses.asdict(calibration),
            "configured": None if self.configured is None else dataclasses.asdict(self.configured),
            "stored": None if stored is None else stored.to_json(),
            "has_previous": self.has_previous,
            "damaged": self.damaged,
        }


def shelf_of(configuration: Configuration, shelf: Any) -> ShelfSettings:
    """Return a shelf's settings; CalibrationRefused names the shelves where there is none of this id."""
    shelves: dict[str, ShelfSettings] = {
        sensor.id: sensor.settings for sensor in configuration.sensors if sensor.kind.calibrates
    }
    if not isinstance(shelf, str) or shelf not in shelves:
        known = ", ".join(shelves) or "none is configured"
        raise CalibrationRefused(f"there is no shelf {shelf!r}; shelves: {known}")
    return shelves[shelf]


class Desk:
    """Reads and writes the calibrations of a configuration as it is given (not yet calibrated)."""

    def __init__(
        self,
        given: Configuration,
        store: CalibrationStore,
        adopt: Callable[[str], None] = lambda shelf: None,
    ) -> None:
        self._given = given
        self._files = store
        self._adopt = adopt
        self._writing = threading.Lock()

    def held(self, shelf: Any) -> ShelfCalibration:
        """Return what is known of a shelf; CalibrationRefused where there is no such shelf."""
        configured = shelf_of(self._given, shelf).calibration
        stored, damaged, has_previous = None, "", False
        try:
            stored = self._files.load(shelf)
        except CalibrationDamaged as error:
            damaged = str(error)
        try:
            has_previous = self._files.previous(shelf) is not None
        except CalibrationDamaged:
            has_previous = False
        return ShelfCalibration(shelf, configured, stored, has_previous, damaged)

    def store(self, shelf: Any, stored: StoredCalibration) -> ShelfCalibration:
        """Store a calibration and put it in force; the old one is kept beside it. Raises GatewayError."""
        with self._writing:
            self.check(shelf, stored)
            self._files.save(shelf, stored)
        self._adopt(shelf)
        return self.held(shelf)

    def undo(self, shelf: Any) -> ShelfCalibration:
        """Bring the calibration before the present one back. Raises GatewayError."""
        shelf_of(self._given, shelf)
        with self._writing:
            self._files.undo(shelf)
        self._adopt(shelf)
        return self.held(shelf)

    def check(self, shelf: Any, stored: StoredCalibration) -> None:
        """Raise CalibrationRefused where the configuration would hide what is to be stored."""
        configured = shelf_of(self._given, shelf).calibration
        if configured is not None and stored.over != configured:
            raise CalibrationRefused(
                f"the configuration gives a calibration for {shelf}, which is the one that holds",
                f"take the key `calibration` of {shelf} out of the configuration, restart the daemon, then calibrate",
            )


class RemoteDesk:
    """The same through the running daemon, which owns the folder."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def held(self, shelf: str) -> ShelfCalibration:
        return self._ask(shelf)

    def store(self, shelf: str, stored: StoredCalibration) -> ShelfCalibration:
        return self._ask(shelf, store=stored.to_json())

    def undo(self, shelf: str) -> ShelfCalibration:
        return self._ask(shelf, undo=True)

    def _ask(self, shelf: str, **arguments: Any) -> ShelfCalibration:
        answer = ask(self._configuration, VERB, shelf=shelf, **arguments)
        if "refused" in answer:
            raise CalibrationRefused(str(answer["refused"]), str(answer.get("advice", "")))
        stored, configured = answer["stored"], answer["configured"]
        return ShelfCalibration(
            shelf=answer["shelf"],
            configured=None if configured is None else Calibration(**configured),
            stored=None if stored is None else from_object(stored),
            has_previous=answer["has_previous"],
            damaged=answer["damaged"],
        )


def desk_of(configuration: Configuration) -> Desk | RemoteDesk:
    """Return the daemon's desk where a daemon runs, else one that writes the files itself. Raises Unavailable."""
    try:
        ask(configuration, "ping")
    except NoDaemon:
        return Desk(configuration, CalibrationStore(configuration.outbox.directory, RealDisk()))
    return RemoteDesk(configuration)


@dataclass(slots=True)
class Tare:
    """A tare that the cloud asked for and that waits until the scale is at rest; `done` is called once."""

    shelf: str
    weighing: Weighing
    until_ns: int
    done: Callable[[dict[str, Any] | CommandRefused], None]


class Scales:
    """The daemon's side. `configuration` is the given one with the stored calibrations where they hold."""

    def __init__(self, given: Configuration, disk: Disk, identify: Identify) -> None:
        self._store = CalibrationStore(given.outbox.directory, disk)
        self.configuration, self._damaged = calibrated(given, self._store)
        self._given = given
        self._identify = identify
        self._engine: Engine | None = None
        self._desk = Desk(given, self._store, self._adopt_soon)
        self._adopting: queue.SimpleQueue[tuple[str, threading.Event]] = queue.SimpleQueue()
        self._tares: dict[str, Tare] = {}

    def begin(self, engine: Engine) -> None:
        """Take part in the engine's work, and record which stored calibrations are damaged. Engine's thread."""
        self._engine = engine
        engine.routines[ADOPTED] = self._adopt
        engine.routines[TARE_LATE] = self._give_up
        engine.listeners.append(self.take)
        now = engine.clock.now()
        for sensor in self.configuration.sensors:
            error = self._damaged.get(sensor.id)
            if error is None:
                continue
            log.error("a stored calibration cannot be used sensor=%s error=%s", sensor.id, error)
            if sensor.settings.calibration is None:
                faults = engine.interpretation.by_sensor[sensor.id].faults
                engine.record(faults.fail(engine.sensed(now), "not_calibrated", f"{error}; {error.advice}"), now)

    def ask(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a question of the local socket: what is held, `store` one, or `undo`. Not in the engine's thread."""
        shelf = arguments.get("shelf")
        try:
            if arguments.get("undo") is True:
                return self._desk.undo(shelf).to_json()
            if "store" in arguments:
                return self._desk.store(shelf, from_object(arguments["store"])).to_json()
            return self._desk.held(shelf).to_json()
        except GatewayError as error:
            return {"refused": str(error), "advice": error.advice}
        except ValueError as error:
            return {"refused": f"this is no calibration: {error}", "advice": ""}

    # A new calibration.

    def _adopt_soon(self, shelf: str) -> None:
        """Have the engine weigh this shelf with what is stored now, and wait until it does."""
        engine = self._engine
        if engine is None:
            return
        adopted = threading.Event()
        self._adopting.put((shelf, adopted))
        engine.offer(Due(ADOPTED))
        adopted.wait(ADOPTED_WITHIN_S)

    def _adopt(self, now: Instant) -> Iterator[Event]:
        assert self._engine is not None
        while not self._adopting.empty():
            shelf, adopted = self._adopting.get()
            self.configuration, self._damaged = calibrated(self._given, self._store)
            sensor = next(sensor for sensor in self.configuration.sensors if sensor.id == shelf)
            interpretation = self._engine.interpretation
            faults = interpretation.by_sensor[shelf].faults
            # What is remembered was weighed with the old calibration: it is not compared with.
            context = context_of(self.configuration, self._identify, {}, faults)
            fresh = sensor.kind.interpreter(sensor.settings, context)
            sensed = self._engine.sensed(now)
            yield from interpretation.replace(shelf, fresh, sensed, "weighed with a new calibration")
            log.info("a new calibration is in force sensor=%s", shelf)
            adopted.set()

    # `tare` from the cloud.

    def begin_tare(self, arguments: Mapping[str, Any], done: Callable[[dict[str, Any] | CommandRefused], None]) -> None:
        """Begin what the command `tare` asks for; `done` gets its result or refusal, in any thread.

        Raises CommandRefused at once where it cannot be done. Engine's thread.
        """
        assert self._engine is not None
        shelf = arguments.get("shelf", arguments.get("sensor"))
        if not isinstance(shelf, str):
            raise CommandRefused("invalid", '"shelf" must be the id of a shelf')
        try:
            settings = shelf_of(self._given, shelf)
        except CalibrationRefused as error:
            raise CommandRefused("invalid", str(error)) from None
        if settings.id in self._tares:
            raise CommandRefused("busy", f"{settings.id} is being tared already")
        if self._in_force(settings.id) is None:
            raise CommandRefused("failed", f"{settings.id} is not calibrated, so there is no zero to set")
        until_ns = self._engine.clock.now().boot_ns + int(TARE_WITHIN_S * NS_PER_S)
        self._tares[settings.id] = Tare(settings.id, Weighing(settings.rate_hz), until_ns, done)
        timer = threading.Timer(TARE_WITHIN_S + 0.1, self._engine.offer, (Due(TARE_LATE),))
        timer.daemon = True
        timer.start()

    def take(self, reading: Reading) -> None:
        """Weigh for a tare that waits. Engine's thread."""
        tare = self._tares.get(reading.sensor)
        if tare is None or (weight := tare.weighing.take(reading)) is None:
            return
        del self._tares[tare.shelf]
        if not started(threading.Thread(target=self._finish, args=(tare, weight), name="tare", daemon=True)):
            self._finish(tare, weight)

    def _finish(self, tare: Tare, weight: Weight) -> None:
        """Store the new zero, beside the engine: a disk may take its time."""
        assert self._engine is not None
        try:
            held = self._desk.held(tare.shelf)
            when = rfc3339(self._engine.clock.now().wall_ns)
            stored = tared(held.configured, held.stored, weight, when, CLOUD)
            before = held.calibration
            self._desk.store(tare.shelf, stored)
        except GatewayError as error:
            tare.done(CommandRefused("failed", str(error)))
            return
        moved_grams = 0.0 if before is None else round(before.grams(stored.offset_counts), 2)
        tare.done({"shelf": tare.shelf, "offset_counts": stored.offset_counts, "moved_grams": moved_grams})

    def _give_up(self, now: Instant) -> Iterator[Event]:
        for tare in [tare for tare in self._tares.values() if tare.until_ns <= now.boot_ns]:
            del self._tares[tare.shelf]
            tare.done(CommandRefused("failed", f"{tare.shelf} cannot be tared: {tare.weighing.why()}"))
        yield from ()

    def _in_force(self, shelf: str) -> Calibration | None:
        found: Calibration | None = next(
            sensor.settings.calibration for sensor in self.configuration.sensors if sensor.id == shelf
        )
        return found
