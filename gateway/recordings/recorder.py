"""Writes recordings (contract section 8): from the running daemon's readings, or from the hardware itself.

Law: what is written is a recording at every moment; each line is flushed, so that a stop in the middle spoils none.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from gateway.config import Configuration
from gateway.control.asking import ask
from gateway.engine.assembly import kinds_of
from gateway.errors import RecordingError, Unavailable
from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, DriverFailed, DriverRecovered, Reading, rfc3339

POLL_EVERY_S = 0.25
WAITING_MAX = 20_000


@dataclass(slots=True)
class Recorded:
    """What was written so far: lines a sensor, and readings that came faster than they could be fetched."""

    lines: dict[str, int]
    missed: int = 0


class Recorder:
    """Writes a recording to `file`. `stopping` ends it; so does `for_s` where it is not None."""

    def __init__(
        self, configuration: Configuration, clock: Clock, file: IO[str], note: str, for_s: float | None
    ) -> None:
        self.recorded = Recorded({sensor.id: 0 for sensor in configuration.sensors})
        self.stopping = threading.Event()
        self._configuration = configuration
        self._clock = clock
        self._file = file
        self._note = note
        self._for_s = for_s
        self._started_boot_ns = 0
        self._latest_ns = 0

    def record(self, progress: Callable[[Recorded], None]) -> str:
        """Record until told to stop; return "daemon" or "hardware", whichever was listened to.

        Raises RecordingError where nothing can be written, and Unavailable where the daemon ends meanwhile.
        """
        try:
            tapped = ask(self._configuration, "readings")
        except Unavailable:
            self._begin(self._clock.now().boot_ns, self._clock.now().wall_ns)
            self._from_hardware(progress)
            return "hardware"
        self._begin(tapped["boot_ns"], tapped["wall_ns"])
        self._from_daemon(tapped["after"], progress)
        return "daemon"

    def _begin(self, boot_ns: int, wall_ns: int) -> None:
        self._started_boot_ns = boot_ns
        gateway = self._configuration.site.gateway
        self._line({"recording": 1, "started": rfc3339(wall_ns), "gateway": gateway, "note": self._note})

    def _is_over(self) -> bool:
        elapsed_s = (self._clock.now().boot_ns - self._started_boot_ns) / NS_PER_S
        return self.stopping.is_set() or (self._for_s is not None and elapsed_s >= self._for_s)

    def _from_daemon(self, after: int, progress: Callable[[Recorded], None]) -> None:
        while True:
            over = self._is_over()
            tapped = ask(self._configuration, "readings", after=after)
            after = tapped["after"]
            self.recorded.missed += tapped["missed"]
            for line in tapped["lines"]:
                self._reading(line.pop("boot_ns"), line)
            progress(self.recorded)
            if over:
                return
            self.stopping.wait(POLL_EVERY_S)

    def _from_hardware(self, progress: Callable[[Recorded], None]) -> None:
        kinds = kinds_of(self._configuration)
        heard: queue.Queue[Reading] = queue.Queue(WAITING_MAX)

        def emit(reading: Reading) -> None:
            try:
                heard.put_nowait(reading)
            except queue.Full:
                self.recorded.missed += 1

        drivers = [sensor.kind.driver(sensor.settings, self._clock) for sensor in self._configuration.sensors]
        try:
            for driver in drivers:
                driver.start(emit)
            while not self._is_over():
                try:
                    reading = heard.get(timeout=POLL_EVERY_S)
                except queue.Empty:
                    progress(self.recorded)
                    continue
                if isinstance(reading, DriverFailed):
                    raise RecordingError(f"{reading.sensor}: {reading.detail}", "gateway doctor says more")
                if not isinstance(reading, DriverRecovered):
                    line = {"sensor": reading.sensor, **kinds[reading.sensor].line_of(reading)}
                    self._reading(reading.at.boot_ns, line)
        finally:
            for driver in drivers:
                driver.close()

    def _reading(self, boot_ns: int, line: Mapping[str, Any]) -> None:
        """Write one reading; those of different threads may overtake each other by a moment, `t` never goes back."""
        self._latest_ns = max(self._latest_ns, boot_ns - self._started_boot_ns, 0)
        self._line({"t": round(self._latest_ns / NS_PER_S, 6), **line})
        self.recorded.lines[line["sensor"]] = self.recorded.lines.get(line["sensor"], 0) + 1

    def _line(self, value: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(value, separators=(", ", ": ")) + "\n")
            self._file.flush()
        except OSError as error:
            raise RecordingError(f"the recording cannot be written: {error.strerror}") from None
