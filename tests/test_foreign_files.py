"""Whatever stands where a file is read: a sentence or nothing comes back, soon, and never more than a bound is read."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest

from gateway.config import load
from gateway.errors import GatewayError
from gateway.machine.bounded import read_object
from gateway.machine.health import read as read_kernel_file
from gateway.mqtt.dial import DialRefused, password
from gateway.outbox.losses import told_loss
from gateway.outbox.query import QueryError, parse_query
from gateway.outbox.record import decode_header
from gateway.outbox.state import decode_state
from gateway.outbox.status import times_ms
from gateway.privacy import DayKeys, Period
from gateway.recordings.recording import Recording
from gateway.sensors.scanner.drivers.tag_keys import opened_keys
from gateway.sensors.scanner.tags import TagRule
from gateway.sensors.shelf.calibration import from_json
from gateway.technician.checks import machine

HEAD = b'{"recording": 1, "started": "2026-11-22T09:00:00.000Z"}\n'
DEEP = b"[" * 100_000
CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(8192),
    "no text": b"\xff\xfe\xfa",
    "another object": b'{"a": [1, {"b": null}]}',
    "a list": b"[1]",
    "deep": DEEP,
    "deep objects": b'{"a":' * 50_000,
    "NaN": b'{"kind": "tare", "offset_counts": NaN}',
    "Infinity": b'{"kind": "tare", "offset_counts": 1e999}',
    "a huge number": b'{"kind": "tare", "offset_counts": ' + b"9" * 5000 + b"}",
    "a lone surrogate": rb'{"kind": "\ud800"}',
    "lines": HEAD + DEEP + b'\n{"t": ' + b"9" * 5000 + b"}\n" + b'{"t": NaN}\n',
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def written(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


PLACES = {
    "pipe": pipe,
    "folder": folder,
    "device": device,
    "loop": loop,
    "a tebibyte": endless,
    **{name: written(content) for name, content in CONTENTS.items()},
}


def _recording(path: Path) -> Any:
    return list(Recording(path).lines())


def _tag_key(path: Path) -> Any:
    return opened_keys((TagRule("cart", address="c4:64:e3:00:00:01", bindkey_file=str(path)),)).troubles


def _settings(path: Path) -> Any:
    return SimpleNamespace(password_file=path)


READERS: dict[str, Callable[[Path], Any]] = {
    "configuration": lambda path: load([path]),
    "object": lambda path: read_object(path, 1 << 20),
    "recording": _recording,
    "tag key": _tag_key,
    "doctor": lambda path: machine._file("password_file", path),
    "password": lambda path: password(_settings(path)),
    "kernel file": read_kernel_file,
    "day's key": lambda path: DayKeys(path).key_of(Period("2026-11-22")),
}
DECLARED = (GatewayError, OSError, ValueError, DialRefused)


@pytest.fixture
def no_more_memory() -> Iterator[None]:
    """Whoever reads without a bound runs out of address space at once."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("no_more_memory")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reader", READERS)
def test_what_stands_there_is_read_or_refused(reader: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    PLACES[place](path)
    with contextlib.suppress(*DECLARED):
        READERS[reader](path)


def _signed(text: bytes) -> bytes:
    return b"%08x %b\n" % (crc32(text), text)


@pytest.mark.parametrize("content", CONTENTS)
def test_a_checksum_makes_nothing_true(content: str) -> None:
    raw = CONTENTS[content]
    assert decode_state(_signed(raw)) is None
    rest = raw.removeprefix(b"{")
    assert decode_header(b'{"_seg":{"1":{"_c":"%08x",%b},"door":{\n' % (crc32(rest), rest)) is None
    assert told_loss(b'{"type": "store.gateway.events_dropped", "data": ' + raw, "0a1b2c3d") is None
    assert times_ms(raw) == (None, None)
    with pytest.raises(ValueError, match=r"."):
        from_json(raw)


@pytest.mark.parametrize("said", ["1e999", "9" * 4000, "NaN", "-Infinity", '"' + "9" * 5000 + '"'])
def test_times_that_are_none(said: str) -> None:
    event = f'{{"uptimems": {said}, "time": "0001-01-01T00:00:00+14:00", "clock": "synced"}}'
    assert times_ms(event.encode()) == (None, None)


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e999", "-1e999", "0." + "1" * 5000, "1" * 61])
def test_a_query_with_a_number_that_no_event_has_is_told_where(number: str) -> None:
    with pytest.raises(QueryError, match="at character 6"):
        parse_query(f"a == {number}")


@pytest.mark.parametrize("text", ["9" * 5000, "\u0662", "\u00b2", "1e5", ""])
def test_a_text_that_is_no_number_of_ours_is_compared_as_text(text: str) -> None:
    assert not parse_query("a == 2")({"a": text})
    assert parse_query("a == 00012")({"a": "12"})
