"""Signed commands: believed once, in time, by this gateway, for this verb; all else is refused and does nothing."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.commands.signed import (
    CONTEXT,
    KEPT_MAX,
    WINDOW_MS,
    Believed,
    opened,
    path_of,
    payload_of,
    read_believed,
    statement_of,
    write_believed,
)
from gateway.commands.verbs import PAYLOAD_BYTES_MAX, CommandRefused
from gateway.config import loads
from gateway.daemon.answers import Answers
from gateway.model import NS_PER_MS, NS_PER_S, CommandReceived, Instant
from gateway.technician.checks.warnings import warnings_of
from tests.daemon import PREFIX, Consumer, Shop, stop, wait_for
from tests.uplink.brokers import Mosquitto, mosquitto

OWN = "stores/v1/1/g/command/"
TIME_MS = 1_795_000_000_000
NOW = Instant(5 * NS_PER_S, TIME_MS * NS_PER_MS)
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
SPKI = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def nonce(number: int) -> str:
    return f"{number:016}"


def signed(
    arguments: dict[str, Any] | None = None,
    verb: str = "restart",
    number: int = 1,
    time_ms: int = TIME_MS,
    key: Ed25519PrivateKey = KEY,
    own: str = OWN,
) -> bytes:
    statement = statement_of(f"{own}{verb}", arguments or {}, time_ms, nonce(number))
    return payload_of(statement, key.sign(CONTEXT + statement))


def with_signed(content: Any) -> bytes:
    statement = content if isinstance(content, bytes) else json.dumps(content).encode()
    return payload_of(statement, KEY.sign(CONTEXT + statement))


GOOD = json.loads(base64.b64decode(json.loads(signed())["signed"]))


def changed(payload: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(payload), **fields}).encode()


class Gateway:
    """The part of a daemon that hears commands; each is a run of its own over the same files."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey = KEY) -> None:
        self.folder = folder
        self.key_file = folder / "command.pub"
        self.key_file.write_bytes(key.public_key().public_bytes(*SPKI))
        self.stopped: list[str] = []
        self.said: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        configuration = loads(
            f'[site]\nstore = "1"\ngateway = "g"\n[outbox]\ndirectory = "{self.folder}/outbox"\n'
            f'[commands]\nallow = ["ping", "restart", "config"]\nkey_file = "{self.key_file}"'
        )
        self.answers = Answers(self, configuration, None, {}, self.stopped.append, None, None)  # type: ignore[arg-type]

    @property
    def uplink(self) -> Gateway:
        return self

    def answer(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        self.said.append(json.loads(payload))

    def hear(self, payload: bytes, verb: str = "restart", now: Instant = NOW) -> str:
        """Return "ok" or the refusal's code."""
        before = len(self.stopped)
        self.answers.command(CommandReceived(1, verb, payload), now)
        answer = self.said[-1]
        assert (len(self.stopped) > before) == (answer["ok"] and verb == "restart"), "refused is not carried out"
        return "ok" if answer["ok"] else str(answer["error"]["code"])


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_what_is_signed_is_carried_out_once_also_over_a_restart(gateway: Gateway) -> None:
    assert gateway.hear(signed()) == "ok"
    assert gateway.hear(signed()) == "not_signed"
    gateway.start()
    assert gateway.hear(signed()) == "not_signed"
    assert "carried out before" in gateway.said[-1]["error"]["detail"]
    assert gateway.hear(signed(number=2)) == "ok"
    assert gateway.hear(b"{}", "ping") == "ok", "other verbs are as before"


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"config": {}}',
        signed(key=OTHER),
        signed(own="stores/v1/1/h/command/"),
        signed(verb="config"),
        signed(time_ms=TIME_MS - WINDOW_MS - 1000),
        signed(time_ms=TIME_MS + WINDOW_MS + 1000),
        signed(time_ms=0),
        changed(signed(), signature=""),
        changed(signed(), signature=json.loads(signed())["signature"][:40]),
        changed(signed(), signature=json.loads(signed())["signature"] + "\n"),
        changed(signed(), signature=7),
        changed(signed(), signature="ä" * 88),
        changed(signed(), signature=json.loads(signed(number=2))["signature"]),
        changed(signed(), signed=base64.b64encode(json.dumps(GOOD, indent=1).encode()).decode()),
        changed(signed(), signed=None),
        changed(signed(), more=1),
        with_signed(b"[]"),
        with_signed(b"\xff"),
        with_signed(b"[" * 9000),
        with_signed({}),
        with_signed({**GOOD, "more": 1}),
        with_signed({**GOOD, "arguments": []}),
        with_signed({**GOOD, "nonce": "short"}),
        with_signed({**GOOD, "nonce": "x" * 5000}),
        with_signed({**GOOD, "nonce": None}),
        with_signed({**GOOD, "time_ms": float(TIME_MS)}),
        with_signed({**GOOD, "time_ms": True}),
        with_signed({**GOOD, "time_ms": 10**25}),
        with_signed({**GOOD, "topic": None}),
    ],
)
def test_everything_else_is_refused_and_nothing_happens(gateway: Gateway, payload: bytes) -> None:
    assert gateway.hear(payload) == "not_signed"
    assert len(gateway.said[-1]["error"]["detail"].split()) >= 4, "a refusal is a sentence"
    assert not path_of(gateway.folder / "outbox").exists()
    assert gateway.hear(signed()) == "ok"


