"""The daemon on a card whose file system gives up under it: it is said everywhere, in words, and it does not fall over.

Needs root and loop devices; where they are missing the test says what.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Consumer, Shop, passages, stop, wait_for
from tests.outbox.block_device import SmallDisk, card_or_skip
from tests.uplink.brokers import mosquitto

CARD_BYTES = 32 << 20


@pytest.fixture
def card(tmp_path: Path) -> Iterator[SmallDisk]:
    with card_or_skip(tmp_path, CARD_BYTES) as disk:
        yield disk


def failed(shop: Shop) -> dict[str, Any]:
    checks = json.loads(shop.ask("doctor", "--json").stdout)["checks"]
    return {f"{check['group']}/{check['name']}": check for check in checks if check["result"] == "failed"}


def test_a_file_system_that_gave_up_is_said_by_status_doctor_and_log(tmp_path: Path, card: SmallDisk) -> None:
    shop = Shop(card.path, "mqtt://127.0.0.1:1")
    recording = tmp_path / "people.jsonl"
    recording.write_text(passages(1000, every_s=2.0))
    process = shop.run("--recording", recording, "--speed", "10", "--stay")
    wait_for(lambda: shop.backlog() >= 1, what="somebody recorded")
    card.give_up()
    outbox = wait_for(lambda: (told := shop.status()["outbox"])["degraded"] and told, 30, "the trouble")
    assert "events cannot be recorded" in outbox["trouble"]
    found = failed(shop)
    assert "takes no files" in found["outbox/directory"]["found"]
    assert "read-only" in found["machine/disk"]["found"]
    assert "events cannot be recorded" in found["daemon/outbox"]["found"]
    status, said, took_s = stop(process)
    assert (status, took_s < 8) == (0, True), f"{took_s} s: {said}"
    assert said.count("waits in memory") == 1, said
    assert "events of stream door could not be recorded, and are lost" in said


@pytest.mark.slow
def test_a_card_that_hangs_is_said_within_seconds_and_nothing_is_lost_when_it_comes_back(
    tmp_path: Path, card: SmallDisk
) -> None:
    with mosquitto(tmp_path) as broker, Consumer(broker.port) as consumer:
        shop = Shop(card.path, broker.url)
        recording = tmp_path / "people.jsonl"
        recording.write_text(passages(1000, every_s=2.0))
        process = shop.run("--recording", recording, "--speed", "10", "--stay")
        wait_for(consumer.events, what="somebody told")
        with card.hung():
            told = wait_for(lambda: (said := shop.status())["outbox"]["degraded"] and said, 30, "the trouble")
            assert "does not answer" in told["outbox"]["trouble"]
            through = sum(stream["recorded_through"] for stream in told["streams"].values())
            assert told["counters"]["events_recorded"] == through
            assert "does not answer" in shop.ask("status").stdout
            wait_for(lambda: "does not answer" in str(consumer.states()[-1].get("troubles")), 10, "the state's trouble")
            found = failed(shop)
            assert "does not answer" in found["daemon/outbox"]["found"]
            assert "does not answer" in found["outbox/directory"]["found"]
        wait_for(lambda: not shop.status()["outbox"]["degraded"], 10, "the end of the trouble")
        wait_for(lambda: "troubles" not in consumer.states()[-1], 10, "the state without trouble")
        status, said, _ = stop(process)
        assert status == 0
        assert said.count("waits in memory") == 1, said
        assert "could not be recorded" not in said
