"""The configuration from afar, end to end: applied, unchanged, rejected, taken back; the local files never written."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.verbs import CommandRefused, overlay_of
from gateway.config import load
from gateway.config.overlay import Ordered, Probation, path_of, read_ordered, write_ordered
from tests.daemon import Consumer, Shop, stop, wait_for
from tests.uplink.brokers import Mosquitto, mosquitto

ALLOWED = '[commands]\nallow = ["ping", "status", "config"]'


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


def outcomes(consumer: Consumer) -> list[str]:
    return [event["data"]["outcome"] for event in consumer.of("store.gateway.config_changed")]


def order(consumer: Consumer, config: Any, within_s: float = 20) -> dict[str, Any]:
    return consumer.order("config", json.dumps({"config": config, "within_s": within_s}).encode())


def test_a_configuration_is_applied_when_the_link_is_back_and_the_same_again_changes_nothing(
    tmp_path: Path, broker: Mosquitto
) -> None:
    shop = Shop(tmp_path, broker.url, ALLOWED)
    local = shop.config.read_bytes()
    with Consumer(broker.port) as consumer:
        process = shop.run("--simulated")
        wait_for(lambda: consumer.of("store.gateway.started"), what="the start")
        answer = order(consumer, {"health": {"every": "1 s"}, "door": [{"id": "entrance", "blocked_after_s": 20}]})
        assert (answer["ok"], answer["result"]["outcome"]) == (True, "applied")
        wait_for(lambda: consumer.of("store.gateway.health"), what="the health of the new configuration")
        wait_for(lambda: outcomes(consumer) == ["applied"], what="the event")
        assert (
            order(consumer, '[health]\nevery = "1 s"\n[[door]]\nid = "entrance"\nblocked_after_s = 20')["result"][
                "outcome"
            ]
            == "unchanged"
        ), "TOML text of the same"
        shown = shop.ask("config show").stdout
        assert "ordered by the cloud" in shown
        assert len(consumer.of("store.gateway.started")) == 2
        assert shop.config.read_bytes() == local
        assert order(consumer, {})["result"]["outcome"] == "applied", "back to the local files"
        assert not path_of(shop.outbox).exists()
        assert stop(process)[0] == 0
        wait_for(lambda: consumer.ledger.report().verdict == "complete", what="completeness")


def test_a_configuration_without_a_link_is_taken_back(tmp_path: Path, broker: Mosquitto) -> None:
    shop = Shop(tmp_path, broker.url, ALLOWED)
    with Consumer(broker.port) as consumer:
        process = shop.run("--simulated")
        wait_for(lambda: consumer.of("store.gateway.started"), what="the start")
        with ThreadPoolExecutor(1) as beside:
            answered = beside.submit(order, consumer, {"broker": {"keepalive_s": 31}}, 1)
            wait_for(lambda: read_ordered(shop.outbox).trial, what="the order")
            broker.freeze()
            wait_for(lambda: read_ordered(shop.outbox).verdict, what="the end of the trial")
            broker.thaw()
            answer = answered.result()
        assert (answer["ok"], answer["error"]["code"]) == (False, "failed")
        assert "acknowledged nothing" in answer["error"]["detail"]
        wait_for(lambda: outcomes(consumer) == ["rolled_back"], what="the event")
        assert not path_of(shop.outbox).exists()
        assert stop(process)[0] == 0
        wait_for(lambda: consumer.ledger.report().verdict == "complete", what="completeness")
        assert len({event["outbox"] for event in consumer.events()}) == 1


def test_what_is_wrong_or_decided_at_the_gateway_is_rejected_and_changes_nothing(
    tmp_path: Path, broker: Mosquitto
) -> None:
    shop = Shop(tmp_path, broker.url, ALLOWED)
    with Consumer(broker.port) as consumer:
        process = shop.run("--simulated")
        wait_for(lambda: consumer.of("store.gateway.started"), what="the start")
        wrong: tuple[tuple[Any, str], ...] = (
            ({"health": {"evry": 1}}, "evry"),
            ({"broker": {"url": ""}}, "broker.url"),
            ({"outbox": {"directory": str(tmp_path / "other")}}, "outbox.directory"),
            ({"commands": {"allow": ["restart"]}}, "commands"),
            ({"site": {"store": "0043"}}, "site.store"),
            ({"broker": {"password_file": "/etc/passwd"}}, "broker.password_file"),
            ({"privacy": {"identity": "plain"}}, "privacy.identity"),
            ({"door": [{"id": "entrance", "outer_pin": 5}]}, "door.outer_pin"),
        )
        for config, named in wrong:
            answer = order(consumer, config)
            assert (answer["ok"], answer["error"]["code"]) == (False, "invalid")
            assert named in answer["error"]["detail"]
        wait_for(lambda: outcomes(consumer) == ["rejected"] * len(wrong), what="the events")
        assert len(consumer.of("store.gateway.started")) == 1
        assert not path_of(shop.outbox).exists()
        assert stop(process)[0] == 0


def test_a_configuration_under_which_the_daemon_dies_three_times_is_taken_back(
    tmp_path: Path, broker: Mosquitto
) -> None:
    shop = Shop(tmp_path, broker.url, ALLOWED)
    overlay = {"broker": {"keepalive_s": 31}}
    broker.freeze()
    write_ordered(shop.outbox, Ordered(overlay))
    sha256 = load([shop.config]).sha256
    write_ordered(shop.outbox, Ordered(overlay, Probation(sha256, 120, "answers", None, {}, 0)))
    for starts in range(1, 4):
        process = shop.run("--simulated")
        wait_for(lambda starts=starts: read_ordered(shop.outbox).trial.starts == starts)  # type: ignore[misc, union-attr]
        process.kill()
        process.communicate()
    broker.thaw()
    with Consumer(broker.port) as consumer:
        process = shop.run("--simulated")
        wait_for(lambda: outcomes(consumer) == ["rolled_back"], what="the event")
        assert stop(process)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"config": 1},
        {"config": {"a": None}},
        {"config": "a ="},
        {"config": {}, "x": 1},
        {"config": {}, "within_s": 0},
    ],
)
def test_what_is_no_order_is_invalid(arguments: dict[str, Any]) -> None:
    with pytest.raises(CommandRefused, match=r"config|within_s"):
        overlay_of(arguments)


TRIAL = b'{"trial": {"sha256": "x", "topic": "t", "within_s": %s, "starts": %s}}'
ODD = (
    *(TRIAL % (within_s, b"0") for within_s in (b"NaN", b"1e999", b'"abc"', b"-1", b"true", b"null", b"9" * 5000)),
    *(TRIAL % (b"120", starts) for starts in (b'"x"', b"null", b"1.5", b"-1")),
    b'{"verdict": {"sha256": "a", "why": "b", "topic": "t", "correlation": 7}}',
    b'{"trial": []}',
    b"[" * 100_000,
    b'{"overlay": {"a": "%s"}}' % (b"x" * 300_000),
)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"trial": {"x": 1}}', b'{"overlay": 3}', b"\xff", *ODD])
def test_a_damaged_order_is_as_if_there_were_none(tmp_path: Path, damage: bytes) -> None:
    shop = Shop(tmp_path, "mqtt://127.0.0.1:1")
    path_of(shop.outbox).write_bytes(damage)
    assert read_ordered(shop.outbox) == Ordered()
    assert load([shop.config]).document == tomllib.loads(shop.config.read_text())


def test_a_pipe_or_a_huge_file_in_the_place_of_an_order_holds_nobody_up(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "mqtt://127.0.0.1:1")
    os.mkfifo(path_of(shop.outbox))
    assert read_ordered(shop.outbox) == Ordered()
    path_of(shop.outbox).unlink()
    with path_of(shop.outbox).open("wb") as file:
        file.truncate(4 << 30)
    assert read_ordered(shop.outbox) == Ordered()


def test_an_order_that_no_longer_fits_the_local_files_leaves_them_in_force(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "mqtt://127.0.0.1:1")
    write_ordered(shop.outbox, Ordered({"door": [{"id": "entrance", "outer_pin": 27}]}))
    assert load([shop.config]).document == tomllib.loads(shop.config.read_text())
