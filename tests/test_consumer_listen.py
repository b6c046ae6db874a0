"""`gateway listen` and its subscription on real brokers: what arrives is accounted for, printed once, and in order."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gateway.consumer.ledger import Ledger
from gateway.consumer.listening import HELD_S, Listening, Until
from gateway.consumer.messages import Delivery, parse
from gateway.consumer.subscription import Subscription, topics_of
from gateway.consumer.words import line_of, printable
from gateway.demo.broker import EmbeddedBroker, mosquitto_program, open_broker
from gateway.demo.relay import Relay
from gateway.errors import Unavailable
from gateway.machine.clock import SystemClock
from gateway.uplink.settings import BrokerSettings

TOPIC = "stores/v1/0042/front"


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    if request.param == "mosquitto" and mosquitto_program() is None:
        pytest.skip("mosquitto is not on the PATH")
    running = open_broker(request.param, tmp_path)
    yield running
    running.close()


def event(sequence: int, stream: str = "door", **changes: Any) -> dict[str, Any]:
    number = f"{sequence:016d}"
    return {
        "specversion": "1.0",
        "id": f"0a1b2c3d-1-{stream}-{number}",
        "source": "/stores/0042/gateways/front",
        "subject": "entrance",
        "type": "store.door.passed",
        "time": "2026-11-22T09:00:00.123Z",
        "stream": stream,
        "sequence": number,
        "outbox": "0a1b2c3d",
        "epoch": "1",
        "data": {"direction": "in", "in_total": sequence, "out_total": 0},
        **changes,
    }


class Gateway:
    """Publishes as a gateway would, every word acknowledged before the next."""

    def __init__(self, port: int) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def say(self, rest: str, value: Any, retain: bool = False) -> None:
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.client.publish(f"{TOPIC}/{rest}", payload, qos=1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def gateway(broker: EmbeddedBroker) -> Iterator[Gateway]:
    running = Gateway(broker.port)
    yield running
    running.close()


def configuration(tmp_path: Path, broker: EmbeddedBroker) -> Path:
    path = tmp_path / "gateway.toml"
    way = f'url = "mqtt://127.0.0.1:{broker.port}"\nprotocol = "{broker.protocol}"'
    path.write_text(f'[site]\nstore = "0042"\ngateway = "front"\n[broker]\n{way}\n')
    return path


def listen(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gateway", "listen", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_subscription_falls_back_survives_a_cut_and_forgets_nothing_that_waits(
    broker: EmbeddedBroker, gateway: Gateway
) -> None:
    line = Relay(broker.port)
    try:
        settings = BrokerSettings(url=f"mqtt://127.0.0.1:{line.port}")
        with Subscription(settings, topics_of("stores", "0042", "front")) as subscription:
            assert subscription.protocol == ("3.1.1" if broker.name == "amqtt" else "5")
            gateway.say("event/door/entrance", event(1))
            gateway.say("command/ping", {})
            gateway.say("state", {"state": "online"})
            topics = [arrived.topic for _ in range(2) if (arrived := subscription.next(5.0))]
            assert topics == [f"{TOPIC}/event/door/entrance", f"{TOPIC}/state"]
            line.cut()
            line.mend()
            waiting = threading.Event()
            for _ in range(100):
                gateway.say("backfill", [event(2)])
                if subscription.next(0.0) is not None:
                    break
                waiting.wait(0.1)
            else:
                pytest.fail("the subscription did not come back")
    finally:
        line.close()


def test_listen_prints_each_event_once_in_order_and_proves_completeness(
    broker: EmbeddedBroker, gateway: Gateway, tmp_path: Path
) -> None:
    config = configuration(tmp_path, broker)
    listening = listen("--config", str(config), "--json", "--until-complete", "--from-start")
    assert listening.stdout is not None
    gateway.say(
        "state", {"state": "lost", "outbox": "0a1b2c3d", "epoch": "1", "time": "2026-11-22T09:00:00.000Z"}, True
    )
    heard: list[dict[str, Any]] = []

    def hear() -> None:
        assert listening.stdout is not None
        heard.extend(json.loads(line) for line in listening.stdout)

    hearing = threading.Thread(target=hear)
    hearing.start()
    pause = threading.Event()
    for _ in range(40):  # until the listener has subscribed: what was sent before is sent again, as by a real gateway
        gateway.say("event/door/entrance", event(1))
        gateway.say("event/door/entrance", event(9))
        gateway.say("event/door/entrance", event(9))
        gateway.say("backfill", gzip.compress(json.dumps([event(n) for n in range(1, 9)]).encode()))
        if listening.poll() is not None:
            break
        pause.wait(0.25)
        if heard:
            break
    assert listening.wait(15) == 0
    hearing.join()
    report = heard.pop()["report"]
    assert [int(one["sequence"]) for one in heard] == list(range(1, 10))
    assert report["verdict"] == "complete"
    assert (report["recorded"], report["delivered"], report["missing"]) == (9, 9, 0)
    assert report["duplicates"] >= 1


def test_listen_reports_gaps_with_status_1(broker: EmbeddedBroker, gateway: Gateway, tmp_path: Path) -> None:
    position = {"recorded_through": 5, "acknowledged_through": 0, "backlog": 5}
    state = {"state": "online", "outbox": "0a1b2c3d", "epoch": "1", "streams": {"door": position}}
    gateway.say("state", state, retain=True)
    listening = listen("--config", str(configuration(tmp_path, broker)), "--for", "1.5s", "--from-start")
    output, _ = listening.communicate(timeout=20)
    assert listening.returncode == 1
    assert "missing 1 to 5" in output
    assert "NOT complete: 5 of 5" in output


def test_listen_without_a_broker_is_69_without_an_address_78_and_stops_on_sigterm_with_a_report(
    tmp_path: Path, broker: EmbeddedBroker
) -> None:
    started = [listen("--config", str(configuration(tmp_path, broker)))]
    nowhere = tmp_path / "nowhere.toml"
    nowhere.write_text('[site]\nstore = "0042"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n')
    none = tmp_path / "none.toml"
    none.write_text('[site]\nstore = "0042"\n')
    started += [listen("--config", str(nowhere)), listen("--config", str(none))]
    assert started[0].stdout is not None
    assert "listening to" in started[0].stdout.readline()
    started[0].terminate()
    outputs = [one.communicate(timeout=20) for one in started]
    assert [one.returncode for one in started] == [0, 69, 78]
    assert "nothing was recorded" in outputs[0][0]
    assert "no broker answers" in outputs[1][1]
    assert "broker.url" in outputs[2][1]


def test_subscription_to_nobody_says_so() -> None:
    with pytest.raises(Unavailable, match="no broker answers"):
        Subscription(BrokerSettings(url="mqtt://127.0.0.1:1"), ["a"]).open()


class Heard:
    """A listening whose messages and time are given by the test."""

    def __init__(self, in_order: bool = True) -> None:
        self.said: list[int] = []
        self.states: list[str] = []
        self.listening = Listening(
            Ledger(from_one=True),
            lambda delivery: self.said.append(delivery.sequence),
            lambda source, state: self.states.append(state),
            in_order,
        )

    def live(self, *sequences: int, at_s: float = 0.0) -> None:
        for sequence in sequences:
            payload = json.dumps(event(sequence)).encode()
            self.listening.take(f"{TOPIC}/event/door/entrance", payload, False, at_s)
            self.listening.pass_time(at_s)


def test_event_waits_for_its_predecessor() -> None:
    heard = Heard()
    heard.live(1, 4, 3, 2)
    assert heard.said == [1, 2, 3, 4]


def test_event_comes_at_once_where_order_is_not_asked_for() -> None:
    heard = Heard(in_order=False)
    heard.live(1, 4, 3, 2)
    assert heard.said == [1, 4, 3, 2]


def test_gap_holds_events_back_for_a_limited_time_only() -> None:
    heard = Heard()
    heard.live(1, 3)
    heard.listening.pass_time(HELD_S - 1)
    assert heard.said == [1]
    heard.listening.pass_time(HELD_S + 1)
    assert heard.said == [1, 3]
    heard.live(4, at_s=HELD_S + 2)
    assert heard.said == [1, 3, 4]
    heard.live(2, at_s=HELD_S + 3)
    assert heard.said == [1, 3, 4, 2]


def test_named_loss_lets_go_what_waited_behind_it() -> None:
    heard = Heard()
    heard.live(1, 6)
    lost = {
        "outbox": "0a1b2c3d",
        "stream": "door",
        "reason": "full",
        "first_sequence": 2,
        "last_sequence": 5,
        "count": 4,
    }
    named = event(1, "gateway", type="store.gateway.events_dropped", subject="gateway", data=lost)
    heard.listening.take(f"{TOPIC}/event/gateway/gateway", json.dumps(named).encode(), False, 0.0)
    assert heard.said == [1, 1, 6]
    assert heard.listening.ledger.report().is_complete


def test_stopped_listening_gives_out_what_it_holds(broker: EmbeddedBroker) -> None:
    heard, stopping = Heard(), threading.Event()
    heard.live(2, 5)
    stopping.set()
    settings = BrokerSettings(url=f"mqtt://127.0.0.1:{broker.port}", protocol=broker.protocol)
    with Subscription(settings, ["a"]) as subscription:
        report = heard.listening.run(subscription, Until(), SystemClock(), stopping)
    assert heard.said == [2, 5]
    assert report.missing == 3


def delivery(**changes: Any) -> Delivery:
    return parse(f"{TOPIC}/event/door/entrance", json.dumps(event(1, **changes)).encode()).deliveries[0]


@pytest.mark.parametrize("kind", ["store.door.passed", "store.gateway.health", "store.shelf.level", "store.new.fact"])
@pytest.mark.parametrize(
    "data", [{}, {"memory_rss_bytes": "x", "direction": [1], "tag": None, "to": 5}, {"a": {"b": 1}}]
)
def test_words_never_raise_whatever_the_data(kind: str, data: dict[str, Any]) -> None:
    assert line_of(delivery(type=kind, data=data))


def test_words_move_no_cursor() -> None:
    hostile = delivery(subject="a\x1b[2J", type="store.new.fact", data={"\x1b]0;x\x07": "\u202e"})
    assert "\x1b" not in line_of(hostile)
    assert printable("a\nb\x00") == "a\ufffdb\ufffd"


def test_words_say_what_happened() -> None:
    assert line_of(delivery()) == "09:00:00.123  entrance     somebody came in   in 1, out 0"
