"""Visits and zones, as physics: a tag at a distance, walking, fading, at the edge of range."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from gateway.model import NS_PER_S, Instant
from gateway.sensors.scanner import presence
from gateway.sensors.scanner.presence import Arrived, Attendance, Change, Left, Moved, ZoneModel

WALL_NS = 1_795_000_000 * NS_PER_S


def at(s: float) -> Instant:
    return Instant(round(s * NS_PER_S), WALL_NS + round(s * NS_PER_S))


def seconds(instant: Instant) -> float:
    return instant.boot_ns / NS_PER_S


def rssi_at(metres: float, fading_db: float = 0.0) -> int:
    return round(-59 - 25 * math.log10(metres) + fading_db)


class Room:
    """One scanner's attendance, and everything that it told."""

    def __init__(self, left_after_s: float = 30, arrive_dbm: float = -90) -> None:
        self.attendance = Attendance(int(left_after_s * NS_PER_S), arrive_dbm, 2.5)
        self.told: list[Change] = []

    def hear(self, s: float, rssi_dbm: int | None, key: str = "tag", power_dbm: int | None = None) -> Room:
        self.told += self.attendance.silent(at(s).boot_ns)
        self.told += self.attendance.heard(key, at(s), rssi_dbm, power_dbm)
        return self

    def stays(self, from_s: float, until_s: float, rssi_dbm: int, every_s: float = 1.0) -> Room:
        for n in range(round((until_s - from_s) / every_s)):
            self.hear(from_s + n * every_s, rssi_dbm)
        return self

    def ends(self) -> list[Change]:
        self.told += self.attendance.close()
        return self.told

    def moves(self) -> list[tuple[str, str, float]]:
        return [(change.from_, change.to, seconds(change.at)) for change in self.told if isinstance(change, Moved)]


def kinds(changes: Iterable[Change]) -> list[type]:
    return [type(change) for change in changes]


class TestVisit:
    def test_begins_at_the_first_advertisement_above_the_threshold(self) -> None:
        room = Room().hear(0, -95).hear(1, -90).hear(2, -89)
        assert room.told == [Arrived("tag", at(2), "far", -89)]

    def test_strength_not_available_begins_no_visit_but_keeps_one(self) -> None:
        room = Room().hear(0, None).hear(1, -60).hear(25, None)
        room.hear(50, None, key="other")
        assert room.ends() == [Arrived("tag", at(1), "near", -60), Left("tag", at(25), 24_000, -60)]

    def test_what_is_too_weak_to_arrive_keeps_a_visit_going(self) -> None:
        room = Room().hear(0, -80).stays(1, 60, -97)
        assert room.ends()[-1] == Left("tag", at(59), 59_000, -80)

    def test_ends_after_the_silence_and_is_dated_to_when_it_was_last_heard(self) -> None:
        room = Room().hear(0, -60).hear(10, -50).hear(12, -70)
        assert room.attendance.due_ns() == at(42).boot_ns
        assert list(room.attendance.silent(at(42).boot_ns - 1)) == []
        assert list(room.attendance.silent(at(42).boot_ns)) == [Left("tag", at(12), 12_000, -50)]
        assert room.attendance.due_ns() is None

    def test_a_gap_shorter_than_the_silence_is_one_visit(self) -> None:
        assert kinds(Room().hear(0, -60).hear(29.9, -60).ends()) == [Arrived, Left]

    def test_a_gap_as_long_as_the_silence_is_two(self) -> None:
        assert kinds(Room().hear(0, -60).hear(30, -60).ends()) == [Arrived, Left, Arrived, Left]

    def test_several_tags_leave_in_the_order_in_which_they_were_last_heard(self) -> None:
        room = Room().hear(0, -60, "a").hear(1, -60, "b").hear(2, -60, "c").hear(3, -60, "a")
        left = [change.key for change in room.attendance.silent(at(99).boot_ns)]
        assert left == ["b", "c", "a"]

    def test_one_advertisement_is_a_visit_of_no_length(self) -> None:
        assert Room().hear(5, -60).ends()[-1] == Left("tag", at(5), 0, -60)


