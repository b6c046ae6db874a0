"""Canaries in every notation: none passes the redactor, and none is in any file of a real bundle, the log included."""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from click.testing import CliRunner

from gateway.cli import gateway
from gateway.config import loads
from gateway.config.known_secrets import known_secrets
from gateway.daemon.answers import Answers
from gateway.machine.clock import SystemClock
from gateway.machine.logs import Redacted
from gateway.model import CommandReceived
from gateway.redaction import Redactor
from gateway.sensors.drivers import Supervised

PASSWORD = 'Kanarie/ "<&>q+7é\\x'
PROXY_PASSWORD = "zw3iter-Kanarie"
BINDKEY = "231d39c1d7cc1ab1aee224cd096db932"
IRK = "ec0234a357c8ad05341010a60a397d9b"
DAY_KEY = "9f" + "a1b2c3d4e5f60718" * 3 + "ee" * 7
STRANGER = bytes.fromhex("deadbeef0a01")
NAMED = "c4:64:e3:00:00:01"


def notations_of_text(secret: str) -> Iterator[str]:
    raw = secret.encode()
    yield from (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""), quote(secret))
    yield from (json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(json.dumps(secret))[3:-3], repr(raw)[2:-1])
    yield from (quote_plus(secret), html.escape(secret), shlex.quote(secret), re.sub(r"(\W)", r"\\\1", secret))
    yield "".join(f"&#{ord(one)};" for one in secret)
    yield "".join(f"&#x{ord(one):X};" for one in secret)
    yield "".join(f"%{octet:02X}" for octet in raw)
    yield "".join(f"%{octet:02x}" for octet in raw)
    yield from notations_of_bytes(raw)
    yield base64.b64encode(b"gw-0042:" + raw).decode()
    yield base64.b64encode(b"gw:" + raw + b"!").decode()


def notations_of_bytes(raw: bytes) -> Iterator[str]:
    for octets in (raw, raw[::-1]):
        for separator in ("", ":", "-", "_", " "):
            yield octets.hex(separator) if separator else octets.hex()
            yield octets.hex(separator).upper() if separator else octets.hex().upper()
        yield " ".join(f"0x{octet:02x}" for octet in octets)
        yield "".join(f"\\x{octet:02x}" for octet in octets)
        yield from (str(list(octets)), bytes(octets).hex(",").upper(), str(int.from_bytes(octets)))
        yield base64.b64encode(octets).decode().rstrip("=")
        yield base64.urlsafe_b64encode(octets).decode().rstrip("=")


def notations_of_address(raw: bytes) -> Iterator[str]:
    for octets in (raw, raw[::-1]):
        plain = octets.hex()
        for separator in (":", "-", "_", ".", " "):
            yield octets.hex(separator)
            yield octets.hex(separator).upper()
        yield from (
            plain,
            plain.upper(),
            f"0x{plain}",
            f"dev_{octets.hex('_').upper()}",
            f"[{', '.join(map(str, octets))}]",
        )
        yield f"{plain[:4]}.{plain[4:8]}.{plain[8:]}"
        yield octets.hex(":").upper().replace(":", "%3A")
        yield octets.hex(":").replace(":", "\\u003a")
        yield ", ".join(f"0x{octet:02x}" for octet in octets)
        yield repr(octets)
        yield str(int.from_bytes(octets))
        yield f"0201061aff4c000215{plain}{plain}c5"
    yield f"fe80::{raw[0] ^ 2:02x}{raw[1]:02x}:{raw[2]:02x}ff:fe{raw[3]:02x}:{raw[4]:02x}{raw[5]:02x}"


def frames(value: str) -> Iterator[str]:
    """Places where a value may stand in a log."""
    yield from (
        value,
        f"at {value}, then",
        f"x={value};",
        f'"{value}"',
        f"/org/bluez/hci0/{value} failed",
        f"({value})",
    )


SECRETS = (PASSWORD, PROXY_PASSWORD, BINDKEY, IRK, DAY_KEY)


def forms() -> dict[str, list[str]]:
    found = {secret: list(notations_of_text(secret)) for secret in SECRETS}
    for key in (BINDKEY, IRK, DAY_KEY):
        found[key] += notations_of_bytes(bytes.fromhex(key))
    found["stranger"] = list(notations_of_address(STRANGER))
    return found


FORMS = forms()


@pytest.mark.parametrize("what", FORMS, ids=["password", "proxy", "bindkey", "irk", "day key", "stranger"])
def test_no_notation_passes(what: str) -> None:
    secrets = [text.encode() for text in SECRETS] + [bytes.fromhex(key) for key in (BINDKEY, IRK, DAY_KEY)]
    redact = Redactor(secrets, [NAMED])
    redact.learn(STRANGER.hex(":"))
    for form in FORMS[what]:
        for text in frames(form):
            assert form not in redact(text), text


@pytest.mark.parametrize(
    "form", [form for form in notations_of_address(STRANGER) if "0201061a" not in form and not form.isdecimal()]
)
def test_an_address_that_nobody_knows_is_known_by_its_form(form: str) -> None:
    for text in frames(form):
        assert form not in Redactor()(text)


