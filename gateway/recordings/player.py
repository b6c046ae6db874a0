"""A recording in the hardware's place (`run --recording`): the sensors live in the recording's time, all else in ours.

Law: what the readings mean does not depend on the speed of play. Interpreters measure durations on the recording's
clock (`boot_ns` of their instants runs with `t`), so a passage of 300 ms is one at any speed; `wall_ns` is the
machine's, so that intervals and stamps are the machine's own, as if the sensor had spoken now.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.engine.engine import Passing
from gateway.machine.clock import Clock
from gateway.machine.threads import joined
from gateway.model import NS_PER_S, Instant, Reading
from gateway.recordings.recording import BadLine, ReadingLine, Recording
from gateway.sensors.kind import Kind

log = logging.getLogger(__name__)

PASSING_EVERY_S = 0.5
"""While the recording is silent, time passes for the sensors in steps of this, as far as it is real time."""
ROOM_ASKED_EVERY_S = 0.005


class Player:
    """Plays a recording into the engine from a thread of its own, `speed` times as fast as it was (None: at once).

    It is the engine's `SensorTime` too: time passes for the sensors by readings and `Passing` alone.

    `offer` takes the readings; it is only called while `has_room()`. `finished` is called once, after the last line.
    """

    def __init__(
        self,
        recording: Recording,
        kinds: Mapping[str, Kind[Any]],
        speed: float | None,
        clock: Clock,
        offer: Callable[[Reading | Passing], object],
        has_room: Callable[[], bool],
        finished: Callable[[], object],
    ) -> None:
        self.played = 0
        self.bad_lines = 0
        self._started = clock.now()
        self._passed_ns = 0
        self._recording = recording
        self._kinds = kinds
        self._speed = speed
        self._clock = clock
        self._offer = offer
        self._has_room = has_room
        self._finished = finished
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop playing; returns when the thread has ended."""
        self._stopping.set()
        joined(self._thread, 2.0)

    def now(self, now: Instant) -> Instant | None:
        """Only readings let time pass."""
        return None

    def stamp(self, at: Instant, now: Instant) -> Instant:
        """Return when what the sensors saw at `at` was played, on the machine's clocks; never later than `now`."""
        boot_ns = now.boot_ns
        if self._speed is not None:
            played_ns = self._started.boot_ns + int((at.boot_ns - self._started.boot_ns) / self._speed)
            boot_ns = min(boot_ns, max(played_ns, self._started.boot_ns))
        return Instant(boot_ns, boot_ns + now.offset_ns, now.clock)

    def _instant(self, t_ns: int) -> Instant:
        """Return the sensors' instant of `t_ns` in the recording, played now."""
        now = self._clock.now()
        return Instant(self._started.boot_ns + t_ns, now.wall_ns, now.clock)

    def _run(self) -> None:
        try:
            for line in self._lines():
                if self._stopping.is_set() or not self._wait_for(line.t_ns):
                    return
                self._play(line)
        except OSError as error:
            log.error("the recording cannot be read further: %s", error)
        self._finished()

    def _lines(self) -> Iterator[ReadingLine]:
        for line in self._recording.lines():
            if isinstance(line, ReadingLine):
                yield line
            elif isinstance(line, BadLine):
                self._complain(line)

    def _complain(self, line: BadLine) -> None:
        self.bad_lines += 1
        log.warning("recording %s: line %d: %s; left out", self._recording.path, line.number, line.why)

    def _play(self, line: ReadingLine) -> None:
        self._passed_ns = line.t_ns
        if (kind := self._kinds.get(line.sensor)) is None:
            return
        try:
            reading = kind.reading_of(line.sensor, self._instant(line.t_ns), line.values)
        except ValueError as error:
            self._complain(BadLine(line.number, str(error)))
            return
        self._offer(reading)
        self.played += 1

    def _wait_for(self, t_ns: int) -> bool:
        """Wait until it is `t_ns`'s turn; False when asked to stop. Silence passes in small steps."""
        while not self._has_room():
            if self._stopping.wait(ROOM_ASKED_EVERY_S):
                return False
        if self._speed is None:
            return True
        while (left_s := self._left_s(t_ns)) > 0:
            if self._stopping.wait(min(left_s, PASSING_EVERY_S)):
                return False
            if self._left_s(t_ns) > 0:
                elapsed_ns = int((self._clock.now().boot_ns - self._started.boot_ns) * self._speed)
                self._passed_ns = max(self._passed_ns, min(elapsed_ns, t_ns))
                self._offer(Passing(self._instant(self._passed_ns)))
        return True

    def _left_s(self, t_ns: int) -> float:
        assert self._speed is not None
        due_ns = self._started.boot_ns + t_ns / self._speed
        return (due_ns - self._clock.now().boot_ns) / NS_PER_S
