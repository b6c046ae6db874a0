"""What was picked, placed, changed; levels; nothing where nothing happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.model import Event, data_of
from gateway.sensors.kind import Context, Faults
from gateway.sensors.shelf.explaining import Explainer, Explanation, Moved
from gateway.sensors.shelf.goods import Product, state_of
from gateway.sensors.shelf.interpreter import ShelfInterpreter
from gateway.sensors.shelf.kind import KIND
from gateway.sensors.shelf.reading import ScaleSampled, line_of, reading_of
from gateway.sensors.shelf.settings import Calibration, ShelfSettings
from gateway.sensors.shelf.weighing import Point, Window
from tests.sensors.doors import told
from tests.sensors.shelves import CALIBRATION, JAM, TEA, Shelf, at


def changes(events: list[Event]) -> list[tuple[str, str, int]]:
    facts = [(event.fact.type.rpartition(".")[2], data_of(event.fact)) for event in events]
    return [(kind, d["sku"], d["count"]) for kind, d in facts if kind in ("picked", "placed")]


def explain(grams: float, noise_grams: float, products: Sequence[Product]) -> Explanation | None:
    return Explainer(products).judge(Moved(grams, noise_grams), [None] * len(products)).best


@pytest.mark.parametrize("rate_hz", [10, 80])
@pytest.mark.parametrize("noise_counts", [10, 80])
@pytest.mark.parametrize("items", [-3, -2, -1, 1, 2, 12])
def test_what_is_taken_or_put_back_is_told_once(items: int, noise_counts: float, rate_hz: int) -> None:
    shelf = Shelf(10 * 330, noise_counts=noise_counts, rate_hz=rate_hz).changes(10, items * 330)
    events = shelf.plays(18)
    assert changes(events) == [("picked" if items < 0 else "placed", JAM.sku, abs(items))]
    event = next(event for event in events if event.fact.type.endswith(("picked", "placed")))
    data = data_of(event.fact)
    assert data["grams"] == pytest.approx(abs(items) * 330, abs=8)
    assert data["remaining_count"] == 10 + items
    assert data["remaining_grams"] == pytest.approx((10 + items) * 330, abs=8)
    assert 0.9 < data["confidence"] <= 1
    assert abs(event.at.boot_ns / 1e9 - 10) <= 0.3, "the moment the weight left its old level"
    assert not told(events, "changed")


def test_keys_stand_as_in_the_contract_and_a_count_that_is_not_known_is_absent() -> None:
    events = Shelf(3000, products=(JAM, TEA)).changes(10, -330).plays(15)
    (data,) = told(events, "picked")
    assert list(data) == ["sku", "count", "grams", "remaining_grams", "confidence", "settled"]
    (single,) = told(Shelf(3300).changes(10, -330).plays(15), "picked")
    assert list(single) == ["sku", "count", "grams", "remaining_count", "remaining_grams", "confidence", "settled"]


def test_quick_picks_are_all_counted() -> None:
    shelf = Shelf(20 * 330)
    for at_s in (10, 10.6, 11.2, 13.5, 16, 16.3):
        shelf.changes(at_s, -330)
    assert sum(count for _, _, count in changes(shelf.plays(25))) == 6


def test_a_pick_is_told_within_two_seconds() -> None:
    assert told(Shelf(3300).changes(10, -330).plays(12), "picked")


@pytest.mark.parametrize("grams", [40, 170, 800, 3000])
@pytest.mark.parametrize("for_s", [0.3, 1.5, 3.0])
def test_a_hand_that_leans_and_leaves_changed_nothing(grams: float, for_s: float) -> None:
    shelf = Shelf(3300).changes(10, grams).changes(10 + for_s, -grams)
    assert [event.fact.type for event in shelf.plays(25)] == ["store.shelf.level"]


def test_a_pick_under_a_leaning_hand_is_a_pick() -> None:
    shelf = Shelf(3300).changes(10, 770).changes(11.5, -770 - 330)
    assert changes(shelf.plays(20)) == [("picked", JAM.sku, 1)]


@pytest.mark.parametrize("grams", [120, 165, -150, 480])
def test_what_no_product_explains_is_changed(grams: float) -> None:
    events = Shelf(3300).changes(10, grams).plays(25)
    (data,) = told(events, "changed")
    assert data["grams"] == pytest.approx(grams, abs=6)
    assert data["remaining_grams"] == pytest.approx(3300 + grams, abs=6)
    assert not changes(events)


def test_mixed_products_are_told_apart_one_event_a_product() -> None:
    shelf = Shelf(6000, products=(JAM, TEA)).changes(10, -330).changes(20, -500).changes(30, -830).changes(40, 660)
    assert changes(shelf.plays(50)) == [
        ("picked", JAM.sku, 1),
        ("picked", TEA.sku, 1),
        ("picked", JAM.sku, 1),
        ("picked", TEA.sku, 1),
        ("placed", JAM.sku, 2),
    ]


def test_products_of_one_weight_cannot_be_told_apart() -> None:
    twin = Product("twin", 331.0)
    events = Shelf(3300, products=(JAM, twin)).changes(10, -330).plays(20)
    assert not changes(events)
    assert told(events, "changed")


def test_several_products_are_counted_from_the_moment_the_shelf_was_empty() -> None:
    shelf = Shelf(0, products=(JAM, TEA)).changes(20, 5 * 330).changes(40, 3 * 500)
    levels = [(d["state"], d["sku"], d["count"]) for d in told(shelf.plays(60), "level")]
    assert levels == [("empty", JAM.sku, 0), ("empty", TEA.sku, 0), ("low", JAM.sku, 5), ("ok", TEA.sku, 3)]


def test_levels_need_their_dwell_and_are_told_with_the_time_they_were_reached() -> None:
    shelf = Shelf(7 * 330).changes(20, -2 * 330).changes(25, 2 * 330).changes(60, -2 * 330)
    events = [event for event in shelf.plays(90) if event.fact.type == "store.shelf.level"]
    assert [(data_of(e.fact)["state"], data_of(e.fact)["count"]) for e in events] == [("ok", 7), ("low", 5)]
    assert abs(events[1].at.boot_ns / 1e9 - 60) <= 0.3
    assert list(data_of(events[0].fact)) == ["state", "sku", "count", "capacity", "grams"]


def test_a_level_is_not_told_before_it_has_lasted() -> None:
    assert len(told(Shelf(7 * 330).changes(20, -660).plays(29.5), "level")) == 1
    assert len(told(Shelf(7 * 330).changes(20, -660).plays(30.6), "level")) == 2


def test_states_have_hysteresis_at_low_below() -> None:
    counts = (7, 6, 5, 6, 7, 6, 24, 25, 24, 1, 0, 6)
    states, state = [], None
    for count in counts:
        state = state_of(count, JAM, state)
        states.append(state)
    assert states == ["ok", "ok", "low", "low", "ok", "ok", "ok", "over", "ok", "low", "empty", "ok"]
    assert state_of(500, Product("x", 10.0), None) == "ok", "no capacity, never over"


@pytest.mark.parametrize("spikes", [0.01, 0.05])
@pytest.mark.parametrize("rate_hz", [10, 80])
def test_bit_errors_are_no_events(spikes: float, rate_hz: int) -> None:
    seconds = 900 if rate_hz == 10 else 200
    assert [e.fact.type for e in Shelf(3300, spikes=spikes, rate_hz=rate_hz).plays(seconds)] == ["store.shelf.level"]


def test_picks_between_bit_errors_are_counted() -> None:
    shelf = Shelf(24 * 330, spikes=0.05, seed=5)
    for n in range(20):
        shelf.changes(10 + n * 10, -330)
    assert sum(count for _, _, count in changes(shelf.plays(220))) == 20


def test_a_slow_drift_is_no_event() -> None:
    shelf = Shelf(3300).drifts(10, 3600, 40)
    assert [event.fact.type for event in shelf.plays(3600)] == ["store.shelf.level"]


@pytest.mark.parametrize("over_s", [20, 60, 300])
def test_a_slow_theft_is_not_taken_for_drift(over_s: float) -> None:
    events = Shelf(3300).drifts(20, 20 + over_s, -330).plays(over_s + 60)
    grams = sum(d["grams"] for d in told(events, "picked")) - sum(d["grams"] for d in told(events, "changed"))
    assert grams >= 0.8 * 330


def test_deltas_stay_right_where_drift_has_made_absolute_counts_wrong() -> None:
    small = Product("sweets", 20.0, 60, 10)
    shelf = Shelf(50 * 20.0, products=(small,), noise_counts=20).drifts(5, 905, 9.5)
    for n in range(5):
        shelf.changes(920 + 10 * n, -20.0)
    events = shelf.plays(990)
    assert [data["remaining_count"] for data in told(events, "picked")] == [49, 48, 47, 46, 45]


@pytest.mark.parametrize("noise_counts", [30, 80])
def test_units_of_five_times_the_noise_are_counted(noise_counts: float) -> None:
    light = Product("light", 5 * noise_counts / 21.5)
    right = wrong = 0
    for seed in range(4):
        shelf = Shelf(40 * light.unit_grams, products=(light,), noise_counts=noise_counts, seed=seed)
        for n in range(25):
            shelf.changes(20 + 8 * n, -light.unit_grams)
        found = changes(shelf.plays(230))
        right += sum(1 for change in found if change == ("picked", "light", 1))
        wrong += sum(1 for change in found if change != ("picked", "light", 1))
    assert wrong <= 1
    assert right >= 98


def test_swapped_load_cell_wires_only_turn_the_sign() -> None:
    swapped = Calibration(84_213, -21.5)
    shelf = Shelf(-3300, calibration=swapped).changes(10, 330)
    assert changes(shelf.plays(20)) == [("picked", JAM.sku, 1)]


def test_what_is_pending_at_the_end_is_decided() -> None:
    assert changes(Shelf(3300).changes(10, -330).plays(11)) == [("picked", JAM.sku, 1)]


@given(st.floats(-4000, 4000), st.floats(0.1, 20), st.lists(st.floats(5, 900), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_an_explanation_fits_and_its_confidence_is_a_probability(
    grams: float, noise: float, units: list[float]
) -> None:
    products = tuple(Product(str(n), unit) for n, unit in enumerate(units))
    found = explain(grams, noise, products)
    if found is not None:
        fit = sum(n * unit for n, unit in zip(found.counts, units, strict=True))
        assert any(found.counts)
        assert 0.0 <= found.confidence <= 1.0
        assert abs(fit - grams) <= 0.4 * max(units)


def test_a_window_with_more_than_three_outliers_of_ten_is_no_level() -> None:
    def window(outliers: int) -> Window:
        made = Window()
        for n in range(10):
            is_outlier = n % 3 == 0 and n // 3 < outliers
            made.add(Point(at(n / 10), 2.0**20 if is_outlier else 100.0 + n % 4))
        return made

    assert window(3).settled(0.0) is not None
    assert window(4).settled(0.0) is None


def test_between_two_products_nearly_alike_only_a_clear_case_is_told() -> None:
    alike = (Product("a", 100.0), Product("b", 104.0))
    found = [explain(-98.0 - 0.1 * n, 0.8, alike) for n in range(81)]
    told = [(n, explanation) for n, explanation in enumerate(found) if explanation is not None]
    assert {explanation.counts for _, explanation in told} == {(-1, 0), (0, -1)}
    assert all(explanation.confidence >= 0.55 for _, explanation in told)
    assert any(n < 40 for n, _ in told)
    assert any(n > 40 for n, _ in told)
    assert found[40] is None, "in the middle nobody can know"


def test_after_a_change_of_one_product_or_another_neither_is_counted_until_the_shelf_is_empty() -> None:
    alike = (JAM, Product("b", 500.0), Product("c", 515.0))
    shelf = Shelf(0, products=alike).changes(10, 330).changes(20, 508).changes(30, -330).changes(40, 480)
    events = shelf.weighs(50, 0.0).changes(60, 480).plays(70)
    assert changes(events)[:3] == [("placed", JAM.sku, 1), ("picked", JAM.sku, 1), ("placed", "b", 1)]
    assert told(events, "changed")[0]["grams"] == pytest.approx(508, abs=3)
    (picked,) = (data for data in told(events, "picked") if data["sku"] == JAM.sku)
    assert picked["remaining_count"] == 0, "jam is neither of the two"
    assert [data.get("remaining_count") for data in told(events, "placed")] == [1, None, 1]


def test_a_strange_thing_laid_down_leaves_the_goods_counted() -> None:
    shelf = Shelf(0, products=(JAM, TEA)).changes(10, 330).changes(20, 700).changes(30, 500)
    assert [data["remaining_count"] for data in told(shelf.plays(40), "placed")] == [1, 1]


samples = st.lists(
    st.tuples(
        st.sampled_from([0.001, 0.0125, 0.1, 0.1, 0.1, 1.0, 7.0]),
        st.one_of(
            st.sampled_from([-1, 0, 0x7FFFFF, -0x800000, 84_213]),
            st.integers(-0x800000, 0x7FFFFF),
            st.integers(155_000, 155_200),
        ),
        st.integers(1, 40),
    ),
    max_size=30,
)


@given(samples, st.booleans(), st.sampled_from([10, 80]))
@settings(max_examples=100, deadline=None)
def test_whatever_the_converter_says_is_survived(
    runs: list[tuple[float, int, int]], calibrated: bool, rate_hz: Any
) -> None:
    made = ShelfSettings(
        "s",
        data_pin=5,
        clock_pin=6,
        rate_hz=rate_hz,
        products=(JAM, TEA),
        calibration=CALIBRATION if calibrated else None,
    )
    interpreter = ShelfInterpreter(made, Context(Faults("s")))
    events, now_s = list(interpreter.tick(at(0))), 0.0
    for wait_s, counts, times in runs:
        for n in range(times):
            now_s += wait_s
            while (due_ns := interpreter.due_ns()) is not None and due_ns <= at(now_s).boot_ns:
                events += interpreter.tick(at(due_ns / 1e9))
            events += interpreter.read(ScaleSampled("s", at(now_s), counts + n % 3 if 0 < counts < 10**6 else counts))
    events += interpreter.finish(at(now_s + 60))
    for data in [*told(events, "picked"), *told(events, "placed")]:
        assert data["grams"] >= 0
        assert 0 <= data["confidence"] <= 1
        assert data.get("remaining_count", 0) >= 0
    failed, recovered = told(events, "failed"), told(events, "recovered")
    assert 0 <= len(failed) - len(recovered) <= 8


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, "data_pin and clock_pin"),
        ({"data_pin": 5, "clock_pin": 5}, "both 5"),
        ({"driver": "hx711-spi", "data_pin": 5}, "data_pin and clock_pin"),
        ({"driver": "hx711-spi", "bus": 7}, "bus"),
        ({"data_pin": 5, "clock_pin": 6, "rate_hz": 20}, "rate_hz"),
        ({"data_pin": 5, "clock_pin": 6, "products": (JAM, JAM)}, "sku"),
    ],
)
def test_settings_say_which_keys_are_wrong(keys: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        ShelfSettings("s", **keys)


def test_a_product_or_calibration_out_of_range_is_refused() -> None:
    for bad in ({"unit_grams": 0.0}, {"capacity": 0}, {"low_below": -1}, {"capacity": 5, "low_below": 6}):
        keys: dict[str, Any] = {"sku": "x", "unit_grams": 10.0, **bad}
        with pytest.raises(ValueError, match=r"unit_grams|capacity|low_below"):
            TypeAdapter(Product).validate_python(keys)
    with pytest.raises(ValueError, match="counts_per_gram"):
        Calibration(0, 0.0)


@pytest.mark.parametrize("noise_counts", [10, 80])
def test_a_change_is_told_without_products_whatever_the_first_noise_looked_like(noise_counts: float) -> None:
    for seed in range(30):
        shelf = Shelf(3300, products=(), noise_counts=noise_counts, seed=seed).changes(15, -660)
        assert len(told(shelf.plays(40), "changed")) == 1, f"seed {seed}"


def test_lines_of_a_recording_go_both_ways_and_say_what_is_wrong() -> None:
    reading = ScaleSampled("s", at(1), -8_388_608)
    assert reading_of("s", at(1), line_of(reading)) == reading
    for counts in (1.5, True, None, "7", 8_388_608, -8_388_609):
        with pytest.raises(ValueError, match="counts"):
            reading_of("s", at(1), {"counts": counts})


def test_the_kind_names_its_pins_by_their_keys() -> None:
    assert KIND.pins(ShelfSettings("s", data_pin=5, clock_pin=6)) == {"data_pin": 5, "clock_pin": 6}
    assert set(KIND.pins(ShelfSettings("s", driver="hx711-spi")).values()) == {8, 9, 10, 11}
    assert KIND.pins(ShelfSettings("s", driver="hx711-iio")) == {}
