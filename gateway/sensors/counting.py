"""Intervals on the wall clock: contiguous, aligned, cut where the clock is set. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.model import NS_PER_S, Instant


def _utc_offset_ns(wall_ns: int, timezone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(wall_ns // NS_PER_S, UTC).astimezone(timezone).utcoffset() or timedelta()
    return int(offset.total_seconds()) * NS_PER_S


def next_boundary_ns(wall_ns: int, every_s: float, timezone: ZoneInfo) -> int:
    """Return the first boundary after `wall_ns` of a grid of `every_s` from local midnight, in UTC nanoseconds.

    Where the zone's offset changes in between (summer time), a boundary that is none by the new time of day moves with
    it: a day then has 23 or 25 hours. One that is on the grid by both stays: the hour that comes twice has its quarters
    twice.
    """
    every_ns = int(every_s * NS_PER_S)
    offset_ns = _utc_offset_ns(wall_ns, timezone)
    boundary_ns = ((wall_ns + offset_ns) // every_ns + 1) * every_ns - offset_ns
    new_offset_ns = _utc_offset_ns(boundary_ns, timezone)
    if (boundary_ns + new_offset_ns) % every_ns == 0:
        return boundary_ns
    moved_ns = boundary_ns + offset_ns - new_offset_ns
    return moved_ns if moved_ns > wall_ns else boundary_ns


class Interval:
    """The interval that is being counted: `began` at an instant, ends at `until_ns` of the wall clock.

    Worked example, 15 min: begun 09:07, `roll(09:16)` gives (09:07, 09:15) and begins at 09:15; at 09:46 it gives
    (09:15, 09:30), then (09:30, 09:45) by further calls.
    """

    def __init__(self, began: Instant, every_s: float, timezone: ZoneInfo) -> None:
        self.every_s = every_s
        self.timezone = timezone
        self.began = began
        self.until_ns = next_boundary_ns(began.wall_ns, every_s, timezone)

    def roll(self, now: Instant) -> tuple[Instant, Instant] | None:
        """Return (from, to) of the begun interval if its boundary has come, and begin the next at that boundary."""
        if now.wall_ns < self.until_ns:
            return None
        ended = now.later(self.until_ns - now.wall_ns)
        return self.cut(ended, ended)

    def cut(self, ended: Instant, begins: Instant) -> tuple[Instant, Instant]:
        """Return (from, to) of the interval ended here; the next begins at `begins` (the moment on a set clock)."""
        finished = (self.began, ended)
        self.began = begins
        self.until_ns = next_boundary_ns(begins.wall_ns, self.every_s, self.timezone)
        return finished
