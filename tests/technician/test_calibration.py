"""Known masses to a line: what is found, what is refused with what advice, and what a tare keeps."""

from __future__ import annotations

import json
import math
import random

import pytest

from gateway.sensors.shelf.calibration import (
    CalibrationRefused,
    Point,
    StoredCalibration,
    fit,
    from_json,
    in_force,
    stored_of,
    tared,
)
from gateway.sensors.shelf.settings import Calibration
from gateway.sensors.shelf.settling import Weight

WHEN = "2026-11-22T09:00:00.000Z"


def points(*grams: float, noise: float = 20.0, per_gram: float = 21.5, bent: float = 0.0, seed: int = 1) -> list[Point]:
    """Return what a scale reads under these masses; `bent` is the share by which the middle of its line sags."""
    chance = random.Random(seed)
    span = max(grams) or 1.0
    return [
        Point(g, 84_213 + per_gram * (g - bent * 4 * g * (span - g) / span) + chance.gauss(0, noise / 30**0.5), noise)
        for g in grams
    ]


@pytest.mark.parametrize("per_gram", [21.5, -21.5, 400.0])
def test_the_line_is_found_and_its_error_is_told_in_grams(per_gram: float) -> None:
    found = fit(points(0, 1000, 2000, 5000, per_gram=per_gram))
    assert found.calibration.counts_per_gram == pytest.approx(per_gram, rel=1e-3)
    assert found.calibration.offset_counts == pytest.approx(84_213, abs=20)
    assert found.residual_max_grams < 1
    assert found.r2 > 0.9999999


def test_one_mass_is_enough_and_fits_by_its_nature() -> None:
    found = fit(points(0, 2000))
    assert found.residual_max_grams == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("measured", "says", "advises"),
    [
        (points(0, 1000, 2000, bent=0.01), "do not lie on a line", "touches nothing"),
        ([*points(0, 1000), Point(2000, 84_213 + 21.5 * 1900, 20)], "do not lie on a line", "each mass"),
        (points(0, 100), "too little against the noise", "or more"),
        (points(0, 1000, per_gram=0.001), "no more than its noise", "A+"),
        (points(0), "at least one known mass", ""),
        (points(1000, 2000), "empty shelf", ""),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_what_to_check(measured: list[Point], says: str, advises: str) -> None:
    with pytest.raises(CalibrationRefused, match=says) as refused:
        fit(measured)
    assert advises in refused.value.advice


@pytest.mark.parametrize("seed", range(40))
def test_a_sound_scale_is_never_refused_at_the_mass_that_the_refusal_asks_for(seed: int) -> None:
    with pytest.raises(CalibrationRefused) as refused:
        fit(points(0, 50, 100, noise=40, seed=seed))
    needed = float(refused.value.advice.split("mass of ")[1].split(" g")[0])
    fit(points(0, needed / 2, needed, noise=40, seed=seed))


def test_what_is_stored_comes_back_and_what_is_damaged_is_told() -> None:
    stored = stored_of(fit(points(0, 1000, 2000)), WHEN, "kim", "M1 weights, 21 degrees")
    assert from_json(json.dumps(stored.to_json())) == stored
    value = stored.to_json()
    for damage in (
        {"offset_counts": None},
        {"counts_per_gram": 0},
        {"counts_per_gram": "21.5"},
        {"points": [1]},
        {"kind": "guess"},
        {"over": 7},
        {"r2": math.nan},
        {"offset_counts": 1e30},
        {"note": "x" * 1000},
    ):
        with pytest.raises(ValueError):
            from_json(json.dumps({**value, **damage}))
    for text in ("", "{", "[]", "null", "[" * 100_000, "\x00" * 40):
        with pytest.raises(ValueError):
            from_json(text)


def test_a_tare_keeps_the_factor_and_the_points() -> None:
    stored = stored_of(fit(points(0, 1000, 2000)), WHEN, "kim")
    again = tared(None, stored, Weight(90_000, 20, 30), WHEN, "lou")
    assert again.offset_counts == 90_000
    assert (again.counts_per_gram, again.points, again.kind) == (stored.counts_per_gram, stored.points, "tare")
    with pytest.raises(CalibrationRefused, match="not calibrated"):
        tared(None, None, Weight(90_000, 20, 30), WHEN, "lou")


def test_a_tare_on_the_configured_calibration_holds_until_the_configuration_changes() -> None:
    configured = Calibration(84_213, 21.5)
    first = tared(configured, None, Weight(90_000, 20, 30), WHEN, "lou")
    second = tared(configured, first, Weight(91_000, 20, 30), WHEN, "lou")
    assert in_force(configured, first) == Calibration(90_000, 21.5)
    assert in_force(configured, second) == Calibration(91_000, 21.5)
    assert in_force(Calibration(84_213, 22.0), second) == Calibration(84_213, 22.0)
    assert in_force(None, second) is None


def test_the_configuration_wins_over_what_is_stored() -> None:
    stored = StoredCalibration("calibrate", 1.0, 2.0, WHEN, "kim")
    assert in_force(Calibration(84_213, 21.5), stored) == Calibration(84_213, 21.5)
    assert in_force(None, stored) == Calibration(1.0, 2.0)
    assert in_force(None, None) is None
