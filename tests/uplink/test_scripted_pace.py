"""The uplink on paho against a broker with its own pace: Server Keep Alive, late and reordered acknowledgements."""

from __future__ import annotations

import itertools
import time

import pytest

from gateway.mqtt.link import LinkTimes
from gateway.uplink.policy import Pace
from gateway.uplink.settings import BrokerSettings
from tests.uplink.scripted_broker import (
    CONNECT,
    PINGREQ,
    PUBLISH,
    Answer,
    Packet,
    connack,
    polite,
    puback,
    scripted,
    server_keep_alive,
)
from tests.uplink.shop import Shop
from tests.uplink.test_scripted import events_in, is_state


@pytest.mark.parametrize("keep_alive_s", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_short_server_keep_alive_is_kept(keep_alive_s: int) -> None:
    def script(packet: Packet) -> Answer:
        return connack(5, 0, server_keep_alive(keep_alive_s)) if packet.kind == CONNECT else polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url), times=LinkTimes())
        shop.until(lambda: len(broker.of(PINGREQ)) >= 1, 1.5 * keep_alive_s + 1)
        spoken = [packet.at_s for packet in broker.journal if packet.connection == 1]
        waits = [after - before for before, after in itertools.pairwise(spoken)]
        assert max(waits) < 1.5 * keep_alive_s, "a broker may close after one and a half times"
        assert not shop.downs
        shop.close()


def test_acknowledgements_in_any_order_are_all_taken_in() -> None:
    held: list[Packet] = []

    def script(packet: Packet) -> Answer:
        if packet.kind != PUBLISH or is_state(packet):
            return polite(packet)
        held.append(packet)
        if len(held) < 10:
            return b""
        answer = b"".join(puback(one) for one in reversed(held))
        held.clear()
        return answer

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(100)
        shop.drain()
        assert shop.uplink.counters.acknowledged == 100
        assert shop.uplink.counters.connects == 1
        sent = [sequence for packet in broker.of(PUBLISH) for _, sequence in events_in(packet)]
        assert sent == list(range(1, 101)), "in order, and each once"
        shop.close()


def test_acknowledgements_that_come_late_but_in_time_cost_no_second_sending() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH:
            time.sleep(0.06)
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url), pace=Pace(2.0, 0.0, 0.0))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(10)
        shop.drain()
        assert len([packet for packet in broker.of(PUBLISH) if events_in(packet)]) == 10
        assert shop.uplink.counters.unanswered == 0
        shop.close()
