"""What the drivers share: one thread that attempts, tells failures, backs off, and can be stopped.

Law: a driver's exceptions end here, as `DriverFailed` with a reason and a sentence.
"""

from __future__ import annotations

import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from gateway.machine.clock import Clock
from gateway.machine.threads import ADVICE, REFUSED, started
from gateway.model import DriverFailed, DriverRecovered, Reading
from gateway.redaction import Redactor

log = logging.getLogger(__name__)

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
CLOSE_WITHIN_S = 2.0


class DriverError(Exception):
    """Hardware that cannot be read: `reason` is the contract's word or a kind's own, `str(error)` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Supervised(ABC):
    """A `Driver` whose `work` runs in a thread, again after it raised, with full-jitter back-off from 1 s to 60 s.

    A driver subclasses it and gives `work`, and `counted` where it counts something. `work` loops while
    `not stopping.is_set()`, calls `alive()` at each turn (the watchdog asks `progress_ns()`), calls `good()` at the
    first good reading, raises DriverError when it cannot go on, and waits on `stopping.wait(s)` only.
    """

    def __init__(self, sensor: str, clock: Clock) -> None:
        self.sensor = sensor
        self.emit: Callable[[Reading], None] = lambda reading: None
        self.clock = clock
        self.stopping = threading.Event()
        self.restarts = 0
        self._progress_ns: int | None = None
        self._failed = False
        self._failures = 0
        self._settled = False
        self._thread = threading.Thread(target=self._supervise, name=f"driver-{sensor}", daemon=True)

    @abstractmethod
    def work(self) -> None:
        """Read the hardware until `stopping` is set."""

    def counted(self) -> Mapping[str, int]:
        """Return what this driver counts over its lifetime."""
        return {}

    def counters(self) -> Mapping[str, int]:
        """Return what it counts, and how often its work was begun anew."""
        return {**self.counted(), "restarts": self.restarts}

    def start(self, emit: Callable[[Reading], None]) -> None:
        """Begin to work; `emit` is called in the thread, and in the callbacks of libraries."""
        self.emit = emit
        self.alive()
        if not started(self._thread):
            self._progress_ns = None
            self._settled = True
            detail = f"{REFUSED}, so this sensor is not read until the next start; {ADVICE}"
            emit(DriverFailed(self.sensor, self.clock.now(), "driver_died", detail))

    def progress_ns(self) -> int | None:
        """Return when the thread last said that it is alive; None before it was started."""
        return self._progress_ns

    def is_settled(self) -> bool:
        """Say whether the first attempt has come to something: a good reading, or a failure that was told."""
        return self._settled

    def close(self) -> None:
        """Ask the thread to end and wait for it, `CLOSE_WITHIN_S` at most. Without effect where it was not started."""
        self.stopping.set()
        if self._progress_ns is None:
            return
        self._thread.join(CLOSE_WITHIN_S)
        if self._thread.is_alive():
            log.error("driver thread did not end sensor=%s", self.sensor)

    def alive(self) -> None:
        """Note that the thread makes progress."""
        self._progress_ns = self.clock.now().boot_ns

    def good(self) -> None:
        """Note a good reading: tells the recovery if a failure was told, and resets the back-off."""
        self._failures = 0
        if self._failed:
            self._failed = False
            self.emit(DriverRecovered(self.sensor, self.clock.now()))
        self._settled = True

    def fail(self, reason: str, detail: str) -> None:
        """Tell a failure (the same one again is told once by the engine)."""
        self._failed = True
        detail = Redactor()(detail)  # it leaves the store: the words of BlueZ name whom it heard
        self.emit(DriverFailed(self.sensor, self.clock.now(), reason, detail))
        self._settled = True

    def _supervise(self) -> None:
        while not self.stopping.is_set():
            try:
                self.work()
            except DriverError as error:
                self.fail(error.reason, str(error))
            except Exception as error:  # the supervisor of drivers: whatever a library raises ends here, and is told
                log.exception("driver failed sensor=%s", self.sensor)
                self.fail("driver_died", f"the driver stopped on {type(error).__name__}: {error}; it is started again")
            if self.stopping.is_set():
                return
            self.restarts += 1
            limit_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(self._failures, 10))
            self._failures += 1
            wait_until_ns = self.clock.now().boot_ns + int(limit_s * (0.5 + random.random() / 2) * 1e9)
            while not self.stopping.wait(0.5) and self.clock.now().boot_ns < wait_until_ns:
                self.alive()
