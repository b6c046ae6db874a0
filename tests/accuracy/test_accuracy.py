"""The aims of `scripts/accuracy` on small samples of the world that the interpreters were developed against."""

from __future__ import annotations

import statistics

import pytest

from tests.accuracy import beacons, doors, shelves
from tests.accuracy.__main__ import QUICK, Effort, compute, markdown, works
from tests.accuracy.labelled import NINE_NS, estimates
from tests.accuracy.worlds import TABLE, TUNING


@pytest.mark.parametrize(
    ("scene", "right", "bias"),
    [
        ("single file", 0.995, 0.005),
        ("single file, all arms swing", 0.995, 0.005),
        ("turn-backs, 1 in 10", 0.995, 0.005),
        ("queues", 0.995, 0.005),
        ("beams apart", 0.995, 0.005),
        ("slow", 0.995, 0.005),
        ("families, every third with a child", 0.99, 0.01),
        ("trolleys, 1 in 5", 0.985, 0.03),
        ("one beam, single file", 0.995, 0.01),
        ("pairs side by side, 1 in 10", 0.85, 0.13),
    ],
)
def test_doors(scene: str, right: float, bias: float) -> None:
    seeds = [doors.measure(scene, TUNING, seed, 100) for seed in range(100, 104)]
    assert statistics.fmean(m["right"] for m in seeds) >= right
    assert abs(statistics.fmean(m["bias"] for m in seeds)) <= bias


@pytest.mark.parametrize(
    ("scene", "recall", "precision"),
    [
        ("units of 5 times the noise", 0.97, 0.97),
        ("three products mixed", 0.85, 0.97),
        ("hands that press", 0.95, 0.95),
        ("quick picks", 0.95, 0.95),
        ("3 % of words spoiled", 0.97, 0.97),
    ],
)
def test_shelves(scene: str, recall: float, precision: float) -> None:
    seeds = [shelves.measure(scene, TUNING, seed, 25)[0] for seed in range(100, 102)]
    assert statistics.fmean(m["recall"] for m in seeds) >= recall
    assert statistics.fmean(m["precision"] for m in seeds) >= precision


def test_nothing_happens_on_an_idle_shelf() -> None:
    assert set(shelves.idle(TUNING, 100, 0.05).values()) == {0.0}


def test_most_of_a_slow_theft_is_told() -> None:
    assert shelves.theft(TUNING, 100, 600.0)["share told"] >= 0.8


def test_tags_arrive_in_time_and_strangers_stay_strangers() -> None:
    near = beacons.near_zone(TUNING, 100, 30)
    assert near["arrived within 2 s"] >= 0.95
    assert near["flaps a visit"] == 0
    crowd = beacons.crowd(TUNING, 100, 2000)
    assert crowd == {"strangers identified": 0.0, "tags seen": 1.0}


def test_the_table_is_of_another_world_with_other_seeds() -> None:
    assert TABLE.first_seed > TUNING.first_seed + 1000
    assert TABLE.walking != TUNING.walking
    assert TABLE.weighing != TUNING.weighing
    assert TABLE.radio != TUNING.radio


def test_the_table_has_a_row_for_each_scene() -> None:
    from datetime import UTC, datetime

    tiny = Effort(seeds=1, people=20, visits=5, crowd=0.02, idle_days=0.002, shop_s=120.0)
    table = compute("tuning", tiny, lambda work, todo: [work(one) for one in todo])
    text = markdown(table, datetime.fromtimestamp(NINE_NS / 1e9, UTC))
    for scene, *_ in works("tuning", QUICK):
        assert f"| {scene.split('/', 1)[1]} |" in text
    assert "2026-11-22" in text


def test_an_interval_is_half_of_students() -> None:
    found = estimates([{"x": 1.0}, {"x": 2.0}, {"x": 3.0}])["x"]
    assert (found.mean, round(found.half or 0, 2), found.seeds) == (2.0, 2.48, 3)
