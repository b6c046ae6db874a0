"""Home Assistant's discovery: what is described, that a broker keeps it, and that a refusal costs nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.sensors.door.kind import KIND as DOOR
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.kind import Kind
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


CONFIGURED: tuple[tuple[Kind[Any], Any], ...] = (
    (DOOR, DoorSettings("entrance", outer_pin=17, inner_pin=27)),
    (DOOR, DoorSettings("back", beam_pin=22)),
    (SHELF, ShelfSettings("aisle-3", data_pin=5, clock_pin=6)),
    (BEACON, ScannerSettings("ble")),
)
SENSORS = [tuple(kind.discovery(settings)) for kind, settings in CONFIGURED]


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
