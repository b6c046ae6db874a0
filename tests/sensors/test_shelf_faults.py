"""A faulty scale tells its fault within 15 s, with the moment it began, and never grams."""

from __future__ import annotations

import random

import pytest

from gateway.model import Event, data_of
from gateway.sensors.shelf.settings import Calibration
from tests.sensors.doors import told
from tests.sensors.shelves import Counts, Shelf, at

FROM, UNTIL = 20.0, 50.0
CHANCE = random.Random(3)

BROKEN: dict[str, Counts] = {
    "saturated": lambda t, true: 0x7FFFFF,
    "unplugged": lambda t, true: -1,
    "stuck": lambda t, true: 123_456,
    "silent": lambda t, true: None,
    "noisy": lambda t, true: true + round(CHANCE.gauss(0, 4000)),
}


def grams_told(events: list[Event]) -> list[str]:
    return [event.fact.type for event in events if event.fact.type.startswith("store.shelf.")]


@pytest.mark.parametrize("reason", BROKEN)
@pytest.mark.parametrize("rate_hz", [10, 80])
def test_a_fault_is_told_with_its_name_and_never_as_grams(reason: str, rate_hz: int) -> None:
    shelf = Shelf(3300, rate_hz=rate_hz).reads(FROM, UNTIL, BROKEN[reason])
    events = shelf.plays(70)
    assert grams_told(events) == ["store.shelf.level"]
    failed = next(event for event in events if event.fact.type == "store.sensor.failed")
    recovered = next(event for event in events if event.fact.type == "store.sensor.recovered")
    assert [data["reason"] for data in told(events, "failed")] == [reason]
    assert data_of(recovered.fact)["reason"] == reason
    assert abs(failed.at.boot_ns / 1e9 - FROM) <= 1.0
    assert abs(recovered.at.boot_ns / 1e9 - UNTIL) <= 1.2
    took_ms = data_of(recovered.fact)["failed_ms"]
    assert abs(took_ms - (UNTIL - FROM) * 1000) <= 2000


@pytest.mark.parametrize("reason", BROKEN)
def test_a_fault_is_told_within_15_s(reason: str) -> None:
    shelf = Shelf(3300).reads(FROM, 1000, BROKEN[reason])
    assert [data["reason"] for data in told(shelf.plays(FROM + 15), "failed")] == [reason]


def test_a_scale_that_never_spoke_says_nothing_here() -> None:
    shelf = Shelf(3300, calibration=None).reads(0, 100, BROKEN["silent"])
    assert not shelf.plays(60), "its driver tells silence from the start; a recording without it tells nothing"


@pytest.mark.parametrize("reason", [reason for reason in BROKEN if reason != "silent"])
def test_a_scale_broken_from_the_start_never_tells_grams(reason: str) -> None:
    events = Shelf(3300).reads(0, 1000, BROKEN[reason]).plays(60)
    assert [event.fact.type for event in events] == ["store.sensor.failed"]


def test_the_lower_end_of_scale_is_saturated_too() -> None:
    shelf = Shelf(3300).reads(FROM, UNTIL, lambda t, true: -0x800000)
    assert [data["reason"] for data in told(shelf.plays(60), "failed")] == ["saturated"]


@pytest.mark.parametrize("reason", ["saturated", "unplugged", "stuck"])
def test_bit_errors_do_not_hide_a_fault(reason: str) -> None:
    chance = random.Random(8)

    def mostly(t: float, true: int) -> int | None:
        return chance.randint(-0x800000, 0x7FFFFF) if chance.random() < 0.05 else BROKEN[reason](t, true)

    events = Shelf(3300).reads(FROM, UNTIL, mostly).plays(48)
    assert [data["reason"] for data in told(events, "failed")] == [reason]
    assert grams_told(events) == ["store.shelf.level"]


@pytest.mark.parametrize("reason", BROKEN)
def test_what_was_taken_during_a_fault_is_told_after_it(reason: str) -> None:
    events = Shelf(3300).reads(FROM, UNTIL, BROKEN[reason]).changes(35, -330).plays(70)
    (picked,) = told(events, "picked")
    assert (picked["count"], picked["remaining_count"]) == (1, 9)
    assert not told(events, "changed")