@pytest.mark.parametrize(
    "form", ["001122334455", "addr=112233445566", '"112233445566"', "dev_112233445566", "11:22:33:44:55:66"]
)
def test_an_address_without_a_letter(form: str) -> None:
    assert "1122" not in Redactor()(f"heard {form}.")


def test_a_credential_is_read_where_root_put_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.config.known_secrets.SECRETS", store)
    handed = "/run/credentials/gateway.service/secrets_password"
    text = (store / "gateway.toml").read_text().replace(f"{store}/password", handed)
    assert PASSWORD.encode() in known_secrets(loads(text))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"password": "two words"}', "two words"),
        (r"{\"password\": \"hunter\"}", "hunter"),
        ("{'mqtt_password': 'hunter'}", "hunter"),
        ("broker.password=hunter next", "hunter"),
        ("BROKER_PASSWORD: hunter", "hunter"),
        ("password hunter2", "hunter2"),
        ("password = /starts/like/a/path", "starts"),
        ("Authorization: Basic Z3c6aHVudGVyMg==", "Z3c6"),
        ("Proxy-Authorization: Digest a b c", "Digest a"),
        ("sent Bearer abcdef", "abcdef"),
        ("api_key=abc", "abc"),
        ("wifi psk: abc", "abc"),
        ("https://user:p@ss/word@host/", "p@ss"),
        ("mqtts%3A%2F%2Fgw%3Ahunter%40host", "hunter"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
        ("cut off -----BEGIN EC PRIVATE KEY-----\nMIIE", "MIIE"),
        ("pseudonym key 0123456789abcdef0123456789abcdef", "0123"),
    ],
)
def test_what_follows_the_name_of_a_secret(text: str, left: str) -> None:
    assert left not in Redactor()(text)


