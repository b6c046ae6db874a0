"""What is true in shops: how many people take, bags, what lies beneath a step, a wrong zero, a scale that was off."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.model import Event, data_of
from gateway.sensors.kind import Context, Faults
from gateway.sensors.shelf.explaining import Explainer, Moved
from gateway.sensors.shelf.goods import Product
from gateway.sensors.shelf.interpreter import ShelfInterpreter
from gateway.sensors.shelf.kind import KIND
from gateway.sensors.shelf.settings import Calibration
from tests.sensors.doors import told
from tests.sensors.shelves import JAM, Shelf

FLOUR = Product("flour", 1000.0)
APPLES = Product("apples", 150.0, 60, 10, by_weight=True)


def moments(events: list[Event], kind: str) -> list[float]:
    return [event.at.boot_ns / 1e9 for event in events if event.fact.type == f"store.shelf.{kind}"]


def changes(events: list[Event]) -> list[tuple[str, int]]:
    found = [(event.fact.type.rpartition(".")[2], data_of(event.fact)) for event in events]
    return [(data["sku"], data["count"] * (1 if kind == "placed" else -1)) for kind, data in found if "sku" in data]


def picked(products: tuple[Product, ...], place: int, seed: int, count: int = 1) -> tuple[int, ...] | None:
    """What one pick is told as, its items 0.8 % apart and the scale 1 g unsure."""
    rng = random.Random(seed)
    unit = products[place].unit_grams
    grams = sum(rng.gauss(unit, 0.008 * unit) for _ in range(count)) + rng.gauss(0, 1)
    best = Explainer(products).judge(Moved(-grams, 1.0, 0.4), [None] * len(products)).best
    return None if best is None else best.counts


@pytest.mark.parametrize(("light", "heavy"), [(330.0, 1000.0), (250.0, 500.0), (100.0, 298.0)])
def test_a_heavy_product_is_told_beside_a_light_one_whose_multiple_weighs_the_same(light: float, heavy: float) -> None:
    products = (Product("light", light), Product("heavy", heavy))
    right = sum(picked(products, 1, seed) == (0, -1) for seed in range(400, 500))
    assert right >= 90


def test_how_many_are_taken_is_learned_from_what_can_be_told_apart() -> None:
    """A shelf of which people always take two: two of 250 g become likelier than one of 500 g."""
    products = (Product("light", 250.0, unit_spread=0.004), Product("heavy", 517.0, unit_spread=0.004))
    doubtful = Moved(-510.0, 3.0, 0.4)
    explainer = Explainer(products)
    before = explainer.judge(doubtful, [None, None]).shares["two"]
    for n in range(60):
        moved = Moved(-500.0 + (n % 5 - 2), 1.0, 0.4)
        explainer.learn(moved, explainer.judge(moved, [None, None]))
    assert explainer.judge(doubtful, [None, None]).shares["two"] > before


def test_what_cannot_be_told_apart_teaches_little() -> None:
    products = (Product("light", 250.0), Product("heavy", 500.0))
    explainer = Explainer(products)
    moved = Moved(-500.0, 1.0, 0.4)
    before = explainer.judge(moved, [None, None]).shares["one"]
    for _ in range(100):
        explainer.learn(moved, explainer.judge(moved, [None, None]))
    assert explainer.judge(moved, [None, None]).shares["one"] == pytest.approx(before, abs=0.2)


def test_bags_are_no_goods_and_take_what_they_brought() -> None:
    """Forty bags of 0.5 to 6 kg beside jars: nearly all laid down and taken away as `changed`."""
    rng = random.Random(71)
    shelf = Shelf(8 * 330, noise_counts=30, seed=71)
    for n in range(40):
        grams = rng.uniform(500, 6000)
        shelf.changes(20 + 30 * n, grams).changes(35 + 30 * n, -grams)
    events = shelf.plays(20 + 30 * 40)
    assert len(told(events, "placed")) + len(told(events, "picked")) <= 8
    assert len(told(events, "changed")) >= 72


@pytest.mark.parametrize("grams", [10, 25, 30])
def test_a_small_thing_laid_down_is_not_added_to_the_next_pick(grams: float) -> None:
    fine = Calibration(84_213, 420.0)
    events = Shelf(12 * 330, calibration=fine, seed=3).changes(30.2, grams).changes(95.3, -330).plays(110)
    assert changes(events)[1:] == [(JAM.sku, -1)]
    assert moments(events, "picked") == [pytest.approx(95.3, abs=0.5)]
    assert told(events, "picked")[0]["grams"] == pytest.approx(330, abs=3)


def test_a_plate_that_gives_back_a_tenth_late_tells_each_pick_at_its_moment() -> None:
    shelf = Shelf(12 * 330, seed=9)
    for at_s in (40.3, 140.1, 240.2):
        shelf.changes(at_s, -0.9 * 330).drifts(at_s, at_s + 30, -0.1 * 330)
    events = shelf.plays(300)
    assert moments(events, "picked") == [pytest.approx(at_s, abs=1) for at_s in (40.3, 140.1, 240.2)]
    assert [data["remaining_count"] for data in told(events, "picked")] == [11, 10, 9]
    assert not told(events, "changed")


def test_drift_of_a_tenth_of_a_gram_a_second_is_followed_and_a_pick_on_it_is_a_pick() -> None:
    events = Shelf(12 * 330, seed=5).drifts(10, 910, 90).changes(700.4, -330).plays(930)
    assert moments(events, "picked") == [pytest.approx(700.4, abs=1)]
    assert not told(events, "changed")


def test_the_wander_of_a_board_is_no_change_of_light_goods() -> None:
    """Twenty minutes of a board that wanders 200 counts (one sigma, in 400 s) under bars of 8 g, 480 counts."""
    rng = random.Random(14)
    wander = 0.0
    shelf = Shelf(20 * 8.0, products=(Product("bar", 8.0),), calibration=Calibration(84_213, 60.0), seed=11)

    def counts(t: float, true: int) -> int:
        nonlocal wander
        wander += 200 * (0.2 / 400) ** 0.5 * rng.gauss(0, 1) - wander * 0.1 / 400
        return int(true + wander)

    assert not told(shelf.reads(0, 1200, counts).plays(1200), "changed")


def test_the_count_of_one_product_agrees_with_the_settled_weight() -> None:
    """Each time a jar is put back the plate stands 40 g higher than before."""
    shelf = Shelf(12 * 330, seed=2)
    for n in range(12):
        shelf.changes(20 + 20 * n, -330).changes(30 + 20 * n, 370)
    events = shelf.plays(270)
    for data in told(events, "picked") + told(events, "placed"):
        if "remaining_count" in data:
            assert abs(data["remaining_count"] - data["remaining_grams"] / 330) <= 1
    assert not [data for data in told(events, "level") if data["state"] == "low"]


def test_a_shelf_tared_with_goods_on_it_is_at_fault_and_has_no_count() -> None:
    events = Shelf(0, seed=4).changes(20, -330).changes(40, -330).plays(70)
    assert [data["reason"] for data in told(events, "failed")] == ["below_zero"]
    assert [data["count"] for data in told(events, "picked")] == [1, 1], "what is taken is told"
    assert all("remaining_count" not in data and "remaining_grams" not in data for data in told(events, "picked"))
    assert [data["state"] for data in told(events, "level")] == ["empty"], "as it seemed before the first pick"


def test_just_above_that_an_empty_shelf_is_empty() -> None:
    events = Shelf(330, seed=4).changes(20, -330 - 60).plays(70)
    assert not told(events, "failed")
    assert told(events, "picked")[0]["remaining_count"] == 0


def test_a_plate_lifted_for_cleaning_ends_its_fault_when_it_comes_back() -> None:
    events = Shelf(3 * 330, seed=4).changes(20, -3 * 330 - 800).changes(60, 3 * 330 + 800).plays(90)
    assert [data["reason"] for data in told(events, "recovered")] == ["below_zero"]


def test_a_weight_that_no_count_explains_has_a_level_without_count() -> None:
    (level,) = told(Shelf(7.5 * 330).plays(20), "level")
    assert "count" not in level
    assert level["state"] == "ok"
    (level,) = told(Shelf(7.2 * 330).plays(20), "level")
    assert level["count"] == 7, "a quarter of an item is within what a zero may be off"


@pytest.mark.parametrize("spread", [0.05, 0.1, 0.2])
def test_produce_is_counted_by_its_own_spread(spread: float) -> None:
    apples = Product("apples", 150.0, unit_spread=spread)
    right = sum(picked((apples,), 0, seed) == (-1,) for seed in range(100))
    rng = random.Random(8)
    explainer = Explainer((apples,))
    for _ in range(100):
        found = explainer.judge(Moved(-rng.gauss(150, 150 * spread), 1.0), [None]).best
        right += found is not None and found.counts == (-1,)
    assert right >= 180


def test_what_is_sold_by_weight_is_told_in_grams_and_never_counted() -> None:
    events = Shelf(4000, products=(APPLES,), seed=6).changes(20, -431).changes(40, 283).plays(60)
    assert [(data["sku"], data["grams"]) for data in told(events, "changed")] == [
        ("apples", pytest.approx(-431, abs=4)),
        ("apples", pytest.approx(283, abs=4)),
    ]
    assert not told(events, "picked")
    assert all("count" not in data for data in told(events, "level"))


def restarted(grams: float, remembered: dict[str, Any]) -> list[Event]:
    shelf = Shelf(grams, seed=12)
    shelf.interpreter = ShelfInterpreter(shelf.settings, Context(Faults("aisle-3"), remembered=remembered))
    return shelf.plays(20)


def test_what_was_taken_while_the_power_was_off_is_told_once() -> None:
    before = Shelf(10 * 330, seed=1).changes(20, -330).plays(40)
    known: Any = {}
    for event in before:
        known = KIND.remember(known, event.fact.type, data_of(event.fact))
    (away,) = told(restarted(6 * 330, known), "picked")
    assert (away["count"], away["while_away"], away["remaining_count"]) == (3, True, 6)
    (strange,) = told(restarted(9 * 330 + 2200, known), "changed")
    assert strange["while_away"] is True
    for drifted in (0, 60, -120):
        after = restarted(9 * 330 + drifted, known)
        assert [event.fact.type for event in after] == ["store.shelf.level"]


def test_a_change_says_when_it_was_sure() -> None:
    events = Shelf(3300, seed=13).changes(20, 4000).changes(28, -4000 - 330).plays(45)
    (event,) = (event for event in events if event.fact.type == "store.shelf.picked")
    assert data_of(event.fact)["settled"] > "2026-11-22T09:00:28"
    assert data_of(event.fact)["settled"] < "2026-11-22T09:00:32"
