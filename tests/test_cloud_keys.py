"""What the cloud may change: every key classified, everything else refused; and log lines stay lines."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import gateway
from gateway.config import SECTIONS, load, loads
from gateway.config.cloud_keys import changeable, fixed, forbidden_keys, on_demand
from gateway.config.overlay import Ordered, write_ordered
from gateway.daemon.answers import Answers
from gateway.errors import ConfigurationError
from gateway.machine.logs import (
    BURST,
    KINDS_MAX,
    LINE_CHARACTERS_MAX,
    WINDOW_S,
    JournalFormatter,
    Throttle,
    begin_logging,
)
from gateway.model import CommandReceived, Instant
from gateway.sensors import kinds
from gateway.technician.checks.warnings import unsafe
from tests.daemon import Shop

SITE = '[site]\nstore = "1"\n'


def test_every_key_of_the_settings_is_classified_once() -> None:
    settings = {**SECTIONS, **{kind.table: kind.settings for kind in kinds()}}
    keys = {f"{table}.{field.name}" for table, one in settings.items() for field in dataclasses.fields(one)}
    assert keys == changeable() | on_demand() | fixed()
    assert len(changeable()) + len(on_demand()) + len(fixed()) == len(keys)


def test_nothing_that_names_a_host_a_file_a_pin_or_an_identity_is_changeable_by_default() -> None:
    words = ("url", "proxy", "host", "file", "pin", "directory", "identity", "prefix", "tags", "commands", "driver")
    assert not [key for key in changeable() if any(word in key for word in words)]


def test_what_throws_recorded_events_away_is_not_changeable_by_default() -> None:
    assert {key for key in changeable() if key.startswith("outbox.")} == {"outbox.commit_interval_ms"}


def test_a_changed_an_added_and_a_removed_key_are_told() -> None:
    ours = {"health": {"every": 1}, "door": [{"id": "a", "outer_pin": 1}]}
    assert forbidden_keys(ours, {"health": {"every": 2}, "door": ours["door"]}, None) == []
    assert forbidden_keys(ours, {"health": {"every": 2}, "door": ours["door"]}, ()) == ["health.every"]
    assert forbidden_keys(ours, {**ours, "door": []}, None) == ["door.id", "door.outer_pin"]
    assert forbidden_keys(ours, {**ours, "broker": {"url": "x"}}, None) == ["broker.url"]
    assert forbidden_keys(ours, {**ours, "broker": {"profile": "x"}}, ("broker.profile",)) == []


def test_nothing_that_names_a_host_a_file_a_pin_or_an_identity_can_ever_be_allowed() -> None:
    words = ("url", "proxy", "host", "file", "pin", "directory", "identity", "prefix", "tags", "commands", "username")
    named = {key for key in changeable() | on_demand() if any(word in key.partition(".")[2] for word in words)}
    assert named == {"broker.profile"}


@pytest.mark.parametrize("key", [*sorted(fixed()), "broker.nothing", "", "x" * 9000])
def test_config_keys_cannot_name_what_is_fixed_or_unknown(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"config_keys has .*, which (the cloud can never change|is no key)"):
        loads(f'{SITE}[commands]\nconfig_keys = ["{key}"]')


def test_a_kept_order_that_changes_more_than_it_may_is_not_used(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "mqtt://127.0.0.1:1")
    write_ordered(shop.outbox, Ordered({"broker": {"url": "mqtt://thief"}}))
    assert load([shop.config]).broker.url == "mqtt://127.0.0.1:1"
    write_ordered(shop.outbox, Ordered({"health": {"every": "7 s"}}))
    assert load([shop.config]).health.every == 7


def test_a_log_record_is_one_bounded_printable_line() -> None:
    said = "a\nlink up \x1b[31m\r\u2028\u202e" + "x" * 60_000
    record = logging.LogRecord("gateway", logging.WARNING, "", 0, "refused verb=%s", (said,), None)
    line = JournalFormatter("%(name)s: %(message)s").format(record)
    assert line.startswith(r"<4>gateway: refused verb=a\nlink up \x1b[31m\r\u2028\u202exxx")
    assert line.isprintable()
    assert len(line) < LINE_CHARACTERS_MAX + 100


def warned(message: str, *args: Any, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("gateway", level, "", 0, message, args, None)


def test_a_flood_of_one_kind_is_a_few_lines_and_then_a_count_a_minute() -> None:
    now, passed = [0.0], list[str]()
    throttle, form = Throttle(lambda: int(now[0] * 1_000_000)), JournalFormatter("%(message)s")
    for number in range(50 * 180):  # three minutes of fifty a second
        now[0] = number / 50
        record = warned("refused verb=%s", str(number))
        if throttle.filter(record):
            passed.append(form.format(record))
    assert len(passed) == BURST + 2
    assert passed[BURST] == f"<4>refused verb=3000 (and {3000 - BURST} more like it, left out)"
    assert passed[-1] == "<4>refused verb=6000 (and 2999 more like it, left out)"
    assert throttle.filter(warned("another kind"))
    now[0] += 2 * WINDOW_S
    assert [throttle.filter(warned("refused verb=%s", "x")) for _ in range(3)] == [True, False, False], "still a flood"
    now[0] += WINDOW_S
    assert throttle.filter(warned("refused verb=%s", "x"))
    now[0] += WINDOW_S
    assert all(throttle.filter(warned("refused verb=%s", "x")) for _ in range(BURST)), "a quiet minute ends it"
    assert all(throttle.filter(warned("bytes", level=logging.DEBUG)) for _ in range(BURST + 9)), "asked for by hand"


def test_the_kinds_of_lines_that_are_counted_are_bounded() -> None:
    throttle = Throttle(lambda: 0)
    assert all(throttle.filter(warned(f"kind {number}")) for number in range(KINDS_MAX * 3))
    assert len(throttle._kinds) == KINDS_MAX


def test_the_daemons_log_is_throttled(capfd: pytest.CaptureFixture[str]) -> None:
    before, level = logging.root.handlers[:], logging.root.level
    try:
        begin_logging()
        for number in range(BURST * 5):
            logging.getLogger("gateway.daemon.answers").warning("command refused verb=%s", number)
    finally:
        logging.root.handlers[:] = before
        logging.root.setLevel(level)
    assert len(capfd.readouterr().err.splitlines()) == BURST


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mqtt://broker.example", "mqtts://"),
        ("ws://broker.example", "wss://"),
        ("mqtt://192.168.1.9:1883", "mqtts://"),
        ("mqtts://broker.example", None),
        ("wss://broker.example", None),
        ("mqtt://127.0.0.1", None),
        ("ws://[::1]", None),
        ("mqtt://localhost", None),
    ],
)
def test_a_password_in_clear_text_is_warned_of(url: str, word: str | None) -> None:
    broker = f'[broker]\nurl = "{url}"\n'
    found = list(unsafe(loads(f'{SITE}{broker}username = "u"\npassword_file = "/p"\n')))
    assert [word in one.advice for one in found if word] == ([True] if word else [])
    assert bool(found) == bool(word)
    assert list(unsafe(loads(f"{SITE}{broker}"))) == []


def test_config_check_tells_warnings_and_is_still_good(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "mqtt://broker.example")
    text = shop.config.read_text().replace("[broker]", '[broker]\nusername = "u"\npassword_file = "p"')
    shop.config.write_text(text)
    said = shop.ask("config check")
    assert said.returncode == 0
    assert "warning: broker.url: the password goes over mqtt:// in clear text" in said.stdout


@pytest.mark.parametrize(("mode", "open_to_all"), [(0o644, True), (0o602, True), (0o640, False), (0o600, False)])
def test_a_secret_that_every_user_can_read_is_told_by_config_check_and_doctor_alike(
    tmp_path: Path, mode: int, open_to_all: bool
) -> None:
    key, crate = tmp_path / "gw.key", tmp_path / "badge.irk"
    for file in (key, crate):
        file.write_text("00" * 16)
        file.chmod(mode)
    written = tmp_path / "gateway.toml"
    written.write_text(
        f'''{SITE}[broker]\nurl = "mqtts://127.0.0.1:9"\ncert_file = "/nowhere"\nkey_file = "{key}"\n'''
        f'''[[scanner]]\nid = "ble"\ntags = [{{ tag = "badge", irk_file = "{crate}" }}]\n'''
    )
    checked = json.loads(CliRunner().invoke(gateway, ["config", "check", "--json", "--config", str(written)]).output)
    examined = json.loads(CliRunner().invoke(gateway, ["doctor", "--json", "--config", str(written)]).output)
    for told, word in ((checked["warnings"], "detail"), (examined["checks"], "found")):
        found = [one[word] for one in told if one["code"] == "file.open"]
        assert [str(file) in one for file, one in zip((key, crate), found, strict=False)] == [True, True] * open_to_all


def test_a_traceback_keeps_its_lines_and_each_has_its_priority() -> None:
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        record = logging.LogRecord("gateway", logging.ERROR, "", 0, "it failed", (), sys.exc_info())
    lines = JournalFormatter("%(message)s").format(record).split("\n")
    assert len(lines) > 2
    assert all(line.startswith("<3>") and line.isprintable() for line in lines)


OWN = "stores/v1/1/g/"


@pytest.mark.parametrize(
    ("asked", "prefix", "said"),
    [
        (None, None, "command/ping/result"),
        (f"{OWN}answers/7", None, "answers/7"),
        (f"{OWN}command/ping/result", None, "command/ping/result"),
        *[
            (f"{OWN}{own}", None, "command/ping/result")
            for own in ("state", "event/door/a", "backfill", "command/restart", "")
        ],
        *[(other, None, "command/ping/result") for other in ("stores/v1/2/g/command/restart", "$SYS/x", "", "a/#")],
        (f"{OWN}answers/" + "x" * 60_000, None, "command/ping/result"),
        (f"{OWN}answers/bad\0nul", None, "command/ping/result"),
        (f"{OWN}answers/#", None, "command/ping/result"),
        ("homeassistant/x", "answers/", "command/ping/result"),
        ("answers/x", "answers/", "answers/x"),
        (f"{OWN}state", "stores/", "command/ping/result"),
    ],
)
def test_an_answer_goes_below_the_gateways_own_topics_or_the_prefix_for_answers(
    asked: str | None, prefix: str | None, said: str
) -> None:
    given = f'response_prefix = "{prefix}"' if prefix else ""
    configuration = loads(f'[site]\nstore = "1"\ngateway = "g"\n[commands]\n{given}')
    topics: list[str] = []
    unused: Any = None
    engine: Any = SimpleNamespace(uplink=SimpleNamespace(answer=lambda topic, *_: topics.append(topic)))
    answers = Answers(engine, configuration, unused, {}, unused, unused, unused)
    answers.command(CommandReceived(1, "ping", b"{}", False, asked), Instant(0, 0))
    assert topics == [said if said.startswith("answers/x") else OWN + said]


@pytest.mark.parametrize("prefix", ["", "/", "answers", "a/#/", "+/"])
def test_a_prefix_for_answers_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="response_prefix"):
        loads(f'{SITE}[commands]\nresponse_prefix = "{prefix}"')
