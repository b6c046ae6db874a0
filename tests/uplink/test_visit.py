"""A person's own connections (`listen`, `outbox import`, `doctor`) go the daemon's way and give its reasons."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.config import loads
from gateway.consumer.republishing import republish
from gateway.consumer.subscription import Subscription
from gateway.errors import ConfigurationError, GatewayError, Unavailable
from gateway.technician.checks import Check
from gateway.technician.checks.broker import examinations
from gateway.uplink.settings import BrokerSettings
from tests.uplink.brokers import Authority, mosquitto
from tests.uplink.scripted_broker import PUBLISH, SUBSCRIBE, Answer, Packet, polite, puback, scripted
from tests.uplink.shop import Shop
from tests.uplink.test_proxy import http, proxy, settings, socks5

TOPIC = "stores/v1/0042/front/backfill"
EVENTS = [(TOPIC, json.dumps({"id": str(number)}).encode()) for number in range(250)]


@pytest.mark.mosquitto
@pytest.mark.parametrize(("scheme", "agree"), [("http", http), ("socks5", socks5)])
def test_listen_and_import_reach_through_a_proxy_a_broker_whose_name_only_it_knows(
    tmp_path: Path, scheme: str, agree: Any
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    login: dict[str, Any] = {"proxy_username": "shop", "proxy_password_file": tmp_path / "secret"}
    with mosquitto(tmp_path) as broker, proxy(agree("shop:s3cret"), broker.port) as between:
        chosen = settings(scheme, between.port, **login)
        with Subscription(chosen, [TOPIC]) as subscription:
            taken: list[int] = []
            assert republish(chosen, EVENTS, taken.append) == len(EVENTS) == sum(taken)
            heard = 0
            while heard < len(EVENTS):
                arrived = subscription.next(5.0)
                assert arrived is not None
                heard += len(json.loads(arrived.payload))
        assert set(between.asked) == {("broker.invalid", 1884)}


def reason_of(task: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        task()
    return caught.value


def reasons_of(chosen: BrokerSettings, table: str) -> tuple[set[str], set[str]]:
    """Return the sentences and the advice that daemon, doctor, listen and import have of one failure."""
    shop = Shop(chosen)
    shop.until(lambda: shop.downs)
    down = shop.downs[0]
    shop.close()
    found: list[Check] = []
    for examination in examinations(loads(f'[site]\nstore = "0042"\n[broker]\nurl = "{chosen.url}"\n{table}')):
        checks = examination.look()
        found += [checks] if isinstance(checks, Check) else list(checks)
    failed = next(check for check in found if check.result == "failed")
    errors = [
        reason_of(Subscription(chosen, [TOPIC]).open),
        reason_of(lambda: republish(chosen, EVENTS)),
    ]
    sentences = {down.detail, failed.found, *(str(error).split(": ", 1)[-1] for error in errors)}
    return sentences, {down.advice, failed.advice, *(error.advice for error in errors)}


def test_a_proxy_that_refuses_is_told_by_all_in_the_same_words() -> None:
    with proxy(http(answer="403 Forbidden"), 1) as between:
        address = f"http://127.0.0.1:{between.port}"
        sentences, advice = reasons_of(settings("http", between.port, "mqtt://broker.invalid"), f'proxy = "{address}"')
    assert sentences == {"the proxy refuses the way to broker.invalid:1883: 403 Forbidden"}
    assert len(advice) == 1


@pytest.mark.mosquitto
def test_a_password_that_is_refused_is_told_by_all_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("no\n")
    with mosquitto(tmp_path, users={"gw": "one"}) as broker:
        chosen = BrokerSettings(url=broker.url, username="gw", password_file=tmp_path / "wrong")
        table = f'username = "gw"\npassword_file = "{tmp_path / "wrong"}"'
        sentences, advice = reasons_of(chosen, table)
    assert len(sentences) == len(advice) == 1, (sentences, advice)


@pytest.mark.mosquitto
def test_a_certificate_of_a_stranger_is_told_by_all_in_the_same_words(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    with mosquitto(tmp_path, tls=authority.sign("server")) as broker:
        chosen = BrokerSettings(url=broker.url, ca_file=stranger.ca_file)
        sentences, advice = reasons_of(chosen, f'ca_file = "{stranger.ca_file}"')
    assert len(sentences) == len(advice) == 1, (sentences, advice)


def test_a_file_that_is_missing_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    chosen = BrokerSettings(url="mqtt://127.0.0.1:1", username="gw", password_file=tmp_path / "none")
    for error in (reason_of(Subscription(chosen, [TOPIC]).open), reason_of(lambda: republish(chosen, EVENTS))):
        assert isinstance(error, ConfigurationError)
        assert "password_file" in str(error)


def test_import_says_why_a_broker_refuses_a_batch_and_when_it_goes_away() -> None:
    answers: list[Answer] = [b"", "close"]

    def script(packet: Packet) -> Answer:
        if packet.kind == PUBLISH:
            return answers.pop() or puback(packet, 0x87)
        return polite(packet)

    with scripted(script) as broker:
        chosen = BrokerSettings(url=broker.url)
        with pytest.raises(Unavailable, match="the broker closed the connection"):
            republish(chosen, EVENTS[:1])
        with pytest.raises(GatewayError, match=f"{TOPIC}.*0x87"):
            republish(chosen, EVENTS[:1])


def test_what_a_broker_sends_before_its_answer_to_the_subscription_is_not_lost() -> None:
    def script(packet: Packet) -> Answer:
        said = polite(packet)
        if packet.kind == SUBSCRIBE and isinstance(said, bytes):
            return bytes((0x30, 3 + len(TOPIC) + 5, 0, len(TOPIC))) + TOPIC.encode() + b"\x00early" + said
        return said

    with scripted(script) as broker, Subscription(BrokerSettings(url=broker.url), [TOPIC]) as subscription:
        arrived = subscription.next(2.0)
        assert arrived is not None
        assert arrived.payload == b"early"


@pytest.mark.mosquitto
def test_a_listener_that_pauses_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.mqtt.visit.HEARD_MAX", 4)
    with mosquitto(tmp_path, extra=("max_queued_messages 0",)) as broker:
        chosen = BrokerSettings(url=broker.url)
        with Subscription(chosen, [TOPIC]) as subscription:
            events = [(f"{TOPIC}", event) for _, event in EVENTS] * 20
            sending = threading.Thread(target=republish, args=(chosen, events))
            sending.start()
            sending.join(20)
            heard = 0
            while heard < len(events):
                arrived = subscription.next(5.0)
                if arrived is not None:
                    heard += len(json.loads(arrived.payload))
