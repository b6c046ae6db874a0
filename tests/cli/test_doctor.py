"""The doctor: each disaster found in its layer, with why and what to do, and never a hang."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import gateway
from gateway.config import Configuration, load, loads
from gateway.control.serving import ControlServer
from gateway.machine.clock import SystemClock
from gateway.model import Instant
from gateway.sensors.scanner.drivers import check as radio
from gateway.technician.checks import Check, Examination, broker, daemon, examined, machine, sensors
from gateway.technician.doctor import checks, document
from tests.uplink.brokers import DAY, Authority, free_port, mosquitto

SITE = '[site]\nstore = "0042"\ngateway = "front"\n'
DOOR = '[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n'
LAYERS = ("name", "tcp", "tls", "connect", "publish", "subscribe")


def way(url: str, more: str = "") -> dict[str, Check]:
    """The broker's checks by name."""
    configuration = loads(f'{SITE}[broker]\nurl = "{url}"\n{more}')
    found = [check for one in broker.examinations(configuration) for check in examined(one)]
    return {check.name: check for check in found}


def results(found: dict[str, Check]) -> dict[str, str]:
    return {name: found[name].result for name in LAYERS if name in found}


def assert_helps(check: Check) -> None:
    assert check.found
    assert check.why
    assert check.advice
    assert check.code


def test_a_check_of_the_outbox_that_hangs_says_that_the_card_does_not_answer(tmp_path: Path) -> None:
    never = threading.Event()

    def look() -> tuple[Check, ...]:
        never.wait(5)
        return ()

    (found,) = examined(Examination("outbox", "content", look, 0.05, disk=tmp_path))
    never.set()
    assert (found.result, found.code) == ("failed", "outbox.hung")
    assert f"the card under {tmp_path} does not answer" in found.found
    assert_helps(found)
    configuration = loads(f'{SITE}[outbox]\ndirectory = "{tmp_path}"\n')
    outbox = [one for one in machine.examinations(configuration) if one.group == "outbox"]
    assert outbox
    assert all(one.disk == tmp_path for one in outbox)


# The way to the broker.


