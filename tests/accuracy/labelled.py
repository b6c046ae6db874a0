"""Readings with known truth, through the same interpretation as `gateway replay`, and how often it was right.

`interpret` ticks as a replay does: at interpreters' due moments, at each reading, and at the end. What it yields
carries the moment at which it was decided, so that delays can be measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.engine.interpretation import Interpretation, Interpreted
from gateway.model import NS_PER_S, Event, Instant, Reading
from gateway.sensors.kind import Context, Faults, Sensor

NINE_NS = 1_795_338_000 * NS_PER_S  # 2026-11-22T09:00:00Z


def at(t_s: float) -> Instant:
    t_ns = round(t_s * NS_PER_S)
    return Instant(t_ns, NINE_NS + t_ns)


@dataclass(frozen=True, slots=True)
class Decided:
    """An event, and when it was decided, in seconds."""

    t_s: float
    event: Event


def interpretation_of(sensors: Iterable[Sensor[Any]]) -> Interpretation:
    interpretations = []
    for sensor in sensors:
        faults = Faults(sensor.id)
        interpretations.append(
            Interpreted(sensor.id, sensor.kind.interpreter(sensor.settings, Context(faults)), faults)
        )
    return Interpretation(interpretations)


def interpret(
    sensors: Iterable[Sensor[Any]], readings: Iterable[Reading], until_s: float | None = None
) -> Iterator[Decided]:
    """Yield what becomes of readings in ascending time; `until_s` is when the recording ends."""
    pipe = interpretation_of(sensors)
    now = at(0)
    for event in pipe.tick(now):
        yield Decided(0.0, event)
    for reading in readings:
        # Due moments on the way: the delay of what is decided by time alone is that of its own moment.
        while (due_ns := pipe.due_ns()) is not None and due_ns <= reading.at.boot_ns:
            moment = now.later(due_ns - now.boot_ns)
            for event in pipe.advance(moment):
                yield Decided(due_ns / NS_PER_S, event)
        now = reading.at
        for event in pipe.read(reading):
            yield Decided(now.boot_ns / NS_PER_S, event)
    end = at(until_s) if until_s is not None and at(until_s).boot_ns > now.boot_ns else now
    while (due_ns := pipe.due_ns()) is not None and due_ns <= end.boot_ns:
        for event in pipe.advance(now.later(due_ns - now.boot_ns)):
            yield Decided(due_ns / NS_PER_S, event)
    for event in pipe.finish(end):
        yield Decided(end.boot_ns / NS_PER_S, event)


Measures = Mapping[str, float]
"""What one seed of one scene gave, by the measure's name; absent where there was nothing to measure."""

STUDENT_95 = {1: 12.7, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 11: 2.20}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and half of its 95 % confidence interval (Student), None from a single seed."""

    mean: float
    half: float | None
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return Estimate(mean, None, count)
    quantile = STUDENT_95.get(count - 1, 2.09 if count <= 30 else 1.97)
    return Estimate(mean, quantile * statistics.stdev(values) / math.sqrt(count), count)


def estimates(seeds: Sequence[Measures]) -> dict[str, Estimate]:
    names = dict.fromkeys(name for measures in seeds for name in measures)
    return {name: estimate([m[name] for m in seeds if name in m]) for name in names}