class TestEdgeOfRange:
    def test_one_that_just_left_must_be_heard_twice_to_come_back_weakly(self) -> None:
        room = Room().hear(0, -88).hear(40, -88)
        assert kinds(room.told) == [Arrived, Left]
        room.hear(44, -87)
        assert room.told[-1] == Arrived("tag", at(40), "far", -87)

    def test_it_comes_back_at_once_where_it_is_strong(self) -> None:
        assert Room().hear(0, -88).hear(40, -70).told[-1] == Arrived("tag", at(40), "near", -70)

    def test_or_after_a_while(self) -> None:
        assert kinds(Room().hear(0, -88).hear(130, -88).told) == [Arrived, Left, Arrived]

    def test_what_comes_and_goes_at_the_edge_must_be_heard_better_each_time(self) -> None:
        room = Room().hear(0, -88).hear(40, -88).hear(44, -88).stays(80, 86, -84)
        assert kinds(room.told) == [Arrived, Left, Arrived, Left], "six of -84 dBm brought it back the first time"
        assert kinds(room.stays(86, 88, -84).told)[4:] == [Arrived]
        strong = Room().hear(0, -88).hear(40, -88).hear(44, -88).hear(80, -70)
        assert strong.told[-1] == Arrived("tag", at(80), "near", -70)
        later = Room().hear(0, -88).hear(40, -88).hear(44, -88).hear(44 + 1801, -88)
        assert kinds(later.told)[4:] == [Arrived], "half an hour later all is forgotten"

    @pytest.mark.parametrize("seed", range(5))
    def test_few_visits_where_one_advertisement_in_ten_gets_through(self, seed: int) -> None:
        dice = random.Random(seed)
        room = Room()
        for s in range(1800):
            if dice.random() < 0.1:
                room.hear(s, round(dice.gauss(-92, 3)))
        arrivals = sum(isinstance(change, Arrived) for change in room.told)
        assert arrivals <= 12


