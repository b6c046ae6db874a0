"""A scale gives a weight only at rest, and says why it gives none."""

from __future__ import annotations

import random

import pytest

from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settling import Weighing, Weight
from tests.technician.shelves import OFFSET, PER_GRAM, at, samples


def weights(readings: list[ScaleSampled], weighing: Weighing) -> list[tuple[float, Weight]]:
    found = [(r.at.boot_ns / 1e9, weighing.add(r.at, r.counts)) for r in readings]
    return [(t_s, weight) for t_s, weight in found if weight is not None]


@pytest.mark.parametrize("rate_hz", [10, 80])
@pytest.mark.parametrize("noise", [3.0, 20.0, 80.0])
def test_a_scale_at_rest_is_weighed_to_a_fifth_of_its_noise_within_seconds(rate_hz: int, noise: float) -> None:
    found = weights(samples([(1000, 12)], noise, rate_hz), Weighing(rate_hz))
    t_s, weight = found[0]
    assert t_s < 6
    assert abs(weight.counts - (OFFSET + PER_GRAM * 1000)) < 4 * weight.error_counts
    assert weight.error_counts < noise


@pytest.mark.parametrize("seed", range(5))
def test_bit_errors_do_not_move_the_weight(seed: int) -> None:
    chance = random.Random(seed)
    readings = [
        ScaleSampled(r.sensor, r.at, r.counts ^ 1 << chance.randrange(10, 22) if chance.random() < 0.05 else r.counts)
        for r in samples([(500, 20)], seed=seed)
    ]
    found = weights(readings, Weighing(10))
    assert found
    assert all(abs(weight.counts - (OFFSET + PER_GRAM * 500)) < 40 for _, weight in found)


def test_a_ramp_a_swing_and_a_rummaging_hand_are_no_weight() -> None:
    chance = random.Random(3)
    ramp = [ScaleSampled("s", at(i / 10), OFFSET + 40 * i + round(chance.gauss(0, 20))) for i in range(200)]
    swing = [
        ScaleSampled("s", at(i / 10), OFFSET + [0, 300, 500, 300, 0, -300, -500, -300][i // 4 % 8] + i % 7)
        for i in range(200)
    ]
    assert not weights(ramp, Weighing(10))
    assert not weights(swing, Weighing(10))


def test_a_step_in_the_middle_gives_both_levels_and_nothing_between() -> None:
    found = weights(samples([(0, 8), (1000, 8)]), Weighing(10))
    grams = {round((weight.counts - OFFSET) / PER_GRAM / 100) for _, weight in found}
    assert grams == {0, 10}


def test_the_level_from_which_a_change_is_awaited_does_not_count() -> None:
    readings = samples([(0, 10), (1000, 10)])
    (_, before), *_ = weights(readings[:60], Weighing(10))
    waiting = Weighing(10, away_from=before)
    assert not weights(readings[:100], waiting)
    assert waiting.why() == "the weight has not changed"
    t_s, after = weights(readings[100:], waiting)[0]
    assert t_s < 15
    assert round((after.counts - before.counts) / PER_GRAM) == 1000


@pytest.mark.parametrize(
    ("counts", "says"),
    [(0x7FFFFF, "end of scale"), (-1, "all ones"), (84_213, "repeats one value")],
)
def test_a_faulty_converter_is_never_a_weight_and_is_named(counts: int, says: str) -> None:
    weighing = Weighing(10)
    assert not weights([ScaleSampled("s", at(i / 10), counts) for i in range(150)], weighing)
    assert says in weighing.why()


def test_without_a_sample_that_is_what_is_said() -> None:
    assert Weighing(10).why() == "no sample came from the scale"
