"""Brokers that refuse: one message, everything, everything for a while, what no table names. Real links, one model."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from gateway.model import NS_PER_S, Entry, Instant
from gateway.uplink.parcel import Parcel
from gateway.uplink.settings import BrokerSettings
from gateway.uplink.suspects import HELD_AFTER, Suspect
from gateway.uplink.verdicts import Verdicts
from tests.uplink.brokers import Mosquitto, mosquitto
from tests.uplink.scripted_broker import (
    CONNECT,
    PUBLISH,
    Answer,
    Packet,
    connack,
    maximum_packet_size,
    polite,
    puback,
    receive_maximum,
)
from tests.uplink.scripted_broker import scripted as scripted_broker
from tests.uplink.shop import Shop
from tests.uplink.test_scripted import events_in
from tests.uplink.weather import Sky

NOTICE = b'{"type":"store.gateway.events_dropped","subject":"gateway"}'
CODES = [
    0x87,
    0xEE,
    *(pytest.param(code, marks=pytest.mark.slow) for code in (0x80, 0x83, 0x90, 0x95, 0x97, 0x99, 0x9B)),
]
FAREWELLS = (0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0)


def mend(broker: Mosquitto, access: Path, text: str) -> None:
    """Let mosquitto read another access list, as its operator does."""
    access.write_text(text)
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGHUP)


def run(shop: Shop, for_s: float) -> None:
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        shop.step()


@pytest.mark.mosquitto
@pytest.mark.parametrize("readable", ["topic read #\n", "topic read #\ntopic write stores/v1/+/+/state\n"])
def test_an_access_list_without_the_right_to_publish_costs_nothing_once_it_is_mended(
    tmp_path: Path, readable: str
) -> None:
    access = tmp_path / "access"
    access.write_text(readable)
    with mosquitto(tmp_path, extra=(f"acl_file {access}",)) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(20)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(23)
        run(shop, 4.0)
        status = shop.uplink.status()
        assert shop.outbox.refused == []
        assert (status.counters["acknowledged"], status.up) == (0, True)
        assert status.counters["messages"] < 120, "sending is held"
        assert status.reason is not None
        assert status.reason.code == "publish.refused"
        assert "stores/v1/0042/front/event/#" in status.reason.advice
        mend(broker, access, "topic readwrite #\n")
        shop.drain(30)
        shop.passed(3)
        shop.drain()
        assert shop.outbox.refused == []
        assert shop.uplink.status().reason is None
        shop.close()


@pytest.mark.mosquitto
def test_a_right_for_live_events_alone_delivers_the_backlog_too(tmp_path: Path) -> None:
    access = tmp_path / "access"
    access.write_text("topic read #\ntopic write stores/v1/+/+/event/#\n")
    with mosquitto(tmp_path, extra=(f"acl_file {access}",)) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(30)
        time.sleep(1.1)  # older than the last moments before the link
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(5)
        shop.drain(30)
        assert shop.outbox.refused == []
        shop.close()


@pytest.mark.mosquitto
def test_a_brokers_limit_that_no_table_of_the_library_names_makes_batches_smaller(tmp_path: Path) -> None:
    with mosquitto(tmp_path, extra=("message_size_limit 1000",)) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(43)
        time.sleep(1.1)
        shop.drain(20)
        assert shop.outbox.refused == []
        assert shop.uplink.counters.connects == 1
        shop.close()


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_that_hits_everything_sets_nothing_aside(code: int) -> None:
    refusing = [True]

    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and refusing[0] and events_in(packet):
            return puback(packet, code)
        return polite(packet)

    with scripted_broker(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(30)
        run(shop, 4.0)
        assert shop.outbox.refused == []
        assert len(broker.of(PUBLISH)) < 130
        assert shop.uplink.counters.connects == 1, "an answer that has no name is an answer"
        refusing[0] = False
        shop.drain(30)
        assert shop.outbox.refused == []
        shop.close()


@pytest.mark.parametrize("reason", [0x8B, *(pytest.param(one, marks=pytest.mark.slow) for one in FAREWELLS[2:])])
def test_a_farewell_that_speaks_of_the_broker_blames_no_message(reason: int) -> None:
    farewells = iter(range(12))

    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and events_in(packet) and next(farewells, None) is not None:
            return bytes([0xE0, 2, reason, 0])
        return polite(packet)

    with scripted_broker(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(5)
        shop.drain(30, hurry=True)
        assert shop.outbox.refused == []
        shop.close()


@pytest.mark.slow
def test_a_broker_that_closes_at_everything_sets_nothing_aside() -> None:
    closing = [True]

    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and closing[0] and events_in(packet):
            return "close"
        return polite(packet)

    with scripted_broker(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(20)
        end = time.monotonic() + 8
        while time.monotonic() < end:
            shop.uplink.hurry(shop.clock.now())
            shop.step()
        assert shop.outbox.refused == []
        closing[0] = False
        shop.drain(40, hurry=True)
        assert shop.outbox.refused == []
        shop.close()


def test_packets_too_small_for_any_event_set_nothing_aside_until_a_link_takes_more() -> None:
    limits = [300]

    def script(packet: Packet) -> Answer:
        return connack(5, 0, maximum_packet_size(limits[0])) if packet.kind == CONNECT else polite(packet)

    with scripted_broker(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(20)
        shop.until(lambda: shop.uplink.status().up)
        run(shop, 1.0)
        reason = shop.uplink.status().reason
        assert shop.outbox.refused == []
        assert reason is not None
        assert "300" in reason.detail
        limits[0] = 65_000
        broker.cut()
        shop.drain(20, hurry=True)
        assert shop.outbox.refused == []
        shop.close()


def test_what_one_link_found_too_large_is_judged_anew_by_the_next() -> None:
    limits = [300]

    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT:
            return connack(5, 0, maximum_packet_size(limits[0]) + receive_maximum(1))
        return polite(packet)

    with scripted_broker(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(20)
        shop.until(lambda: shop.uplink.status().up)
        run(shop, 1.0)
        limits[0] = 65_000
        broker.cut()
        shop.drain(20, hurry=True)
        assert shop.outbox.refused == []
        shop.close()


def test_an_event_goes_where_it_just_fits() -> None:
    sizes: list[int] = []

    def generous(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and events_in(packet):
            sizes.append(packet.size)
        return polite(packet)

    with scripted_broker(generous) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(1)
        shop.drain()
        shop.close()
    for limit, refused in ((sizes[0], 0), (sizes[0] - 1, 1)):

        def exact(packet: Packet, limit: int = limit) -> Answer:
            return connack(5, 0, maximum_packet_size(limit)) if packet.kind == CONNECT else polite(packet)

        with scripted_broker(exact) as broker:
            one = Shop(BrokerSettings(url=broker.url))
            one.until(lambda one=one: one.uplink.status().up)  # type: ignore[misc]
            one.passed(1)
            run(one, 1.0)
            assert len([p for p in broker.of(PUBLISH) if events_in(p)]) == 1 - refused
            one.close()


def test_rights_that_come_and_go_condemn_nobody() -> None:
    sky = Sky(31)
    assert sky.run(10, lambda: sky.uplink.status().up)
    for turn in range(12):
        sky.record("door", 15)
        numbers = range(1, 15 * (turn + 1) + 1)
        sky.refuses = {("door", n): 0x87 for n in numbers} if turn % 2 == 0 else {}
        sky.run(20 if turn % 2 == 0 else 70)
    sky.refuses = {}
    sky.drain(300)
    assert sky.outbox.refused == []


@pytest.mark.parametrize("bad", [1, 3, 20])
def test_bad_messages_among_good_ones_are_set_aside_and_no_others(bad: int) -> None:
    sky = Sky(32)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.refuses = {("door", n): 0x99 for n in range(10, 10 + bad)}
    sky.record("door", 60)
    for _ in range(400):
        sky.record("shelf")
        sky.run(5)
    sky.drain(600)
    assert {entry.sequence for entry, _ in sky.outbox.refused} == set(range(10, 10 + bad))


@pytest.mark.parametrize("code", [0x80, 0x83, 0x91, 0x97, 0xEE])
def test_refusals_that_pass_and_hit_everything_for_long_hold_the_link_and_are_told(code: int) -> None:
    sky = Sky(34)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.refuses = dict.fromkeys((("door", n) for n in range(1, 400)), code)
    for second in range(60):
        sky.record("door")
        sky.run(1)
        assert second > 15 or sky.uplink.status(sky.now).held_since_ms is None, "busy for a moment"
    status = sky.uplink.status(sky.now)
    assert status.held_since_ms is not None
    assert status.reason is not None
    assert f"0x{code:02x}" in status.reason.detail
    sent = len(sky.sent)
    for _ in range(120):
        sky.record("door")
        sky.run(1)
    assert len(sky.sent) - sent < 16, "one message asks now and then"
    sky.refuses = {}
    sky.drain(120)
    assert sky.outbox.refused == []
    assert sky.uplink.status(sky.now).reason is None


def test_a_state_that_is_refused_for_now_is_told_as_such_and_sent_again() -> None:
    sky = Sky(35)
    sky.refuses_state = 0xEE
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.run(10)
    assert "0xee" in (sky.uplink.status(sky.now).state_refused or "")
    sky.refuses_state = 0
    sky.run(130)
    assert sky.uplink.status(sky.now).state_refused is None


def test_a_state_that_is_refused_is_told_again_after_an_hour() -> None:
    sky = Sky(33)
    sky.refuses_state = 0x87
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.run(120)
    assert sky.uplink.status(sky.now).state_refused is not None
    sky.refuses_state = 0
    told = len([m for _, m in sky.sent if m.topic.endswith("/state")])
    sky.run(3500)
    assert len([m for _, m in sky.sent if m.topic.endswith("/state")]) == told
    sky.record("door", 1)
    sky.run(300)
    sky.record("door", 1)
    sky.run(70)
    assert len([m for _, m in sky.sent if m.topic.endswith("/state")]) > told
    assert sky.uplink.status(sky.now).state_refused is None


def suspect(number: int, payload: bytes = b"{}", stream: str = "door") -> Suspect:
    entry = Entry(stream, number, 1, payload)
    return Suspect(Parcel("live", "t", b"p", "c", (entry,)), 0)


def at(second: float) -> Instant:
    return Instant(int(second * NS_PER_S), int(second * NS_PER_S))


def test_a_notice_of_a_loss_is_never_set_aside() -> None:
    verdicts, notice = Verdicts(lambda entry: "t"), suspect(1, NOTICE, "gateway")
    for n in range(50):
        assert not verdicts.refused(notice, "no", at(n))
        verdicts.took(notice.parcel.entries, [notice], at(n))


def test_the_table_of_verdicts() -> None:
    verdicts, one, other = Verdicts(lambda entry: "t"), suspect(1), suspect(2)
    taken = other.parcel.entries
    assert not verdicts.refused(one, "no", at(0)), "charged"
    assert not verdicts.refused(one, "no", at(1)), "nothing was taken meanwhile"
    assert not verdicts.took(taken, [one], at(1)).link
    assert verdicts.refused(one, "no", at(2)), "set aside"
    for n in range(HELD_AFTER):
        assert not verdicts.refused(other, "no", at(3 + n))
    assert verdicts.hold is not None
    assert verdicts.took(taken, [other], at(12)).link, "held until an event is taken"
    assert other.charges == 0, "acquitted"
    assert not verdicts.refused(other, "no", at(30))