@pytest.mark.parametrize(("rate_hz", "sampled_hz"), [(80, 10), (10, 80), (10, 3)])
def test_a_wrong_rate_is_told(rate_hz: int, sampled_hz: float) -> None:
    events = Shelf(3300, rate_hz=rate_hz, sampled_hz=sampled_hz).plays(15)
    assert "wrong_rate" in [data["reason"] for data in told(events, "failed")]


@pytest.mark.parametrize("sampled_hz", [6.6, 10.7, 11])
def test_spoiled_frames_and_a_loose_oscillator_are_no_wrong_rate(sampled_hz: float) -> None:
    assert not told(Shelf(3300, sampled_hz=sampled_hz).plays(40), "failed")


def test_a_scale_without_calibration_says_so_and_nothing_else() -> None:
    events = Shelf(3300, calibration=None).changes(10, -330).plays(30)
    assert [data["reason"] for data in told(events, "failed")] == ["not_calibrated"]
    assert not grams_told(events)


def test_a_driver_that_told_why_is_not_called_silent_as_well() -> None:
    shelf = Shelf(3300)
    shelf.interpreter.faults.active["pin_in_use"] = at(0)
    list(shelf.interpreter.tick(at(0)))
    assert shelf.interpreter.due_ns() is None


def test_noise_as_boards_have_it_is_no_fault_and_a_rummaging_hand_neither() -> None:
    assert not told(Shelf(3300, noise_counts=90).plays(60), "failed")
    shelf = Shelf(3300)
    chance = random.Random(4)
    for n in range(60):
        shelf.weighs(20 + n * 0.4, 3300 + chance.uniform(-200, 900))
    shelf.weighs(44.0, 3300)
    events = shelf.plays(60)
    assert not told(events, "failed")
    assert grams_told(events) == ["store.shelf.level"]


@pytest.mark.parametrize(("grams", "is_noisy"), [(2.0, False), (9.0, False), (16.0, True)])
def test_noise_is_judged_against_what_the_scale_weighs(grams: float, is_noisy: bool) -> None:
    """A compressor that shakes jars of 330 g by 2 g hides none, whatever that is in counts."""
    fine = Calibration(84_213, 420.0)
    shelf = Shelf(10 * 330, calibration=fine, noise_counts=grams * 420.0, seed=7).changes(40, -330)
    events = shelf.plays(80)
    assert bool(told(events, "failed")) is is_noisy
    assert is_noisy or [data["count"] for data in told(events, "picked")] == [1]


def spoiled(share: float, seed: int = 5) -> Counts:
    chance = random.Random(seed)
    return lambda t, true: true ^ (1 << chance.randint(10, 20)) if chance.random() < share else true


@pytest.mark.parametrize("rate_hz", [10, 80])
def test_spikes_are_told_as_noise_with_their_own_sentence(rate_hz: int) -> None:
    shelf = Shelf(3300, rate_hz=rate_hz).reads(FROM, UNTIL, spoiled(0.35))
    events = shelf.plays(70)
    (failed,) = told(events, "failed")
    assert failed["reason"] == "noisy"
    assert "spikes" in failed["detail"]
    assert [data["reason"] for data in told(events, "recovered")] == ["noisy"]
    assert grams_told(events) == ["store.shelf.level"]
    at_15_s = Shelf(3300, rate_hz=rate_hz).reads(FROM, 1000, spoiled(0.35)).plays(FROM + 15)
    assert told(at_15_s, "failed"), "within 15 s"


@pytest.mark.parametrize("rate_hz", [10, 80])
def test_a_few_spikes_are_daily_bread(rate_hz: int) -> None:
    assert not told(Shelf(3300, rate_hz=rate_hz).reads(FROM, 300, spoiled(0.08)).plays(320), "failed")


def test_what_is_taken_again_and_again_is_no_spike() -> None:
    shelf = Shelf(3300)
    for n in range(60):
        shelf.changes(FROM + 0.5 * n, 330 if n % 2 else -330)
    assert not told(shelf.plays(70), "failed")
