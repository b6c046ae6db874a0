"""Where a technician's verb gets its readings: from the running daemon's tap, else from the hardware itself.

Law: while a daemon runs the hardware is its own, and no verb touches a pin. What comes too fast is counted as missed,
never waited for.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from gateway.config import Configuration
from gateway.control.asking import ask
from gateway.engine.assembly import kinds_of
from gateway.errors import NoDaemon
from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, DriverFailed, DriverRecovered, Instant, Reading
from gateway.recordings.recording import ReadingLine, Recording
from gateway.sensors.fault import Fault, Known, known_of
from gateway.sensors.kind import Driver

log = logging.getLogger(__name__)

WAITING_MAX = 20_000
READINGS_MAX = 1_000_000
"""Of one sensor in a recording: a scale at 80 a second for 3 h; what comes after is not looked at."""
PAUSE_S = 0.2


class Source(Protocol):
    """Readings of some sensors, as they come."""

    origin: str
    missed: int
    status: Mapping[str, Any] | None
    """What the daemon said of itself when it was last asked for what is known; None where none runs."""

    def poll(self, wait_s: float = PAUSE_S) -> list[Reading]:
        """Return what came since the last call, after a wait of up to `wait_s`. Raises Unavailable where it ended."""
        ...

    def known(self) -> Mapping[str, Known]:
        """Return by sensor what is known beside its readings."""
        ...

    def close(self) -> None: ...


def open_source(configuration: Configuration, clock: Clock, sensors: Collection[str]) -> Source:
    """Listen to these sensors through the daemon where one runs, else at the hardware. Close it after use.

    Raises Unavailable where a daemon runs that cannot be asked.
    """
    try:
        tapped = ask(configuration, "readings")
    except NoDaemon:
        return HardwareSource(configuration, clock, sensors)
    return DaemonSource(configuration, clock, sensors, tapped)


class DaemonSource:
    """The tap of the running daemon."""

    origin = "daemon"

    def __init__(
        self, configuration: Configuration, clock: Clock, sensors: Collection[str], tapped: Mapping[str, Any]
    ) -> None:
        self.missed = 0
        self.status: Mapping[str, Any] | None = None
        self._configuration = configuration
        self._clock = clock
        self._sensors = frozenset(sensors)
        self._kinds = kinds_of(configuration)
        self._after = tapped["after"]
        self._pause = threading.Event()

    def poll(self, wait_s: float = PAUSE_S) -> list[Reading]:
        self._pause.wait(wait_s)
        tapped = ask(self._configuration, "readings", after=self._after)
        self._after = tapped["after"]
        self.missed += tapped["missed"]
        now = self._clock.now()
        readings = []
        for line in tapped["lines"]:
            if line["sensor"] not in self._sensors:
                continue
            at = Instant(line["boot_ns"], line["boot_ns"] + now.offset_ns, now.clock)
            try:
                readings.append(self._kinds[line["sensor"]].reading_of(line["sensor"], at, line))
            except (KeyError, ValueError):
                self.missed += 1  # a daemon with another configuration than the one given here
        return readings

    def known(self) -> Mapping[str, Known]:
        status = self.status = ask(self._configuration, "status")
        return {sensor: known_of(told) for sensor, told in status["sensors"].items() if sensor in self._sensors}

    def close(self) -> None:
        """The tap closes by itself when nobody asks."""


class HardwareSource:
    """The drivers themselves, where no daemon runs."""

    origin = "hardware"

    def __init__(self, configuration: Configuration, clock: Clock, sensors: Collection[str]) -> None:
        self.missed = 0
        self.status: Mapping[str, Any] | None = None
        self._heard: queue.Queue[Reading] = queue.Queue(WAITING_MAX)
        self._drivers: dict[str, Driver] = {}
        self._faults: dict[str, dict[str, Fault]] = {}
        for sensor in configuration.sensors:
            if sensor.id in sensors:
                try:
                    driver = self._drivers[sensor.id] = sensor.kind.driver(sensor.settings, clock)
                    driver.start(self._emit)
                except Exception as error:  # the supervisor of drivers: one that cannot be made is that sensor's fault
                    log.debug("a driver cannot be made sensor=%s", sensor.id, exc_info=True)
                    detail = f"its driver cannot be made ({type(error).__name__}: {error})"
                    self._faults[sensor.id] = {"driver_missing": Fault("driver_missing", detail)}

    def _emit(self, reading: Reading) -> None:
        try:
            self._heard.put_nowait(reading)
        except queue.Full:
            self.missed += 1

    def poll(self, wait_s: float = PAUSE_S) -> list[Reading]:
        readings: list[Reading] = []
        try:
            self._sort(self._heard.get(timeout=wait_s) if wait_s > 0 else self._heard.get_nowait(), readings)
            while True:
                self._sort(self._heard.get_nowait(), readings)
        except queue.Empty:
            return readings

    def _sort(self, reading: Reading, readings: list[Reading]) -> None:
        if isinstance(reading, DriverFailed):
            self._faults.setdefault(reading.sensor, {})[reading.reason] = Fault(reading.reason, reading.detail)
        elif isinstance(reading, DriverRecovered):
            self._faults.pop(reading.sensor, None)
        else:
            readings.append(reading)

    def known(self) -> Mapping[str, Known]:
        sensors = self._drivers.keys() | self._faults.keys()
        return {
            sensor: Known(
                self._drivers[sensor].counters() if sensor in self._drivers else {},
                tuple(self._faults.get(sensor, {}).values()),
            )
            for sensor in sensors
        }

    def close(self) -> None:
        for driver in self._drivers.values():
            driver.close()


def recorded(configuration: Configuration, path: Path, sensor: str, for_s: float | None = None) -> Iterator[Reading]:
    """Yield a sensor's readings in a recording, `for_s` from its start at most; what is no reading is passed over.

    Raises RecordingError where the file cannot be read.
    """
    recording = Recording(path)
    kind = kinds_of(configuration)[sensor]
    count = 0
    for line in recording.lines():
        if not isinstance(line, ReadingLine) or line.sensor != sensor:
            continue
        if count >= READINGS_MAX or (for_s is not None and line.t_ns > for_s * NS_PER_S):
            return
        at = Instant(line.t_ns, recording.started_ns + line.t_ns)
        try:
            reading = kind.reading_of(sensor, at, line.values)
        except ValueError:
            continue
        count += 1
        yield reading
