"""Every limit and time of the contract, as it ships: the default of the configuration, and where it can be, the wire.

The other tests shorten times to be quick; here nobody does.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import privacy
from gateway.commands import verbs as commands
from gateway.commands.verbs import CommandRefused, understood
from gateway.config import loads
from gateway.control import serving as control
from gateway.daemon import answers, service
from gateway.daemon.answers import Answers
from gateway.engine import engine
from gateway.machine.clock import SystemClock
from gateway.model import NS_PER_S, CommandReceived, Instant, LinkDown
from gateway.mqtt import client, dial
from gateway.mqtt.link import LinkTimes, PahoLink
from gateway.outbox import commit, retention, saving, state
from gateway.sensors import kinds
from gateway.uplink import backoff, lanes, policy, presence, suspects
from gateway.uplink.backoff import Backoff
from gateway.uplink.policy import Pace
from gateway.uplink.settings import BrokerSettings, Endpoint
from tests.uplink.memory_outbox import MemoryOutbox
from tests.uplink.scripted_broker import (
    CONNECT,
    PUBLISH,
    SUBSCRIBE,
    Answer,
    Packet,
    connack,
    polite,
    receive_maximum,
    scripted,
)
from tests.uplink.shop import BRISK, Shop
from tests.uplink.test_proxy import http, proxy, socks5

SHIPPED = loads(
    """
    [site]
    store = "1"
    [[door]]
    id = "door"
    beam_pin = 4
    [[shelf]]
    id = "shelf"
    data_pin = 5
    clock_pin = 6
    products = [{ sku = "1", unit_grams = 100.0 }]
    [[scanner]]
    id = "ble"
    """
)
SENSORS = {sensor.kind.table: sensor.settings for sensor in SHIPPED.sensors}

LIMITS: dict[str, tuple[Any, Any]] = {
    # [broker]
    "keepalive_s": (SHIPPED.broker.keepalive_s, 30),
    "reconnect_max_s": (SHIPPED.broker.reconnect_max_s, 300),
    "inflight_max": (SHIPPED.broker.inflight_max, 100),
    "inflight_bytes_max": (SHIPPED.broker.inflight_bytes_max, "adaptive"),
    "protocol": (SHIPPED.broker.protocol, "auto"),
    "resync": (SHIPPED.broker.resync, "live-first"),
    "backfill_compression": (SHIPPED.broker.backfill_compression, "none"),
    "topic_prefix": (SHIPPED.broker.topic_prefix, "stores"),
    "discovery": (SHIPPED.broker.discovery, "none"),
    # [outbox]
    "directory": (SHIPPED.outbox.directory, "/var/lib/gateway/outbox"),
    "bytes_max": (SHIPPED.outbox.bytes_max, 1 << 30),
    "age_max": (SHIPPED.outbox.age_max, 30 * 86_400),
    "keep_acknowledged": (SHIPPED.outbox.keep_acknowledged, 2 * 3600),
    "commit_interval_ms": (
        dict(SHIPPED.outbox.commit_interval_ms),
        {"door": 50, "shelf": 200, "beacon": 1000, "gateway": 1000},
    ),
    "commit_interval_ns": (SHIPPED.outbox.interval_ns("door"), 50_000_000),
    # sensors
    "blocked_after_s": (SENSORS["door"].blocked_after_s, 10),
    "door.counted_every": (SENSORS["door"].counted_every, 900),
    "level_dwell_s": (SENSORS["shelf"].level_dwell_s, 10),
    "rate_hz": (SENSORS["shelf"].rate_hz, 10),
    "left_after_s": (SENSORS["scanner"].left_after_s, 30),
    "arrive_rssi_dbm": (SENSORS["scanner"].arrive_rssi_dbm, -90),
    "path_loss_exponent": (SENSORS["scanner"].path_loss_exponent, 2.5),
    "telemetry_every": (SENSORS["scanner"].telemetry_every, 300),
    "ble.counted_every": (SENSORS["scanner"].counted_every, 900),
    "mode": (SENSORS["scanner"].mode, "passive"),
    # [privacy], [commands], [health]
    "identity": (SHIPPED.privacy.identity, "pseudonym"),
    "anonymous_min": (SHIPPED.privacy.anonymous_min, 5),
    "allow": (tuple(SHIPPED.commands.allow), ("ping", "status", "doctor", "resend")),
    "health.every": (SHIPPED.health.every, 300),
    # sending
    "events of a batch": (lanes.BATCH_EVENTS_MAX, 100),
    "bytes of a batch": (lanes.BATCH_BYTES_MAX, 32 * 1024),
    "an acknowledgement": (Pace().acknowledge_within_s, 10),
    "between two attempts": (Pace().connect_spacing_s, 1),
    "first wait": (backoff.BASE_S, 2),
    "a stable link": (backoff.STABLE_S, 60),
    "the state topic": (presence.STATE_NS, 60 * NS_PER_S),
    "closes until a message is alone": (suspects.CLOSES_MAX, 3),
    "a close that blames a message": (policy.CONNECT_NS, 60 * NS_PER_S),
    "a live event": (lanes.LIVE_SINCE_NS, NS_PER_S),
    # receiving
    "bytes of a command": (commands.PAYLOAD_BYTES_MAX, 16 * 1024),
    "a configuration proves itself": (commands.PROVE_WITHIN_S, 120),
    "commands a second": (answers.COMMANDS_PER_S_MAX, 20),
    # the outbox
    "an expiry": (retention.EXPIRE_EVERY_NS, 60 * NS_PER_S),
    "a slot": (state.SLOT_BYTES, 16 * 1024),
    "acknowledgements on the card": (saving.SYNCED_EVERY_NS, 10 * NS_PER_S),
    "a disk that refuses": (commit.RETRY_MAX_S, 30),
    # the daemon
    "readings that wait": (engine.READINGS_MAX, 20_000),
    "a step of the wall clock": (engine.CLOCK_STEP_NS, NS_PER_S),
    "a stop": (service.FLUSH_WITHIN_S, 3),
    "the end of a day": (service.DAY_ASKED_EVERY_S, 60),
    "digits of a pseudonym": (privacy.PSEUDONYM_DIGITS, 16),
    "bytes of a key": (privacy.KEY_BYTES, 32),
    "the control socket's mode": (control.SOCKET_MODE, 0o660),
    "bytes of a question": (control.QUESTION_BYTES_MAX, 64 * 1024),
    "seconds of a question": (control.QUESTION_WITHIN_S, 2),
}


@pytest.mark.parametrize("name", list(LIMITS))
def test_it_ships_as_it_is_promised(name: str) -> None:
    found, promised = LIMITS[name]
    assert found == promised


def test_every_kind_of_sensor_is_looked_at() -> None:
    assert set(SENSORS) == {kind.table for kind in kinds()}


# The link.


def test_a_dead_link_is_noticed_within_fifteen_seconds_by_the_times_that_ship() -> None:
    times = LinkTimes()
    assert times == dial.AS_SHIPPED
    assert 2 * times.ping_s + 1 <= 15, "idle: a ping after silence, and its answer"
    assert times.user_timeout_s <= 15
    assert Pace().acknowledge_within_s <= 15, "busy"
    assert times.connect_s + times.connack_s <= 15


def sockets_to(port: int) -> Iterator[socket.socket]:
    """Yield copies of this process's connected sockets to a port."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            copy = socket.socket(fileno=os.dup(int(name)))
            with copy:
                if copy.family == socket.AF_INET and copy.getpeername()[1] == port:
                    yield copy