class TestZones:
    @pytest.mark.parametrize(
        ("metres", "zone"), [(0.1, "immediate"), (0.45, "immediate"), (0.6, "near"), (3.5, "near"), (4.5, "far")]
    )
    def test_zone_by_the_log_distance_model(self, metres: float, zone: str) -> None:
        (arrived,) = Room().hear(0, rssi_at(metres)).told
        assert isinstance(arrived, Arrived)
        assert arrived.zone == zone

    def test_limits_belong_to_the_zone_outside(self) -> None:
        model = ZoneModel(2.5)
        assert [model.zone_of(loss) for loss in (-7.6, -7.5, 15.0, 15.1)] == [0, 1, 1, 2]

    def test_the_frames_own_power_counts(self) -> None:
        (arrived,) = Room().hear(0, -70, power_dbm=-75).told
        assert isinstance(arrived, Arrived)
        assert arrived.zone == "near"
        (arrived,) = Room().hear(0, -60, power_dbm=-80).told
        assert isinstance(arrived, Arrived)
        assert arrived.zone == "immediate"

    def test_a_step_is_told_soon_and_dated_to_when_it_happened(self) -> None:
        room = Room().stays(0, 20, -70).stays(20, 23, -85)
        assert room.moves() == [("near", "far", 20.0)]
        assert [change.rssi_dbm for change in room.told if isinstance(change, Moved)] == [-85]

    def test_there_and_back_and_through_a_zone(self) -> None:
        room = Room().stays(0, 20, -85).stays(20, 40, -45).stays(40, 60, -70)
        assert room.moves() == [("far", "immediate", 20.0), ("immediate", "near", 40.0)]

    def test_one_outlier_moves_nothing(self) -> None:
        room = Room().stays(0, 20, -62).hear(20, -98).stays(21, 40, -62).hear(40, -30).stays(41, 60, -62)
        assert room.moves() == []

    def test_one_outlier_does_not_make_up_for_weak_evidence(self) -> None:
        room = Room().stays(0, 20, -62).hear(20, -98).stays(21, 23, -76).stays(23, 40, -62)
        assert room.moves() == []

    def test_a_frame_that_states_no_power_is_measured_by_the_one_before_it(self) -> None:
        room = Room().hear(0, -80)
        for s in range(1, 60):
            room.hear(s, -80, power_dbm=-75 if s % 5 == 1 else None)
        assert room.moves() == [("far", "near", 1.0)]

    def test_just_beyond_a_limit_is_believed_in_the_end(self) -> None:
        room = Room().stays(0, 20, rssi_at(3)).stays(20, 60, rssi_at(5))
        assert [(left, to) for left, to, _ in room.moves()] == [("near", "far")]

    def test_a_burst_of_advertisements_is_no_evidence_of_its_own(self) -> None:
        room = Room().stays(0, 20, -70).stays(20, 21.9, -90, every_s=0.02).stays(21.9, 40, -70)
        assert room.moves() == []

    @pytest.mark.parametrize("metres", [0.25, 1.4, 8.0])
    @pytest.mark.parametrize("every_s", [0.1, 1.0])
    def test_no_flapping_within_a_zone_under_fading(self, metres: float, every_s: float) -> None:
        dice = random.Random(7)
        room = Room()
        first = room.hear(0, rssi_at(metres)).told[0]
        for n in range(1, int(1800 / every_s)):
            room.hear(n * every_s, rssi_at(metres, dice.gauss(0, 4)))
        assert isinstance(first, Arrived)
        assert room.moves() == []

    @pytest.mark.parametrize("seed", range(4))
    def test_hardly_any_flapping_exactly_at_a_limit(self, seed: int) -> None:
        dice = random.Random(seed)
        room = Room()
        for s in range(3600):
            room.hear(s, rssi_at(4.0, dice.gauss(0, 4)))
        assert len(room.moves()) <= 3

    @pytest.mark.parametrize("metres", [0.2, 1.5, 10.0])
    def test_people_who_stand_between_move_no_tag(self, metres: float) -> None:
        """Shadowing of 4 dB that lasts ten seconds at a time, over fading of 3 dB: two hours."""
        dice = random.Random(11)
        room, shadow_db = Room(), 0.0
        for s in range(7200):
            shadow_db = 0.905 * shadow_db + 0.425 * dice.gauss(0, 4)
            room.hear(s, rssi_at(metres, shadow_db + dice.gauss(0, 3) if s else 0.0))
        assert len(room.moves()) <= 2

    def test_the_more_it_flaps_the_less_it_is_believed(self) -> None:
        dice = random.Random(12)
        room, shadow_db = Room(), 0.0
        for s in range(7200):
            shadow_db = 0.905 * shadow_db + 0.425 * dice.gauss(0, 4)
            room.hear(s, rssi_at(4.0, shadow_db + dice.gauss(0, 3)))
        assert len(room.moves()) <= 40

    def test_a_tag_that_really_goes_back_and_forth_is_followed(self) -> None:
        room = Room()
        for minute in range(10):
            room.stays(60 * minute, 60 * minute + 60, (-45, -85)[minute % 2])
        assert len(room.moves()) == 9

    def test_a_walk_through_the_shop_passes_each_zone_once(self) -> None:
        """From 12 m to the scanner, ten seconds there, and away again, at half a metre a second."""
        dice = random.Random(3)
        room = Room()
        for n in range(580):
            s = n * 0.1
            metres = max(0.2, 12 - 0.5 * s, 0.5 * (s - 34))
            room.hear(s, rssi_at(metres, dice.gauss(0, 2)))
        zones = [room.told[0].zone] if isinstance(room.told[0], Arrived) else []
        zones += [change.to for change in room.told if isinstance(change, Moved)]
        assert zones == ["far", "near", "immediate", "near", "far"]


class TestMemory:
    def test_forged_identities_end_the_visit_longest_unheard(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(presence, "VISITS_MAX", 10)
        room = Room()
        for n in range(100):
            room.hear(n * 0.01, -60, key=f"forged-{n}")
        assert len(room.attendance) == 10
        arrived = [change.key for change in room.told if isinstance(change, Arrived)]
        left = [change.key for change in room.told if isinstance(change, Left)]
        assert left == arrived[:90]


def test_a_burst_shares_its_fading_and_is_one_sample() -> None:
    """Three channels' reports of one advertising event come within milliseconds, and say one thing between them."""
    room = Room().stays(0, 20, rssi_at(2))
    for n in range(20):
        room.hear(20 + n, rssi_at(12))
        for echo in range(1, 8):
            room.hear(20 + n + 0.02 * echo, rssi_at(2))
    assert [(from_, to) for from_, to, _ in room.moves()] == [("near", "far")]