def test_a_flood_of_resends_is_bounded_by_the_hour(tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []

    def resend(stream: str, first: int, last: int) -> list[tuple[int, int]]:
        sent.append((first, last))
        return [(first, last)]

    uplink = SimpleNamespace(resend=resend, answer=lambda *said: answers.append(json.loads(said[1])))
    outbox = SimpleNamespace(kept=lambda stream, first, last: [(first, min(last, 8000))])
    configuration = loads('[site]\nstore = "1"\n[commands]\nresend_bytes_per_hour = "1 MiB"')
    answers: list[dict[str, Any]] = []
    engine: Any = SimpleNamespace(uplink=uplink, outbox=outbox)
    hearing = Answers(engine, configuration, None, {}, None, None, None)  # type: ignore[arg-type]
    for number in range(64):
        payload = b'{"stream": "door", "first_sequence": %d, "last_sequence": 9999999}' % (number % 7 + 1)
        hearing.command(CommandReceived(1, "resend", payload), NOW.later(number * NS_PER_S))
    assert sent[0] == (1, 2048)
    assert answers[0]["result"]["later"] == [{"first_sequence": 2049, "last_sequence": 8000}]
    assert sum(last - first + 1 for first, last in sent) <= 2048 + 64
    assert answers[-1]["error"]["code"] == "busy" or len(sent) > 1


@pytest.mark.parametrize(("by_ms", "words"), [(-WINDOW_MS - 1000, "old"), (WINDOW_MS + 1000, "ahead of this gateway")])
def test_who_is_refused_for_the_time_learns_which_clock_to_look_at(gateway: Gateway, by_ms: int, words: str) -> None:
    assert gateway.hear(signed(time_ms=TIME_MS + by_ms)) == "not_signed"
    assert words in gateway.said[-1]["error"]["detail"]


def test_a_huge_one_is_too_large(gateway: Gateway) -> None:
    assert gateway.hear(signed({"x": "y" * PAYLOAD_BYTES_MAX})) == "too_large"


def test_a_signature_without_the_context_is_none_of_a_command(gateway: Gateway) -> None:
    statement = statement_of(f"{OWN}restart", {}, TIME_MS, nonce(1))
    assert gateway.hear(payload_of(statement, KEY.sign(statement))) == "not_signed"


def test_a_clock_that_is_not_set_believes_nothing_and_one_set_back_repeats_nothing(gateway: Gateway) -> None:
    assert gateway.hear(signed(), now=dataclasses.replace(NOW, clock="unsynced")) == "not_signed"
    assert "not synchronised" in gateway.said[-1]["error"]["detail"]
    for number in range(KEPT_MAX * 2):
        assert (
            gateway.hear(signed(number=number, time_ms=TIME_MS + number), now=NOW.later(number * NS_PER_S // 10))
            == "ok"
        )
    for number in (0, 1, KEPT_MAX - 1, KEPT_MAX, KEPT_MAX * 2 - 1):
        assert (
            gateway.hear(signed(number=number, time_ms=TIME_MS + number), now=NOW.later(60 * NS_PER_S)) == "not_signed"
        )
    assert gateway.hear(signed(number=999, time_ms=TIME_MS + 1), now=NOW.later(61 * NS_PER_S)) == "not_signed", (
        "too old"
    )


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    believed = Believed()
    for number in range(KEPT_MAX * 3):
        outer = json.loads(signed(number=number, time_ms=TIME_MS + number % 7))
        try:
            believed = opened(outer, f"{OWN}restart", lambda *_: True, NOW, believed)[1]
        except CommandRefused:
            assert len(believed.last) == KEPT_MAX
    assert len(believed.last) == KEPT_MAX
    write_believed(tmp_path / "outbox", believed)
    assert read_believed(tmp_path / "outbox", NOW) == believed


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"{}", b'{"floor_ms": "x", "last": []}', b'{"floor_ms": 0, "last": [[1]]}']
)
def test_a_damaged_memory_believes_nothing_of_before(gateway: Gateway, damage: bytes) -> None:
    assert gateway.hear(signed()) == "ok"
    path_of(gateway.folder / "outbox").write_bytes(damage)
    assert gateway.hear(signed()) == "not_signed"
    assert gateway.hear(signed(number=2, time_ms=TIME_MS)) == "not_signed", "signed before the damage was seen"
    later = NOW.later(5 * NS_PER_S)
    assert gateway.hear(signed(number=3, time_ms=TIME_MS + 4000), now=later) == "ok", (
        "signed since, heard a second later"
    )


def test_a_damaged_memory_waits_for_a_clock_that_is_set(gateway: Gateway) -> None:
    path_of(gateway.folder / "outbox").write_bytes(b"{")
    wrong = dataclasses.replace(NOW, wall_ns=NOW.wall_ns + 400 * 86_400 * NS_PER_S, clock="unsynced")
    assert gateway.hear(signed(), now=wrong) == "not_signed"
    assert gateway.hear(signed(number=2), now=NOW) == "not_signed"
    later = NOW.later(5 * NS_PER_S)
    assert gateway.hear(signed(number=3, time_ms=TIME_MS + 4000), now=later) == "ok"


def test_a_memory_that_cannot_be_kept_carries_nothing_out(gateway: Gateway) -> None:
    (gateway.folder / "outbox.signed.json.new").mkdir()
    assert gateway.hear(signed()) == "failed"


def test_a_key_that_is_replaced_counts_from_the_next_command_on(gateway: Gateway) -> None:
    gateway.key_file.write_bytes(OTHER.public_key().public_bytes(*SPKI))
    assert gateway.hear(signed()) == "not_signed"
    assert gateway.hear(signed(key=OTHER)) == "ok"
    gateway.key_file.unlink()
    assert gateway.hear(signed(key=OTHER, number=2)) == "not_signed"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "cannot be read"),
        (b"", "no public key in PEM"),
        (KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "holds a private key"),
        (KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), "holds a private key"),
        (KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "form of OpenSSH"),
        (KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "in DER"),
        (generate_private_key(SECP256R1()).public_key().public_bytes(*SPKI), "of another kind"),
        (KEY.public_key().public_bytes(*SPKI)[:60], "is damaged"),
        (KEY.public_key().public_bytes(*SPKI) * 2, "more than one key"),
        (b"x" * 100_000, "larger than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "key",  # the keys are others in each process
)
def test_a_key_that_cannot_be_used_is_told_with_what_to_do(gateway: Gateway, content: bytes | None, word: str) -> None:
    assert warnings_of(gateway.answers.configuration, NOW) == []
    gateway.key_file.unlink()
    if content is not None:
        gateway.key_file.write_bytes(content)
    assert [word in one.detail for one in warnings_of(gateway.answers.configuration, NOW)] == [True]
    assert gateway.hear(signed()) == "not_signed"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as running:
        yield running


def test_a_signed_restart_end_to_end(tmp_path: Path, broker: Mosquitto) -> None:
    private, public = tmp_path / "command.key", tmp_path / "command.pub"
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(KEY.public_key().public_bytes(*SPKI))
    shop = Shop(tmp_path, broker.url, f'[commands]\nallow = ["restart"]\nkey_file = "{public}"')
    topic = f"{PREFIX}/command/restart"
    sign = [*shop.command("sign-command")[:4], "--key", str(private), topic]
    payload = subprocess.run(sign, capture_output=True, check=True, timeout=30).stdout.strip()
    with Consumer(broker.port) as consumer:
        process = shop.run("--simulated")
        wait_for(lambda: consumer.of("store.gateway.started"), what="the start")
        refused = consumer.order("restart", b"{}")
        assert refused["error"]["code"] == "not_signed"
        answer = consumer.order("restart", payload)
        if answer["ok"]:  # a machine whose clock is synchronised
            assert process.wait(20) == 0
            process.communicate()
        else:
            assert "not synchronised" in answer["error"]["detail"]
            assert stop(process)[0] == 0