@contextmanager
def shipped_link(url: str, **more: Any) -> Iterator[Shop]:
    """A gateway that sends, with all times as they ship."""
    shop = Shop(BrokerSettings(url=url, **more), times=LinkTimes(), pace=Pace())
    try:
        yield shop
    finally:
        shop.close()


@pytest.mark.parametrize("keepalive_s", [1, 30, 65_535])
def test_the_socket_has_its_options_and_the_broker_is_told_a_short_keepalive(keepalive_s: int) -> None:
    with scripted() as broker, shipped_link(broker.url, keepalive_s=keepalive_s) as shop:
        shop.until(lambda: shop.uplink.status().up)
        (sock,) = [
            (
                one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                + one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
                * one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            )
            for one in sockets_to(broker.port)
        ]
        user_timeout_ms, no_delay, keeps_alive, dead_after_s = sock
        assert 0 < user_timeout_ms <= 15_000
        assert no_delay
        assert keeps_alive
        assert dead_after_s <= 15
        (told,) = broker.of(CONNECT)
        assert told.keepalive_s == min(keepalive_s, 6)


@pytest.mark.slow
def test_a_broker_that_falls_silent_is_noticed_within_fifteen_seconds_as_shipped() -> None:
    silent = False

    def script(packet: Packet) -> Answer:
        return None if silent else polite(packet)

    with scripted(script) as broker, shipped_link(broker.url) as shop:
        shop.until(lambda: len(broker.of(SUBSCRIBE)) == 1 and shop.uplink.status().in_flight == 0)
        silent = True
        fell = time.monotonic()
        shop.until(lambda: shop.downs, 20)
        assert time.monotonic() - fell < 15
        assert shop.downs[0].code == "link.timeout"


