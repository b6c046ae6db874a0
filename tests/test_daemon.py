"""The main job, end to end: the daemon as a process, a real broker, a consumer that proves completeness."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import PREFIX, Consumer, Shop, data, ended, passages, stop, wait_for
from tests.uplink.brokers import Mosquitto, free_port, mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


@pytest.mark.slow
def test_a_recording_played_at_once_waits_for_the_disk_and_loses_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    lines = passages(1, 1.0).splitlines()
    for number in range(20_000):  # each a visit of its own: 40,000 events, more than twice what memory may hold
        payload = f"0201061aff4c000215f7826da64fa24e988024bc5b71e0893e{number >> 16:04x}{number & 0xFFFF:04x}c5"
        heard = {"t": 2 + number / 10, "sensor": "ble", "address": "c4:64:e3:00:00:01", "address_type": "random"}
        lines.append(json.dumps({**heard, "rssi_dbm": -60, "payload": payload}))
    recording = shop.recording("\n".join(lines) + "\n")
    with Consumer(broker.port) as consumer:
        status, said = ended(shop.run("--recording", recording, "--speed", "max"), 120)
        assert status == 0, said
        wait_for(lambda: consumer.states()[-1]["state"] == "stopped", 60, "the state `stopped`")
        streams = consumer.states()[-1]["streams"]  # the broker keeps no 40,000 messages for a slow consumer
    assert "never recorded" not in said
    assert streams["beacon"]["recorded_through"] > 40_000, "and a count of the last interval"
    assert streams["beacon"]["backlog"] == 0
    assert streams["gateway"]["recorded_through"] == 3, "created, started, stopped: no loss"


def test_a_recording_is_recorded_published_and_proved_complete(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    recording = shop.recording(passages(25))
    replayed = [json.loads(line) for line in shop.ask("replay", recording).stdout.splitlines()]
    with Consumer(broker.port) as consumer:
        status, said = ended(shop.run("--recording", recording, "--speed", "max"))
        assert status == 0, said
        wait_for(lambda: consumer.states()[-1]["state"] == "stopped", what="the state `stopped`")
    passed = [event for event in replayed if event["type"] == "store.door.passed"]
    assert len(passed) == 25
    assert data(consumer.of("store.door.passed")) == data(passed)
    assert [event["type"] for event in consumer.of("store.gateway.started")] == ["store.gateway.started"]
    report = consumer.ledger.report()
    assert (report.verdict, report.duplicates, report.missing, report.lost) == ("complete", 0, 0, 0)
    last = consumer.states()[-1]
    assert last["streams"]["door"] == {"recorded_through": 26, "acknowledged_through": 26, "backlog": 0}


def test_an_outage_with_a_kill_and_a_restart_within_drains_by_itself(tmp_path: Path) -> None:
    port = free_port()
    shop = Shop(tmp_path, f"mqtt://127.0.0.1:{port}")
    killed = shop.run("--recording", shop.recording(passages(10)), "--speed", "max", "--stay")
    wait_for(lambda: shop.backlog() >= 10, what="ten passages in the outbox")
    killed.kill()
    ended(killed)
    assert shop.status()["running"] is False
    again = shop.run("--recording", shop.recording(passages(5)), "--speed", "max", "--stay")
    wait_for(lambda: shop.backlog() >= 15, what="five more")
    with mosquitto(tmp_path, port=port), Consumer(port) as consumer:
        wait_for(lambda: len(consumer.of("store.door.passed")) >= 15, what="the backlog")
        assert stop(again)[0] == 0
        wait_for(lambda: consumer.states()[-1]["state"] == "stopped", what="the state `stopped`")
        passed = sorted(consumer.of("store.door.passed"), key=lambda event: event["sequence"])
        assert [event["data"]["in_total"] for event in passed] == list(range(1, 16))
        assert len({event["epoch"] for event in passed}) == 2
        assert any(message.topic == f"{PREFIX}/backfill" for message in consumer.messages)
        started = sorted(consumer.of("store.gateway.started"), key=lambda event: event["sequence"])
        assert [event["data"]["clean"] for event in started] == [True, False]
        report = consumer.ledger.report()
        assert (report.verdict, report.missing) == ("complete", 0)


def test_totals_go_on_after_a_clean_stop(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    with Consumer(broker.port) as consumer:
        for _ in range(2):
            status, said = ended(shop.run("--recording", shop.recording(passages(3)), "--speed", "max"))
            assert status == 0, said
        wait_for(lambda: len(consumer.of("store.door.passed")) == 6, what="six passages")
        assert [event["data"]["in_total"] for event in consumer.of("store.door.passed")] == [1, 2, 3, 4, 5, 6]
        assert [event["data"]["clean"] for event in consumer.of("store.gateway.started")] == [True, True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_within_five_seconds_even_if_the_broker_hangs(
    tmp_path: Path, broker: Mosquitto, number: int
) -> None:
    shop = Shop(tmp_path, broker.url)
    process = shop.run("--recording", shop.recording(passages(3)), "--speed", "max", "--stay")
    wait_for(lambda: shop.status()["running"] and shop.status()["link"]["up"], what="the link")
    broker.freeze()
    status, said, took_s = stop(process, number)
    assert (status, took_s < 5) == (0, True), f"{took_s} s: {said}"


def test_status_tells_of_the_running_daemon_and_of_one_that_is_not(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    assert shop.ask("status", "--json").returncode == 69
    process = shop.run("--recording", shop.recording(passages(3)), "--speed", "max", "--stay")
    wait_for(lambda: shop.status()["running"] and shop.status()["link"]["up"], what="the link")
    told = wait_for(
        lambda: (s := shop.status())["streams"]["door"]["backlog"] == 0 and s["sensors"]["entrance"]["readings"] and s,
        what="everything acknowledged",
    )
    assert {"running", "state", "link", "streams", "outbox", "sensors", "counters", "clock"} <= told.keys()
    assert {"entries", "bytes", "oldest_entry_ms", "degraded"} <= told["outbox"].keys()
    assert told["sensors"]["entrance"]["readings"] == 12
    assert told["config_sha256"] == json.loads(shop.ask("config show", "--json").stdout)["config_sha256"]
    assert stop(process)[0] == 0
    answer = shop.ask("status", "--json")
    assert (answer.returncode, json.loads(answer.stdout)["running"]) == (69, False)


def test_a_second_daemon_on_the_same_outbox_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    first = shop.run("--recording", shop.recording(passages(1)), "--stay")
    wait_for(lambda: shop.status()["running"], what="the first")
    status, said = ended(shop.run("--recording", shop.recording(passages(1))))
    assert status == 73
    assert "another gateway" in said
    assert stop(first)[0] == 0


def test_an_outbox_that_cannot_be_made_ends_with_73(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "mqtt://127.0.0.1:1")
    shop.outbox.write_text("a file in its place")
    status, said = ended(shop.run())
    assert status == 73
    assert str(shop.outbox) in said


def test_without_a_broker_there_is_nothing_to_run(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "mqtt://127.0.0.1:1")
    shop.config.write_text(shop.config.read_text().replace('url = "mqtt://127.0.0.1:1"\n', ""))
    status, said = ended(shop.run())
    assert (status, "broker.url" in said) == (78, True)


def test_commands_are_answered_or_ignored_and_change_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    with Consumer(broker.port) as consumer:
        process = shop.run("--recording", shop.recording(passages(4)), "--speed", "max", "--stay")
        wait_for(lambda: len(consumer.of("store.door.passed")) == 4, what="the passages")
        assert consumer.order("ping", b"{}")["ok"] is True
        assert consumer.order("status", b"{}")["result"]["running"] is True
        codes = {
            ("ping", b""): "malformed",
            ("ping", b"[]"): "malformed",
            ("ping", b'{"a": "' + b"x" * 17_000 + b'"}'): "too_large",
            ("explode", b"{}"): "unknown",
            ("restart", b"{}"): "not_allowed",
            ("resend", b"{}"): "invalid",
            ("resend", b'{"stream": "door", "first_sequence": 500, "last_sequence": 600}'): "not_kept",
        }
        for (verb, payload), code in codes.items():
            answer = consumer.order(verb, payload)
            assert (answer["ok"], answer["error"]["code"]) == (False, code), answer
        again = consumer.order("resend", b'{"stream": "door", "first_sequence": 2, "last_sequence": 3}')
        assert again["ok"] is True
        wait_for(lambda: len(consumer.of("store.door.passed")) == 6, what="two passages again")
        assert consumer.ledger.report().duplicates == 2
        consumer.client.publish(f"{PREFIX}/command/ping", b"{}", qos=1)
        wait_for(
            lambda: [m for m in consumer.messages if m.topic == f"{PREFIX}/command/ping/result"],
            what="an answer without a response topic",
        )
        assert stop(process)[0] == 0


def test_the_will_says_lost_when_the_plug_is_pulled(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    process = shop.run("--recording", shop.recording(passages(1)), "--stay")
    with Consumer(broker.port) as consumer:
        wait_for(lambda: consumer.states() and consumer.states()[-1]["state"] == "online", what="online")
        process.kill()
        ended(process)
        wait_for(lambda: consumer.states()[-1]["state"] == "lost", what="the will")
        assert consumer.states()[-1].keys() == {"state", "outbox", "epoch", "time"}


def test_a_door_recorded_at_its_own_pace_keeps_its_times(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    with Consumer(broker.port) as consumer:
        began = time.time()
        assert ended(shop.run("--recording", shop.recording(passages(1)), "--speed", "1"))[0] == 0
        wait_for(lambda: consumer.of("store.door.passed"), what="the passage")
        (passed,) = consumer.of("store.door.passed")
        assert passed["data"]["duration_ms"] == 400
        from datetime import datetime

        happened = datetime.fromisoformat(passed["time"]).timestamp()
        assert 1.3 < happened - began < 6


def test_a_new_configuration_is_taken_over_on_sighup_and_a_bad_one_refused(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url)
    good = shop.config.read_text()
    with Consumer(broker.port) as consumer:
        process = shop.run("--recording", shop.recording(passages(2)), "--speed", "max", "--stay")
        wait_for(lambda: len(consumer.of("store.door.passed")) == 2, what="two passages")
        shop.config.write_text(good + 'nonsense = "1"\n[[door]]\nid = "entrance"\n')
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: consumer.of("store.gateway.config_changed"), what="the refusal")
        shop.config.write_text(good.replace("blocked_after_s", "x") + '[health]\nevery = "1 s"\n')
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: consumer.of("store.gateway.health"), what="the health of the new configuration")
        outcomes = [event["data"]["outcome"] for event in consumer.of("store.gateway.config_changed")]
        assert outcomes == ["rejected", "applied"]
        status, said, _ = stop(process)
        assert status == 0
        assert "nonsense" in said
        wait_for(lambda: consumer.ledger.report().verdict == "complete", what="completeness")
        assert [event["data"]["clean"] for event in consumer.of("store.gateway.started")] == [True, True]


def test_what_is_recorded_from_the_running_daemon_replays_to_the_same_passages(
    tmp_path: Path, broker: Mosquitto
) -> None:
    shop = Shop(tmp_path, broker.url)
    output = tmp_path / "recorded.jsonl"
    process = shop.run("--recording", shop.recording(passages(3)), "--stay")
    wait_for(lambda: shop.status()["running"], what="the daemon")
    recorded = shop.ask("record", "--output", output, "--for", "9s")
    assert recorded.returncode == 0, recorded.stderr
    assert stop(process)[0] == 0
    events = [json.loads(line) for line in shop.ask("replay", output).stdout.splitlines()]
    passed = [event["data"] for event in events if event["type"] == "store.door.passed"]
    assert len(passed) >= 2
    assert {(one["direction"], one["duration_ms"] // 10) for one in passed} <= {("in", 40), ("in", 39), ("in", 41)}
    assert shop.ask("record", "--output", output, "--for", "1s").returncode == 1, (
        "a file that is there was written over"
    )
