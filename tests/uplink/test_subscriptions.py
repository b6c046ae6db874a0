"""Events first: what the gateway only asks for (its commands) never stops the sending, whatever the broker answers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import loads
from gateway.model import NS_PER_S, Instant, LinkDown, Subscribe
from gateway.mqtt import reasons
from gateway.technician.checks import Check, broker, examined
from gateway.uplink.settings import BrokerSettings
from gateway.uplink.subscriptions import AGAIN_NS, Subscription, Subscriptions
from tests.uplink.brokers import free_port, mosquitto
from tests.uplink.scripted_broker import CONNECT, PUBLISH, SUBSCRIBE, Answer, Packet, connack, polite, scripted
from tests.uplink.shop import Shop
from tests.uplink.weather import Sky

ALL = "stores/v1/0042/front/command/+"
EACH = ("stores/v1/0042/front/command/ping", "stores/v1/0042/front/command/resend")
NO_WILDCARDS = b"\x28\x00"


def suback(packet: Packet, code: int) -> bytes:
    properties = b"\x00" if packet.level == 5 else b""
    codes = bytes((code,)) * len(packet.filters)
    return struct.pack("!BBH", 0x90, 2 + len(properties + codes), packet.mid) + properties + codes


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_broker_that_ends_the_connection_at_subscribe_gets_every_event(protocol: str, end: Answer) -> None:
    with scripted(lambda packet: end if packet.kind == SUBSCRIBE else polite(packet)) as running:
        shop = Shop(BrokerSettings(url=running.url, protocol=protocol))  # type: ignore[arg-type]
        shop.passed(30)
        shop.drain()
        shop.until(lambda: shop.uplink.status().notes)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(30)
        shop.drain()
        asked = [packet.filters for packet in running.of(SUBSCRIBE)]
        status = shop.uplink.status()
        connections = running.connections
        shop.close()
    assert asked == [(ALL,), EACH]
    assert connections == 3
    assert shop.outbox.refused == []
    assert status.notes[0].code == "subscribe.closed"
    assert "commands are not received" in status.notes[0].detail
    first = next(packet for packet in running.journal if packet.kind in (PUBLISH, SUBSCRIBE))
    assert first.kind == PUBLISH, "the essential act comes first"


def test_no_wildcard_is_asked_for_where_the_broker_says_that_it_has_none() -> None:
    def script(packet: Packet) -> Answer:
        return connack(5, 0, NO_WILDCARDS) if packet.kind == CONNECT else polite(packet)

    with scripted(script) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.until(lambda: shop.subscribed)
        shop.close()
    assert [packet.filters for packet in running.of(SUBSCRIBE)] == [EACH]
    assert shop.uplink.status().notes == ()


def test_a_refused_wildcard_is_asked_for_verb_by_verb_and_a_refusal_is_told_in_words() -> None:
    with scripted(lambda packet: suback(packet, 0x87) if packet.kind == SUBSCRIBE else polite(packet)) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.passed(3)
        shop.drain()
        shop.until(lambda: shop.uplink.status().notes)
        [note] = shop.uplink.status().notes
        shop.close()
    assert [packet.filters for packet in running.of(SUBSCRIBE)] == [(ALL,), EACH]
    assert note.code == "subscribe.refused"
    assert f"the broker refuses {EACH[0]}: not authorized (0x87)" in note.detail
    assert "access list" in note.advice
    assert running.connections == 1


def test_what_was_given_up_is_asked_for_again_after_an_hour_and_when_a_person_asks() -> None:
    sky = Sky(31, at_subscribe=lambda order: "close")
    sky.record("door", 20)
    sky.drain(60)
    assert sky.run(60, lambda: bool(sky.uplink.status(sky.now).notes))
    sky.run(60)
    connects, asked = len(sky.connects), len(sky.asked)
    assert (connects, asked) == (3, 2)
    sky.run(AGAIN_NS / NS_PER_S)
    assert len(sky.asked) == asked + 1, "one close is enough to know it again"
    sky.at_subscribe = lambda order: (1,) * len(order.filters)
    sky.uplink.hurry(sky.now, by_hand=True)
    sky.record("door", 5)
    sky.drain(60)
    sky.run(5)
    assert sky.asked[-1][1].filters == (ALL,)
    assert sky.uplink.status(sky.now).notes == ()
    sky.check_complete()


def test_a_broker_that_never_answers_is_told_and_sending_goes_on() -> None:
    sky = Sky(32, at_subscribe=lambda order: None)
    sky.record("door", 5)
    sky.drain(20)
    sky.run(30)
    assert [note.code for note in sky.uplink.status(sky.now).notes] == ["subscribe.unanswered"]
    assert len(sky.connects) == 1
    sky.record("door", 5)
    sky.drain(20)


def test_an_event_at_which_the_broker_closes_is_still_found_and_commands_come_back() -> None:
    sky = Sky(33, poison={("door", 5)})
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 20)
    sky.drain(300)
    assert [entry.sequence for entry, _ in sky.outbox.refused] == [5]
    sky.run(5)
    assert sky.uplink.status(sky.now).notes == ()


def test_one_lost_connection_costs_no_command() -> None:
    answers = iter(["close"])

    def once(order: Subscribe) -> tuple[int, ...] | str:
        return next(answers, (1,) * len(order.filters))

    sky = Sky(34, at_subscribe=once)  # type: ignore[arg-type]
    sky.run(30)
    assert [order.filters for _, order in sky.asked] == [(ALL,), EACH]
    assert sky.uplink.status(sky.now).notes == ()


def doctor(url: str) -> dict[str, Check]:
    configuration = loads(f'[site]\nstore = "0042"\ngateway = "front"\n[broker]\nurl = "{url}"\n')
    return {check.name: check for one in broker.examinations(configuration) for check in examined(one)}


def test_the_doctor_blames_the_right_to_subscribe_and_not_the_one_to_publish(tmp_path: Path) -> None:
    with scripted(lambda packet: "close" if packet.kind == SUBSCRIBE else polite(packet)) as running:
        found = doctor(running.url)
    assert (found["publish"].result, found["subscribe"].result) == ("ok", "warning")
    assert found["subscribe"].code == "subscribe.closed"
    assert "subscribe" in found["subscribe"].advice
    with scripted(lambda packet: "close" if packet.kind == PUBLISH else polite(packet)) as running:
        found = doctor(running.url)
    assert (found["publish"].result, found["subscribe"].result) == ("failed", "skipped")


# What CONNACK and DISCONNECT say beside their code.


def property_text(number: int, text: bytes) -> bytes:
    return struct.pack("!BH", number, len(text)) + text


REASON, REFERENCE = 0x1F, 0x1C


def test_a_broker_of_qos_0_is_sent_no_event_and_the_doctor_fails_it() -> None:
    def script(packet: Packet) -> Answer:
        return connack(5, 0, b"\x24\x00") if packet.kind == CONNECT else polite(packet)

    with scripted(script) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.passed(5)
        shop.until(lambda: shop.downs)
        status = shop.uplink.status(shop.clock.now())
        shop.close()
        found = doctor(running.url)
    assert running.of(PUBLISH) == []
    assert not shop.uplink.drained()
    assert status.reason is not None
    assert (status.reason.code, shop.downs[0].code) == ("connack.qos_refused", "connack.qos_refused")
    assert "QoS 0" in status.reason.detail
    assert found["connect"].result == "failed"
    assert "QoS 0" in found["connect"].found


def test_the_brokers_own_words_are_told_escaped_and_bounded() -> None:
    words = property_text(REASON, b"moved\x1b[31m xxxxxx") + property_text(REFERENCE, b"b.example:8883")

    def refuse(packet: Packet) -> Answer:
        return connack(5, 0x9D, words) if packet.kind == CONNECT else polite(packet)

    with scripted(refuse) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.until(lambda: shop.downs)
        shop.close()
    [down] = shop.downs
    assert down.code == "connack.server_moved"
    assert 'the broker says "moved?[31m xxx' in down.detail
    assert down.detail.endswith('it refers to "b.example:8883"')
    assert len(reasons.quoted("x" * 9999) or "") < 250

    bye = property_text(REASON, b"upgrade") + property_text(REFERENCE, b"c.example")
    bye = bytes((0xE0, 2 + len(bye), 0x9C, len(bye))) + bye
    with scripted(lambda packet: bye if packet.kind == PUBLISH else polite(packet)) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.until(lambda: shop.downs)
        shop.close()
    assert shop.downs[0].code == "broker.use_another_server"
    assert 'the broker says "upgrade"; it refers to "c.example"' in shop.downs[0].detail


def test_what_the_broker_can_not_is_told_by_status_and_doctor() -> None:
    said = b"\x24\x01" + b"\x25\x00" + NO_WILDCARDS + b"\x2a\x00" + b"\x11\x00\x00\x00\x09"
    said += property_text(0x12, b"auto-7") + property_text(REASON, b"hello") + b"\x13\x00\x20"

    def script(packet: Packet) -> Answer:
        return connack(5, 0, said) if packet.kind == CONNECT else polite(packet)

    with scripted(script) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.until(lambda: shop.uplink.status().up)
        told = "; ".join(shop.uplink.status().limits)
        shop.close()
        found = doctor(running.url)
    for words in ("QoS 1", "no retained", "no wildcards", "no shared", "9 s", "auto-7", '"hello"', "every 32 s"):
        assert words in told
        assert words in found["connect"].found


# What comes and was never asked for.

BIG = 250_000_000


def announced(level: int, size: int, qos: int = 0) -> bytes:
    """The beginning of a PUBLISH to a command topic whose payload has `size` bytes."""
    topic = EACH[0].encode()
    body = struct.pack("!H", len(topic)) + topic + (b"\0\1" if qos else b"") + (b"\0" if level == 5 else b"")
    length, rest = b"", len(body) + size
    while rest >= 128:
        length, rest = length + bytes((rest % 128 | 128,)), rest // 128
    return bytes((0x30 | qos << 1,)) + length + bytes((rest,)) + body


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_message_beyond_any_command_is_never_read_and_events_go_on(protocol: str) -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == SUBSCRIBE:  # as retained, or queued: with each subscription it comes again
            answer = polite(packet)
            assert isinstance(answer, bytes)
            return answer + announced(packet.level, BIG)  # the rest never comes: it is closed before
        return polite(packet)

    with scripted(script) as running:
        shop = Shop(BrokerSettings(url=running.url, protocol=protocol))  # type: ignore[arg-type]
        shop.passed(20)
        shop.until(lambda: shop.uplink.status().notes)
        shop.drain()
        shop.passed(20)
        shop.drain()
        notes, connections = shop.uplink.status().notes, running.connections
        shop.close()
    assert [down.code for down in shop.downs] == ["link.oversized"] * 2
    assert [note.code for note in notes] == ["link.oversized"]
    assert connections == 3, "it does not come round and round"
    assert shop.outbox.refused == []
    assert shop.commands == []


def test_a_large_command_is_still_heard_and_one_of_qos_2_is_not() -> None:
    def large(packet: Packet) -> Answer:
        if packet.kind == SUBSCRIBE:
            answer = polite(packet)
            assert isinstance(answer, bytes)
            return answer + announced(5, 60_000) + b"\x7f" * 60_000
        return polite(packet)

    with scripted(large) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.until(lambda: shop.commands)
        shop.close()
    assert len(shop.commands[0].payload) == 60_000

    def twice(packet: Packet) -> Answer:
        if packet.kind == SUBSCRIBE:
            answer = polite(packet)
            assert isinstance(answer, bytes)
            return answer + announced(5, 10, qos=2) + bytes(10)
        return polite(packet)

    with scripted(twice) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.until(lambda: shop.downs)
        shop.close()
    assert shop.downs[0].code == "link.unasked"


def test_over_websocket_too(tmp_path: Path) -> None:
    port = free_port()
    with mosquitto(tmp_path, extra=(f"listener {port} 127.0.0.1", "protocol websockets")) as running:
        shop = Shop(BrokerSettings(url=f"ws://127.0.0.1:{port}", protocol="3.1.1"))
        shop.until(lambda: shop.subscribed)
        shop.downs.clear()  # of attempts before the second listener stood
        sender = Client(CallbackAPIVersion.VERSION2, "tenant")
        sender.connect("127.0.0.1", running.port)
        sender.loop_start()
        sender.publish(EACH[0], bytes(5_000_000), qos=1)
        shop.until(lambda: shop.downs)
        sender.loop_stop()
        sender.disconnect()
        shop.close()
    assert shop.downs[0].code == "link.oversized"


def test_a_close_that_the_broker_has_another_reason_for_is_taken_back_from_the_asking() -> None:
    asking = Subscriptions([Subscription("commands", ALL, EACH)])
    now = Instant(0, 1_763_800_000_000_000_000)
    for link in (1, 2):
        asking.connected(True)
        assert asking.order(link, now) is not None
        asking.ended(LinkDown(link, "broker.closed", "the broker closed", in_order=True), now)
    assert [note.code for note in asking.notes()] == ["subscribe.closed"]
    asking.acquit()
    assert asking.notes() == ()
    asking.connected(True)
    assert asking.order(3, now) is not None, "it is asked for again"