def connect_properties(script: Callable[[bytes], None]) -> int:
    """Listen once, hand CONNECT's bytes on; return the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as sock:
            script(sock.recv(4096))
            sock.sendall(connack(5))
            with suppress(OSError):
                while sock.recv(4096):
                    pass

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_the_largest_packet_is_told_in_connect() -> None:
    said: list[bytes] = []
    port = connect_properties(said.append)
    with shipped_link(f"mqtt://127.0.0.1:{port}") as shop:
        shop.until(lambda: said)
    body = said[0][2 if said[0][1] < 128 else 3 :]
    assert body[:7] == b"\x00\x04MQTT\x05"
    assert body[7] & 0x02, "a clean start: no session is resumed behind our back"
    length = body[10]
    properties = body[11 : 11 + length]
    at = properties.index(0x27)
    told = struct.unpack("!I", properties[at + 1 : at + 5])[0]
    assert commands.PAYLOAD_BYTES_MAX < told <= 256 * 1024, "above the largest command, and bounded"


def test_commands_are_asked_for_without_what_is_retained() -> None:
    bodies: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as sock:
            sock.recv(4096)
            sock.sendall(connack(5))
            with suppress(OSError):
                while said := sock.recv(4096):
                    bodies.append(said)

    threading.Thread(target=serve, daemon=True).start()
    with shipped_link(f"mqtt://127.0.0.1:{listener.getsockname()[1]}") as shop:
        shop.until(lambda: b"/command/" in b"".join(bodies))
        said = b"".join(bodies)
        at = said.index(b"/command/+") + len(b"/command/+")
        assert said[at] & 0x30 == 0x20, "retain handling 2: not when we come back"
        assert said[at] & 0x08, "retain as published: what is retained says so"


def test_nothing_below_tls_1_2(tmp_path: Path) -> None:
    context = dial.tls_context(BrokerSettings(url="mqtts://localhost"), Endpoint.parse("mqtts://localhost"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(("told", "limit"), [(1, 1), (3, 3), (None, 100)])
def test_never_more_is_under_way_than_the_broker_takes(told: int | None, limit: int) -> None:
    """The broker keeps its acknowledgements to itself; one that answers at once would see nothing."""

    def script(packet: Packet) -> Answer:
        if packet.kind == CONNECT:
            return connack(5, 0, b"" if told is None else receive_maximum(told))
        return None if packet.kind == PUBLISH else polite(packet)

    with scripted(script) as broker:
        shop = Shop(BrokerSettings(url=broker.url, inflight_bytes_max=1 << 20), pace=BRISK)
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(150)
        shop.until(lambda: len(broker.of(PUBLISH)) >= limit)
        for _ in range(5):
            shop.step()
        assert len(broker.of(PUBLISH)) == limit


# Back-off, batches.


class Longest(Random):
    """Always the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_waits_double_from_two_seconds_to_five_minutes() -> None:
    wait = Backoff(Longest(), SHIPPED.broker.reconnect_max_s)
    waits = []
    for _ in range(12):
        wait.fail(0)
        waits.append(wait.due_ns / NS_PER_S)
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]
    wait.fail_for_a_person(0)
    assert wait.due_ns == 300 * NS_PER_S
    assert not wait.stood(59 * NS_PER_S, 5)
    assert not wait.stood(60 * NS_PER_S, 0)
    assert wait.stood(60 * NS_PER_S, 1)
    wait.fail(0)
    assert wait.due_ns == 2 * NS_PER_S, "a good link begins anew"


@pytest.mark.parametrize("note", [None, "x" * 1000], ids=["small", "large"])
def test_a_batch_has_a_hundred_events_and_32_kib_at_most(note: str | None) -> None:
    with scripted() as broker:
        outbox = MemoryOutbox()
        for _ in range(450):
            outbox.passed(SystemClock().now(), note=note)
        shop = Shop(BrokerSettings(url=broker.url, inflight_bytes_max=1 << 20), outbox, pace=BRISK)
        shop.drain()
        batches = [packet for packet in broker.of(PUBLISH) if packet.topic.endswith("/backfill")]
        shop.close()
    assert max(len(packet.payload) for packet in batches) <= 32 * 1024
    counts = [packet.payload.count(b'"specversion"') for packet in batches]
    assert max(counts) <= 100
    assert max(counts) > (60 if note is None else 15), "and not needlessly few"


# Commands.


