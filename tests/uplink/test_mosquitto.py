"""The uplink on paho against a real broker: both versions of MQTT, TLS, outages, what a consumer sees."""

from __future__ import annotations

import datetime
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.mqtt.link import LinkTimes
from gateway.uplink.settings import BrokerSettings
from tests.uplink.brokers import Authority, free_port, mosquitto
from tests.uplink.shop import Shop

pytestmark = pytest.mark.mosquitto
HOUR = datetime.timedelta(hours=1)


class Consumer:
    """Subscribes to everything with a session of its own and keeps what comes."""

    def __init__(self, port: int, protocol: str = "5", topic: str = "#", name: str = "consumer") -> None:
        version = MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311
        self.messages: list[MQTTMessage] = []
        self._ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, name, protocol=version)
        self.client.on_message = lambda client, userdata, message: self.messages.append(message)
        self.client.on_connect = lambda client, userdata, flags, reason, properties: client.subscribe(topic, 1)
        self.client.on_subscribe = lambda client, userdata, mid, reasons, properties: self._ready.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._ready.wait(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for message in list(self.messages):
            if "/event/" in message.topic or message.topic.endswith("/backfill"):
                document = json.loads(message.payload)
                found.extend(document if isinstance(document, list) else [document])
        return found

    def states(self) -> list[dict[str, Any]]:
        return [json.loads(m.payload) for m in list(self.messages) if m.topic.endswith("/state")]


@contextmanager
def consuming(port: int) -> Iterator[Consumer]:
    consumer = Consumer(port)
    try:
        yield consumer
    finally:
        consumer.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_events_arrive_once_in_order_and_the_state_tells_the_whole_life(tmp_path: Path, protocol: Any) -> None:
    with mosquitto(tmp_path) as broker, consuming(broker.port) as consumer:
        shop = Shop(BrokerSettings(url=broker.url, protocol=protocol))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(50)
        shop.drain()
        assert shop.ups[0].protocol == protocol
        shop.close()
        shop.until(lambda: len(consumer.states()) == 2)
        assert [int(event["sequence"]) for event in consumer.events()] == list(range(1, 51))
        assert [state["state"] for state in consumer.states()] == ["online", "stopped"]
        assert consumer.states()[1]["streams"]["door"] == {
            "recorded_through": 50,
            "acknowledged_through": 50,
            "backlog": 0,
        }
        if protocol == "5":
            live = next(m for m in consumer.messages if "/event/" in m.topic)
            assert vars(live.properties)["ContentType"] == "application/cloudevents+json; charset=utf-8"


def test_an_outage_is_caught_up_with_in_the_backfill_lane(tmp_path: Path) -> None:
    port = free_port()
    extra = ("max_queued_messages 0",)
    with mosquitto(tmp_path, port=port, extra=extra) as broker:
        shop = Shop(BrokerSettings(url=broker.url, backfill_compression="gzip"))
        shop.until(lambda: shop.uplink.status().up)
        broker.kill(signal.SIGKILL)
        shop.until(lambda: not shop.uplink.status().up)
        shop.passed(500)
        time.sleep(1.1)
        broker.start()
        with consuming(port) as consumer:
            shop.drain(8, hurry=True)
            shop.passed(5)
            shop.drain()
            shop.until(lambda: len([m for m in list(consumer.messages) if "/event/" in m.topic]) >= 5)
            batches = [m for m in consumer.messages if m.topic.endswith("/backfill")]
            assert 5 <= len(batches) <= 10
            assert all(m.payload[:2] == b"\x1f\x8b" for m in batches)
            assert vars(batches[0].properties)["UserProperty"] == [("content-encoding", "gzip")]
            assert len([m for m in consumer.messages if "/event/" in m.topic]) == 5
        shop.close()


def test_the_will_says_lost_when_the_gateway_dies(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker, consuming(broker.port) as consumer:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: len(consumer.states()) == 1)
        thief = Shop(BrokerSettings(url=broker.url))  # the same client id takes over: the first is gone without a word
        thief.until(lambda: thief.uplink.status().up)
        thief.until(lambda: {"lost", "online"} <= {state["state"] for state in consumer.states()})
        lost = next(state for state in consumer.states() if state["state"] == "lost")
        assert list(lost) == ["state", "outbox", "epoch", "time"]
        thief.close()
        shop.link.close()


def test_a_frozen_broker_is_noticed_and_the_backlog_drains_when_it_thaws(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        shop = Shop(BrokerSettings(url=broker.url, keepalive_s=600), times=LinkTimes(connack_s=0.5, ping_s=1))
        shop.until(lambda: shop.uplink.status().up)
        broker.freeze()
        fell = time.monotonic()
        shop.until(lambda: shop.downs, 5)
        assert time.monotonic() - fell < 3.5
        assert shop.downs[0].code == "link.timeout"
        shop.passed(20)
        broker.thaw()
        shop.drain(8, hurry=True)
        shop.close()


def test_commands_arrive_with_what_their_answer_needs(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker, consuming(broker.port) as consumer:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.subscribed)
        consumer.client.publish(f"{shop.wire.prefix}/command/ping", b'{"a":1}', qos=1)
        shop.until(lambda: shop.commands)
        command = shop.commands[0]
        assert (command.verb, command.payload, command.retained) == ("ping", b'{"a":1}', False)
        topic = f"{shop.wire.prefix}/command/ping/result"
        assert shop.uplink.answer(topic, b'{"ok":true}', b"42")
        shop.until(lambda: any(m.topic == topic for m in consumer.messages))
        answer = next(m for m in consumer.messages if m.topic == topic)
        assert vars(answer.properties)["CorrelationData"] == b"42"
        shop.close()


def test_tls_and_mutual_tls_with_an_authority_of_our_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    server = authority.sign("server")
    client_cert, client_key = authority.sign("client")
    with mosquitto(tmp_path, tls=server, ca_file=authority.ca_file) as broker:
        settings = BrokerSettings(url=broker.url, ca_file=authority.ca_file, cert_file=client_cert, key_file=client_key)
        shop = Shop(settings)
        shop.passed(300)
        shop.drain()
        shop.close()
        bare = Shop(BrokerSettings(url=broker.url, ca_file=authority.ca_file))
        bare.down_by("tls.client_certificate_refused")
        bare.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stranger", "tls.unknown_ca"),
        ("expired", "tls.expired"),
        ("future", "tls.not_yet_valid"),
        ("elsewhere", "tls.wrong_host"),
        ("plain", "tcp.reset"),  # mosquitto resets at what is no MQTT
    ],
)
def test_each_failure_of_tls_has_its_own_reason(tmp_path: Path, name: str, expected: str) -> None:
    authority = Authority(tmp_path / "ca")
    other = Authority(tmp_path / "other", "another authority")
    pairs: dict[str, Callable[[], tuple[Path, Path] | None]] = {
        "stranger": lambda: other.sign("server"),
        "expired": lambda: authority.sign("server", end=-HOUR),
        "future": lambda: authority.sign("server", start=HOUR),
        "elsewhere": lambda: authority.sign("server", host="mqtt.example.com"),
        "plain": lambda: None,
    }
    with mosquitto(tmp_path, tls=pairs[name]()) as broker:
        url = broker.url.replace("mqtt://", "mqtts://")
        shop = Shop(BrokerSettings(url=url, ca_file=authority.ca_file))
        shop.until(lambda: shop.downs)
        assert shop.downs[0].code == expected
        assert shop.downs[0].advice
        shop.close()


