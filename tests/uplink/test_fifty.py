"""Fifty gateways, real uplinks on real links, against one mosquitto that restarts in the middle: nothing is missing."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.consumer.ledger import Ledger
from gateway.model import STREAMS
from gateway.mqtt.link import LinkTimes
from gateway.uplink.policy import Pace
from gateway.uplink.settings import BrokerSettings
from tests.uplink.brokers import mosquitto
from tests.uplink.memory_outbox import MemoryOutbox
from tests.uplink.shop import Shop

GATEWAYS = 50
BEFORE, LIVE = 200, 100
WITHIN_S = 90.0
KEEPS = ("persistence true", "max_queued_messages 0", "max_inflight_messages 100")
PATIENT = LinkTimes(connect_s=10.0, connack_s=20.0, ping_s=10, user_timeout_s=20.0)


class Cloud:
    """A consumer with a session that outlives its links, and its ledger."""

    def __init__(self, port: int) -> None:
        self.ledger = Ledger(from_one=True)
        self._lock = threading.Lock()
        self.client = Client(
            CallbackAPIVersion.VERSION2, "cloud", clean_session=False, protocol=MQTTProtocolVersion.MQTTv311
        )
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("stores/#", 1)
        self.client.on_message = lambda client, userdata, message: self._take(message.topic, bytes(message.payload))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _take(self, topic: str, payload: bytes) -> None:
        with self._lock:
            self.ledger.take(topic, payload)

    def delivered(self) -> int:
        with self._lock:
            return self.ledger.report().delivered

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_fifty_gateways_are_complete_though_the_broker_restarts(tmp_path: Path) -> None:
    with mosquitto(tmp_path, extra=(*KEEPS, f"persistence_location {tmp_path}/")) as broker:
        cloud = Cloud(broker.port)
        settings = BrokerSettings(url=broker.url, reconnect_max_s=4)
        shops = [
            Shop(settings, MemoryOutbox(id=f"{number:08x}"), PATIENT, Pace(backfill_delay_max_s=0.5), f"{number:04d}")
            for number in range(GATEWAYS)
        ]
        began = time.monotonic()

        def turn() -> None:
            assert time.monotonic() < began + WITHIN_S, [shop.uplink.status() for shop in shops[:2]]
            for shop in shops:
                shop.step(0.0)
            time.sleep(0.002)

        for shop in shops:
            for count, stream in zip((BEFORE, 10, 10, 10), STREAMS, strict=True):
                for _ in range(count):
                    shop.outbox.passed(replace(shop.clock.now(), clock="synced"), stream=stream)
        while sum(shop.uplink.status().up for shop in shops) < GATEWAYS:
            turn()
        for number in range(LIVE):
            for shop in shops:
                shop.passed()
            turn()
            if number == LIVE // 2:
                broker.kill()
                for _ in range(100):
                    turn()
                broker.start()
        while not all(shop.uplink.drained() for shop in shops):
            turn()
        expected = GATEWAYS * (BEFORE + LIVE + 30)
        until = time.monotonic() + 30
        while cloud.delivered() < expected and time.monotonic() < until:
            time.sleep(0.1)
        report = cloud.ledger.report()
        connects = [shop.uplink.counters.connects for shop in shops]
        for shop in shops:
            shop.close()
        cloud.close()
        assert (report.delivered, report.missing, report.invalid, report.reissued) == (expected, 0, 0, 0)
        assert min(connects) >= 2
        assert not any(shop.outbox.refused for shop in shops)
