"""The own certificate: its end is told before and after, and each file that cannot serve is named truly."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from gateway.cli import gateway
from gateway.machine.bounded import read_bounded
from gateway.model import Instant
from gateway.mqtt import certificates
from gateway.uplink.settings import BrokerSettings
from tests.daemon import Shop as Daemon
from tests.daemon import passages, stop
from tests.uplink.brokers import DAY, Authority, mosquitto
from tests.uplink.shop import Shop

CLOCK_IS_SET = (
    "import runpy, gateway.machine.clock; gateway.machine.clock.kernel_says_synced = lambda: True;"
    "runpy.run_module('gateway', run_name='__main__', alter_sys=True)"
)
HOUR = datetime.timedelta(hours=1)


def now(clock: str = "synced") -> Instant:
    ns = int(datetime.datetime.now(datetime.UTC).timestamp() * 1e9)
    return Instant(0, ns, clock)  # type: ignore[arg-type]


def settings_of(authority: Authority, pair: tuple[Path, Path]) -> BrokerSettings:
    return BrokerSettings(url="mqtts://127.0.0.1:1", ca_file=authority.ca_file, cert_file=pair[0], key_file=pair[1])


@pytest.mark.parametrize(
    ("left", "code"),
    [
        (31 * DAY, None),
        (30 * DAY, "certificate.ends_within_30_days"),
        (14 * DAY, "certificate.ends_within_14_days"),
        (3 * DAY, "certificate.ends_within_3_days"),
        (HOUR, "certificate.ends_within_3_days"),
        (-HOUR, "certificate.ended"),
    ],
)
def test_the_end_is_told_from_thirty_days_before_and_only_by_a_clock_that_is_set(
    tmp_path: Path, left: datetime.timedelta, code: str | None
) -> None:
    authority = Authority(tmp_path)
    settings = settings_of(authority, authority.sign("gw", start=-40 * DAY, end=left))
    assert [one.code for one in certificates.concerns(settings, now())] == ([] if code is None else [code])
    assert list(certificates.concerns(settings, now("unsynced"))) == []
    assert certificates.days_left(settings, now("unsynced")) is None
    assert certificates.days_left(settings, now()) == (left - HOUR / 10).days


def replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def as_der(cert: Path, key: Path, ca: Path) -> None:
    found = x509.load_pem_x509_certificate(cert.read_bytes())
    cert.write_bytes(found.public_bytes(serialization.Encoding.DER))


def encrypted(cert: Path, key: Path, ca: Path) -> None:
    found = serialization.load_pem_private_key(key.read_bytes(), None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(found.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))


FILES: dict[str, tuple[Callable[[Path, Path, Path], object], str]] = {
    "der": (as_der, "gw.pem is not PEM but DER"),
    "encrypted": (encrypted, "gw.key is encrypted, and nobody is there to type its passphrase"),
    "swapped": (lambda cert, key, ca: replaced(cert, key.read_bytes()), "has no certificate in it, but a private key"),
    "cut": (lambda cert, key, ca: replaced(cert, cert.read_bytes()[:300]), "has a certificate that cannot be read"),
    "another key": (
        lambda cert, key, ca: replaced(key, Authority(key.parent / "b").sign("b")[1].read_bytes()),
        "gw.key is not the key of cert_file",
    ),
    "empty authority": (lambda cert, key, ca: replaced(ca, b"\n"), "ca.pem is empty"),
    "no authority": (lambda cert, key, ca: replaced(ca, b"hello"), "ca.pem is not PEM"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_serve_is_named_by_check_and_link_alike(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("gw", end=90 * DAY)
    FILES[name][0](*pair, authority.ca_file)
    settings = settings_of(authority, pair)
    shop = Shop(settings)
    shop.until(lambda: shop.downs)
    shop.close()
    assert FILES[name][1] in shop.downs[0].detail
    assert shop.downs[0].advice
    written = "".join(f'{one} = "{getattr(settings, one)}"\n' for one in ("url", "ca_file", "cert_file", "key_file"))
    file = tmp_path / "gateway.toml"
    file.write_text(f'[site]\nstore = "0042"\ngateway = "front"\n[broker]\n{written}')
    ran = CliRunner().invoke(gateway, ["config", "check", "--config", str(file)])
    assert FILES[name][1] in ran.output
    told = json.loads(CliRunner().invoke(gateway, ["config", "check", "--json", "--config", str(file)]).output)
    assert any(FILES[name][1] in one["detail"] for one in told["warnings"])


@pytest.mark.mosquitto
def test_what_did_not_change_is_read_once_and_what_did_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    settings = settings_of(authority, authority.sign("gw", end=2 * DAY + HOUR))
    reads: list[Path] = []

    def counted(path: Path, limit: int) -> bytes:
        reads.append(path)
        return read_bounded(path, limit)

    monkeypatch.setattr("gateway.mqtt.certificates.read_bounded", counted)
    for _ in range(50):
        [cause] = certificates.concerns(settings, now())
        assert cause.code == "certificate.ends_within_3_days"
        assert certificates.days_left(settings, now()) == 2
    assert len(reads) <= 3, "authority, certificate, key"
    authority.sign("gw", end=40 * DAY)
    assert list(certificates.concerns(settings, now())) == []


def test_without_cryptography_it_is_said_that_the_end_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    settings = settings_of(authority, authority.sign("gw"))
    monkeypatch.setitem(sys.modules, "cryptography", None)
    [cause] = certificates.concerns(settings, now())
    assert cause.code == "certificate.end_unknown"
    assert "openssl x509 -enddate" in cause.advice
    assert list(certificates.concerns(settings, now("unsynced"))) == []


def test_a_certificate_that_ended_is_told_with_its_day_and_a_renewed_one_is_taken_at_the_next_connect(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("gw", start=-3 * DAY, end=-DAY)
    with mosquitto(tmp_path, tls=authority.sign("server"), ca_file=authority.ca_file) as broker:
        shop = Shop(BrokerSettings(url=broker.url, ca_file=authority.ca_file, cert_file=cert, key_file=key))
        end = datetime.datetime.now(datetime.UTC) - DAY
        refused = shop.down_by("tls.client_certificate_refused")
        assert f"yours ended on {end.day} {end:%B} {end.year}" in refused.detail
        authority.sign("gw", end=90 * DAY)
        shop.until(lambda: shop.uplink.status().up, hurry=True)
        shop.close()


@pytest.mark.mosquitto
def test_a_certificate_of_a_stranger_is_told_with_who_signed_it(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path / "other", "somebody else")
    pair = other.sign("gw")
    with mosquitto(tmp_path, tls=authority.sign("server"), ca_file=authority.ca_file) as broker:
        shop = Shop(BrokerSettings(url=broker.url, ca_file=authority.ca_file, cert_file=pair[0], key_file=pair[1]))
        refused = shop.down_by("tls.client_certificate_refused")
        shop.close()
    assert "signed by CN=somebody else" in refused.detail
    assert "append its certificate" in shop.downs[0].advice


class SetClock(Daemon):
    """Whose clock the kernel calls set, as it may not be on the machine of the tests."""

    def command(self, verb: str, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-c", CLOCK_IS_SET, *super().command(verb, *arguments)[3:]]


@pytest.mark.slow
@pytest.mark.mosquitto
def test_a_certificate_that_ends_in_two_days_is_told_by_doctor_status_state_and_health_alike(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("gw", end=2 * DAY + HOUR)
    folder = tmp_path / "gateway"
    folder.mkdir()
    with mosquitto(tmp_path, tls=authority.sign("server"), ca_file=authority.ca_file) as broker:
        tls = f'ca_file = "{authority.ca_file}"\ncert_file = "{cert}"\nkey_file = "{key}"\n'
        daemon = SetClock(folder, broker.url, '[health]\nevery = "10 s"\n')
        daemon.config.write_text(daemon.config.read_text().replace("[broker]\n", f"[broker]\n{tls}"))
        heard: dict[str, dict[str, Any]] = {}

        def hear(_: object, __: object, message: MQTTMessage) -> None:
            said = json.loads(message.payload)
            heard["state" if message.topic.endswith("/state") else said.get("type", "")] = said

        consumer = Client(CallbackAPIVersion.VERSION2)
        consumer_cert, consumer_key = map(str, authority.sign("consumer"))
        consumer.tls_set(str(authority.ca_file), consumer_cert, consumer_key)
        consumer.on_message = hear
        consumer.connect("127.0.0.1", broker.port)
        consumer.subscribe("stores/#", 1)
        consumer.loop_start()
        process = daemon.run("--recording", daemon.recording(passages(2)), "--stay")
        try:
            end = time.monotonic() + 60
            while {"state", "store.gateway.health"} - heard.keys():
                assert time.monotonic() < end, heard
                time.sleep(0.05)
            code, doctor = "certificate.ends_within_3_days", json.loads(daemon.ask("doctor", "--json").stdout)
            status = daemon.status()
        finally:
            stop(process)
            consumer.loop_stop()
    told = {
        "doctor": [(one["code"], one["found"]) for one in doctor["checks"] if one["name"] == "certificate"],
        "status": [(one["code"], one["detail"]) for one in status["link"]["notes"]],
        "state": [(one["code"], one["detail"]) for one in heard["state"].get("troubles", [])],
    }
    for where, found in told.items():
        assert any(one[0] == code and "in 2 days" in one[1] for one in found), (where, found)
    assert heard["store.gateway.health"]["data"]["certificate_days"] == 2