class FakeEngine:
    """As much of an engine as answers need."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.uplink = SimpleNamespace(
            resend=lambda stream, first, last: [(first, last)],
            answer=lambda topic, payload, correlation=None: self.said.append((topic, payload)),
        )
        self.offer = self.said.append


def answering() -> tuple[Answers, FakeEngine, list[str]]:
    stopped: list[str] = []
    fake: Any = FakeEngine()
    configuration = loads('[site]\nstore = "1"\n[commands]\nallow = ["ping", "restart", "resend"]\n')
    nothing: Any = None
    return Answers(fake, configuration, nothing, {}, stopped.append, nothing, nothing), fake, stopped


def ordered(verb: str, payload: bytes = b"{}", retained: bool = False) -> CommandReceived:
    return CommandReceived(1, verb, payload, retained)


def test_a_retained_command_is_neither_carried_out_nor_answered() -> None:
    given, fake, stopped = answering()
    given.command(ordered("restart", retained=True), Instant(0, 0))
    given.command(ordered("ping", retained=True), Instant(0, 0))
    assert (fake.said, stopped) == ([], [])
    given.command(ordered("restart"), Instant(0, 0))
    assert (len(fake.said), stopped) == (1, ["restart_command"])


def test_twenty_commands_a_second_and_the_rest_is_told_to_wait() -> None:
    given, fake, _ = answering()
    for _ in range(100):
        given.command(ordered("ping"), Instant(NS_PER_S, 0))
    good = [payload for _, payload in fake.said if b'"ok":true' in payload]
    busy = [payload for _, payload in fake.said if b'"busy"' in payload]
    assert 1 <= len(good) <= 40
    assert len(busy) <= 100 - len(good)
    assert not [payload for _, payload in fake.said if payload not in good + busy]
    fake.said.clear()
    given.command(ordered("ping"), Instant(3 * NS_PER_S, 0))
    assert b'"ok":true' in fake.said[0][1], "a second later it goes on"


def test_a_command_of_16_kib_is_taken_and_a_byte_more_is_not() -> None:
    whole = b'{"a": "' + b"x" * (16 * 1024 - 9) + b'"}'
    assert len(whole) == 16 * 1024
    assert understood("ping", whole, ["ping"])["a"].startswith("xxx")
    with pytest.raises(CommandRefused) as refused:
        understood("ping", whole + b" ", ["ping"])
    assert refused.value.code == "too_large"


def a_publish(topic: str, payload: bytes, level: int = 5) -> bytes:
    body = struct.pack("!H", len(topic)) + topic.encode() + (b"\x00" if level == 5 else b"") + payload
    return bytes((0x30, len(body))) + body


def test_a_flood_of_commands_is_cut_before_it_reaches_the_engine() -> None:
    """Over a real socket: what a broker sends more than the engine should see in a second is left out."""
    flood = a_publish("stores/v1/0042/front/command/ping", b"{}") * 1000

    def script(packet: Packet) -> Answer:
        said = polite(packet)
        return said + flood if packet.kind == SUBSCRIBE and isinstance(said, bytes) else said

    with scripted(script) as broker, shipped_link(broker.url) as shop:
        shop.until(lambda: len(broker.of(SUBSCRIBE)) == 1)
        shop.passed(1)
        shop.drain()  # what came before the acknowledgement has been read
        assert 1 <= len(shop.commands) <= 150


# Secrets in reasons.


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("how", ["wrong login", "refused", "garbage"])
def test_a_proxys_password_stands_in_no_reason_and_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scheme: str, how: str
) -> None:
    secret = "hunter2-of-the-proxy"
    (tmp_path / "secret").write_text(secret)
    agree: Any = {
        ("http", "wrong login"): http("shop:other"),
        ("http", "refused"): http(f"shop:{secret}", f"403 Forbidden for {secret}"),
        ("socks5", "wrong login"): socks5("shop:other"),
        ("socks5", "refused"): socks5(f"shop:{secret}", 2),
    }.get((scheme, how), lambda sock: sock.sendall(b"\xff" + sock.recv(4096)) and None)
    more: dict[str, Any] = {"proxy_username": "shop", "proxy_password_file": tmp_path / "secret"}
    with caplog.at_level(logging.DEBUG), proxy(agree, 1) as way:
        settings = BrokerSettings(url="mqtt://broker.invalid:1884", proxy=f"{scheme}://127.0.0.1:{way.port}", **more)
        shop = Shop(settings)
        shop.until(lambda: shop.downs)
        reason = shop.uplink.status().reason
        shop.close()
    down: LinkDown = shop.downs[0]
    told = f"{down} {reason} {caplog.text}"
    assert secret not in told
    assert "aHVudGVyMi" not in told, "nor as it is sent"


def test_the_link_that_ships_has_the_times_that_ship() -> None:
    link = PahoLink(BrokerSettings(url="mqtt://127.0.0.1:1"), "1.front", lambda signal: None)
    assert link._times == LinkTimes()
    link.close()
    assert client.INBOUND_BYTES_MAX <= 256 * 1024
