"""What is wrong with the way to the broker is told in the same words by the state topic, `status` and the doctor."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

import gateway.cli.status
from gateway.contract.generation import state_schema
from gateway.daemon.status import link_of
from gateway.technician.checks.daemon import trouble_lines
from tests.uplink.weather import Sky


def states(sky: Sky) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for _, message in sky.sent if message.topic.endswith("/state")]


def said_by_status(link: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    paper = io.StringIO()
    monkeypatch.setattr(gateway.cli.status, "console", lambda: Console(file=paper, width=1000))
    found: dict[str, Any] = {"running": True, "state": "online", "link": link, "clock": "synced"}
    gateway.cli.status._say({**found, "outbox": {}, "streams": {}, "sensors": {}})
    return paper.getvalue()


def test_a_held_link_is_told_with_its_cause_since_when_and_when_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sky = Sky(41)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.run(5)
    sky.refuses = {("door", number): 0x87 for number in range(1, 200)}
    sky.record("door", 30)
    sky.run(130)
    status = sky.uplink.status(sky.now)
    assert status.held_since_ms is not None
    assert status.next_probe_ms is not None
    [told] = states(sky)[-1]["troubles"]
    assert status.reason is not None
    assert told["detail"] == status.reason.detail
    assert told["detail"].startswith("sending is held since 20")
    assert "event/#" in told["advice"]
    assert told["next_probe"] >= states(sky)[-1]["time"]
    link = link_of(status)
    text = said_by_status(link, monkeypatch)
    for line in (told["detail"], told["advice"], "one message asks again in "):
        assert line in text
        assert any(line in said for said in trouble_lines(link))
    sky.refuses = {}
    sky.drain(200)
    sky.run(130)
    assert "troubles" not in states(sky)[-1]
    assert trouble_lines(link_of(sky.uplink.status(sky.now))) == []


def test_commands_that_are_not_received_are_told_in_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Sky(42, at_subscribe=lambda order: (0x87,) * len(order.filters))
    sky.record("door")
    sky.run(130)
    [told] = states(sky)[-1]["troubles"]
    assert told["code"] == "subscribe.refused"
    assert told["detail"].startswith("commands are not received: ")
    assert told["detail"] in said_by_status(link_of(sky.uplink.status(sky.now)), monkeypatch)
    assert set(told) <= set(state_schema()["properties"]["troubles"]["items"]["properties"])


def test_entries_that_cannot_be_read_are_told_in_the_state_at_once_and_again_when_they_can() -> None:
    sky = Sky(43)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.run(5)
    sky.outbox.unreadable = "recorded events of door cannot be read and wait: /o/door/1.json: Input/output error"
    sky.run(2)
    [told] = states(sky)[-1]["troubles"]
    assert (told["code"], told["detail"]) == ("outbox.unreadable", sky.outbox.unreadable)
    assert "gateway doctor" in told["advice"]
    sky.outbox.unreadable = None
    sky.run(2)
    assert "troubles" not in states(sky)[-1]


@pytest.mark.parametrize(
    ("code", "expected"), [("link.taken_over", "link.taken_over"), ("broker.closed", "link.closed_in_turn")]
)
def test_two_clients_with_one_client_id_are_told_while_they_end_each_other(code: str, expected: str) -> None:
    sky = Sky(44)
    for _ in range(4):
        assert sky.run(400, lambda: sky.uplink.status().up)
        sky.record("door")
        sky.run(8)
        sky.cut(code, in_order=True)
    assert sky.run(400, lambda: sky.uplink.status().up)
    sky.run(70)
    [told] = states(sky)[-1]["troubles"]
    assert told["code"] == expected
    assert "client id" in told["detail"]
    assert "site.gateway" in told["advice"]
    assert sky.outbox.refused == []
    sky.run(2000)
    assert sky.uplink.status(sky.now).notes == ()


def test_a_broker_that_closes_once_is_no_second_client() -> None:
    sky = Sky(45)
    for _ in range(2):
        assert sky.run(400, lambda: sky.uplink.status().up)
        sky.run(8)
        sky.cut("broker.closed", in_order=True)
    assert sky.run(400, lambda: sky.uplink.status().up)
    assert sky.uplink.status(sky.now).notes == ()


def test_a_state_topic_that_is_refused_is_told_by_status(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Sky(43, refuses_state=0x87)
    sky.run(60)
    text = said_by_status(link_of(sky.uplink.status(sky.now)), monkeypatch)
    assert "the state topic is not told: " in text
    assert "right to publish to it, retained" in text
