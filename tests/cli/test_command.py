"""The command as people and scripts meet it: helps, exit statuses, errors in sentences, pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import VERBS, gateway
from gateway.config import load
from gateway.control.serving import ControlServer
from gateway.errors import OutboxUnusable
from gateway.machine.header import HEADER

DOOR = '[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n'


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(gateway, [str(argument) for argument in arguments], prog_name="gateway")


def commands() -> list[list[str]]:
    """Every verb, and every verb of a group, as words."""
    found = []
    context = click.Context(gateway)
    for verb in gateway.list_commands(context):
        command = gateway.get_command(context, verb)
        found.append([verb])
        if isinstance(command, click.Group):
            found += [[verb, inner] for inner in command.list_commands(context)]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_help_ends_with_an_example(words: list[str]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    paragraphs = result.output.rstrip().split("\n\n")
    assert paragraphs[-1].startswith("Example:")
    assert f"gateway {words[0]}" in paragraphs[-1]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_verb_takes_config_and_names_a_missing_one(words: list[str], tmp_path: Path) -> None:
    context = click.Context(gateway)
    command: Any = gateway.get_command(context, words[0])
    for word in words[1:]:
        command = command.get_command(context, word)
    if isinstance(command, click.Group) or words == ["demo"]:
        return
    assert any("--config" in parameter.opts for parameter in command.params)
    if words in (["config", "example"], ["config", "schema"], ["sign-command"]):
        return
    needed: list[str] = []
    for parameter in command.params:
        if parameter.required:
            needed += [parameter.opts[0]] if isinstance(parameter, click.Option) else []
            needed += ["door", "1"] if parameter.nargs == -1 else ["1"]
    result = call(*words, *needed, "--config", tmp_path / "absent.toml")
    assert result.exit_code == 78, result.output
    assert f"{tmp_path}/absent.toml: there is no such file" in result.output + result.stderr


def test_every_verb_has_its_line_in_the_help() -> None:
    output = call("--help").output
    for verb in gateway.list_commands(click.Context(gateway)):
        assert VERBS[verb][1].split(",")[0] in output


@pytest.mark.parametrize(
    "words",
    [["nothing"], ["run", "--speed", "3"], ["replay"], ["config", "chek"], ["run", "--simulated", "--recording", "x"]],
)
def test_usage_errors_end_with_2(words: list[str]) -> None:
    assert call(*words).exit_code == 2


def test_run_needs_a_broker(write_configuration: Any) -> None:
    result = call("run", "--config", write_configuration(DOOR))
    assert result.exit_code == 78
    assert "broker.url is missing" in result.stderr
    assert "what to do: add to the configuration" in result.stderr


def test_check_tells_every_mistake_and_ends_with_78(write_configuration: Any) -> None:
    path = write_configuration(DOOR.replace("17", "99") + "colour = 1\n")
    result = call("config", "check", "--config", path)
    assert result.exit_code == 78
    assert "2 mistakes" in result.stderr
    document = json.loads(call("config", "check", "--config", path, "--json").stdout)
    assert document["result"] == "failed"
    assert [mistake["key"] for mistake in document["mistakes"]] == [
        '[[door]] "entrance".outer_pin',
        '[[door]] "entrance".colour',
    ]
    assert all(mistake["file"] == str(path) and mistake["line"] for mistake in document["mistakes"])


def test_check_of_a_good_one(write_configuration: Any) -> None:
    result = call("config", "check", "--config", write_configuration(DOOR))
    assert result.exit_code == 0
    assert "good" in result.stdout
    assert json.loads(call("config", "check", "--config", write_configuration(DOOR), "--json").stdout)["result"] == "ok"


def test_the_example_passes_its_check(tmp_path: Path) -> None:
    example = call("config", "example")
    (tmp_path / "example.toml").write_text(example.stdout)
    assert call("config", "check", "--config", tmp_path / "example.toml").exit_code == 0


def test_show_says_where_each_value_came_from(write_configuration: Any) -> None:
    path = write_configuration(DOOR)
    lines = [line.split() for line in call("config", "show", "--config", path).stdout.splitlines()]
    assert ["site.store", '"0042"', f"{path}:2"] in lines
    assert ["broker.keepalive_s", "30", "default"] in lines
    assert ["[[door]]", '"entrance".outer_pin', "17", f"{path}:8"] in lines
    shown = json.loads(call("config", "show", "--config", path, "--json").stdout)
    assert shown["door"][0]["outer_pin"] == 17
    assert shown["outbox"]["bytes_max"] == 1 << 30


def test_status_without_a_daemon_says_so_and_ends_with_69(write_configuration: Any) -> None:
    path = write_configuration(DOOR)
    result = call("status", "--config", path)
    assert result.exit_code == 69
    assert "not running" in result.stdout
    assert "systemctl start gateway" in result.stderr
    document = json.loads(call("status", "--config", path, "--json").stdout)
    assert document["running"] is False
    assert set(document) >= {"running", "state", "link", "streams", "outbox", "sensors", "counters", "clock"}
    assert set(document["link"]) >= {"up", "since", "reason"}


def test_status_of_a_running_daemon(write_configuration: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    path = write_configuration(DOOR)
    (tmp_path / "outbox").mkdir()
    told: dict[str, Any] = {
        "running": True,
        "state": "online",
        "link": {"up": True, "since": "2026-11-22T09:00:00.000Z", "reason": None},
        "streams": {"door": {"recorded_through": 5, "acknowledged_through": 3, "backlog": 2}},
        "outbox": {"entries": 2, "bytes": 4096, "oldest_entry_ms": 1500, "degraded": False},
        "sensors": {"entrance": {"kind": "door", "readings": 4, "discarded": 0, "age_ms": 350, "faults": {}}},
        "counters": {},
        "clock": "synced",
    }
    server = ControlServer(load([path]), lambda verb, arguments: told)
    server.start()
    try:
        assert json.loads(call("status", "--config", path, "--json").stdout) == told
        text = call("status", "--config", path).stdout
        assert "online" in text
        told["link"] = {
            "up": False,
            "since": None,
            "reason": "nothing listens",
            "code": "tcp.refused",
            "advice": "look",
        }
        down = call("status", "--config", path).stdout
        assert "nothing listens (tcp.refused)" in down
        assert "what to do: look" in down
        assert "2 not acknowledged, 4.0 KiB, oldest 2 s" in text
        sensors = call("sensors", "--config", path)
        assert sensors.exit_code == 0
        assert "350 ms ago" in sensors.stdout
    finally:
        server.close()


def test_sensors_without_a_daemon_shows_the_pins(write_configuration: Any) -> None:
    result = call("sensors", "--config", write_configuration(DOOR))
    assert result.exit_code == 69
    assert "outer_pin GPIO17" in result.stdout


def test_an_error_of_ours_ends_with_its_status(monkeypatch: pytest.MonkeyPatch, write_configuration: Any) -> None:
    def unusable(*arguments: Any, **more: Any) -> int:
        raise OutboxUnusable("the outbox cannot be used", "make room")

    monkeypatch.setattr("gateway.daemon.service.run", unusable)
    result = call("run", "--config", write_configuration(DOOR + '[broker]\nurl = "mqtt://h"\n'))
    assert result.exit_code == 73
    assert result.stderr == "gateway: the outbox cannot be used\n  what to do: make room\n"


def test_an_unexpected_error_is_one_sentence_and_a_traceback_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, write_configuration: Any
) -> None:
    def broken(*arguments: Any, **more: Any) -> int:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("gateway.daemon.service.run", broken)
    path = write_configuration(DOOR + '[broker]\nurl = "mqtt://h"\n')
    result = call("run", "--config", path)
    assert result.exit_code == 1
    assert "unexpected ZeroDivisionError: division by zero" in result.stderr
    assert "Traceback" not in result.stderr
    assert isinstance(call("--debug", "run", "--config", path).exception, ZeroDivisionError)


def test_privacy_report_follows_the_configuration(write_configuration: Any) -> None:
    rule = '{ tag = "cart", ibeacon = { uuid = "f7826da6-4fa2-4e98-8024-bc5b71e0893e" } }'
    scanner = f'[[scanner]]\nid = "ble"\ntags = [{rule}]\n'
    plain = json.loads(call("privacy", "report", "--json", "--config", write_configuration(DOOR)).stdout)
    assert "store.door.passed" in plain["events"]
    assert not any("beacon" in event for event in plain["events"])
    with_tags = json.loads(call("privacy", "report", "--json", "--config", write_configuration(scanner)).stdout)
    assert with_tags["identified"][0]["tag"] == "cart"
    assert "identity" in with_tags["events"]["store.beacon.arrived"]
    none = write_configuration(scanner + '[privacy]\nidentity = "none"\n')
    assert (
        "identity"
        not in json.loads(call("privacy", "report", "--json", "--config", none).stdout)["events"][
            "store.beacon.arrived"
        ]
    )


def test_wiring_shows_each_configured_pin(write_configuration: Any) -> None:
    path = write_configuration(DOOR)
    line = next(line for line in call("wiring", "--config", path).stdout.splitlines() if "(11)" in line)
    assert "entrance.outer_pin GPIO17 (11)" in line
    pins = json.loads(call("wiring", "--config", path, "--json").stdout)["pins"]
    assert {"pin": 13, "bcm": 27, "user": "entrance.inner_pin"} in pins


def test_wiring_is_drawn_with_a_box_for_each_sensor(write_configuration: Any, tmp_path: Path) -> None:
    path = write_configuration('[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n')
    assert call("wiring", "--config", path, "--svg", tmp_path / "wiring.svg").exit_code == 0
    drawn = ElementTree.fromstring((tmp_path / "wiring.svg").read_text())
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"door entrance", "outer  -  pin 11, GPIO17", "inner  -  pin 13, GPIO27"} <= set(words)
    refused = call("wiring", "--config", path, "--svg", tmp_path / "no" / "such.svg")
    assert refused.exit_code == 1
    assert "--svg" in refused.output + refused.stderr


def test_the_header_is_that_of_the_hardwares_facts() -> None:
    facts = tomllib.loads((Path(__file__).parents[2] / "hardware/header.toml").read_text())["pins"]
    assert tuple(pin.get("bcm", pin.get("power")) for pin in sorted(facts, key=lambda pin: pin["pin"])) == HEADER


# The real command.


def run_command(*arguments: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)], capture_output=True, text=True, timeout=30, **more
    )


def test_help_loads_no_library_but_click() -> None:
    code = (
        "import sys; from gateway.cli import gateway\n"
        "try: gateway.main(['--help'], prog_name='gateway')\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'rich', 'textual', 'paho', 'tinydb', 'gpiozero', 'apscheduler'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"set -o pipefail; {sys.executable} -m gateway config schema | true",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_colour_off_a_terminal(write_configuration: Any) -> None:
    done = run_command("doctor", "--config", write_configuration(""), env={**os.environ, "FORCE_COLOR": "1"})
    assert "checks:" in done.stdout
    assert "\x1b" not in done.stdout


def test_version() -> None:
    assert run_command("--version").stdout == f"gateway {__version__}\n"