def test_a_good_broker(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as running:
        found = way(running.url)
    assert set(results(found).values()) == {"ok"}
    assert "0042.front-doctor" in found["connect"].found


def test_tls_with_our_authority_and_one_that_nobody_knows(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with mosquitto(tmp_path, tls=authority.sign("broker")) as running:
        good = way(running.url, f'ca_file = "{authority.ca_file}"\n')
        unknown = way(running.url)
    assert set(results(good).values()) == {"ok"}
    assert results(unknown) == {
        **dict.fromkeys(("name", "tcp"), "ok"),
        "tls": "failed",
        **dict.fromkeys(("connect", "publish", "subscribe"), "skipped"),
    }
    assert unknown["tls"].code == "tls.unknown_ca"
    assert_helps(unknown["tls"])


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with mosquitto(tmp_path, tls=authority.sign("broker", start=-3 * DAY, end=-DAY)) as running:
        found = way(running.url, f'ca_file = "{authority.ca_file}"\n')
    assert found["tls"].code == "tls.expired"


def test_wrong_password_and_missing_rights(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong\n")
    (tmp_path / "acl").write_text("user gw\ntopic write nothing/#\n")
    extra = (f"acl_file {tmp_path}/acl",)
    credentials = f'username = "gw"\npassword_file = "{tmp_path}/password"\n'
    with mosquitto(tmp_path, users={"gw": "secret"}, extra=extra) as running:
        refused = way(running.url, credentials)
        (tmp_path / "password").write_text("secret\n")
        rightless = way(running.url, credentials)
    assert refused["connect"].result == "failed"
    assert refused["connect"].code in ("connack.not_authorized", "connack.bad_credentials")
    assert rightless["connect"].result == "ok"
    assert rightless["publish"].result == "failed"
    assert "access list" in rightless["publish"].advice


def test_nothing_listens_and_no_such_host() -> None:
    nothing = way(f"mqtt://127.0.0.1:{free_port()}")
    assert nothing["tcp"].code == "tcp.refused"
    assert_helps(nothing["tcp"])
    nowhere = way("mqtt://no-such-host.invalid")
    assert nowhere["name"].result == "failed"
    assert nowhere["name"].code.startswith("dns.")
    assert nowhere["tcp"].result == "skipped"
    assert nowhere["tls"].code == "tls.none"
    assert "tls" not in nothing


def test_the_running_gateways_connection_is_left_alone(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as running:
        way(running.url)
        log = running.log_file.read_text()
    assert "as 0042.front-doctor" in log
    assert "as 0042.front " not in log
    assert "event" not in log
    assert "/state" not in log


# The machine.


def of(look: Any) -> Check:
    check = look()
    assert isinstance(check, Check)
    return check


def named(configuration: Configuration, name: str) -> Check:
    one = next(one for one in machine.examinations(configuration) if one.name == name)
    [check] = examined(one)
    return check


def machine_secrets(configuration: Configuration) -> str:
    one = next(one for one in machine.examinations(configuration) if one.name == "secrets")
    return " ".join(check.found for check in examined(one))


def test_secrets_and_files(tmp_path: Path) -> None:
    password = tmp_path / "password"
    configuration = loads(f'{SITE}[broker]\nurl = "mqtt://h"\nusername = "u"\npassword_file = "{password}"\n')
    assert named(configuration, "password_file").result == "failed"
    password.write_text("")
    assert "empty" in named(configuration, "password_file").found
    password.write_text("open sesame\n")
    password.chmod(0o644)
    assert "mode 0644" in machine_secrets(configuration)
    password.chmod(0o640)
    assert "mode" not in machine_secrets(configuration)
    assert named(configuration, "password_file").result == "ok"
    assert "sesame" not in named(configuration, "password_file").found


def test_outbox_directory_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    in_a_file = loads(f'{SITE}[outbox]\ndirectory = "{tmp_path}/file"\n')
    assert named(in_a_file, "directory").code == "outbox.file"
    to_come = loads(f'{SITE}[outbox]\ndirectory = "{tmp_path}/a/b"\n')
    assert named(to_come, "directory").result == "ok"
    assert named(to_come, "content").result == "skipped"
    huge = loads(f'{SITE}[outbox]\ndirectory = "{tmp_path}"\nbytes_max = "900 TB"\n')
    assert named(huge, "disk").code == "disk.tight"
    room = list(os.statvfs(tmp_path))
    room[4] = 1  # f_bavail
    monkeypatch.setattr("os.statvfs", lambda path: os.statvfs_result(room))
    assert named(to_come, "disk").code == "disk.full"


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = loads(SITE)
    told = {
        "clock.past": Instant(1, 946_684_800 * 10**9, "unsynced"),
        "clock.unsynced": Instant(1, 1_795_338_000 * 10**9, "unsynced"),
        "clock.synced": Instant(1, 1_795_338_000 * 10**9, "synced"),
    }
    for code, instant in told.items():
        monkeypatch.setattr(SystemClock, "now", lambda self, instant=instant: instant)
        assert of(next(one.look for one in machine.examinations(configuration) if one.group == "clock")).code == code


# The sensors.


def test_pins_and_radio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "DEVICES", tmp_path)
    monkeypatch.setattr(radio, "BLUETOOTH", tmp_path / "bluetooth")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bluepy" else object())
    configuration = loads(SITE + DOOR + '[[scanner]]\nid = "ble"\nadapter = "hci1"\n')

    def found() -> dict[str, list[Check]]:
        return {one.name: list(examined(one)) for one in sensors.examinations(configuration)}

    assert found()["pins"][0].code == "pins.no_chip"
    (tmp_path / "gpiochip0").touch()
    assert found()["pins"][0].result == "ok"
    assert "entrance.outer_pin GPIO17" in found()["pins"][0].found
    assert [check.code for check in found()["ble"]] == ["library.missing", "bluetooth.no_adapter"]
    (tmp_path / "bluetooth/hci0").mkdir(parents=True)
    assert found()["ble"][1].advice == "set adapter to hci0"
    switch = tmp_path / "bluetooth/hci1/rfkill0"
    switch.mkdir(parents=True)
    (switch / "soft").write_text("1\n")
    assert found()["ble"][1].code == "bluetooth.off"
    (switch / "soft").write_text("0\n")
    (tmp_path / "status").write_text("CapEff:\t0000000000003000\n")
    monkeypatch.setattr(radio, "PROCESS", tmp_path / "status")
    assert found()["ble"][1].result == "ok"


# The whole.


def test_a_check_that_hangs_or_breaks_is_itself_a_finding() -> None:
    forever = threading.Event()

    def hangs() -> Check:
        forever.wait(30)
        raise AssertionError

    [hung] = examined(Examination("g", "n", hangs, within_s=0.05))
    forever.set()
    assert (hung.result, hung.code) == ("failed", "doctor.hung")
    [broken] = examined(Examination("g", "n", lambda: 1 / 0))  # type: ignore[arg-type, return-value]
    assert (broken.result, broken.code) == ("failed", "doctor.broken")


def test_what_the_daemon_says(write_configuration: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "outbox").mkdir()
    configuration = load([write_configuration(DOOR)])
    told = {
        "config_sha256": "another",
        "link": {"up": False, "reason": "nothing listens", "code": "tcp.refused", "advice": "start it"},
        "outbox": {"entries": 7, "oldest_entry_ms": 3_600_000, "degraded": True},
        "sensors": {"entrance": {"faults": {"flickering": {"since": "2026-11-22T09:00:00.000Z"}}}},
    }
    server = ControlServer(configuration, lambda verb, arguments: told)
    server.start()
    try:
        found = {check.name: check for check in checks(configuration) if check.group == "daemon"}
    finally:
        server.close()
    assert {name: check.code for name, check in found.items()} == {
        "running": "daemon.running",
        "configuration": "daemon.other_configuration",
        "link": "link.down",
        "outbox": "outbox.degraded",
        "entrance": "sensor.flickering",
    }
    assert "nothing listens (tcp.refused)" in found["link"].found


def test_a_link_that_is_up_and_takes_no_event_is_not_well() -> None:
    held = {"up": True, "since": "s", "reason": "sending is held since T: no event gets through: W", "advice": "mend"}
    found = daemon._link({**held, "code": "publish.refused", "next_probe_ms": 41_000}, {})
    assert (found.result, found.code, found.advice) == ("failed", "publish.refused", "mend")
    assert "sending is held since T" in found.found
    assert "one message asks again in 41 s" in found.found
    assert daemon._link({"up": True, "since": "s", "reason": None}, {}).result == "ok"


def test_a_daemon_that_cannot_see_that_the_clock_is_synchronised() -> None:
    [found] = daemon.clock_seen("unsynced", True)
    assert found.code == "daemon.clock_unseen"
    assert_helps(found)
    for told, kernel in (("unsynced", False), ("unsynced", None), ("synced", True), (None, True)):
        assert not list(daemon.clock_seen(told, kernel))


def test_every_finding_that_is_not_well_says_why_and_what_to_do(write_configuration: Any) -> None:
    found = list(checks(load([write_configuration(DOOR)])))
    for check in found:
        if check.result in ("warning", "failed"):
            assert_helps(check)
        assert check.code
        assert check.why
    assert document(tuple(found))["result"] in ("failed", "warning", "ok")


def test_the_verb(write_configuration: Any) -> None:
    path = write_configuration(f'[broker]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    result = CliRunner().invoke(gateway, ["doctor", "--json", "--config", str(path)])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["result"] == "failed"
    keys = {"group", "name", "result", "found", "why", "advice", "code"}
    assert all(set(check) == keys for check in told["checks"])
    text = CliRunner().invoke(gateway, ["doctor", "--config", str(path)]).stdout
    assert "✗ tcp: nothing listens" in text
    assert "what to do:" in text


def test_a_wrong_configuration_is_78_also_as_json(write_configuration: Any) -> None:
    path = write_configuration(DOOR.replace("17", "99"))
    result = CliRunner().invoke(gateway, ["doctor", "--json", "--config", str(path)])
    assert result.exit_code == 78
    [check] = json.loads(result.stdout)["checks"]
    assert "outer_pin" in check["found"]
