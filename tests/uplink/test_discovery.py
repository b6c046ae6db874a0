"""Home Assistant's discovery: what is described, that a broker keeps it, and that a refusal costs nothing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.daemon.announcing import NOTED_MAX, noted, path_of, with_withdrawals
from gateway.model import NS_PER_S, Instant
from gateway.sensors.door.kind import KIND as DOOR
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.kind import Sensor
from gateway.sensors.scanner.kind import KIND as BEACON
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.shelf.kind import KIND as SHELF
from gateway.sensors.shelf.settings import ShelfSettings
from gateway.uplink.discovery import Announcement, announced
from gateway.uplink.settings import BrokerSettings
from tests.uplink.brokers import mosquitto
from tests.uplink.scripted_broker import CONNECT, PUBLISH, Answer, Packet, connack, maximum_packet_size, polite, puback
from tests.uplink.scripted_broker import scripted as scripted_broker
from tests.uplink.shop import Shop
from tests.uplink.test_mosquitto import Consumer
from tests.uplink.weather import Sky

ASKED = BrokerSettings(url="mqtt://broker.test", discovery="home-assistant")


CONFIGURED: tuple[Sensor[Any], ...] = (
    Sensor(DOOR, DoorSettings("entrance", outer_pin=17, inner_pin=27)),
    Sensor(DOOR, DoorSettings("back", beam_pin=22)),
    Sensor(SHELF, ShelfSettings("aisle-3", data_pin=5, clock_pin=6)),
    Sensor(BEACON, ScannerSettings("ble")),
)
SENSORS = [tuple(sensor.kind.discovery(sensor.settings)) for sensor in CONFIGURED]


def at(day: float) -> Instant:
    return Instant(10**9, (1_790_000_000 + round(day * 86_400)) * NS_PER_S, "synced")


def described(settings: BrokerSettings = ASKED) -> dict[str, dict[str, Any]]:
    return {one.topic: json.loads(one.payload) for one in announced(settings, "0042", "front", "1.0", SENSORS)}


def test_nothing_is_announced_unless_it_is_asked_for() -> None:
    assert described(BrokerSettings(url="mqtt://broker.test")) == {}


def test_doors_shelves_and_health_are_described_and_beacons_are_not() -> None:
    found = described()
    names = {re.sub(r"homeassistant/(\w+)/0042-front/([\w-]+)/config", r"\1 \2", topic) for topic in found}
    assert names == {
        "binary_sensor online",
        *(f"sensor health-{k}" for k in ("cpu_celsius", "disk_free_bytes", "memory_rss_bytes", "outbox_entries")),
        *(f"sensor entrance-{k}" for k in ("in_total", "out_total")),
        "binary_sensor entrance-blocked",
        "sensor back-unknown_total",
        "binary_sensor back-blocked",
        *(f"sensor aisle-3-{k}" for k in ("level", "count")),
    }
    assert len({one["unique_id"] for one in found.values()}) == len(found)
    door = found["homeassistant/sensor/0042-front/entrance-in_total/config"]
    assert door["state_topic"] == "stores/v1/0042/front/event/door/entrance"
    assert "value_json.data.in_total" in door["value_template"]
    assert all(one["state_topic"].startswith("stores/v1/0042/front/") for one in found.values())


def shop_of(settings: BrokerSettings, told: list[Announcement]) -> Shop:
    shop = Shop(settings)
    shop.uplink._announced = told
    return shop


def test_a_broker_keeps_what_is_announced_for_whoever_comes_later(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        shop = shop_of(BrokerSettings(url=broker.url), announced(ASKED, "0042", "front", "1.0", SENSORS))
        shop.passed(2)
        shop.drain()
        shop.until(lambda: shop.uplink.status().in_flight == 0)
        late = Consumer(broker.port, topic="homeassistant/#")
        shop.until(lambda: len(late.messages) == len(described()))
        assert all(message.retain for message in late.messages)
        late.close()
        shop.close()


@pytest.mark.parametrize("how", ["refused", "closes", "too large"])
def test_a_broker_that_does_not_take_it_gets_the_events_all_the_same(how: str) -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT and how == "too large":
            return connack(5, 0, maximum_packet_size(650))
        if packet.kind == PUBLISH and packet.topic.startswith("homeassistant/"):
            return "close" if how == "closes" else puback(packet, 0x87)
        return polite(packet)

    with scripted_broker(script) as broker:
        shop = shop_of(BrokerSettings(url=broker.url), announced(ASKED, "0042", "front", "1.0", SENSORS))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(5)
        shop.drain(12, hurry=True)
        shop.until(lambda: shop.uplink.counters.answers_dropped and shop.uplink.status().up, 12, hurry=True)
        before = broker.connections
        shop.passed(5)
        shop.drain(12)
        assert broker.connections == before, "it is not told again"
        assert shop.outbox.refused == []
        shop.close()


def test_an_answer_at_which_the_broker_closes_is_not_sent_for_ever() -> None:
    sky = Sky(30)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.run(1)
    sky.uplink.answer("stores/v1/0042/front/command/status/result", b"{}")
    sky.closes_at = "/result"
    sky.run(120)
    assert len([m for _, m in sky.sent if m.topic.endswith("/result")]) == 1
    assert sky.uplink.status().up


def nothing_under_way(shop: Shop) -> Callable[[], bool]:
    return lambda: shop.uplink.status().in_flight == 0


def kept_at(port: int, expected: int) -> set[str]:
    late = Consumer(port, topic="homeassistant/#")
    end = time.monotonic() + 5
    while len(late.messages) < expected and time.monotonic() < end:
        time.sleep(0.01)
    late.close()
    return {message.topic for message in late.messages}


def test_what_is_described_no_more_is_cleared_at_the_broker_also_by_a_gateway_that_describes_nothing(
    tmp_path: Path,
) -> None:
    outbox = tmp_path / "outbox"
    door = [tuple(DOOR.discovery(DoorSettings("main-door", outer_pin=17, inner_pin=27)))]
    lives = [
        announced(ASKED, "0042", "front", "1.0", SENSORS),
        announced(ASKED, "0042", "front", "1.0", door),
        announced(BrokerSettings(url="mqtt://broker.test"), "0042", "front", "1.0", door),
    ]
    with mosquitto(tmp_path) as broker:
        for wanted in lives:
            shop = shop_of(BrokerSettings(url=broker.url), with_withdrawals(outbox, wanted, at(1)))
            shop.passed(1)
            shop.drain()
            shop.until(nothing_under_way(shop))
            shop.close()
            assert kept_at(broker.port, len(wanted)) == {one.topic for one in wanted}


def test_a_topic_is_noted_before_it_is_told_and_cleared_for_thirty_days(tmp_path: Path) -> None:
    one = Announcement("homeassistant/sensor/0042-front/entrance-in_total/config", b"{}")
    assert with_withdrawals(tmp_path / "outbox", [one], at(0)) == [one]
    cleared = [Announcement(one.topic, b"")]
    assert with_withdrawals(tmp_path / "outbox", [], at(1)) == cleared
    assert with_withdrawals(tmp_path / "outbox", [], at(30)) == cleared
    assert with_withdrawals(tmp_path / "outbox", [], at(32)) == []
    assert with_withdrawals(tmp_path / "outbox", [one], at(33)) == [one]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 5000,
        b'{"topics": 1}',
        b'{"topics": {"stores/v1/0042/front/state": 1, "homeassistant/#": null}}',
        b'{"topics": {"homeassistant/sensor/a/b/config": "x", "homeassistant/sensor/a/b/c/config": 1}}',
    ],
)
def test_a_file_that_says_otherwise_clears_no_topic_of_others(tmp_path: Path, content: bytes) -> None:
    path_of(tmp_path / "outbox").write_bytes(content)
    assert with_withdrawals(tmp_path / "outbox", [], at(1)) == []


def test_of_many_the_newest_are_cleared() -> None:
    many: dict[str, int | None] = {str(n): n for n in range(NOTED_MAX + 5)}
    after = noted(many, ["wanted"], 0)
    assert len(after) == NOTED_MAX
    assert after["wanted"] is None
    assert "5" not in after
    assert str(NOTED_MAX) in after
