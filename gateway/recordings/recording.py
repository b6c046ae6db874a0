"""Recordings (contract section 8): JSON Lines of readings, read line by line.

Law: whatever stands in the file, reading it ends, in bounded memory, and every line is either a reading, a set of the
clock, or a `BadLine` that names its number and what is wrong with it. Only a file without a header is no recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.errors import RecordingError
from gateway.machine.bounded import json_object, open_regular
from gateway.model import NS_PER_S

LINE_BYTES_MAX = 16_384
"""A reading is below 1 KiB; a longer line is no recording of ours."""
LENGTH_MAX_NS = 400 * 86_400 * NS_PER_S
"""More than a year in one recording is a mistyped `t`, and would close intervals for ever."""
WALL_MAX_NS = 32_503_680_000 * NS_PER_S
"""The year 3000: the wall clock of a recording stays between 1970 and there."""


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
    return json_object(raw.strip())


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
        if path.exists() and not path.is_file() and not path.is_dir():
            what = "a pipe or a device, and a recording is read more than once"
            raise RecordingError(f"{path}: this is {what}", "write it into a file first, and name that")
        try:
            with open(open_regular(path), "rb") as file:
                self.started_ns = self._header(file.readline(LINE_BYTES_MAX + 1))
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from None
        self.clock_lines = tuple(line for line in self.lines() if isinstance(line, ClockLine))

    def _header(self, raw: bytes) -> int:
        try:
            header = _object_of(raw)
            if header.get("recording") != 1 or not isinstance(header["recording"], int) or header["recording"] is True:
                raise ValueError('must begin {"recording": 1, ...}')
            if not isinstance(header.get("started"), str):
                raise ValueError('"started" is not there')
            started = datetime.fromisoformat(header["started"])
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
        with open(open_regular(self.path), "rb") as file:
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
