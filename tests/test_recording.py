"""A recording's lines: what is well formed is a reading, what is not is named with its number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RecordingError
from gateway.recordings.recording import LINE_BYTES_MAX, BadLine, ClockLine, ReadingLine, Recording

HEADER = b'{"recording": 1, "started": "2026-11-22T09:00:00.000Z", "gateway": "front", "note": "a morning"}\n'


def recording(tmp_path: Path, *lines: bytes, header: bytes = HEADER) -> Recording:
    path = tmp_path / "r.jsonl"
    path.write_bytes(header + b"".join(line + b"\n" for line in lines))
    return Recording(path)


def test_readings_and_clock_lines_come_in_order(tmp_path: Path) -> None:
    told = recording(tmp_path, b'{"t": 0.5, "sensor": "a", "counts": 3}', b'{"t": 2, "clock": "set", "by_s": -1.5}')
    assert list(told.lines()) == [
        ReadingLine(2, 500_000_000, "a", {"t": 0.5, "sensor": "a", "counts": 3}),
        ClockLine(3, 2_000_000_000, -1_500_000_000),
    ]
    assert told.clock_lines == (ClockLine(3, 2_000_000_000, -1_500_000_000),)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"sensor": "a"}', '"t" must be a number'),
        (b'{"t": true, "sensor": "a"}', '"t" must be a number'),
        (b'{"t": -1, "sensor": "a"}', '"t" must be from 0'),
        (b'{"t": 1e10, "sensor": "a"}', '"t" must be from 0'),
        (b'{"t": NaN, "sensor": "a"}', "not a number of JSON"),
        (b'{"t": 1}', '"sensor" must be'),
        (b'{"t": 1, "clock": "lost"}', '"clock" can only be "set"'),
        (b'{"t": 1, "clock": "set"}', '"by_s" must be a number'),
        (b'{"t": 1, "clock": "set", "by_s": 1e12}', "out of range"),
        (b'{"t": 1, "clock": "set", "by_s": -9e10}', "1970"),
        (b"[" * 5000, "n"),  # "nested too deeply", or "not JSON" where the parser goes deeper
        (b'{"t": 1, "sensor": "' + b"a" * LINE_BYTES_MAX + b'"}', "longer than"),
    ],
)
def test_a_malformed_line_is_named_and_the_next_one_counts(tmp_path: Path, line: bytes, why: str) -> None:
    good = b'{"t": 1, "sensor": "a"}'
    lines = list(recording(tmp_path, good, line, good).lines())
    assert isinstance(lines[1], BadLine)
    assert lines[1].number == 3
    assert why in lines[1].why
    assert [line.number for line in lines] == [2, 3, 4]


def test_a_line_that_goes_back_in_time_is_named(tmp_path: Path) -> None:
    lines = list(recording(tmp_path, b'{"t": 2, "sensor": "a"}', b'{"t": 1, "sensor": "a"}').lines())
    assert isinstance(lines[1], BadLine)
    assert "goes back" in lines[1].why


@pytest.mark.parametrize(
    "header",
    [b"", b"{}\n", b'{"recording": 2}\n', b'{"recording": 1}\n', b'{"recording": 1, "started": "yesterday"}\n',
     b'{"recording": 1, "started": "2026-11-22T09:00:00"}\n', b"\x00" * 100, b'{"recording": 1, "started": 5}\n'],
)  # fmt: skip
def test_a_file_without_a_header_is_no_recording(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(RecordingError, match="line 1"):
        recording(tmp_path, header=header)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        Recording(tmp_path / "none.jsonl")


@given(st.lists(st.binary(max_size=60) | st.text(max_size=40).map(str.encode), max_size=20))
def test_whatever_stands_in_the_file_reading_it_ends(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    told = recording(tmp_path_factory.mktemp("fuzz"), *lines)
    assert all(isinstance(line, ReadingLine | ClockLine | BadLine) for line in told.lines())


def test_a_pipe_is_no_recording_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(RecordingError, match="a pipe or a device"):
        Recording(path)
