"""What belongs to the wall clock: quarter hours, health, the day's key. APScheduler that survives a clock that steps.

APScheduler 3.11 trusts the wall clock: after a step back its jobs sleep for the size of the step, after a step forward
it enumerates every missed run (measured: 1970 to 2026 with a 5 s job ends its thread out of memory). Two public hooks
cure both: `Grid`, a trigger whose next time is always the first grid point after *now*, so there is never more than one
missed run; and `rearm`, which the engine calls when it sees a step. Jobs only offer a `Due` to the engine: nothing in
the core depends on one having run, and sensing loops are never jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from gateway.engine.engine import Due
from gateway.model import NS_PER_S
from gateway.sensors.counting import next_boundary_ns

log = logging.getLogger(__name__)

MISFIRE_GRACE_S = None
"""A late job still runs: it belongs to a boundary, not to a moment."""


class Grid(BaseTrigger):
    """Fires at multiples of `every_s` since local midnight. Worked example: 900 s fires at :00, :15, :30 and :45."""

    def __init__(self, every_s: float, timezone: ZoneInfo) -> None:
        self.every_s = every_s
        self.timezone = timezone

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the first grid point after `now`, and after `previous` where that lies ahead by less than one grid."""
        now_ns = int(now.timestamp() * 1000) * (NS_PER_S // 1000)
        if previous is not None and 0 <= previous.timestamp() - now.timestamp() < self.every_s:
            now_ns = int(previous.timestamp() * 1000) * (NS_PER_S // 1000)
        return datetime.fromtimestamp(next_boundary_ns(now_ns, self.every_s, self.timezone) / NS_PER_S, UTC)


class Scheduler:
    """Offers `Due(what)` on grids of the wall clock."""

    def __init__(self, offer: Callable[[Due], object], timezone: ZoneInfo) -> None:
        self._offer = offer
        self._timezone = timezone
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            daemon=True,
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "misfire_grace_time": MISFIRE_GRACE_S, "max_instances": 1},
        )

    def every(self, what: str, every_s: float) -> None:
        """Offer `Due(what)` at each multiple of `every_s` since local midnight. The same name again replaces it."""
        trigger = Grid(every_s, self._timezone)
        name = f"{what}/{every_s:g}"
        self._scheduler.add_job(self._offer, trigger, args=[Due(what)], id=name, name=name, replace_existing=True)

    def start(self) -> None:
        self._scheduler.start()

    def rearm(self) -> None:
        """The wall clock was set: compute every job's next run anew."""
        for job in self._scheduler.get_jobs():
            job.reschedule(job.trigger)
        self._scheduler.wakeup()

    def close(self) -> None:
        """End the scheduler's thread; a job that runs is not waited for."""
        if self._scheduler.running:
            with suppress(RuntimeError):  # its thread was refused by the machine, and so cannot be waited for
                self._scheduler.shutdown(wait=False)
