"""A quiet room is not a dead radio: the ladder, on a clock of its own."""

from __future__ import annotations

from gateway.model import NS_PER_S
from gateway.sensors.scanner.silence import Silence

HOUR_S = 3600


def climbed(silence: Silence, from_s: int, until_s: int) -> list[tuple[int, str]]:
    """What was tried when, looking every second."""
    return [(s, rung) for s in range(from_s, until_s) if (rung := silence.step(s * NS_PER_S)) is not None]


def listening(until_s: int, every_s: int) -> Silence:
    silence = Silence(0)
    for s in range(0, until_s, every_s):
        assert every_s >= 90 or silence.step(s * NS_PER_S) is None
        silence.heard(s * NS_PER_S)
    return silence


def test_a_busy_room_that_falls_silent_climbs_every_rung() -> None:
    last_s = 2 * HOUR_S
    tried = climbed(listening(last_s + 1, 5), last_s, last_s + 1300)
    assert [(s - last_s, rung) for s, rung in tried] == [
        (90, "scan"),
        (180, "helper"),
        (270, "power"),
        (360, "silent"),
        (1260, "helper"),
    ]


def test_a_room_that_is_quiet_for_half_an_hour_at_a_time_is_left_alone_that_long() -> None:
    last_s = 10 * 1800
    tried = climbed(listening(last_s + 1, 1800), last_s, last_s + 4 * 1800)
    assert {rung for _, rung in tried} == {"scan", "helper"}
    assert len(tried) < 12


def test_where_nothing_was_ever_heard_a_person_is_called_after_a_quarter_of_an_hour() -> None:
    tried = climbed(Silence(0), 0, 1200)
    assert [s for s, rung in tried if rung == "silent"] == [990]


def test_one_advertisement_begins_the_ladder_again() -> None:
    silence = Silence(0)
    climbed(silence, 0, 1200)
    assert silence.is_told
    silence.heard(1200 * NS_PER_S)
    assert not silence.is_told
    assert climbed(silence, 1200, 1300) == [(1290, "scan")]


def test_the_longest_gap_is_forgotten_after_a_day() -> None:
    silence = Silence(0)
    silence.heard(5 * HOUR_S * NS_PER_S)  # a night without anybody
    for s in range(5 * HOUR_S, 31 * HOUR_S, 60):
        silence.heard(s * NS_PER_S)
    assert silence.is_unusual((31 * HOUR_S + 300) * NS_PER_S)
