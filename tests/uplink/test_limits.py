"""Settings, back-off, windows and the choice of the protocol: each by its own law."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config import loads
from gateway.errors import ConfigurationError
from gateway.model import NS_PER_MS, NS_PER_S, LinkDown
from gateway.outbox.memory import Memory
from gateway.uplink.backoff import Backoff
from gateway.uplink.fallback import RETRY_MS, ProtocolChoice
from gateway.uplink.settings import BrokerSettings, Endpoint
from gateway.uplink.window import BYTES_FLOOR, BYTES_START, ByteWindow, TokenBucket

URL = "mqtts://mqtt.example.com:8883"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", Endpoint("mqtt", "host", 1883)),
        ("MQTTS://host:1", Endpoint("mqtts", "host", 1)),
        ("wss://host/path", Endpoint("wss", "host", 443, "/path")),
        ("ws://[::1]:8080", Endpoint("ws", "::1", 8080)),
    ],
)
def test_addresses_are_taken_apart(url: str, expected: Endpoint) -> None:
    assert Endpoint.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    ["", "host", "http://host", "mqtt://", "mqtt://h:99999", "mqtt://u:p@h", "mqtt://h/x", "mqtt://h:0", "mqtt://h?a"],
)
def test_addresses_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Endpoint.parse(url)


@pytest.mark.parametrize(
    "table",
    [
        {"url": "http://x"},
        {"cert_file": "a"},
        {"password_file": "p"},
        {"inflight_max": 0},
        {"inflight_bytes_max": 10},
        {"inflight_bytes_max": "much"},
        {"topic_prefix": "a/+/b"},
        {"topic_prefix": ""},
        {"profile": "acme"},
        {"keepalive_s": "never"},
    ],
)
def test_settings_that_cannot_work_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(BrokerSettings).validate_python(table)


def test_settings_are_read_with_units() -> None:
    read = TypeAdapter(BrokerSettings).validate_python(
        {"url": URL, "keepalive_s": "1 min", "inflight_bytes_max": "64 KiB", "ca_file": "/etc/ca.pem"}
    )
    assert (read.keepalive_s, read.inflight_bytes_max, read.ca_file) == (60, 65_536, Path("/etc/ca.pem"))
    assert TypeAdapter(BrokerSettings).validate_python({}).inflight_bytes_max == "adaptive"


def test_ten_thousand_gateways_do_not_return_in_one_second() -> None:
    """The broker is back after 10 min: connects of the second that has most of them."""
    seconds: dict[int, int] = {}
    for seed in range(10_000):
        backoff = Backoff(Random(seed), 300)
        now_ns = 0
        while now_ns < 600 * NS_PER_S:
            backoff.attempted(now_ns)
            backoff.fail(now_ns)
            now_ns = backoff.due_ns
        seconds[now_ns // NS_PER_S] = seconds.get(now_ns // NS_PER_S, 0) + 1
    assert max(seconds.values()) < 120
    assert max(seconds) < 600 + 300


def test_attempts_keep_a_second_between_them() -> None:
    backoff = Backoff(Random(1), 300)
    backoff.attempted(10 * NS_PER_S)
    backoff.hurry(10 * NS_PER_S + 5)
    assert backoff.due_ns == 11 * NS_PER_S


def test_the_byte_window_grows_while_the_round_trip_is_short_and_halves_when_it_doubles() -> None:
    window = ByteWindow()
    now = NS_PER_S
    for _ in range(200):
        now += NS_PER_MS
        window.acknowledged(now - 50 * NS_PER_MS, now, 4000, window.size)
    grown = window.size
    assert grown > 4 * BYTES_START
    window.acknowledged(now - 400 * NS_PER_MS, now, 4000, grown)
    assert window.size == grown // 2
    window.acknowledged(now - 400 * NS_PER_MS, now, 4000, grown)
    assert window.size == grown // 2, "once for all that was under way"
    for _ in range(50):
        now += NS_PER_S
        window.acknowledged(now - 900 * NS_PER_MS, now, 4000, grown)
        window.acknowledged(now - 50 * NS_PER_MS, now, 100, 100)
    assert window.size == BYTES_FLOOR


def test_a_window_that_is_not_used_does_not_grow_and_a_fixed_one_never_changes() -> None:
    window = ByteWindow()
    fixed = ByteWindow(9000)
    for n in range(1, 100):
        for each in (window, fixed):
            each.acknowledged(n * NS_PER_S, n * NS_PER_S + NS_PER_MS, 400, 400 if each is window else 9000)
    assert window.size == BYTES_START
    assert fixed.size == 9000


def test_tokens_allow_the_rate_and_no_more() -> None:
    bucket = TokenBucket(10)
    now = sent = 0
    while now < 10 * NS_PER_S:
        if bucket.allows(now):
            bucket.spend(1)
            sent += 1
        now = max(now + 1, bucket.due_ns(now))
    assert 100 <= sent <= 111


def choice(memory: Memory, asked: Any = "auto", url: str = URL) -> ProtocolChoice:
    return ProtocolChoice(asked, url, memory, lambda: None)


def closed() -> LinkDown:
    return LinkDown(1, "connack.closed", "", in_order=True)


def test_three_one_one_is_remembered_for_a_day_and_only_for_this_address() -> None:
    memory = Memory()
    first = choice(memory)
    assert first.protocol(0) == "5"
    assert first.down(LinkDown(1, "connack.unsupported_protocol", "", connack=0x84, had_connack=True), "5")
    assert first.protocol(0) == "3.1.1"
    first.up("3.1.1", 1000)
    assert choice(memory).protocol(2000) == "3.1.1"
    assert choice(memory).protocol(1000 + RETRY_MS) == "5"
    assert choice(memory, url="mqtt://other").protocol(2000) == "5"


def test_a_retry_of_5_that_is_closed_falls_back_again() -> None:
    memory = Memory()
    choice(memory)
    memory.link = dataclasses.replace(memory.link, fallback_ms=0)
    again = choice(memory)
    assert again.protocol(RETRY_MS) == "5"
    assert not again.down(closed(), "5")
    assert again.down(closed(), "5")
    assert again.protocol(RETRY_MS) == "3.1.1"
    again.up("3.1.1", RETRY_MS)
    assert choice(memory).protocol(RETRY_MS + 1) == "3.1.1"


def test_a_broker_that_once_spoke_5_is_not_given_up_for_closing() -> None:
    memory = Memory()
    choice(memory).up("5", 0)
    later = choice(memory)
    assert not any(later.down(closed(), "5") for _ in range(10))
    assert later.protocol(0) == "5"


@pytest.mark.parametrize(
    "signal",
    [
        LinkDown(1, "link.lost", ""),
        LinkDown(1, "tcp.timeout", ""),
        LinkDown(1, "connack.bad_credentials", "", connack=0x86, had_connack=True),
        LinkDown(1, "tls.unknown_ca", ""),
    ],
)
def test_what_teaches_nothing_about_the_version(signal: LinkDown) -> None:
    memory = Memory()
    asked = choice(memory)
    assert not any(asked.down(signal, "5") for _ in range(10))
    assert asked.protocol(0) == "5"


def test_where_both_versions_are_closed_5_is_tried_again_and_nothing_is_remembered() -> None:
    memory = Memory()
    asked = choice(memory)
    asked.down(closed(), "5")
    asked.down(closed(), "5")
    assert asked.protocol(0) == "3.1.1"
    assert not asked.down(closed(), "3.1.1")
    assert not asked.down(closed(), "3.1.1")
    assert asked.protocol(0) == "5"
    assert memory.link.fallback_ms is None


@pytest.mark.parametrize("fixed", ["5", "3.1.1"])
def test_a_configured_version_is_never_changed(fixed: str) -> None:
    asked = choice(Memory(), fixed)
    assert not asked.down(LinkDown(1, "", "", connack=0x84, had_connack=True), "5")
    assert asked.protocol(0) == fixed


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (f'client_id = "{"c" * 129}"', "client_id"),
        ('topic_prefix = "a/b/c"', "topic_prefix"),
        (f'topic_prefix = "{"p" * 240}"', "topic_prefix"),
    ],
)
@pytest.mark.parametrize("profile", ["aws-iot", "azure-event-grid"])
def test_names_that_a_service_does_not_take_are_mistakes_of_the_configuration(
    profile: str, more: str, named: str
) -> None:
    text = f'[site]\nstore = "0042"\ngateway = "front"\n[broker]\nurl = "mqtts://h"\nprofile = "{profile}"\n'
    assert loads(text).broker.profile == profile
    with pytest.raises(ConfigurationError, match=named):
        loads(text + more)
