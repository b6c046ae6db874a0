"""`gateway outbox` where it checks, mends, carries and reckons."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway import wire
from gateway.config import load
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.model import Event, Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.writing import InlineWriter
from gateway.sensors.door.facts import DoorPassed
from tests.cli.test_outbox_verbs import call
from tests.outbox.histories import describe_loss
from tests.uplink.brokers import mosquitto

HOUR_NS = 3_600_000_000_000


def opened(path: Path, now: Instant) -> Outbox:
    settings = load([path]).outbox
    return Outbox.open(settings.directory, settings, RealDisk(), InlineWriter(RealDisk()), now, describe_loss)


@pytest.fixture
def path(write_configuration: Any) -> Path:
    """A configuration whose outbox recorded forty passages an hour ago."""
    path: Path = write_configuration("")
    now = SystemClock().now()
    then = Instant(now.boot_ns, now.wall_ns - HOUR_NS, "synced")
    outbox = opened(path, then)
    for number in range(40):
        fact = DoorPassed("in" if number % 2 else "out", 300 + number, number, 0, 0)
        outbox.append("door", wire.record(Event("entrance", then, fact), "969b0c7f"), then)
    outbox.commit(then)
    outbox.close(then)
    return path


def segment(path: Path) -> Path:
    return max((path.parent / "outbox/door").glob("*.json"), key=lambda file: file.stat().st_size)


def damage(path: Path) -> bytes:
    """Flip a byte in the midst of a record; return what the file was."""
    whole = segment(path).read_bytes()
    at = whole.index(b'"20":{') + 60
    segment(path).write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
    return whole


def test_repair_names_what_is_lost_keeps_the_original_and_leaves_nothing_damaged(path: Path, tmp_path: Path) -> None:
    damage(path)
    broken = segment(path).read_bytes()
    name = segment(path).name
    assert call("outbox", "verify", "--config", path).exit_code == 1
    originals = tmp_path / "originals"
    result = call("outbox", "repair", "--yes", "--originals", originals, "--config", path, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["lost"], said["left"], len(said["rewritten"])) == (1, 0, 1)
    assert (originals / f"door_{name}").read_bytes() == broken
    assert call("outbox", "verify", "--config", path).exit_code == 0
    listed = call("outbox", "list", "door", "--limit", 99, "--json", "--config", path).stdout.splitlines()
    assert [int(json.loads(line)["sequence"]) for line in listed] == [n for n in range(1, 41) if n != 20]
    loss = json.loads(call("outbox", "show", "gateway", 1, "--config", path).stdout)["data"]
    assert (loss["first_sequence"], loss["last_sequence"], loss["reason"]) == (20, 20, "corrupt")


def test_repair_asks_first_and_changes_nothing_without_a_yes(path: Path) -> None:
    damage(path)
    before = {file: file.read_bytes() for file in (path.parent / "outbox").rglob("*") if file.is_file()}
    assert call("outbox", "repair", "--config", path).exit_code != 0
    assert {file: file.read_bytes() for file in (path.parent / "outbox").rglob("*") if file.is_file()} == before


def test_repair_is_refused_while_a_daemon_runs(path: Path, tmp_path: Path) -> None:
    damage(path)
    daemon = opened(path, SystemClock().now())
    result = call("outbox", "repair", "--yes", "--originals", tmp_path / "o", "--config", path)
    assert result.exit_code == 73
    assert not (tmp_path / "o").exists()
    daemon.close(SystemClock().now())


def test_repair_of_a_whole_outbox_does_nothing(path: Path) -> None:
    result = call("outbox", "repair", "--config", path)
    assert (result.exit_code, result.stdout) == (0, "nothing is damaged; nothing has changed\n")


def test_repair_does_not_claim_that_the_engine_remembers(path: Path) -> None:
    damage(path)
    call("outbox", "repair", "--yes", "--config", path)
    outbox = opened(path, SystemClock().now())
    assert [entry.sequence for entry in outbox.recorded_since_memory() if entry.stream == "gateway"] == [1]
    outbox.close(SystemClock().now())


def test_the_backlog_of_a_dead_gateway_comes_home_under_its_own_names(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    backlog = tmp_path / "backlog.jsonl"
    assert call("outbox", "export", backlog, "--config", path).exit_code == 0
    exported = [json.loads(line) for line in backlog.read_text().splitlines()]
    assert len(exported) == 40
    (tmp_path / "broker").mkdir()
    with mosquitto(tmp_path / "broker") as broker:
        heir = tmp_path / "heir.toml"
        heir.write_text(
            f'[site]\nstore = "0099"\ngateway = "heir"\n[broker]\nurl = "{broker.url}"\n'
            f'[outbox]\ndirectory = "{tmp_path}/elsewhere"\n'
        )
        heard: list[tuple[str, list[Any]]] = []
        client = mqtt.Client(CallbackAPIVersion.VERSION2, "consumer")
        client.on_message = lambda _, __, message: heard.append((message.topic, json.loads(message.payload)))
        client.connect("127.0.0.1", broker.port)
        client.subscribe("stores/#", 1)
        client.loop_start()
        result = call("outbox", "import", backlog, "--yes", "--config", heir, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["sent"] == 40
        here = call("outbox", "import", backlog, "--yes", "--here", "--config", heir)
        assert here.exit_code == 0
        for _ in range(100):
            if sum(len(events) for _, events in heard) == 80:
                break
            time.sleep(0.02)
        client.disconnect()
        client.loop_stop()
    assert {topic for topic, _ in heard} == {"stores/v1/0042/front/backfill", "stores/v1/0099/heir/backfill"}
    home = [event for topic, events in heard for event in events if "/0042/" in topic]
    assert home == exported
    assert {event["source"] for event in home} == {"/stores/0042/gateways/front"}
    assert not (tmp_path / "elsewhere").exists()


def test_the_backlog_as_a_file_for_stock_tinydb(path: Path, tmp_path: Path) -> None:
    from tinydb import TinyDB, where

    place = tmp_path / "backlog.json"
    assert call("outbox", "export", place, "--tinydb", "--config", path).exit_code == 0
    with TinyDB(place, access_mode="r") as database:
        assert database.tables() == {"door", "shelf", "beacon", "gateway"}
        assert database.table("door").count(where("data").direction == "in") == 20
        assert [document.doc_id for document in database.table("door")] == list(range(1, 41))


def test_import_sends_nothing_of_a_file_that_is_no_export(path: Path, tmp_path: Path) -> None:
    backlog = tmp_path / "backlog.jsonl"
    call("outbox", "export", backlog, "--config", path)
    lines = backlog.read_text().splitlines()
    event = json.loads(lines[3])
    for wrong in ("{", "[]", json.dumps(event | {"sequence": "0000000000000099"}), json.dumps(event | {"source": "x"})):
        backlog.write_text("\n".join([*lines[:3], wrong, *lines[4:]]))
        result = call("outbox", "import", backlog, "--yes", "--config", path)
        assert result.exit_code == 1
        assert "backlog.jsonl:4" in result.stderr
    backlog.write_text("\n".join(lines))
    checked = call("outbox", "import", backlog, "--dry-run", "--config", path, "--json")
    assert json.loads(checked.stdout) == {"sent": 0, "sources": {"/stores/0042/gateways/front": 40}}
    assert call("outbox", "import", backlog, "--yes", "--config", path).exit_code == 78
    assert call("outbox", "import", tmp_path / "none", "--yes", "--config", path).exit_code == 1


def test_estimate_reckons_hours_shedding_and_the_card_and_says_what_it_assumed(path: Path) -> None:
    found = json.loads(call("outbox", "estimate", "--config", path, "--json").stdout)
    rate = found["rates"]["door"]
    assert rate["entries_per_s"] == pytest.approx(40 / 3600, rel=0.02)
    assert found["hours_left"] == pytest.approx(found["free_bytes"] / rate["bytes_per_s"] / 3600, rel=0.02)
    assert found["shed_first"] == "door"
    assert found["card_years"] > 1
    assert found["assumptions"]["erase_cycles"] == 1000
    said = call("outbox", "estimate", "--config", path).stdout
    assert "hours" in said
    assert "assumed" in said


def test_estimate_of_an_outbox_too_young_says_so(write_configuration: Any) -> None:
    path: Path = write_configuration("")
    opened(path, SystemClock().now()).close(SystemClock().now())
    assert "too little" in call("outbox", "estimate", "--config", path).stdout


def test_refused_lists_what_the_broker_did_not_take(path: Path) -> None:
    assert call("outbox", "refused", "--config", path).stdout == "nothing was refused\n"
    now = SystemClock().now()
    outbox = opened(path, now)
    outbox.refuse(outbox.read("door", 0, 1, 999)[0], "0x95 packet too large")
    outbox.commit(now)
    outbox.close(now)
    result = call("outbox", "refused", "--config", path, "--json")
    assert json.loads(result.stdout)["event"]["type"] == "store.door.passed"
    assert "0x95 packet too large" in call("outbox", "refused", "--config", path).stdout
