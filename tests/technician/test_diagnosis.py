"""Readings judged in words: each ailment of a sensor is found, a sound one is left in peace."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.sensors import kinds
from gateway.sensors.diagnosis import Evidence, Finding, verdict
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.fault import Fault
from gateway.sensors.scanner.diagnosis import judge_scanner
from gateway.sensors.scanner.keys import TagKeys
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import IBeaconRule, TagRule
from gateway.sensors.shelf.goods import Product
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import Calibration
from gateway.technician.diagnosis import diagnose
from tests.technician.shelves import OFFSET, SHELF, at, beams, passage, samples

SOUND = replace(SHELF, calibration=Calibration(84_213, 21.5))
DOOR = DoorSettings("entrance", outer_pin=17, inner_pin=27)
UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
SCANNER = ScannerSettings(
    "ble", tags=(TagRule("loyalty", ibeacon=IBeaconRule(UUID)), TagRule("staff", address="c4:64:e3:00:00:09"))
)
STRANGER = "5a:11:22:33:44:55"


KINDS = {kind.table: kind for kind in kinds()}


def judged(settings: object, table: str, evidence: Evidence) -> dict[str, Finding]:
    return {finding.name: finding for finding in diagnose(KINDS[table], settings, evidence)}


def of_scale(readings: Sequence[ScaleSampled], **more: object) -> dict[str, Finding]:
    return judged(SOUND, "shelf", Evidence(readings, 10.0, **more))  # type: ignore[arg-type]


def altered(share: float, how: object, seed: int = 1) -> list[ScaleSampled]:
    chance = random.Random(seed)
    return [
        replace(reading, counts=how(reading.counts)) if chance.random() < share else reading  # type: ignore[operator]
        for reading in samples([(1000, 10)])
    ]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("noise", "rate_hz"), [(3, 10), (20, 10), (60, 10), (30, 80)])
def test_a_sound_scale_is_left_in_peace(noise: float, rate_hz: int, seed: int) -> None:
    settings = replace(SOUND, rate_hz=10 if rate_hz == 10 else 80)
    evidence = Evidence(samples([(2000, 10)], noise, rate_hz, seed), 10.0, {"frames": 100, "frames_spoiled": 1})
    findings = diagnose(KINDS["shelf"], settings, evidence)
    assert {finding.result for finding in findings} == {"ok"}, findings


@pytest.mark.parametrize("noise", [5, 20, 60])
def test_noise_is_told_in_counts_and_grams(noise: float) -> None:
    found = of_scale(samples([(0, 30)], noise))["noise"].found
    counts = float(found.split(" counts")[0])
    assert counts == pytest.approx(noise, rel=0.35)
    assert f"{counts / 21.5:.1f}" in found


@pytest.mark.parametrize(
    ("readings", "name", "result", "says"),
    [
        ([], "samples", "failed", "clock_pin to PD_SCK"),
        ([ScaleSampled("s", at(i / 10), 0x7FFFFF) for i in range(100)], "saturation", "failed", "E+"),
        ([ScaleSampled("s", at(i / 10), -0x800000) for i in range(100)], "saturation", "failed", "A+"),
        ([ScaleSampled("s", at(i / 10), -1) for i in range(100)], "unplugged", "failed", "DOUT"),
        ([ScaleSampled("s", at(i / 10), 84_213) for i in range(100)], "values", "failed", "interrupt its power"),
        ([ScaleSampled("s", at(i / 10), 84_213 + i % 2) for i in range(100)], "values", "warning", "shorted"),
        (samples([(0, 10)], noise=150), "noise", "warning", "twisted"),
        (samples([(0, 10)], noise=900), "noise", "failed", "E+"),
        (samples([(0, 10)], rate_hz=80), "rate", "failed", "rate_hz = 80"),
        (samples([(0, 10)])[::2][:40] + samples([(0, 10)])[80:], "rate", "warning", "hx711-spi"),
        (samples([(0, 10)], rate_hz=2), "rate", "failed", "DVDD"),
        (samples([(0, 5), (1000, 5)]), "drift", "warning", "leave the shelf alone"),
        (altered(0.04, lambda counts: counts ^ 1 << 16), "bit errors", "warning", "bit 16 flipped"),
        (altered(0.04, lambda counts: 2 * counts), "bit errors", "warning", "shifted by one bit"),
        (altered(0.04, lambda counts: 0x3FFFF), "bit errors", "warning", "2^n-1 (n = 18)"),
    ],
)
def test_each_ailment_of_a_scale_is_found(readings: list[ScaleSampled], name: str, result: str, says: str) -> None:
    finding = of_scale(readings)[name]
    assert finding.result == result, finding
    assert says in f"{finding.found} {finding.why} {finding.advice}"


def test_a_scale_that_creeps_is_told_with_its_pace() -> None:
    creeping = [replace(r, counts=r.counts + round(10 * r.at.boot_ns / 1e9)) for r in samples([(0, 20)], noise=5)]
    finding = of_scale(creeping)["drift"]
    assert finding.result == "warning"
    assert 500 < float(finding.found.split(" counts")[0]) < 700


def test_a_slow_drift_needs_a_longer_look() -> None:
    creeping = [replace(r, counts=r.counts + round(0.5 * r.at.boot_ns / 1e9)) for r in samples([(0, 600)])]
    assert of_scale(creeping[:100])["drift"].result == "ok"
    assert "drifting" in of_scale(creeping)["drift"].why


def test_spikes_are_told_by_name() -> None:
    assert "are spikes" in of_scale(altered(0.3, lambda counts: counts ^ 1 << 16))["bit errors"].found


def stocked(weighing: Sequence[float]) -> dict[str, Finding]:
    """Judge a shelf of jars from which one is taken every 12 s that weighs so much of itself where it stood."""
    settings = replace(SOUND, products=(Product("jam", 330.0, 24, 6),))
    grams, levels = 5000.0, [(5000.0, 12.0)]
    for share in weighing:
        grams -= 330.0 * share
        levels.append((grams, 12.0))
    return judged(settings, "shelf", Evidence(samples(levels), 12.0 * len(levels)))


def test_a_dead_corner_is_suspected_where_some_jars_weigh_too_little() -> None:
    dead = stocked([1, 0.4, 1, 0.5, 1, 0.3, 1, 1])["corners"]
    assert dead.result == "warning"
    assert "dead corner" in dead.why
    assert "commission aisle-3 --corners" in dead.advice
    assert stocked([1, 1, 2, 1, 1, 0.4, 1, 3])["corners"].result == "ok"
    assert "corners" not in stocked([1, 0.4, 1])


def test_spoiled_frames_are_told_by_their_share() -> None:
    for spoiled, result in ((2, "ok"), (10, "warning"), (60, "failed")):
        assert (
            of_scale(samples([(0, 10)]), driver={"frames": 100, "frames_spoiled": spoiled})["frames"].result == result
        )


def test_faults_of_the_driver_and_missed_readings_are_findings() -> None:
    found = of_scale([], faults=(Fault("pin_in_use", "GPIO5 is used by another program"),), missed=3)
    assert found["fault pin_in_use"].result == "failed"
    assert "DOUT" not in found["samples"].why
    assert found["missed"].result == "warning"


def test_an_uncalibrated_scale_is_a_warning() -> None:
    found = diagnose(KINDS["shelf"], SHELF, Evidence(samples([(0, 10)]), 10.0))
    assert verdict(found) == "warning"


def of_door(readings: Sequence[object], seconds: float = 30.0) -> dict[str, Finding]:
    return judged(DOOR, "door", Evidence(readings, seconds))


def test_a_sound_door_is_told_by_its_passages_and_which_beam_was_first() -> None:
    found = of_door([*passage(1, "outer", "inner"), *passage(4, "outer", "inner"), *passage(8, "inner", "outer")])
    assert {finding.result for finding in found.values()} == {"ok"}, found
    assert found["passages"].found == "2 in, 1 out"
    assert "outer first 2 times, inner first 1 times, 60 ms apart" in found["order"].found


def test_a_dead_a_blocked_a_flickering_and_a_mute_beam_are_found() -> None:
    alive = beams(*((t + on, "outer", on == 0) for t in range(1, 6) for on in (0, 0.3)))
    dead = of_door([*beams((0, "outer", False), (0, "inner", False)), *alive])
    assert dead["order"].result == "failed"
    assert "the inner beam never" in dead["order"].found
    assert of_door(beams((0, "outer", True), (0, "inner", False)))["outer beam"].result == "failed"
    late = of_door(beams((1, "outer", True), (2, "inner", True), (2.2, "inner", False), (30, "inner", False)))
    assert late["outer beam"].result == "failed"
    flicker = beams(*((1 + i * 0.012, "outer", i % 2 == 0) for i in range(200)))
    assert of_door(flicker)["outer beam"].result == "failed"
    assert of_door([])["edges"].result == "warning"


def test_beams_mounted_on_one_spot_are_told() -> None:
    together = beams((1, "outer", True), (1.001, "inner", True), (1.3, "outer", False), (1.301, "inner", False))
    assert of_door(together)["order"].result == "warning"


def heard(t_s: float, address: str, rssi_dbm: int | None, uuid: str = "") -> Advertisement:
    frame = bytes.fromhex("0201061aff4c000215" + uuid.replace("-", "") + "00010002c5") if uuid else b"\x02\x01\x06"
    return Advertisement("ble", at(t_s), address, "random", rssi_dbm, frame)


def of_scanner(readings: Sequence[Advertisement]) -> dict[str, Finding]:
    return judged(SCANNER, "scanner", Evidence(readings, 10.0))


def test_a_scanner_is_told_by_its_rate_its_tags_and_no_strangers_address() -> None:
    readings = [heard(i / 10, STRANGER, -80) for i in range(50)]
    readings += [heard(5 + i / 10, "c4:64:e3:00:00:01", -55 - i % 5, UUID) for i in range(50)]
    found = of_scanner(readings)
    assert found["advertisements"].found == "10.0 a second"
    assert found["devices"].found == "2 different addresses"
    assert "-57 dBm (-59 to -55)" in found["tag loyalty"].found
    assert found["tag staff"].result == "warning"
    assert STRANGER not in repr(found)


def test_a_tag_known_by_its_key_is_no_stranger(tmp_path: Path) -> None:
    irk = bytes.fromhex("ec0234a357c8ad05341010a60a397d9b")
    (tmp_path / "irk").write_text(irk.hex())
    settings = ScannerSettings("ble", tags=(TagRule("staff", irk_file=str(tmp_path / "irk")),))
    readings = [heard(i / 10, "70:81:94:0d:fb:aa", -60) for i in range(50)]  # Core Specification vol 3 part H D.7
    known = judged(settings, "scanner", Evidence(readings, 10.0))
    assert known["tag staff"].result == "ok"
    unreadable = TagKeys(troubles=["the key cannot be read"])
    troubled = {one.name: one for one in judge_scanner(settings, Evidence(readings, 10.0), unreadable)}
    assert (troubled["tag staff"].result, troubled["key"].found) == ("warning", "the key cannot be read")
    assert irk.hex() not in repr(TagKeys(identity={0: irk}))
    assert repr(irk)[2:-1] not in repr(TagKeys(identity={0: irk}))


def test_a_deaf_a_weak_and_a_mute_radio_are_found() -> None:
    assert of_scanner([])["advertisements"].result == "failed"
    assert of_scanner([heard(i / 10, STRANGER, -95) for i in range(90)])["strength"].result == "warning"
    assert of_scanner([heard(i / 10, STRANGER, None) for i in range(90)])["strength"].result == "warning"
    quiet = [heard(i / 10, STRANGER, -60) for i in range(20)] + [heard(9, STRANGER, -60)]
    assert of_scanner(quiet)["silence"].result == "warning"
    weak = of_scanner([heard(i / 10, "c4:64:e3:00:00:01", -95, UUID) for i in range(90)])
    assert weak["tag loyalty"].result == "warning"


def test_whatever_the_words_are_a_scale_is_judged_without_an_exception() -> None:
    chance = random.Random(7)
    words = [0x7FFFFF, -0x800000, -1, 0, 1, OFFSET]
    for count, _ in itertools.product(range(40), range(5)):
        readings = [
            ScaleSampled("s", at(i / 10), chance.choice([*words, chance.randrange(-0x800000, 0x7FFFFF)]))
            for i in range(count)
        ]
        assert of_scale(readings)
