"""Recordings (contract section 8): JSON Lines of readings, read line by line, replayed without hardware or network.

Law of replay: pure; equal input and configuration give equal bytes. Clock lines are read first, so what happened before
the clock was set has its true time. Time passes only as the recording says: before each line every interpreter has been
ticked at each of its due moments, and intervals closed at their boundaries on the recording's wall clock.
A malformed line is named with its number and left out; the others count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.errors import RecordingError
from gateway.interpretation import Interpretation
from gateway.model import NS_PER_S, Entry, Event, Instant, Reading, Stream
from gateway.sensors import Kind
from gateway.sensors.counting import next_boundary_ns
from gateway.wire import Wire, record

LINE_BYTES_MAX = 16_384
"""A reading is below 1 KiB; a longer line is no recording of ours."""
LENGTH_MAX_NS = 400 * 86_400 * NS_PER_S
"""More than a year in one recording is a mistyped `t`, and would close intervals for ever."""
WALL_MAX_NS = 32_503_680_000 * NS_PER_S
"""The year 3000: the wall clock of a recording stays between 1970 and there."""
REPLAY_BOOTID = "00000000"
REPLAY_OUTBOX = "00000000"


@dataclass(frozen=True, slots=True)
class ClockLine:
    """The wall clock was set `by_ns` ahead (signed) at `t_ns` since the start."""

    number: int
    t_ns: int
    by_ns: int


@dataclass(frozen=True, slots=True)
class ReadingLine:
    """Line `number`: what `sensor` said at `t_ns` since the start."""

    number: int
    t_ns: int
    sensor: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """Line `number` is not a line of a recording; `why` completes "line 7: ..."."""

    number: int
    why: str


def _object_of(raw: bytes) -> dict[str, Any]:
    if len(raw) > LINE_BYTES_MAX:
        raise ValueError(f"longer than {LINE_BYTES_MAX} bytes")
    try:
        value = json.loads(raw.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _seconds(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f'"{key}" must be a number of seconds')
    if not abs(value) < 1e11:
        raise ValueError(f'"{key}" is out of range')
    return round(value * NS_PER_S)


class Recording:
    """A recording's file. Opening reads the header and, once through, the clock lines.

    Raises RecordingError where the file cannot be read or its first line is no header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.started_ns = self._header(file.readline(LINE_BYTES_MAX + 1))
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from None
        self.clock_lines = tuple(line for line in self.lines() if isinstance(line, ClockLine))

    def _header(self, raw: bytes) -> int:
        try:
            header = _object_of(raw)
            if header.get("recording") != 1:
                raise ValueError('must begin {"recording": 1, ...}')
            started = datetime.fromisoformat(str(header.get("started")))
            if started.tzinfo is None:
                raise ValueError('"started" needs a zone, for example "2026-11-22T09:00:00.000Z"')
        except ValueError as error:
            advice = 'the first line is like {"recording": 1, "started": "2026-11-22T09:00:00.000Z"}'
            raise RecordingError(f"{self.path}: line 1: {error}", advice) from None
        started_ns = round(started.timestamp() * 1000) * (NS_PER_S // 1000)
        if not 0 <= started_ns <= WALL_MAX_NS:
            raise RecordingError(f'{self.path}: line 1: "started" must lie in the years 1970 to 2999')
        return started_ns

    def lines(self) -> Iterator[ReadingLine | ClockLine | BadLine]:
        """Yield the lines after the header, in the file's order. Empty lines are passed over."""
        latest_ns, offset_ns = 0, self.started_ns
        with self.path.open("rb") as file:
            for number, raw in enumerate(_bounded_lines(file), start=1):
                if number == 1 or not raw.strip():
                    continue
                try:
                    line = self._line(number, _object_of(raw))
                    if line.t_ns < latest_ns:
                        raise ValueError(f'"t" goes back from {latest_ns / NS_PER_S:g} to {line.t_ns / NS_PER_S:g}')
                    if isinstance(line, ClockLine):
                        offset_ns = _offset_in_range(offset_ns, line)
                    latest_ns = line.t_ns
                    yield line
                except ValueError as error:
                    yield BadLine(number, str(error))

    @staticmethod
    def _line(number: int, values: dict[str, Any]) -> ReadingLine | ClockLine:
        t_ns = _seconds(values, "t")
        if not 0 <= t_ns <= LENGTH_MAX_NS:
            raise ValueError('"t" must be from 0 to 400 days, in seconds')
        if "clock" in values:
            if values["clock"] != "set":
                raise ValueError('"clock" can only be "set"')
            return ClockLine(number, t_ns, _seconds(values, "by_s"))
        sensor = values.get("sensor")
        if not isinstance(sensor, str):
            raise ValueError('"sensor" must be the id of a sensor')
        return ReadingLine(number, t_ns, sensor, values)


def _offset_in_range(offset_ns: int, line: ClockLine) -> int:
    if not 0 <= offset_ns + line.by_ns + line.t_ns <= WALL_MAX_NS:
        raise ValueError('"by_s" sets the clock outside the years 1970 to 2999')
    return offset_ns + line.by_ns


def _bounded_lines(file: Any) -> Iterator[bytes]:
    """Yield lines, none of them held in memory beyond the bound: the rest of an overlong one is thrown away."""
    while line := file.readline(LINE_BYTES_MAX + 1):
        yield line
        while len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)