def test_the_password_is_read_anew_at_each_connect(tmp_path: Path) -> None:
    with mosquitto(tmp_path, users={"gw": "right"}) as broker:
        secret = tmp_path / "password"
        secret.write_text("wrong\n")
        shop = Shop(BrokerSettings(url=broker.url, username="gw", password_file=secret))
        shop.until(lambda: shop.downs)
        assert shop.downs[0].code in ("connack.not_authorized", "connack.bad_credentials")
        secret.write_text("right\n")
        shop.until(lambda: shop.uplink.status().up, hurry=True)
        shop.close()


def test_a_renewed_certificate_is_in_force_at_the_next_connect(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    other = Authority(tmp_path / "other", "another authority")
    cert, key = tmp_path / "gw.pem", tmp_path / "gw.key"

    def install(made: tuple[Path, Path]) -> None:
        cert.write_bytes(made[0].read_bytes())
        key.write_bytes(made[1].read_bytes())

    install(other.sign("client"))
    with mosquitto(tmp_path, tls=authority.sign("server"), ca_file=authority.ca_file) as broker:
        shop = Shop(BrokerSettings(url=broker.url, ca_file=authority.ca_file, cert_file=cert, key_file=key))
        shop.down_by("tls.client_certificate_refused")
        assert not shop.uplink.status().up
        install(authority.sign("client"))
        shop.until(lambda: shop.uplink.status().up, hurry=True)
        shop.close()


def test_consumers_share_a_subscription_and_together_miss_nothing(tmp_path: Path) -> None:
    """`$share/GROUP/...`: each message goes to one of the group; the order holds within a consumer, not across."""
    everything = "$share/analytics/stores/v1/+/+/event/#"
    with mosquitto(tmp_path) as broker:
        group = [Consumer(broker.port, topic=everything, name=f"worker-{n}") for n in range(3)]
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        shop.passed(90)
        shop.drain()
        shop.until(lambda: sum(len(worker.messages) for worker in group) >= 90)
        shop.close()
        shares = [[int(event["sequence"]) for event in worker.events()] for worker in group]
        for worker in group:
            worker.close()
        together = sorted(sequence for share in shares for sequence in share)
        assert together == list(range(1, 91)), "each event to exactly one of them"
        assert all(shares), "all of them work"
        assert all(share == sorted(share) for share in shares)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"url": "mqtt://127.0.0.1:{port}"}, "tcp.refused"),
        ({"url": "mqtt://nowhere.invalid"}, "dns."),
        ({"url": "mqtts://127.0.0.1:{port}", "ca_file": Path("/nowhere/ca.pem")}, "file.ca_file"),
        ({"url": "mqtt://127.0.0.1:{port}", "username": "u", "password_file": Path("/nowhere")}, "file.password_file"),
    ],
)
def test_what_cannot_be_reached_or_read_is_named(table: dict[str, Any], expected: str) -> None:
    table = {**table, "url": table["url"].format(port=free_port())}
    shop = Shop(BrokerSettings(**table))
    shop.until(lambda: shop.downs)
    assert shop.downs[0].code.startswith(expected)
    assert shop.downs[0].advice
    shop.close()


def test_closing_leaves_no_thread_behind(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        before = {thread.name for thread in threading.enumerate()}
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        began = time.monotonic()
        shop.link.close()
        assert time.monotonic() - began < 1
        assert {thread.name for thread in threading.enumerate()} == before
