"""`gateway outbox`: what a technician sees of an outbox that the daemon filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway import wire
from gateway.cli import gateway
from gateway.config import load
from gateway.machine.disk import RealDisk
from gateway.model import Event, Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.writing import InlineWriter
from gateway.sensors.door.facts import DoorBlocked, DoorPassed

NOW = Instant(60_000_000_000, 1_795_338_000_000_000_000)


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(gateway, [str(argument) for argument in arguments], prog_name="gateway")


@pytest.fixture
def path(write_configuration: Any) -> Path:
    """A configuration whose outbox holds five entries of doors, of which the first is acknowledged."""
    path: Path = write_configuration("")
    settings = load([path]).outbox
    outbox = Outbox.open(
        settings.directory, settings, RealDisk(), InlineWriter(RealDisk()), NOW, lambda outbox, loss, at: b"{}"
    )
    for number in range(4):
        fact = DoorPassed("in" if number % 2 else "out", 300 + number, number, 0, 0)
        outbox.append("door", wire.record(Event("entrance", NOW, fact), "969b0c7f"), NOW)
    outbox.append("door", wire.record(Event("back", NOW, DoorBlocked("only")), "969b0c7f"), NOW)
    later = NOW.later(5_000_000_000)
    outbox.step(later)
    outbox.acknowledge("door", 1, 1)
    outbox.close(later)
    return path


def envelopes(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_status_counts_what_waits(path: Path) -> None:
    document = json.loads(call("outbox", "status", "--config", path, "--json").stdout)
    assert document["streams"]["door"] == {"recorded_through": 5, "acknowledged_through": 1, "backlog": 4}
    assert set(document) >= {"outbox", "epoch", "streams", "bytes", "bytes_max", "damaged", "refused"}
    assert document["epoch"] == "1"
    assert "4 not acknowledged" in call("outbox", "status", "--config", path).stdout


def test_status_without_a_daemon_tells_what_waits(path: Path) -> None:
    result = call("status", "--config", path, "--json")
    assert result.exit_code == 69
    assert json.loads(result.stdout)["outbox"]["entries"] == 4


def test_list_is_oldest_first_and_says_what_it_left_out(path: Path) -> None:
    result = call("outbox", "list", "door", "--limit", 2, "--config", path)
    assert [line.split()[1] for line in result.stdout.splitlines()[1:3]] == ["2", "3"]
    assert "and 2 more" in result.stdout
    found = envelopes(call("outbox", "list", "--json", "--after", 3, "--config", path))
    assert [event["sequence"] for event in found] == ["0000000000000004", "0000000000000005"]


def test_show_gives_the_envelope_by_place_or_id_also_when_acknowledged(path: Path) -> None:
    first = call("outbox", "show", "door", 1, "--config", path)
    assert first.exit_code == 0
    event = json.loads(first.stdout)
    assert event["type"] == "store.door.passed"
    assert json.loads(call("outbox", "show", event["id"], "--config", path).stdout) == event


def test_show_of_what_is_not_there(path: Path) -> None:
    result = call("outbox", "show", "door", 99, "--config", path)
    assert result.exit_code == 1
    assert "is not in the outbox" in result.stderr
    assert call("outbox", "show", "window", 1, "--config", path).exit_code == 2


def test_query(path: Path) -> None:
    found = envelopes(call("outbox", "query", 'data.direction == "in"', "--json", "--config", path))
    assert [event["data"]["duration_ms"] for event in found] == [301, 303]
    assert call("outbox", "query", "data.beam", "--config", path).exit_code == 0
    assert call("outbox", "query", "data.sku", "--config", path).exit_code == 1
    assert call("outbox", "query", 'stream == "door" and sequence == 2', "--config", path).exit_code == 0
    assert call("outbox", "query", "uptimems < 0", "--config", path).exit_code == 1
    endless = " and ".join(["data.n == 1"] * 5000)
    assert call("outbox", "query", endless, "--config", path).exit_code == 2
    unreadable = call("outbox", "query", "data.direction =", "--config", path)
    assert unreadable.exit_code == 2
    assert "at character 16" in unreadable.stderr


def test_verify_finds_a_flipped_bit(path: Path, tmp_path: Path) -> None:
    assert call("outbox", "verify", "--config", path).exit_code == 0
    segment = max((tmp_path / "outbox/door").iterdir(), key=lambda file: file.stat().st_size)
    raw = bytearray(segment.read_bytes())
    raw[raw.index(b'"duration_ms":302') + 10] ^= 1
    segment.write_bytes(raw)
    result = call("outbox", "verify", "--config", path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["damages"]


def test_export_writes_every_waiting_envelope(path: Path, tmp_path: Path) -> None:
    result = call("outbox", "export", "--config", path, "--output", tmp_path / "backlog.jsonl")
    assert result.exit_code == 0
    assert "4 entries" in result.stderr
    assert len((tmp_path / "backlog.jsonl").read_text().splitlines()) == 4
    failed = call("outbox", "export", "--config", path, "--output", tmp_path / "absent" / "x")
    assert failed.exit_code == 1
    assert "cannot be written" in failed.stderr


def test_no_outbox_is_73(write_configuration: Any) -> None:
    result = call("outbox", "status", "--config", write_configuration(""))
    assert result.exit_code == 73
    assert "what to do" in result.stderr