@pytest.mark.parametrize(
    "text",
    [
        "at 2026-11-22T09:00:00.000Z door.passed 0a1b2c3d-1-door-0000000000000001",
        'sha256 4aa8f86744bf and "config_sha256": "7de4388e95909dbd5808c960d2d33df3c36e14bc0a3d019988d2100ca3f175a0"',
        "uuid f7826da6-4fa2-4e98-8024-bc5b71e0893e major 7",
        f"heard {NAMED}, {NAMED.upper()}, dev_{NAMED.upper().replace(':', '_')}, {NAMED.replace(':', '')}",
        "free=125829120000 wall_ns=1795000000000000000 used 10 20 30 40 50 60 70",
        "password_file = /etc/gateway/broker.password",
        "check username and password_file; the password file is missing",
        "broker at 192.168.0.12:8883, [::1]:1883, version 0.1.0, Linux 6.1.0-13-arm64",
        "1200 events a day, 4.5 hours left; gpiochip0 line 17",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert Redactor([b"hunter2"], [NAMED])(text) == text


def test_numbers_of_a_document_stay_and_named_secrets_go() -> None:
    found = {
        "free_bytes": 125829120000,
        "password": "x",
        "key_file": "/a/b",
        "deep": [{"token": "y", "n": 1.5, "b": None}],
    }
    assert Redactor().document(found) == {
        "free_bytes": 125829120000,
        "password": "[secret]",
        "key_file": "/a/b",
        "deep": [{"token": "[secret]", "n": 1.5, "b": None}],
    }


def test_a_log_line_is_formed_and_then_redacted() -> None:
    line = logging.LogRecord("x", logging.INFO, "", 0, "device %s, %s", ("dev_DE_AD_BE_EF_0A_01", "hunter2"), None)
    assert Redacted(logging.Formatter("%(message)s"), Redactor([b"hunter2"])).format(line) == (
        "device dev_[address], [secret]"
    )


# A real bundle.

CANARIES = [form for forms in FORMS.values() for form in forms]
JOURNALCTL = """#!{python}
import sys
sys.stdout.write(open({lines!r}, encoding="utf-8").read())
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A configuration with every kind of secret, a key of the day, and a journal full of canaries."""
    for name, content in (
        ("password", PASSWORD),
        ("proxy", PROXY_PASSWORD + "\n"),
        ("bindkey", BINDKEY.upper() + "\n"),
        ("irk", IRK),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox/privacy.key").write_text(json.dumps({"day": "2026-11-22", "key": DAY_KEY}))
    (tmp_path / "gateway.toml").write_text(
        f'[site]\nstore = "0042"\ngateway = "front"\n[broker]\nurl = "mqtts://127.0.0.1:9"\nusername = "gw-0042"\n'
        f'password_file = "{tmp_path}/password"\nproxy = "http://127.0.0.1:9"\nproxy_username = "p"\n'
        f'proxy_password_file = "{tmp_path}/proxy"\n[outbox]\ndirectory = "{tmp_path}/outbox"\n'
        f'[[scanner]]\nid = "ble"\ntags = [{{ tag = "cart", address = "{NAMED}", '
        f'bindkey_file = "{tmp_path}/bindkey" }},'
        f'{{ tag = "staff", irk_file = "{tmp_path}/irk" }}]\n'
    )
    lines = [text for form in CANARIES for text in frames(form)]
    (tmp_path / "journal").write_text(
        "".join(f"2026-11-22T09:00:00 gateway[1]: {line}\n" for line in lines) + "the end\n"
    )
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/journalctl"
    program.write_text(JOURNALCTL.format(python=sys.executable, lines=str(tmp_path / "journal")))
    program.chmod(0o755)
    return tmp_path


def test_every_configured_secret_is_known(store: Path) -> None:
    found = known_secrets(loads((store / "gateway.toml").read_text()))
    assert found >= {PASSWORD.encode(), PROXY_PASSWORD.encode(), IRK.encode(), DAY_KEY.encode()}
    assert found >= {bytes.fromhex(key) for key in (BINDKEY, IRK, DAY_KEY)}


def test_no_canary_is_in_any_file_of_a_real_bundle(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{store / 'bin'}:{os.environ['PATH']}")
    before = os.umask(0)
    try:
        words = ["support-bundle", "--config", str(store / "gateway.toml"), "--output", str(store / "bundle.tar.gz")]
        done = CliRunner().invoke(gateway, words)
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.output
    assert (store / "bundle.tar.gz").stat().st_mode & 0o777 == 0o640
    members: dict[str, str] = {}
    with tarfile.open(store / "bundle.tar.gz") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            members[member.name.split("/", 1)[1]] = file.read().decode()
    assert set(members) == {"machine.json", "doctor.json", "status.json", "outbox.json", "configuration.txt", "log.txt"}
    for name, text in members.items():
        found = [form for form in CANARIES if form in text]
        assert not found, f"{name}: {found[:5]}"
        if name.endswith(".json"):
            json.loads(text)
    assert members["log.txt"].count("\n") > len(CANARIES), "the log is there"
    assert members["log.txt"].endswith("the end\n")
    assert "127.0.0.1:9" in members["configuration.txt"], "what helps is there"
    assert NAMED in members["configuration.txt"]


def test_a_bundle_does_not_follow_a_planted_link(store: Path) -> None:
    victim = store / "victim"
    victim.write_text("precious")
    (store / "bundle.tar.gz").symlink_to(victim)
    words = ["support-bundle", "--config", str(store / "gateway.toml"), "--output", str(store / "bundle.tar.gz")]
    done = CliRunner().invoke(gateway, words)
    assert done.exit_code == 1
    assert "it is a link" in done.output
    assert victim.read_text() == "precious"


def test_the_daemon_logs_and_answers_without_them(store: Path) -> None:
    """A driver's words reach status, log and event: they name no device."""
    code = (
        "import logging, sys; from gateway.config import loads; from gateway.config.known_secrets import redactor_of\n"
        "from gateway.machine.logs import begin_logging\n"
        f"begin_logging('INFO', redactor_of(loads(open({str(store / 'gateway.toml')!r}).read())))\n"
        f"for line in open({str(store / 'journal')!r}): logging.getLogger('x').info(line.strip())\n"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the end" in done.stderr
    known = [form for form in CANARIES if "0201061a" not in form]
    assert not [form for form in known if form in done.stderr and form not in FORMS["stranger"]]


class Idle(Supervised):
    def work(self) -> None:
        """There is nothing to read."""


def test_what_a_driver_says_names_no_device() -> None:
    """It becomes an event and leaves the store."""
    heard: list[Any] = []
    driver = Idle("ble", SystemClock())
    driver.emit = heard.append
    driver.fail("radio", "BleakError: /org/bluez/hci0/dev_DE_AD_BE_EF_0A_01 not found")
    assert heard[0].detail == "BleakError: /org/bluez/hci0/dev_[address] not found"


def test_status_and_the_doctor_s_answer_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"link": {"reason": "hunter2 at DE-AD-BE-EF-0A-01"}, "sensors": {}, "free_bytes": 125829120000}
    monkeypatch.setattr("gateway.daemon.answers.status_of", lambda *given: {**found, "config_sha256": "ab" * 32})
    monkeypatch.setattr("gateway.daemon.answers.examination", lambda configuration: found)
    said: list[Any] = []
    engine: Any = SimpleNamespace(offer=said.append)
    none: Any = SimpleNamespace(acquire=None, release=lambda: None)
    configuration = loads('[site]\nstore = "0042"\n')
    answers = Answers(engine, configuration, none, {}, none, none, none, Redactor([b"hunter2"]), _examining=none)
    redacted = {"link": {"reason": "[secret] at [address]"}, "sensors": {}, "free_bytes": 125829120000}
    assert answers.status(SystemClock().now()) == {**redacted, "config_sha256": "ab" * 32}
    answers._examine(CommandReceived(1, "doctor", b""))
    assert json.loads(said[0].payload) == {"ok": True, "result": redacted}


@pytest.mark.parametrize("line", ["a:", "\\", "//", "%", "0, ", "password "])
def test_no_line_holds_it_up_for_long(line: str) -> None:
    redact = Redactor([b"\\" * 12 + b"abc", PASSWORD.encode(), bytes(range(32))])
    began = time.process_time()
    redact(line * (8_000 // len(line)))
    assert time.process_time() - began < 1.5
