"""APScheduler under a wall clock that steps: the job goes on, once a grid point, in both directions."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import apscheduler.schedulers.base
import pytest

from gateway.daemon.scheduler import Grid, Scheduler
from gateway.engine.engine import Due

BERLIN = ZoneInfo("Europe/Berlin")


class SteppedDatetime(datetime):
    """The wall clock as APScheduler reads it, `by` ahead."""

    by = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.by


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SteppedDatetime]]:
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", SteppedDatetime)
    SteppedDatetime.by = timedelta()
    yield SteppedDatetime
    SteppedDatetime.by = timedelta()


@pytest.mark.parametrize(
    "by", [timedelta(hours=-1), timedelta(days=-20_000), timedelta(hours=1), timedelta(days=20_000)]
)
def test_a_job_goes_on_after_the_clock_was_set(stepped: type[SteppedDatetime], by: timedelta) -> None:
    offered: queue.SimpleQueue[Due] = queue.SimpleQueue()
    scheduler = Scheduler(offered.put, BERLIN)
    scheduler.every("tick", 0.2)
    scheduler.start()
    try:
        assert offered.get(timeout=2) == Due("tick")
        stepped.by = by
        scheduler.rearm()
        while not offered.empty():
            offered.get()
        began = time.monotonic()
        for _ in range(3):
            assert offered.get(timeout=2) == Due("tick")
        assert time.monotonic() - began > 0.3, "missed runs came in a burst"
    finally:
        scheduler.close()


def test_a_grid_never_enumerates_what_was_missed() -> None:
    grid = Grid(900, BERLIN)
    long_ago = datetime(1970, 1, 1, tzinfo=UTC)
    now = datetime(2026, 11, 22, 9, 7, tzinfo=UTC)
    assert grid.get_next_fire_time(long_ago, now) == datetime(2026, 11, 22, 9, 15, tzinfo=UTC)


def test_a_grid_goes_on_from_the_point_that_is_just_due() -> None:
    grid = Grid(900, BERLIN)
    due = datetime(2026, 11, 22, 9, 15, tzinfo=UTC)
    assert grid.get_next_fire_time(due, due) == datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def test_a_day_begins_at_local_midnight_through_summer_time() -> None:
    day = Grid(86_400, BERLIN)
    before = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    first = day.get_next_fire_time(None, before)
    second = day.get_next_fire_time(first, first)
    assert [moment.astimezone(BERLIN).isoformat() for moment in (first, second)] == [
        "2026-10-25T00:00:00+02:00",
        "2026-10-26T00:00:00+01:00",
    ]
