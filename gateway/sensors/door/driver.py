"""The beams of a door on gpiozero pins, with the kernel's time of every edge.

Law: a callback only builds a reading and emits it; what goes wrong in it is counted, and ends no other edge. No library
debounces: its filters shift and swallow edges. A lost edge costs a second at most, since the levels are read again
every second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, cast

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, Instant
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BeamName, DoorSettings, pins_of
from gateway.sensors.drivers import DriverError, Supervised
from gateway.sensors.drivers.pins import Claim

log = logging.getLogger(__name__)

REREAD_S = 1.0
CONFIRM_S = 0.02
"""An edge is told after it happened: a level that differs gets this long to be told by it."""
REPEATED_NS = 60 * NS_PER_S
"""An unchanged level is told again this often, so that the age of the last reading shows a living sensor."""


class Edges:
    """One beam's pin: its callback, and what was last told of it."""

    def __init__(self, beam: BeamName, driver: BeamDriver, claim: Claim, pin: Any) -> None:
        self.beam = beam
        self.driver = driver
        self.claim = claim
        self.pin = pin
        self.told: bool | None = None
        self.told_ns = 0
        self._telling = threading.Lock()

    def changed(self, ticks: float, state: int) -> None:
        """Take an edge, in the pin library's thread."""
        try:
            broken = self.driver.is_broken(state)
            self.tell(broken, self.claim.instant(ticks, self.driver.clock))
            self.driver.count("edges")
        except Exception:  # the supervisor of a beam's edges: the library's thread serves all pins
            self.driver.count("callbacks_failed")
            log.exception("beam callback failed sensor=%s", self.driver.settings.id)

    def tell(self, broken: bool, at: Instant) -> None:
        with self._telling:
            self.told, self.told_ns = broken, at.boot_ns
            self.driver.emit(BeamChanged(self.driver.settings.id, at, self.beam, broken))

    def level(self) -> bool:
        """Read the pin; DriverError where it cannot be read."""
        try:
            return self.driver.is_broken(self.pin.state)
        except Exception as error:  # lgpio raises its own class, which cannot be named before it is imported
            raise DriverError("pin_unavailable", f"the {self.beam} beam's pin cannot be read ({error})") from error


class BeamDriver(Supervised):
    """A `Driver` for one door; `factory` is a gpiozero pin factory, by default the process's on lgpio."""

    def __init__(
        self, settings: DoorSettings, clock: Clock, factory: Any | None = None, reread_s: float = REREAD_S
    ) -> None:
        super().__init__(settings.id, clock)
        self.settings = settings
        self.factory = factory
        self.reread_s = reread_s
        self._counters = {"edges": 0, "levels_resynced": 0, "callbacks_failed": 0}
        self._counting = threading.Lock()

    def counted(self) -> Mapping[str, int]:
        with self._counting:
            return dict(self._counters)

    def count(self, name: str) -> None:
        with self._counting:
            self._counters[name] += 1

    def is_broken(self, state: int) -> bool:
        return bool(state) == (self.settings.broken_when == "high")

    def work(self) -> None:
        self.alive()
        with Claim(self.settings.id, pins_of(self.settings), self.factory) as claim:
            # gpiozero keeps only a weak reference to a callback: this list keeps the beams.
            beams = []
            for key in claim.pins:
                pin = claim.input(key, self.settings.pull)
                beam = Edges(
                    cast(BeamName, "only" if key == "beam_pin" else key.removesuffix("_pin")), self, claim, pin
                )
                beam.tell(beam.level(), self.clock.now())
                try:
                    pin.bounce = None
                    pin.edges = "both"
                    pin.when_changed = beam.changed
                except Exception as error:  # lgpio raises its own class, which cannot be named before it is imported
                    detail = f"{key} = {pin!r} gives no edges ({error})"
                    raise DriverError("pin_unavailable", detail) from error
                beams.append(beam)
            self.good()
            while not self.stopping.wait(self.reread_s):
                self.alive()
                claim.check_edges()
                for beam in beams:
                    self._reread(beam)

    def _reread(self, beam: Edges) -> None:
        now = self.clock.now()
        if beam.level() != beam.told:
            self.stopping.wait(CONFIRM_S)
            level = beam.level()
            if level != beam.told:
                self.count("levels_resynced")
                beam.tell(level, self.clock.now())
        elif now.boot_ns - beam.told_ns >= REPEATED_NS:
            beam.tell(bool(beam.told), now)
