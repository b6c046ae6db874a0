"""Intervals: aligned to local midnight, contiguous, cut where the clock is set."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import NS_PER_S, Instant
from gateway.sensors.counting import Interval, next_boundary_ns

UTC_ZONE = ZoneInfo("UTC")


def wall_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp()) * NS_PER_S


def at(text: str) -> Instant:
    return Instant(wall_ns(text) - wall_ns("2026-01-01T00:00:00Z"), wall_ns(text))


@pytest.mark.parametrize(
    ("now", "every_s", "zone", "boundary"),
    [
        ("2026-11-22T09:07:00Z", 900, "UTC", "2026-11-22T09:15:00Z"),
        ("2026-11-22T09:15:00Z", 900, "UTC", "2026-11-22T09:30:00Z"),
        ("2026-11-22T09:07:00Z", 3600, "Asia/Kolkata", "2026-11-22T09:30:00Z"),
        ("2026-11-22T09:07:00Z", 86_400, "Europe/Berlin", "2026-11-22T23:00:00Z"),
        ("2026-10-24T23:30:00Z", 86_400, "Europe/Berlin", "2026-10-25T23:00:00Z"),
        ("2026-03-28T23:30:00Z", 86_400, "Europe/Berlin", "2026-03-29T22:00:00Z"),
        ("2026-10-25T00:45:00Z", 900, "Europe/Berlin", "2026-10-25T01:00:00Z"),  # 03:00 becomes 02:00
        ("2026-10-25T01:00:00Z", 900, "Europe/Berlin", "2026-10-25T01:15:00Z"),
        ("2026-10-25T00:10:00Z", 3600, "Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("2026-03-29T00:45:00Z", 900, "Europe/Berlin", "2026-03-29T01:00:00Z"),  # 02:00 becomes 03:00
        ("2026-03-29T00:10:00Z", 3600, "Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("2026-10-24T23:30:00Z", 6 * 3600, "Europe/Berlin", "2026-10-25T05:00:00Z"),
        ("2026-11-22T23:59:59Z", 86_400, "UTC", "2026-11-23T00:00:00Z"),
    ],
)
def test_boundaries_lie_on_the_local_grid(now: str, every_s: float, zone: str, boundary: str) -> None:
    assert next_boundary_ns(wall_ns(now), every_s, ZoneInfo(zone)) == wall_ns(boundary)


ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York")


@given(st.integers(0, 4_000_000_000), st.sampled_from([1, 60, 900, 3600, 7200, 86_400]), st.sampled_from(ZONES))
def test_a_boundary_lies_ahead_and_not_far(wall_s: int, every_s: int, zone: str) -> None:
    boundary_ns = next_boundary_ns(wall_s * NS_PER_S, every_s, ZoneInfo(zone))
    assert wall_s * NS_PER_S < boundary_ns <= (wall_s + every_s + 3600) * NS_PER_S


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_no_quarter_of_an_hour_is_longer_or_shorter_where_summer_time_ends(zone: str) -> None:
    now_ns, quarter_ns = wall_ns("2026-01-01T00:00:00Z"), 900 * NS_PER_S
    while now_ns < wall_ns("2027-01-01T00:00:00Z"):
        assert next_boundary_ns(now_ns, 900, ZoneInfo(zone)) == now_ns + quarter_ns
        now_ns += quarter_ns


def test_intervals_are_contiguous_over_silence() -> None:
    interval = Interval(at("2026-11-22T09:07:00Z"), 900, UTC_ZONE)
    assert interval.roll(at("2026-11-22T09:14:59Z")) is None
    now, ended = at("2026-11-22T09:46:00Z"), []
    while (told := interval.roll(now)) is not None:
        ended.append(told)
    assert ended == [
        (at("2026-11-22T09:07:00Z"), at("2026-11-22T09:15:00Z")),
        (at("2026-11-22T09:15:00Z"), at("2026-11-22T09:30:00Z")),
        (at("2026-11-22T09:30:00Z"), at("2026-11-22T09:45:00Z")),
    ]
    assert interval.began == at("2026-11-22T09:45:00Z")


def test_a_set_clock_cuts_the_interval() -> None:
    old, new = Instant(5 * NS_PER_S, 5 * NS_PER_S), Instant(5 * NS_PER_S, wall_ns("2026-11-22T09:07:00Z"))
    interval = Interval(Instant(0, 0), 900, UTC_ZONE)
    assert interval.cut(old, new) == (Instant(0, 0), old)
    assert (interval.began, interval.until_ns) == (new, wall_ns("2026-11-22T09:15:00Z"))
