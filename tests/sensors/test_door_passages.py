"""Who passed, and in which direction: torsos of 0.22 to 0.35 m at 0.3 to 2.5 m/s, arms, turn-backs, people close by."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import NS_PER_MS, data_of
from gateway.sensors.door.settings import DoorSettings
from tests.sensors.doors import Door, told

SPACING_M = 0.08


def shift_ms(speed: float, spacing_m: float = SPACING_M) -> float:
    return spacing_m / speed * 1000


@pytest.mark.parametrize("spacing_m", [0.05, 0.08, 0.15, 0.45])
@pytest.mark.parametrize("depth_m", [0.22, 0.35])
@pytest.mark.parametrize("speed", [0.3, 0.7, 1.2, 2.5])
def test_who_walks_through_is_counted_in_the_direction_walked(speed: float, depth_m: float, spacing_m: float) -> None:
    torso, shift = depth_m / speed * 1000, shift_ms(speed, spacing_m)
    assert Door().walks_in(1000, torso, shift).passages() == ["in"]
    assert Door().walks_out(1000, torso, shift).passages() == ["out"]


def test_a_passage_lasts_from_the_first_beam_broken_to_the_last_cleared() -> None:
    door = Door().walks_in(1000, torso_ms=200, shift_ms=60)
    passed = next(event for event in door.plays() if event.fact.type == "store.door.passed")
    assert data_of(passed.fact) == {
        "direction": "in",
        "duration_ms": 260,
        "in_total": 1,
        "out_total": 0,
        "unknown_total": 0,
    }
    assert passed.at.boot_ns == 1260 * NS_PER_MS


def test_a_passage_is_decided_as_soon_as_the_last_beam_stays_clear() -> None:
    door = Door().walks_in(1000)
    door.plays(1000 + 260 + 70)
    assert told(door.events, "passed")
    ends_early = Door().walks_in(1000)
    ends_early.plays(1000 + 260)
    assert told(ends_early.events, "passed"), "what is pending is decided at the end"


def test_a_single_beam_counts_without_direction() -> None:
    assert Door(single=True).breaks("only", 0, 50).passages() == ["unknown"]
    assert Door(single=True).breaks("only", 0, 200).breaks("only", 270, 200).passages() == ["unknown"] * 2


def test_gaps_below_70_ms_lie_within_one_person() -> None:
    assert Door(single=True).breaks("only", 0, 200).breaks("only", 269, 200).passages() == ["unknown"]


def test_insects_and_interference_below_40_ms_are_nobody() -> None:
    door = Door(single=True)
    for n in range(10):
        door.breaks("only", n * 1000, 39)
    assert door.passages() == []
    assert Door(single=True).breaks("only", 0, 40).passages() == ["unknown"]


def test_a_spike_before_the_torso_does_not_turn_the_direction() -> None:
    door = Door().walks_in(1000, torso_ms=200, shift_ms=60)
    assert door.breaks("inner", 1000 - 5, 5).passages() == ["in"]
    assert told(door.events, "passed")[0]["duration_ms"] == 260


def test_chatter_at_the_edges_of_a_torso_is_part_of_it() -> None:
    door = Door()
    for beam, start in (("outer", 1000), ("inner", 1060)):
        for n in range(3):
            door.breaks(beam, start + n * 8, 4)  # type: ignore[arg-type]
        door.breaks(beam, start + 24, 176)  # type: ignore[arg-type]
    assert door.passages() == ["in"]


@pytest.mark.parametrize("deep_ms", [80, 300, 2000])
def test_who_turns_back_in_the_second_beam_did_not_pass(deep_ms: float) -> None:
    assert Door().breaks("outer", 0, deep_ms + 140).breaks("inner", 70, deep_ms).passages() == []
    assert Door().breaks("inner", 0, deep_ms + 140).breaks("outer", 70, deep_ms).passages() == []


@pytest.mark.parametrize("beam", ["outer", "inner"])
def test_who_turns_back_in_the_first_beam_did_not_pass(beam: str) -> None:
    assert Door().breaks(beam, 0, 900).passages() == []  # type: ignore[arg-type]


def test_the_next_visitor_after_a_turn_back_counts_in_his_own_direction() -> None:
    assert Door().breaks("outer", 0, 300).walks_out(700).passages() == ["out"]
    assert Door().breaks("outer", 0, 300).walks_in(800).passages() == ["in"]
    assert Door().breaks("inner", 0, 300).walks_in(700).passages() == ["in"]


def test_who_hesitates_between_the_beams_passed_once() -> None:
    assert Door().breaks("outer", 0, 1500).breaks("inner", 200, 300).breaks("inner", 900, 900).passages() == ["in"]


def test_who_lingers_in_the_second_beam_still_went_through() -> None:
    assert Door().breaks("outer", 0, 250).breaks("inner", 60, 5000).passages() == ["in"]


@pytest.mark.parametrize(("torso", "shift", "headway"), [(200, 60, 290), (180, 60, 260), (250, 100, 330)])
def test_two_close_behind_each_other_are_two(torso: float, shift: float, headway: float) -> None:
    assert Door().walks_in(0, torso, shift).walks_in(headway, torso, shift).passages() == ["in", "in"]
    assert Door().walks_out(0, torso, shift).walks_out(headway, torso, shift).passages() == ["out", "out"]


def test_two_whom_only_one_beam_sees_apart_are_two() -> None:
    assert Door().breaks("outer", 0, 200).breaks("outer", 275, 200).breaks("inner", 100, 460).passages() == ["in"] * 2
    assert Door().breaks("inner", 0, 460).breaks("outer", 100, 200).breaks("outer", 375, 200).passages() == ["out"] * 2


def test_a_queue_between_beams_far_apart_is_followed_in_order() -> None:
    door = Door()
    for n in range(4):
        door.walks_in(n * 500, torso_ms=200, shift_ms=375)  # the second is in the outer beam before the first is inside
    assert door.passages() == ["in"] * 4


@pytest.mark.parametrize("ahead_ms", [60, 90, 150, 230])
def test_a_leading_arm_is_not_a_second_person(ahead_ms: float) -> None:
    door = Door().walks_in(1000)
    door.breaks("outer", 1000 - ahead_ms, 50).breaks("inner", 1060 - ahead_ms, 50)
    assert door.passages() == ["in"]
    one_beam = Door().walks_in(1000).breaks("outer", 1000 - ahead_ms, 50)
    assert one_beam.passages() == ["in"], "the arm swung past the other beam"
    single = Door(single=True).breaks("only", 1000 - ahead_ms, 50).breaks("only", 1000, 200)
    assert single.passages() == ["unknown"]


def test_a_trailing_arm_is_not_a_second_person() -> None:
    door = Door().walks_in(1000).breaks("outer", 1300, 50).breaks("inner", 1360, 50)
    assert door.passages() == ["in"]


def test_levels_may_be_repeated_and_the_first_may_be_missing() -> None:
    door = Door().walks_in(1000)
    door.levels += [(1100, "outer", True), (1150, "inner", True), (1230, "outer", False), (5000, "inner", False)]
    assert door.passages() == ["in"]


def test_a_lost_edge_is_made_good_by_the_repeated_level() -> None:
    door = Door()
    door.levels += [(1000, "outer", True), (1060, "inner", True), (1260, "inner", False), (1900, "outer", False)]
    door.walks_in(4000)
    assert door.passages()[-1] == "in", "a lost clearing costs its own passage, never the next one"


def test_beams_of_another_door_form_are_passed_over() -> None:
    assert Door().breaks("only", 0, 300).passages() == []
    assert Door(single=True).walks_in(0).passages() == []


def test_both_beams_at_once_are_a_supply_that_fails_and_not_a_person() -> None:
    assert Door().breaks("outer", 0, 200).breaks("inner", 0, 200).passages() == []


def people(seed: int, count: int, headway_s: tuple[float, float], spacing_m: float) -> tuple[Door, list[str]]:
    """A crowd with truth: speeds, depths, directions in turns of some, a leading arm with every third."""
    chance = random.Random(seed)
    door, truth, now_ms = Door(), [], 1000.0
    inwards = True
    for _ in range(count):
        speed = min(2.5, max(0.4, chance.lognormvariate(0.15, 0.3)))
        torso, shift = chance.uniform(0.22, 0.35) / speed * 1000, shift_ms(speed, spacing_m)
        if chance.random() < 0.3:
            inwards = not inwards
            now_ms += 1200 + shift
        (door.walks_in if inwards else door.walks_out)(now_ms, torso, shift)
        if chance.random() < 0.33:
            first, second = ("outer", "inner") if inwards else ("inner", "outer")
            for beam, begin in ((first, now_ms), (second, now_ms + shift)):
                door.breaks(beam, begin - chance.uniform(95, 200), chance.uniform(40, 60))  # type: ignore[arg-type]
        truth.append("in" if inwards else "out")
        now_ms += torso + shift + chance.uniform(*headway_s) * 1000
    return door, truth


@pytest.mark.parametrize("spacing_m", [0.06, 0.1, 0.3])
def test_single_file_is_counted_almost_without_error(spacing_m: float) -> None:
    wrong = total = 0
    for seed in range(5):
        door, truth = people(seed, 200, (0.6, 4.0), spacing_m)
        found = door.passages()
        wrong += abs(found.count("in") - truth.count("in")) + abs(found.count("out") - truth.count("out"))
        total += len(truth)
    assert wrong / total <= 0.005


class TestArms:
    """A hand swings ahead of or behind the trunk: at another phase, or not at all, at the other beam."""

    @pytest.mark.parametrize("lead_ms", [90, 140, 190])
    def test_a_hand_ahead_that_only_one_beam_sees_apart_is_no_turning_back(self, lead_ms: float) -> None:
        door = Door().walks_in(1000).walks_in(4000).walks_in(7000)
        # The outer beam sees hand and trunk apart, the inner one as one; both ends are in the order of coming in.
        door.breaks("outer", 10_000 - lead_ms, 80).breaks("outer", 10_000, 240)
        door.breaks("inner", 10_060 - lead_ms, lead_ms + 240)
        assert door.passages() == ["in"] * 4

    def test_a_hand_behind_is_waited_for_before_the_direction_is_told(self) -> None:
        door = Door().walks_out(1000).walks_out(4000).walks_out(7000)
        door.breaks("inner", 9568, 72).breaks("inner", 9715, 377)
        door.breaks("outer", 9628, 373).breaks("outer", 10_075, 84)
        assert door.passages() == ["out"] * 4

    def test_who_turns_back_with_swinging_arms_has_not_come_in(self) -> None:
        door = Door().walks_in(1000).walks_in(4000).walks_in(7000)
        door.breaks("outer", 9900, 50).breaks("outer", 10_000, 900).breaks("outer", 10_980, 50)
        door.breaks("inner", 10_150, 600)
        assert door.passages() == ["in"] * 3

    def test_a_child_close_behind_is_a_person(self) -> None:
        door = Door().walks_in(1000).walks_in(4000).walks_in(7000)
        door.walks_in(10_000, torso_ms=240, shift_ms=60).walks_in(10_425, torso_ms=115, shift_ms=60)
        assert door.passages() == ["in"] * 5

    def test_whose_hands_both_beams_see_otherwise_goes_the_way_of_the_whole(self) -> None:
        # Each beam sees another hand apart from the trunk: the trunks' own ends say "out", the body as a whole came in.
        door = Door().walks_in(1000, 260, 85).walks_in(4000, 260, 85).walks_in(7000, 260, 85)
        door.breaks("outer", 10_000, 64).breaks("outer", 10_168, 468)
        door.breaks("inner", 10_061, 464).breaks("inner", 10_634, 67)
        assert door.passages() == ["in"] * 4

    def test_a_hand_too_quick_to_be_somebody_still_tells_the_order(self) -> None:
        door = Door().walks_out(1000, 200, 65).walks_out(4000, 200, 65).walks_out(7000, 200, 65)
        door.breaks("inner", 9592, 36).breaks("inner", 9739, 200)
        door.breaks("outer", 9618, 40).breaks("outer", 9802, 445)  # trunk and the hand behind it as one
        assert door.passages() == ["out"] * 4

    def test_a_hand_that_comes_after_its_person_was_told_is_nobody(self) -> None:
        door = Door().walks_out(1000, 290, 75).walks_out(4000, 290, 75).walks_out(7000, 290, 75)
        door.walks_out(10_000, 286, 75).breaks("inner", 10_376, 72).breaks("outer", 10_470, 84)
        assert door.passages() == ["out"] * 4

    def test_a_hand_before_the_first_person_of_all_is_nobody(self) -> None:
        door = Door().breaks("outer", 800, 71).breaks("inner", 836, 95).walks_in(1000, 290, 65)
        assert door.passages() == ["in"]

    @pytest.mark.parametrize("spacing_m", [0.05, 0.08, 0.15, 0.3])
    def test_a_child_that_keeps_its_distance_is_no_hand(self, spacing_m: float) -> None:
        door, speed = Door(), 1.1
        for n in range(4):
            begin_ms = 1000 + 4000 * n
            door.walks_in(begin_ms, 0.27 / speed * 1000, shift_ms(speed, spacing_m))
            door.walks_in(begin_ms + 0.57 / speed * 1000, 0.14 / speed * 1000, shift_ms(speed, spacing_m))
        assert door.passages() == ["in"] * 8

    @pytest.mark.parametrize("spacing_m", [0.05, 0.08, 0.15, 0.3])
    def test_who_pushes_a_trolley_is_one(self, spacing_m: float) -> None:
        door = Door()
        for n in range(3):
            door.walks_in(1000 + 3000 * n, 250, shift_ms(1.1, spacing_m))
        door.walks_in(10_000, 800, shift_ms(1.1, spacing_m)).walks_in(11_000, 250, shift_ms(1.1, spacing_m))
        assert door.passages() == ["in"] * 4

    def test_who_goes_past_the_first_beam_and_back_has_not_come_in(self) -> None:
        door = Door().walks_in(1000).walks_in(4000).walks_in(7000)
        door.breaks("outer", 10_000, 200).breaks("outer", 10_500, 210).breaks("inner", 10_060, 590)
        assert door.passages() == ["in"] * 3

    @pytest.mark.parametrize("waits_ms", [0, 300, 1000, 4000])
    @pytest.mark.parametrize("shift_ms", [40, 100, 180, 260, 400])
    def test_who_waits_in_the_second_beam_and_comes_back_has_not_come_in(self, shift_ms: int, waits_ms: int) -> None:
        door = Door().walks_in(1000, 200, shift_ms).walks_in(4000, 200, shift_ms).walks_in(7000, 200, shift_ms)
        # The trunk takes 200 ms; its middle goes past the first beam and turns 60 ms into the second one.
        turns = 10_000 + max(200, shift_ms) + 60
        comes_back = turns + waits_ms + (turns - 10_200)
        door.breaks("outer", 10_000, 200).breaks("outer", comes_back, 200)
        door.breaks("inner", 10_000 + shift_ms, comes_back + 200 - shift_ms - 10_000 - shift_ms)
        door.walks_in(comes_back + 1500, 200, shift_ms)
        assert door.passages() == ["in"] * 4

    def test_who_follows_where_the_beams_are_far_apart_is_not_one_who_comes_back(self) -> None:
        door = Door()
        for n in range(8):
            door.walks_in(1000 + 700 * n, 200, 400)
        assert door.passages() == ["in"] * 8

    def test_hands_at_a_single_beam_are_nobody(self) -> None:
        door = Door(single=True)
        for n in range(3):
            door.breaks("only", 1000 + 3000 * n, 90).breaks("only", 1170 + 3000 * n, 300)
            door.breaks("only", 1570 + 3000 * n, 110)
        assert door.passages() == ["unknown"] * 3
        assert Door(single=True).breaks("only", 0, 260).breaks("only", 480, 140).passages() == ["unknown"] * 2

    def test_one_who_turned_back_is_not_paired_with_the_next_who_comes_out(self) -> None:
        door = Door().walks_in(1000).walks_in(4000).walks_in(7000)
        door.breaks("outer", 9000, 200).walks_out(9400, torso_ms=200, shift_ms=60)
        assert door.passages() == ["in", "in", "in", "out"]


def busy(people: int = 12) -> Door:
    """Return a door that knows what is usual: people one after another, both ways."""
    door = Door()
    for n in range(people):
        (door.walks_in if n % 2 else door.walks_out)(1000 + 3000 * n, 200, 60)
    return door


class TestTogether:
    """Two bodies, or a body and a thing, in both beams at the same time."""

    @pytest.mark.parametrize("later_ms", [100, 160, 220])
    def test_two_who_meet_are_one_in_and_one_out(self, later_ms: int) -> None:
        # The one who comes in and the one who goes out are in each beam together: one blockage of both.
        door = busy().breaks("outer", 60_000, later_ms + 243).breaks("inner", 60_047, later_ms + 140)
        assert sorted(door.passages()[12:]) == ["in", "out"]

    @pytest.mark.parametrize("skew_ms", [0.001, 1, 4, 8, 12])
    @pytest.mark.parametrize("for_ms", [50, 150, 400])
    def test_what_both_beams_see_at_once_is_nobody(self, skew_ms: float, for_ms: int) -> None:
        door = busy().breaks("outer", 60_000, for_ms).breaks("inner", 60_000 + skew_ms, for_ms)
        assert len(door.passages()) == 12

    @pytest.mark.parametrize("long_ms", [420, 520, 640])
    def test_who_pushes_a_pram_is_one(self, long_ms: int) -> None:
        door = busy()
        for beam, begin in (("outer", 60_000), ("inner", 60_064)):
            door.breaks(beam, begin, long_ms).breaks(beam, begin + long_ms + 80, 28)  # type: ignore[arg-type]
            door.breaks(beam, begin + long_ms + 310, 230)  # type: ignore[arg-type]
        assert door.passages()[12:] == ["in"]

    def test_who_pulls_a_case_is_one(self) -> None:
        door = busy()
        for beam, begin in (("outer", 60_000), ("inner", 60_066)):
            door.breaks(beam, begin, 200).breaks(beam, begin + 410, 60)  # type: ignore[arg-type]
            door.breaks(beam, begin + 510, 22)  # type: ignore[arg-type]
        assert door.passages()[12:] == ["in"]

    def test_who_pushes_a_trolley_of_wire_is_counted_and_no_fault(self) -> None:
        door = busy()
        for beam, begin in (("outer", 60_000), ("inner", 60_080)):
            for wire in range(16):
                door.breaks(beam, begin + 52 * wire, 8)  # type: ignore[arg-type]
            door.breaks(beam, begin + 420, 240)  # type: ignore[arg-type]
            door.breaks(beam, begin + 1150, 280)  # type: ignore[arg-type]
        assert door.passages()[12:] == ["in"]
        assert not told(door.events, "failed")


class TestOtherWirings:
    def test_a_turnstile_tells_each_turn_and_its_way(self) -> None:
        door = Door(wiring="turnstile")
        for n, beam in enumerate(("outer", "outer", "inner", "outer")):
            door.breaks(beam, 1000 + 500 * n, 12).breaks(beam, 1015 + 500 * n, 3)  # type: ignore[arg-type]
        assert door.passages() == ["in", "in", "out", "in"]

    def test_a_turnstile_with_one_contact_counts_turns_without_way(self) -> None:
        door = Door(single=True, wiring="turnstile")
        for n in range(5):
            door.breaks("only", 1000 + 450 * n, 15)
        assert door.passages() == ["unknown"] * 5

    def test_a_door_that_slams_and_springs_back_was_opened_once(self) -> None:
        door = Door(single=True, wiring="reed").breaks("only", 1000, 2500).breaks("only", 3600, 80)
        (passed,) = told(door.plays(), "passed")
        assert (passed["direction"], passed["duration_ms"]) == ("unknown", 2680)

    def test_a_door_held_open_is_told(self) -> None:
        door = Door(single=True, wiring="reed", blocked_after_s=60).breaks("only", 1000, 90_000)
        events = door.plays()
        assert told(events, "blocked") == [{"beam": "only"}]
        assert told(events, "cleared") == [{"beam": "only", "blocked_ms": 90_000}]

    def test_steps_on_a_mat_are_one_person_until_there_is_a_gap(self) -> None:
        door = Door(single=True, wiring="mat")
        for first_ms in (1000, 4000):
            door.breaks("only", first_ms, 600).breaks("only", first_ms + 720, 600)
        assert door.passages() == ["unknown"] * 2

    def test_a_mat_of_two_zones_tells_the_direction(self) -> None:
        door = Door(wiring="mat")
        for at_ms, first, second in ((1000, "outer", "inner"), (6000, "inner", "outer")):
            door.breaks(first, at_ms, 650).breaks(second, at_ms + 500, 650)  # type: ignore[arg-type]
        assert door.passages() == ["in", "out"]

    def test_a_reed_switch_cannot_tell_the_direction(self) -> None:
        with pytest.raises(ValueError, match="reed"):
            DoorSettings("d", outer_pin=4, inner_pin=5, wiring="reed")


levels = st.lists(
    st.tuples(st.integers(0, 3000), st.sampled_from(["outer", "inner", "only"]), st.booleans()), max_size=120
)


@given(levels, st.sampled_from([None, 7.0, 1000.0]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_the_beams_say_ticks_change_nothing_and_counts_agree(
    steps: list[tuple[int, str, bool]], tick_every_ms: float | None, single: bool
) -> None:
    def door() -> Door:
        made, now_ms = Door(single=single, blocked_after_s=2, counted_every=5), 0.0
        for wait_ms, beam, broken in steps:
            now_ms += wait_ms * (wait_ms % 7 == 0) + wait_ms % 113
            made.levels.append((now_ms, beam, broken))  # type: ignore[arg-type]
        return made

    events = door().plays(tick_every_ms=tick_every_ms)
    assert events == door().plays()
    for way in ("in", "out", "unknown"):
        passed = [data for data in told(events, "passed") if data["direction"] == way]
        assert sum(data[way] for data in told(events, "counted")) == len(passed)
        if passed:
            assert passed[-1][f"{way}_total"] == len(passed)
    assert len(told(events, "blocked")) - len(told(events, "cleared")) in (0, 1, 2)
