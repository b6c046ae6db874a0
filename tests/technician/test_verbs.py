"""The verbs without a daemon: recordings judged, files written by the verb itself, usage and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import gateway
from gateway.machine.disk import RealDisk
from gateway.sensors.shelf.calibration import StoredCalibration
from gateway.technician.calibration_store import CalibrationStore
from tests.technician.shelves import SHELF_TOML, configuration, recording, scale_lines

DOOR_TOML = '[[door]]\nid = "entrance"\nouter_pin = 17\ninner_pin = 27\n'


def invoke(config: Path, *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(gateway, [arguments[0], "--config", str(config), *arguments[1:]], input=typed)


def diagnosed(tmp_path: Path, lines: list[dict[str, Any]], *more: str, config: Path | None = None) -> Result:
    path = tmp_path / "recording.jsonl"
    path.write_text(recording(lines))
    return invoke(config or configuration(tmp_path), "diagnose", "aisle-3", "--recording", str(path), *more)


@pytest.mark.parametrize("verb", ["watch", "diagnose", "tare", "calibrate", "commission"])
def test_help_has_an_example(verb: str) -> None:
    shown = CliRunner().invoke(gateway, [verb, "--help"])
    assert shown.exit_code == 0
    assert f"gateway {verb}" in shown.stdout.split("Example")[1]


@pytest.mark.parametrize("verb", ["diagnose", "tare", "calibrate", "watch", "commission"])
def test_an_unknown_sensor_is_a_mistake_of_usage_that_names_the_known(tmp_path: Path, verb: str) -> None:
    outcome = invoke(configuration(tmp_path), verb, "aisle-33")
    assert outcome.exit_code == 2
    assert "aisle-3" in outcome.stderr


@pytest.mark.parametrize("verb", ["diagnose", "tare", "calibrate", "watch", "commission"])
def test_a_missing_configuration_ends_with_78(tmp_path: Path, verb: str) -> None:
    assert invoke(tmp_path / "none.toml", verb, "aisle-3").exit_code == 78


def test_a_recording_is_judged_without_hardware_broker_or_outbox(tmp_path: Path) -> None:
    outcome = diagnosed(tmp_path, scale_lines([(1000, 10)]), "--json")
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.stdout)
    assert (told["result"], told["source"], told["readings"], told["kind"]) == ("warning", "recording", 100, "shelf")
    assert {finding["name"] for finding in told["findings"]} >= {"rate", "noise", "saturation", "bit errors", "drift"}
    assert all(f.keys() == {"name", "result", "found", "why", "advice"} for f in told["findings"])
    assert not (tmp_path / "outbox").exists()


def test_a_recorded_tag_is_named_by_the_key_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "irk").write_text("ec0234a357c8ad05341010a60a397d9b\n")  # Core Specification vol 3 part H D.7
    rules = f'tags = [{{ tag = "staff", irk_file = "{tmp_path}/irk" }}, {{ tag = "boss", irk_file = "{tmp_path}/no" }}]'
    config = configuration(tmp_path, f'[[scanner]]\nid = "aisle-3"\n{rules}\n')
    said = {"sensor": "aisle-3", "address": "70:81:94:0d:fb:aa", "address_type": "random", "rssi_dbm": -60}
    outcome = diagnosed(
        tmp_path, [{"t": n / 10, **said, "payload": "020106"} for n in range(50)], "--json", config=config
    )
    found = {finding["name"]: finding for finding in json.loads(outcome.stdout)["findings"]}
    assert found["tag staff"]["result"] == "ok"
    assert "tag boss cannot be read" in found["key"]["found"]


def test_what_is_wrong_ends_with_1_and_what_to_do(tmp_path: Path) -> None:
    saturated = [{"t": i / 10, "sensor": "aisle-3", "counts": 0x7FFFFF} for i in range(100)]
    outcome = diagnosed(tmp_path, saturated)
    assert outcome.exit_code == 1
    assert "what to do: check the four wires of the load cell" in outcome.stdout
    assert "\x1b" not in outcome.stdout


def test_only_so_much_of_a_recording_is_judged_as_is_asked_for(tmp_path: Path) -> None:
    told = json.loads(diagnosed(tmp_path, scale_lines([(0, 30)]), "--for", "5s", "--json").stdout)
    assert told["readings"] == 51
    assert diagnosed(tmp_path, scale_lines([(0, 3)]), "--for", "soon").exit_code == 2


def test_no_reading_ends_with_69_and_no_recording_with_1(tmp_path: Path) -> None:
    assert diagnosed(tmp_path, []).exit_code == 69
    assert invoke(configuration(tmp_path), "diagnose", "aisle-3", "--recording", str(tmp_path / "no")).exit_code == 1


def test_without_daemon_and_hardware_every_verb_ends_with_69_and_names_the_reason(tmp_path: Path) -> None:
    config = configuration(tmp_path, SHELF_TOML + "calibration = { offset_counts = 84213, counts_per_gram = 21.5 }\n")
    for arguments in (("tare", "aisle-3", "--yes", "--for", "500ms"), ("diagnose", "aisle-3", "--for", "500ms")):
        outcome = invoke(config, *arguments)
        assert outcome.exit_code == 69, outcome.output


def test_a_configured_calibration_is_not_hidden_by_a_stored_one(tmp_path: Path) -> None:
    config = configuration(tmp_path, SHELF_TOML + "calibration = { offset_counts = 84213, counts_per_gram = 21.5 }\n")
    outcome = invoke(config, "calibrate", "aisle-3", "--mass", "1000", "--yes")
    assert outcome.exit_code == 1
    assert "take the key `calibration` of aisle-3 out" in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--yes",),
        ("--mass", "-5"),
        ("--mass", "5", "--mass", "5"),
        ("--mass", "5", "--undo"),
        ("--mass", "5", "--for", "x"),
        ("--mass", "heavy"),
    ],
)
def test_calibrate_refuses_what_makes_no_sense(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert invoke(configuration(tmp_path), "calibrate", "aisle-3", *arguments).exit_code == 2


def test_undo_is_confirmed_and_written_where_no_daemon_runs(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    store = CalibrationStore(tmp_path / "outbox", RealDisk())
    assert invoke(config, "calibrate", "aisle-3", "--undo", "--yes").exit_code == 1
    first, second = (StoredCalibration("calibrate", n, 21.5, "2026-11-22T09:00:00.000Z", "kim") for n in (1, 2))
    store.save("aisle-3", first)
    store.save("aisle-3", second)
    assert invoke(config, "calibrate", "aisle-3", "--undo", typed="n\n").exit_code == 1
    assert store.load("aisle-3") == second
    outcome = invoke(config, "calibrate", "aisle-3", "--undo", typed="y\n")
    assert outcome.exit_code == 0
    assert "aisle-3 now: offset_counts 1," in outcome.stdout
    assert store.load("aisle-3") == first


def test_commissioning_by_hand_can_skip_and_says_so_in_both_reports(tmp_path: Path) -> None:
    config = configuration(tmp_path, DOOR_TOML)
    report = tmp_path / "acceptance.json"
    outcome = invoke(config, "commission", "--output", str(report), "--who", "kim", typed="s\ns\n")
    assert outcome.exit_code == 1
    told = json.loads(report.read_text())
    assert told["who"] == "kim"
    skipped = [act["result"] for act in told["sensors"][0]["acts"]]
    assert skipped[:2] == ["skipped", "skipped"]
    assert "| entrance (door) | walk in once | skipped |" in report.with_suffix(".md").read_text()


def test_a_report_that_cannot_be_written_is_said_before_the_walk(tmp_path: Path) -> None:
    outcome = invoke(configuration(tmp_path, DOOR_TOML), "commission", "--yes", "--output", str(tmp_path / "no" / "r"))
    assert outcome.exit_code == 1
    assert "cannot be written" in outcome.stderr