class Timeline:
    """The recording's two clocks: `boot_ns` is `t`; the wall clock is true, also before it was set.

    Worked example: started 1970-01-01T00:00:10Z, set by 1.7e9 s at t = 2: a reading at t = 1 happened at
    1.7e9 + 10 + 1 s ("estimated"), one at t = 3 at 1.7e9 + 10 + 3 s ("synced").
    """

    def __init__(self, started_ns: int, clock_lines: Sequence[ClockLine]) -> None:
        offsets = [started_ns]
        for line in clock_lines:
            offsets.append(offsets[-1] + line.by_ns)
        self._offsets_ns = offsets
        self._passed = 0

    def passed(self) -> None:
        """The next clock line has been passed."""
        self._passed += 1

    def at(self, t_ns: int) -> Instant:
        """Return the instant `t_ns` since the start, before the clock lines that have not been passed."""
        last = len(self._offsets_ns) - 1
        if self._passed < last:
            return Instant(t_ns, t_ns + self._offsets_ns[self._passed + 1], "estimated")
        return Instant(t_ns, t_ns + self._offsets_ns[last], "synced")


class Boundaries:
    """When intervals end on the wall clock, for the sensors that count by intervals."""

    def __init__(self, intervals_s: Sequence[float], timezone: ZoneInfo) -> None:
        self._intervals_s = intervals_s
        self._timezone = timezone

    def next_ns(self, now: Instant) -> int | None:
        """Return `boot_ns` of the first boundary after `now`, None where nothing counts by intervals."""
        ends = [next_boundary_ns(now.wall_ns, every_s, self._timezone) for every_s in self._intervals_s]
        return min(ends) - now.offset_ns if ends else None


@dataclass(slots=True)
class Replayed:
    """What a replay did: events written, readings of sensors that the configuration does not name, bad lines."""

    events: int = 0
    readings: int = 0
    unknown_sensors: dict[str, int] = field(default_factory=dict)
    bad_lines: list[BadLine] = field(default_factory=list)


BAD_LINES_KEPT = 100


@dataclass(frozen=True)
class Replay:
    """One pass of a recording through an interpretation; `write` takes each event's envelope, one line."""

    recording: Recording
    kinds: Mapping[str, Kind[Any]]
    interpretation: Interpretation
    boundaries: Boundaries
    wire: Wire
    write: Callable[[bytes], object]

    def run(self) -> Replayed:
        """Replay from the first line to the last, then decide what is pending."""
        done = Replayed()
        sequences: dict[Stream, int] = {}
        timeline = Timeline(self.recording.started_ns, self.recording.clock_lines)
        now = timeline.at(0)

        def publish(events: Iterator[Event]) -> None:
            for event in events:
                sequence = sequences[event.fact.stream] = sequences.get(event.fact.stream, 0) + 1
                entry = Entry(event.fact.stream, sequence, 1, record(event, REPLAY_BOOTID))
                self.write(self.wire.envelope(entry, {}))
                done.events += 1

        publish(self.interpretation.tick(now))
        for line in self.recording.lines():
            if isinstance(line, BadLine):
                if len(done.bad_lines) < BAD_LINES_KEPT:
                    done.bad_lines.append(line)
                continue
            publish(self._pass(now, until := timeline.at(line.t_ns)))
            now = until
            if isinstance(line, ClockLine):
                timeline.passed()
                before, now = now, timeline.at(line.t_ns)
                publish(self.interpretation.clock_set(before, now))
            elif (reading := self._reading(line, now, done)) is not None:
                done.readings += 1
                publish(self.interpretation.read(reading))
        publish(self.interpretation.finish(now))
        return done

    def _pass(self, now: Instant, until: Instant) -> Iterator[Event]:
        """Let time pass from `now` up to `until`: intervals close at their boundaries, durations fall due."""
        while (boundary_ns := self.boundaries.next_ns(now)) is not None and boundary_ns <= until.boot_ns:
            now = now.later(boundary_ns - now.boot_ns)
            yield from self.interpretation.tick(now)
        yield from self.interpretation.advance(until)

    def _reading(self, line: ReadingLine, at: Instant, done: Replayed) -> Reading | None:
        kind = self.kinds.get(line.sensor)
        if kind is None:
            done.unknown_sensors[line.sensor] = done.unknown_sensors.get(line.sensor, 0) + 1
            return None
        try:
            return kind.reading_of(line.sensor, at, line.values)
        except ValueError as error:
            if len(done.bad_lines) < BAD_LINES_KEPT:
                done.bad_lines.append(BadLine(line.number, str(error)))
            return None
