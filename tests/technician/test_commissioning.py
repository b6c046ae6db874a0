"""Each deed is accepted where the sensor told just that, and refused with what to do where it told something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.model import NS_PER_S, Reading
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.door.trial import DoorTrial
from gateway.sensors.scanner.kind import trial as scanner_trial
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import IBeaconRule, TagRule
from gateway.sensors.scanner.trial import ScannerTrial
from gateway.sensors.shelf.settings import Calibration
from gateway.sensors.shelf.trial import ScaleTrial
from gateway.sensors.trial import Result, Tools, Trial, Verdict
from gateway.technician.commissioning import AcceptanceReport, Accepted, PerformedAct, accepted_before
from tests.technician.shelves import SHELF, at, beams, passage, samples

DOOR = DoorSettings("entrance", outer_pin=17, inner_pin=27)
SOUND = replace(SHELF, calibration=Calibration(84_213, 21.5))
UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"


def outcome(trial: Trial, act: int, readings: Sequence[Reading], silence_s: float = 5.0) -> Verdict:
    """Do an act: the readings come, then time passes, then it is over."""
    verdict = trial.begin(act)
    for reading in readings:
        verdict = verdict or trial.take(reading)
    for tenth in range(int(silence_s * 10)):
        verdict = verdict or trial.passed(tenth * NS_PER_S // 10)
    return verdict or trial.give_up()


def test_a_door_is_accepted_by_a_walk_in_and_a_walk_out() -> None:
    trial = DoorTrial(DOOR, Tools())
    assert trial.acts == ("walk in once", "walk out once")
    assert outcome(trial, 0, passage(1, "outer", "inner")) == Verdict("ok", "told as in, 310 ms")
    assert outcome(trial, 1, passage(30, "inner", "outer")).result == "ok"


def test_a_door_that_tells_something_else_is_refused_with_what_to_do() -> None:
    trial = DoorTrial(DOOR, Tools())
    assert "swap outer_pin and inner_pin" in outcome(trial, 0, passage(1, "inner", "outer")).advice
    assert outcome(trial, 0, []).found == "no beam was broken"
    stays = beams((1, "outer", True))
    assert "stays broken" in outcome(trial, 0, stays, silence_s=15).found
    one = beams((1, "outer", True), (1.3, "outer", False))
    assert outcome(trial, 0, one).result == "failed"


def test_a_single_beam_is_accepted_by_a_walk_through() -> None:
    trial = DoorTrial(DoorSettings("side", beam_pin=4), Tools())
    assert trial.acts == ("walk through once",)
    through = [replace(r, sensor="side") for r in beams((1, "only", True), (1.3, "only", False))]
    assert outcome(trial, 0, through).result == "ok"


def test_a_scale_is_accepted_by_a_known_mass_on_and_off_again() -> None:
    trial = ScaleTrial(SOUND, Tools(1000))
    assert [
        outcome(trial, act, samples([(grams, 10)], seed=act)).result for act, grams in ((0, 300), (1, 1300), (2, 300))
    ] == ["ok"] * 3


def test_a_scale_that_is_wrong_by_two_hundredths_or_does_not_come_back_is_refused() -> None:
    trial = ScaleTrial(SOUND, Tools(1000))
    outcome(trial, 0, samples([(0, 10)]))
    wrong = outcome(trial, 1, samples([(980, 10)]))
    assert (wrong.result, "gateway calibrate aisle-3" in wrong.advice) == ("failed", True)
    stays = outcome(trial, 2, samples([(20, 10)]))
    assert (stays.result, "touches" in stays.advice) == ("failed", True)
    assert outcome(ScaleTrial(SHELF, Tools(1000)), 0, samples([(0, 10)])).found == "not calibrated"
    assert outcome(ScaleTrial(SOUND, Tools(1000)), 1, samples([(0, 10)])).found == "there is no level to compare with"
    forgotten = ScaleTrial(SOUND, Tools(1000))
    outcome(forgotten, 0, samples([(0, 10)]))
    assert outcome(forgotten, 1, samples([(0, 10)], seed=5)).found == "the weight has not changed"


def test_a_dead_corner_is_found_by_the_mass_on_each() -> None:
    trial = ScaleTrial(SOUND, Tools(1000, corners=True))
    assert len(trial.acts) == 7
    for act, grams in ((0, 300), (1, 1300), (2, 300)):
        assert outcome(trial, act, samples([(grams, 10)], seed=act)).result == "ok"
    assert outcome(trial, 3, samples([(300, 6), (1302, 10)])).result == "ok"
    lifted = [(1302, 6), (300, 6), (1299, 10)]  # it still stood on the corner before
    assert outcome(trial, 4, samples(lifted)).result == "ok"
    assert outcome(trial, 5, samples([(1299, 20)])).result == "failed", "it was not moved"
    dead = outcome(trial, 5, samples([(1299, 6), (300, 6), (650, 10)]))
    assert (dead.result, "dead corner" in dead.advice) == ("failed", True)
    uneven = outcome(trial, 6, samples([(300, 6), (1240, 10)]))
    assert (uneven.result, "corners differ" in uneven.advice) == ("failed", True)


def test_a_tag_known_by_its_key_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "irk").write_text("ec0234a357c8ad05341010a60a397d9b")
    settings = ScannerSettings("ble", tags=(TagRule("staff", irk_file=str(tmp_path / "irk")),))
    unreadable = ScannerSettings("ble", tags=(TagRule("staff", irk_file=str(tmp_path / "none")),))
    said = [Advertisement("ble", at(i), "70:81:94:0d:fb:aa", "random", -50, b"") for i in range(5)]
    assert outcome(scanner_trial(settings, Tools()), 0, said).result == "ok"
    assert outcome(scanner_trial(unreadable, Tools()), 0, said).result == "failed"


def advertisements(count: int, rssi_dbm: int, tagged: bool = True) -> list[Advertisement]:
    payload = bytes.fromhex("0201061aff4c000215" + UUID.replace("-", "") + "00010002c5") if tagged else b""
    return [Advertisement("ble", at(i), "c4:64:e3:00:00:01", "random", rssi_dbm, payload) for i in range(count)]


def test_a_tag_is_accepted_only_when_it_is_near() -> None:
    trial = ScannerTrial(ScannerSettings("ble", tags=(TagRule("loyalty", ibeacon=IBeaconRule(UUID)),)))
    assert trial.acts == ('hold the tag "loyalty" at the scanner',)
    assert outcome(trial, 0, advertisements(5, -50)).result == "ok"
    assert "too weak" in outcome(trial, 0, advertisements(5, -85)).found
    assert outcome(trial, 0, advertisements(5, -50, tagged=False)).found == "5 advertisements of others, none of it"
    assert outcome(trial, 0, []).found == "nothing was heard"
    assert outcome(ScannerTrial(ScannerSettings("ble")), 0, advertisements(5, -50, tagged=False)).result == "ok"


def report(*results: Result, config_sha256: str = "abc") -> AcceptanceReport:
    when = "2026-11-22T09:00:00.000Z"
    sensors = tuple(
        Accepted(
            f"s{number}",
            "shelf",
            (PerformedAct("rest", "ok", "at rest"), PerformedAct("a | b", result, "said so", "do")),
            when,
        )
        for number, result in enumerate(results)
    )
    return AcceptanceReport("0042", "front", "1.0", config_sha256, "kim", when, "daemon", {"link": "up"}, sensors)


def test_a_report_accepts_only_where_everything_was_done_and_came_out_well() -> None:
    assert report("ok", "ok").result == "accepted"
    assert report("ok", "skipped").result == "incomplete"
    assert report("skipped", "failed").result == "failed"
    assert report().result == "incomplete"
    assert Accepted("s", "shelf", (), "").result == "skipped"


def test_the_report_reads_well_and_is_resumed_under_the_same_configuration_only() -> None:
    told = report("ok", "failed", "skipped")
    text = told.to_markdown()
    assert text.startswith("# Acceptance of gateway front, store 0042\n\n**FAILED**")
    assert all(line.count("|") == 6 for line in text.splitlines() if line.startswith("| s"))
    assert set(accepted_before(told.to_json(), "abc")) == {"s0"}
    assert accepted_before(told.to_json(), "another") == {}
    broken: tuple[Any, ...] = (
        None,
        [],
        {"config_sha256": "abc"},
        {"config_sha256": "abc", "sensors": [1, {"acts": 3}]},
    )
    for damaged in broken:
        assert accepted_before(damaged, "abc") == {}
