"""Who is here: visits of tags, from when each was heard and how strongly. Pure; time is an argument.

A visit begins at the first advertisement above `arrive_dbm` and ends `left_after_ns` after the last one: between the
two lies the hysteresis, for what is too weak to arrive still keeps a visit going, and so does an advertisement whose
strength is not available. A tag that has left, at the edge of range, must be heard twice to come back, and each time
that it comes and goes there, twice as often.

Zones. Path loss (power at 1 m minus RSSI) is compared with the loss at 0.5 m and at 4 m. A zone is left when the
evidence against it has added up: a one-sided CUSUM each way (Page 1954) over samples at least `SAMPLE_NS` apart, with
slack and threshold in units of the signal's own spread, so that a clear step is believed after `SAMPLES_MIN` samples
and `DWELL_NS`, and noise at a boundary for thousands of samples is not. One sample adds half the threshold at most:
an outlier alone moves nothing. The change is dated back to when the evidence began.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.model import NS_PER_MS, NS_PER_S, Instant

Zone = Literal["immediate", "near", "far"]
ZONES: tuple[Zone, ...] = ("immediate", "near", "far")
ZONE_LIMITS_M = (0.5, 4.0)

POWER_DBM_ASSUMED = -59
"""At 1 m, where a frame states none (contract section 4)."""
SAMPLE_NS = 250 * NS_PER_MS
"""Advertisements closer together share their fading; they count as heard, but are one sample."""
WINDOW_NS = 5 * NS_PER_S
WINDOW_SAMPLES = 9
"""The smoothed RSSI is the median of the last 9 samples within 5 s: four outliers of nine change nothing."""
SAMPLES_MIN = 3
DWELL_NS = 2 * NS_PER_S
SLACK_DB_MIN = 1.0
THRESHOLD_DB_MIN = 6.0
THRESHOLD_SPREADS = 8.0
"""With a slack of half a spread: a false change about every 20,000 samples exactly at a boundary, none away from it."""
UNREST_FREE = 2.0
UNREST_HALF_NS = 600 * NS_PER_S
UNREST_SLACK_DB = 1.5
UNREST_MAX = 4.0
"""Shadowing (people who stand between) lasts for seconds to minutes and is no noise to a CUSUM. So a tag that has
changed its zone more than twice in the last ten minutes is given more slack and twice the dwell for each change more,
up to 6 dB and 32 s: what moves for good is believed all the same, a little later."""
SPREAD_DB_FIRST = 2.0
SPREAD_SHARE = 1 / 8
"""The spread is learnt from differences of neighbouring samples, the winsorized mean of about the last 8."""
DIFFERENCE_OF_SPREAD = 2 / math.sqrt(math.pi)  # mean |x - y| of two normal values of spread 1

VISITS_MAX = 4096
"""Forged identities under a known UUID must not fill the memory; the visit longest unheard is ended for a new one."""
DEPARTED_MAX = 1024
RETURN_NS, RETURN_AGAIN_NS = 120 * NS_PER_S, 1800 * NS_PER_S
RETURN_PAIR_NS = 10 * NS_PER_S
RETURN_CLEAR_DB, RETURN_MORE_DB = 5, 4
RETURNS_MAX = 3
"""Shadowing moves what lies still by some decibels for seconds to minutes. So a tag that fell silent comes back by one
advertisement clearly above `arrive_dbm`, or by two above it. Where it came and went so before, within half an hour,
4 dB more are clear and four times as many are needed, and so on: three times at most, until it is really near."""


@dataclass(frozen=True, slots=True)
class Arrived:
    key: Hashable
    at: Instant
    zone: Zone
    rssi_dbm: int


@dataclass(frozen=True, slots=True)
class Moved:
    key: Hashable
    at: Instant
    from_: Zone
    to: Zone
    rssi_dbm: int


@dataclass(frozen=True, slots=True)
class Left:
    key: Hashable
    at: Instant
    dwell_ms: int
    rssi_max_dbm: int


Change = Arrived | Moved | Left


class ZoneModel:
    """The log-distance model: `loss_db = 10 n log10(metres)` relative to 1 m."""

    def __init__(self, path_loss_exponent: float) -> None:
        near_db, far_db = (10 * path_loss_exponent * math.log10(limit_m) for limit_m in ZONE_LIMITS_M)
        self.bounds_db = ((-math.inf, near_db), (near_db, far_db), (far_db, math.inf))

    def zone_of(self, loss_db: float) -> int:
        """Return the index in ZONES of a path loss."""
        near_db, far_db = self.bounds_db[1]
        return 0 if loss_db < near_db else 1 if loss_db < far_db else 2


class _Evidence:
    """One side of the CUSUM: what speaks for being beyond a limit, and since when."""

    __slots__ = ("count", "db", "since")

    def __init__(self) -> None:
        self.db = 0.0
        self.count = 0
        self.since: Instant | None = None

    def add(self, beyond_db: float, at: Instant, threshold_db: float, dwell_ns: float) -> bool:
        """Take how far a sample lies beyond limit and slack (negative: short of it); return whether it is enough."""
        # Never more than enough: otherwise a short burst would outweigh the samples that contradict it.
        self.db = min(self.db + min(beyond_db, threshold_db / 2), threshold_db)
        if self.db <= 0:
            self.db, self.count, self.since = 0.0, 0, None
            return False
        if self.since is None:
            self.since = at
        self.count += 1
        return (
            self.db >= threshold_db
            and self.count >= SAMPLES_MIN
            and at.boot_ns - self.since.boot_ns >= dwell_ns
        )  # fmt: skip


class _Visit:
    """One visit: since when, last heard when, how strongly, in which zone."""

    __slots__ = (
        "arrived", "inward", "last", "next_sample_ns", "outward", "power_dbm", "returns", "rssi_max_dbm", "samples",
        "spread_db", "unrest", "zone",
    )  # fmt: skip

    def __init__(self, at: Instant, rssi_dbm: int, power_dbm: int, model: ZoneModel) -> None:
        loss_db = power_dbm - rssi_dbm
        self.power_dbm = power_dbm
        self.arrived = at
        self.last = at
        self.rssi_max_dbm = rssi_dbm
        self.zone = model.zone_of(loss_db)
        self.next_sample_ns = at.boot_ns + SAMPLE_NS
        self.samples: deque[tuple[int, int, float]] = deque(((at.boot_ns, rssi_dbm, loss_db),), WINDOW_SAMPLES)
        self.spread_db = SPREAD_DB_FIRST
        self.unrest = (at.boot_ns, 0.0)
        self.returns = 0  # how often it came back of late, at the edge of range
        self.inward = _Evidence()
        self.outward = _Evidence()

    def sample(self, at: Instant, rssi_dbm: int, loss_db: float, model: ZoneModel) -> tuple[int, Instant] | None:
        """Take a sample; return the zone that was left and since when, if one was."""
        difference_db = abs(loss_db - self.samples[-1][2])
        self.samples.append((at.boot_ns, rssi_dbm, loss_db))
        self.next_sample_ns = at.boot_ns + SAMPLE_NS
        self.spread_db += SPREAD_SHARE * (min(difference_db, 2 * self.spread_db + 3) - self.spread_db)
        sigma_db = self.spread_db / DIFFERENCE_OF_SPREAD
        left = self.zone
        inner_db, outer_db = model.bounds_db[left]
        inward, outward = self.inward, self.outward
        if inner_db <= loss_db <= outer_db and not inward.db and not outward.db:
            return None  # well inside, as nearly always: nothing speaks against the zone
        unrest = min(UNREST_MAX, max(0.0, self._unrest(at) - UNREST_FREE))
        slack_db = max(SLACK_DB_MIN, sigma_db / 2) + unrest * UNREST_SLACK_DB
        dwell_ns = DWELL_NS * 2**unrest
        threshold_db = max(THRESHOLD_DB_MIN, THRESHOLD_SPREADS * sigma_db)
        if outward.add(loss_db - outer_db - slack_db, at, threshold_db, dwell_ns):
            since = outward.since or at
            self.zone = max(left + 1, model.zone_of(self._median_since(since.boot_ns, 2)))
        elif inward.add(inner_db - loss_db - slack_db, at, threshold_db, dwell_ns):
            since = inward.since or at
            self.zone = min(left - 1, model.zone_of(self._median_since(since.boot_ns, 2)))
        else:
            return None
        self.inward, self.outward = _Evidence(), _Evidence()
        self.unrest = (at.boot_ns, self._unrest(at) + 1)
        return left, since

    def _unrest(self, at: Instant) -> float:
        since_ns, unrest = self.unrest
        return unrest and unrest * 0.5 ** ((at.boot_ns - since_ns) / UNREST_HALF_NS)

    def rssi_dbm(self, since_ns: int) -> int:
        """Return the smoothed RSSI of the last samples, none of them before `since_ns`."""
        return round(self._median_since(max(since_ns, self.samples[-1][0] - WINDOW_NS), 1))

    def _median_since(self, since_ns: int, column: int) -> float:
        return statistics.median([sample[column] for sample in self.samples if sample[0] >= since_ns])


class _Departed:
    """A tag that left: when it was last heard, how often it had come back, and since when it is heard weakly again."""

    __slots__ = ("first", "heard", "last_ns", "returns", "weak_ns")

    def __init__(self, last_ns: int, returns: int) -> None:
        self.last_ns = last_ns
        self.returns = returns
        self.heard = 0
        self.weak_ns = last_ns
        self.first: Instant | None = None

    @property
    def lasts_ns(self) -> int:
        return RETURN_AGAIN_NS if self.returns else RETURN_NS

    def hear(self, at: Instant) -> Instant | None:
        """Take one weak advertisement; return since when it is back, if it is."""
        if self.first is None or at.boot_ns - self.weak_ns > RETURN_PAIR_NS:
            self.first, self.heard = at, 0
        self.weak_ns = at.boot_ns
        self.heard += 1
        return self.first if self.heard >= 2 << 2 * self.returns else None


class Attendance:
    """The visits of one scanner's tags, in the order in which they were last heard."""

    def __init__(self, left_after_ns: int, arrive_dbm: float, path_loss_exponent: float) -> None:
        self.left_after_ns = left_after_ns
        self.arrive_dbm = arrive_dbm
        self.model = ZoneModel(path_loss_exponent)
        self._visits: OrderedDict[Hashable, _Visit] = OrderedDict()
        self._departed: OrderedDict[Hashable, _Departed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._visits)

    def heard(self, key: Hashable, at: Instant, rssi_dbm: int | None, power_dbm: int | None) -> tuple[Change, ...]:
        """Take one advertisement of `key`; `rssi_dbm` and `power_dbm` (at 1 m) are None where not available.

        Instants never run backwards; `silent` has been called up to `at`.
        """
        visit = self._visits.get(key)
        if visit is None:
            if rssi_dbm is None or rssi_dbm <= self.arrive_dbm:
                return ()
            return self._arrival(key, at, rssi_dbm, POWER_DBM_ASSUMED if power_dbm is None else power_dbm)
        visit.last = at
        self._visits.move_to_end(key)
        if rssi_dbm is None:
            return ()
        if rssi_dbm > visit.rssi_max_dbm:
            visit.rssi_max_dbm = rssi_dbm
        if at.boot_ns < visit.next_sample_ns:
            return ()
        if power_dbm is not None:
            visit.power_dbm = power_dbm  # a frame that states none is measured by the one before it
        changed = visit.sample(at, rssi_dbm, visit.power_dbm - rssi_dbm, self.model)
        if changed is None:
            return ()
        left, since = changed
        return (Moved(key, since, ZONES[left], ZONES[visit.zone], visit.rssi_dbm(since.boot_ns)),)

    def due_ns(self) -> int | None:
        """Return the `boot_ns` at which the visit longest unheard ends by silence, or None."""
        for visit in self._visits.values():
            return visit.last.boot_ns + self.left_after_ns
        return None

    def silent(self, now_ns: int) -> Iterator[Left]:
        """End the visits that have been silent for `left_after_ns` at `now_ns`, earliest first."""
        while (due_ns := self.due_ns()) is not None and due_ns <= now_ns:
            yield self._end()

    def close(self) -> Iterator[Left]:
        """End every visit: nothing more will be heard."""
        while self._visits:
            yield self._end()

    def _arrival(self, key: Hashable, at: Instant, rssi_dbm: int, power_dbm: int) -> tuple[Change, ...]:
        departed = self._departed.get(key)
        first, returns = at, 0
        if departed is not None and at.boot_ns - departed.last_ns < departed.lasts_ns:
            returns = departed.returns
            if rssi_dbm <= self.arrive_dbm + RETURN_CLEAR_DB + RETURN_MORE_DB * returns:
                back = departed.hear(at)
                if back is None:
                    return ()
                first, returns = back, min(returns + 1, RETURNS_MAX)
        changes: tuple[Change, ...] = (self._end(),) if len(self._visits) >= VISITS_MAX else ()
        self._departed.pop(key, None)
        visit = self._visits[key] = _Visit(at, rssi_dbm, power_dbm, self.model)
        visit.arrived, visit.returns = first, returns
        return (*changes, Arrived(key, first, ZONES[visit.zone], rssi_dbm))

    def _end(self) -> Left:
        key, visit = self._visits.popitem(last=False)
        if len(self._departed) >= DEPARTED_MAX:
            self._departed.popitem(last=False)
        self._departed[key] = _Departed(visit.last.boot_ns, visit.returns)
        dwell_ms = (visit.last.boot_ns - visit.arrived.boot_ns) // NS_PER_MS
        return Left(key, visit.last, dwell_ms, visit.rssi_max_dbm)
