"""What brokers without MQTT 5 do with its CONNECT, and a key that wants a passphrase."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.config import loads
from gateway.model import LinkDown
from gateway.mqtt.dial import DialRefused, tls_context
from gateway.outbox.memory import Memory
from gateway.technician.checks import broker, examined
from gateway.uplink.fallback import ProtocolChoice
from gateway.uplink.settings import BrokerSettings, Endpoint
from tests.uplink.brokers import Authority
from tests.uplink.scripted_broker import CONNECT, Answer, polite, scripted
from tests.uplink.shop import Shop

OLD_ANSWERS = {
    "no answer": None,
    "an acceptance in the old form": b"\x20\x02\x00\x00",
    "the old code 1": b"\x20\x02\x00\x01",
    "a close": "close",
    "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("how", OLD_ANSWERS)
def test_a_broker_that_does_not_know_version_5_is_spoken_to_in_the_old_one(how: str) -> None:
    answer: Answer = OLD_ANSWERS[how]  # type: ignore[assignment]
    with scripted(lambda packet: answer if packet.kind == CONNECT and packet.level == 5 else polite(packet)) as running:
        shop = Shop(BrokerSettings(url=running.url))
        shop.passed(5)
        shop.drain(within_s=15, hurry=True)
        assert shop.uplink.status().protocol == "3.1.1"
        shop.close()
        again = Shop(BrokerSettings(url=running.url), shop.outbox)
        again.until(lambda: again.uplink.status().up)
        assert again.uplink.status().protocol == "3.1.1", "kept over a restart"
        again.close()


@pytest.mark.parametrize("code", ["connack.timeout", "link.garbage", "connack.closed"])
def test_an_address_that_spoke_5_never_falls_back_for_want_of_an_answer(code: str) -> None:
    choice = ProtocolChoice("auto", "mqtt://h", Memory(), lambda: None)
    choice.up("5", 1)
    for _ in range(10):
        assert not choice.down(LinkDown(1, code, ""), "5")
        assert choice.protocol(2) == "5"


def test_an_encrypted_key_is_refused_by_name_and_nothing_is_asked(tmp_path: Path) -> None:
    cert, _ = Authority(tmp_path / "ca").sign("gw")
    encrypted = tmp_path / "locked.key"
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(serialization.Encoding.PEM, form, secret)
    )
    settings = BrokerSettings(url="mqtts://127.0.0.1:1", cert_file=cert, key_file=encrypted)
    with pytest.raises(DialRefused) as refused:
        tls_context(settings, Endpoint.parse("mqtts://127.0.0.1:1"))
    assert refused.value.cause.code == "file.key_file"
    assert str(encrypted) in refused.value.cause.detail
    assert f"openssl pkey -in {encrypted}" in refused.value.cause.advice
    with scripted(polite) as running:
        url = running.url.replace("mqtt:", "mqtts:")
        table = f'[broker]\nurl = "{url}"\ncert_file = "{cert}"\nkey_file = "{encrypted}"\n'
        configuration = loads(f'[site]\nstore = "1"\n{table}')
        found = {check.name: check for one in broker.examinations(configuration) for check in examined(one)}
    assert found["tls"].code == "file.key_file"
    assert "encrypted" in found["tls"].found
