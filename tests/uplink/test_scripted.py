"""The uplink on paho against a broker that misbehaves by script: refusals, silence, limits, garbage, poison."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from gateway.mqtt.link import LinkTimes
from gateway.uplink.policy import Pace
from gateway.uplink.settings import BrokerSettings
from tests.uplink.memory_outbox import MemoryOutbox
from tests.uplink.scripted_broker import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    Answer,
    Packet,
    connack,
    maximum_packet_size,
    polite,
    puback,
    receive_maximum,
    scripted,
    server_keep_alive,
)
from tests.uplink.shop import Shop


def events_in(packet: Packet) -> list[tuple[str, int]]:
    """Return (stream, sequence) of the events in a message; none where it is no event."""
    if "/event/" not in packet.topic and not packet.topic.endswith("/backfill"):
        return []
    document = json.loads(packet.payload)
    events = document if isinstance(document, list) else [document]
    return [(event["stream"], int(event["sequence"])) for event in events]


def is_state(packet: Packet) -> bool:
    return packet.topic.endswith("/state")


@pytest.mark.parametrize("limit", [1, 3])
def test_receive_maximum_is_never_exceeded(limit: int) -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT:
            return connack(5, 0, receive_maximum(limit))
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(150)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(40)
        shop.drain()
        shop.close()
        assert broker.unacknowledged_max <= limit
        assert len(broker.of(DISCONNECT)) == 1


def test_batches_and_singles_stay_below_the_maximum_packet_size() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT:
            return connack(5, 0, maximum_packet_size(2000))
        return polite(packet)

    with scripted(script) as broker:
        outbox = MemoryOutbox()
        shop = Shop(BrokerSettings(url=broker.url), outbox)
        shop.passed(30)
        shop.passed(1, note="x" * 3000)  # never fits
        shop.passed(30)
        shop.drain()
        sizes = [packet.size for packet in broker.of(PUBLISH)]
        assert max(sizes) <= 2000
        assert [entry.sequence for entry, _ in outbox.refused] == [31]
        assert "too large" in outbox.refused[0][1]
        shop.close()


def test_passing_refusals_are_sent_again_and_final_ones_set_aside() -> None:
    refused = itertools.count()

    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH:
            sequences = [sequence for _, sequence in events_in(packet)]
            if 7 in sequences:
                return puback(packet, 0x87)
            if 3 in sequences and next(refused) == 0:
                return puback(packet, 0x97)
            if 5 in sequences:
                return puback(packet, 0x10)
        return polite(packet)

    with scripted(script) as broker:
        outbox = MemoryOutbox()
        shop = Shop(BrokerSettings(url=broker.url), outbox)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(10)
        shop.drain()
        counters = shop.uplink.counters
        assert [entry.sequence for entry, _ in outbox.refused] == [7]
        assert "not authorized" in outbox.refused[0][1]
        assert counters.retried == 1
        assert counters.no_subscriber == 1
        assert counters.acknowledged == 9
        shop.close()


def test_a_refused_batch_is_taken_apart_so_that_one_bad_entry_costs_only_itself() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and ("door", 17) in events_in(packet):
            return puback(packet, 0x99)
        return polite(packet)

    with scripted(script) as broker:
        outbox = MemoryOutbox()
        shop = Shop(BrokerSettings(url=broker.url), outbox)
        shop.passed(60)
        time.sleep(1.1)  # older than the last moments before the link
        shop.drain()
        assert [entry.sequence for entry, _ in outbox.refused] == [17]
        assert shop.uplink.counters.acknowledged == 59
        shop.close()


@pytest.mark.slow
def test_a_message_never_acknowledged_is_sent_again_and_blocks_nobody() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and ("door", 4) in events_in(packet) and packet.connection < 3:
            return None
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url), pace=Pace(0.4, 0.0, 0.0))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(10)
        shop.until(lambda: shop.outbox.backlog == 1)
        shop.passed(10)
        shop.drain(20)
        sent = [p.connection for p in broker.of(PUBLISH) if ("door", 4) in events_in(p)]
        assert len(sent) >= 3
        assert sorted(set(sent)) == [1, 2, 3]
        shop.close()


def test_a_message_at_which_the_broker_closes_is_refused_and_the_rest_flows() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and ("door", 25) in events_in(packet):
            return "close"
        return polite(packet)

    with scripted(script) as broker:
        outbox = MemoryOutbox()
        shop = Shop(BrokerSettings(url=broker.url), outbox)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(40)
        shop.drain(25, hurry=True)
        assert [entry.sequence for entry, _ in outbox.refused] == [25]
        alone = [p for p in broker.of(PUBLISH) if events_in(p) == [("door", 25)]]
        assert len(alone) >= 4
        last = [events_in(p) for p in broker.of(PUBLISH, alone[-1].connection) if events_in(p)]
        assert last[-1] == [("door", 25)]
        assert len(last) == 2, "on a new connection, behind one that the broker takes"
        shop.close()


def test_resets_never_count_against_a_message() -> None:
    closes = itertools.count()

    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and ("door", 2) in events_in(packet) and next(closes) < 6:
            return "reset"
        return polite(packet)

    with scripted(script) as broker:
        outbox = MemoryOutbox()
        shop = Shop(BrokerSettings(url=broker.url), outbox)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(3)
        shop.drain(25, hurry=True)
        assert outbox.refused == []
        assert shop.downs[-1].code == "link.lost"
        shop.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0x86, "connack.bad_credentials"), (0x87, "connack.not_authorized"), (0x89, "connack.busy")],
)
def test_connack_refusals_have_their_own_reason(code: int, expected: str) -> None:
    with scripted(lambda packet: connack(5, code) if packet.kind == CONNECT else None) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.downs)
        status = shop.uplink.status(shop.clock.now())
        assert status.reason is not None
        assert status.reason.code == expected
        assert status.reason.advice
        assert shop.downs[0].connack == code
        if code != 0x89:
            assert status.next_attempt_ms is not None
            assert status.next_attempt_ms >= 149_000
        shop.close()


@pytest.mark.parametrize("how", ["0x84", "code 1", "close", "reset"])
def test_a_broker_that_refuses_version_5_gets_3_1_1_and_it_is_remembered(how: str) -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT and packet.level == 5:
            answers: dict[str, Answer] = {
                "0x84": connack(5, 0x84),
                "code 1": connack(4, 1),
                "close": "close",
                "reset": "reset",
            }
            return answers[how]
        return polite(packet)

    with scripted(script) as broker:
        outbox = MemoryOutbox()
        shop = Shop(BrokerSettings(url=broker.url), outbox)
        shop.passed(5)
        shop.drain(12, hurry=True)
        levels = [packet.level for packet in broker.of(CONNECT)]
        assert levels == ([5, 4] if how in ("0x84", "code 1") else [5, 5, 4])
        shop.close()
        again = Shop(BrokerSettings(url=broker.url), outbox)
        again.until(lambda: again.uplink.status().up)
        assert broker.of(CONNECT)[-1].level == 4
        again.close()


def test_lost_links_and_bad_credentials_never_change_the_version() -> None:
    turn = itertools.count()

    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT:
            return [connack(5, 0), "close", "close", "reset", connack(5, 0x87)][min(4, next(turn))]  # type: ignore[return-value]
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        broker.cut()
        shop.until(lambda: broker.connections >= 6, 12, hurry=True)
        shop.until(lambda: len(broker.of(CONNECT)) >= 6)
        assert {packet.level for packet in broker.of(CONNECT)} == {5}
        shop.close()


@pytest.mark.parametrize("keepalive_s", [pytest.param(1, marks=pytest.mark.slow), 300])
def test_a_broker_that_falls_silent_is_noticed_though_its_kernel_answers(keepalive_s: int) -> None:
    silent = False

    def script(packet: Packet) -> Answer:
        return None if silent else polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url, keepalive_s=keepalive_s))
        shop.until(lambda: len(broker.of(SUBSCRIBE)) == 1)
        shop.until(lambda: len(broker.of(PINGREQ)) == 1, 3)
        silent = True
        fell = time.monotonic()
        shop.until(lambda: shop.downs, 6)
        assert time.monotonic() - fell < 2 * 1 + 1.5
        assert shop.downs[0].code == "link.timeout"
        assert not shop.downs[0].in_order
        shop.close()


@pytest.mark.slow
def test_a_long_server_keep_alive_does_not_make_us_blind() -> None:
    silent = False

    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT:
            return connack(5, 0, server_keep_alive(600))
        return None if silent else polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: len(broker.of(SUBSCRIBE)) >= 2, 4)
        silent = True
        shop.until(lambda: shop.downs, 6)
        assert shop.downs[0].code == "link.timeout"
        shop.close()


def test_a_broker_that_never_answers_connect_is_given_up() -> None:
    with scripted(lambda packet: None) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.downs, 4)
        assert shop.downs[0].code == "connack.timeout"
        shop.close()


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)), b"\x20\x80\x80\x80\x80\x80"]
)
def test_garbage_from_the_broker_is_survived_and_named(garbage: bytes) -> None:
    with scripted(lambda packet: garbage if packet.kind == CONNECT else None) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.downs, 4)
        assert shop.downs[0].code in ("link.garbage", "connack.timeout")
        shop.close()


def test_garbage_after_the_connection_stands_ends_only_this_connection() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and packet.connection == 1 and not is_state(packet):
            return b"\x31\xff\xff\xff\xff\xff\xff"
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(3)
        shop.drain(10, hurry=True)
        assert shop.downs[0].code == "link.garbage"
        shop.close()


def test_a_broker_that_answers_a_byte_at_a_time_is_still_a_broker() -> None:
    with scripted(polite, trickle_s=0.05) as broker:
        shop = Shop(BrokerSettings(url=broker.url), times=LinkTimes(ping_s=3))
        shop.passed(3)
        shop.drain(10)
        assert shop.uplink.counters.connects == 1
        shop.close()


def test_the_brokers_disconnect_says_why() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and packet.connection == 1:
            return b"\xe0\x02\x8e\x00"
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.downs)
        assert shop.downs[0].code == "link.taken_over"
        assert not shop.downs[0].in_order, "it speaks of the session, and blames no message"
        shop.close()


def test_late_double_and_unknown_acknowledgements_change_nothing() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH:
            return puback(packet) + puback(packet) + b"\x40\x02\xff\xfe"
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(20)
        shop.drain()
        assert shop.uplink.counters.acknowledged == 20
        shop.close()


def test_what_was_under_way_when_the_link_broke_is_sent_again_at_most_a_window_of_it() -> None:
    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH and packet.connection == 1 and not is_state(packet):
            return None
        return polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url, inflight_max=20))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(200)
        shop.until(lambda: broker.unacknowledged_max >= 20)
        shop.step()
        broker.cut()
        shop.drain(10, hurry=True)
        first = [event for packet in broker.of(PUBLISH, 1) for event in events_in(packet)]
        assert len(first) == 20
        assert [flags for flags in (p.flags & 8 for p in broker.of(PUBLISH)) if flags] == []
        shop.close()


SESSION_EXPIRY, ASSIGNED_CLIENT_ID, TOPIC_ALIAS_MAXIMUM = b"\x11", b"\x12", b"\x22"


@pytest.mark.parametrize(
    "said",
    [
        SESSION_EXPIRY + bytes(4),
        ASSIGNED_CLIENT_ID + b"\x00\x04auto",
        TOPIC_ALIAS_MAXIMUM + b"\x00\x0a",
        server_keep_alive(1) + receive_maximum(1),
    ],
    ids=["session expiry 0", "assigned client id", "topic alias maximum", "short keep alive"],
)
def test_what_connack_says_beside_the_limits_changes_nothing(said: bytes) -> None:
    def script(packet: Packet) -> Answer:
        return connack(5, 0, said) if packet.kind == CONNECT else polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.passed(20)
        shop.drain()
        assert len(shop.ups) == 1
        assert shop.downs == []
        shop.close()


@pytest.mark.slow
def test_a_server_keep_alive_shorter_than_ours_is_kept() -> None:
    def script(packet: Packet) -> Answer:
        return connack(5, 0, server_keep_alive(2)) if packet.kind == CONNECT else polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url), times=LinkTimes())
        shop.passed()
        shop.drain()
        end = time.monotonic() + 9
        while time.monotonic() < end:
            shop.step()
        moments = [packet.at_s for packet in broker.journal]
        assert max(later - earlier for earlier, later in itertools.pairwise(moments)) <= 2 * 1.5, "else a broker closes"
        assert moments[-1] > end - 9 + 5, "also while nothing is sent"
        shop.close()
