"""A shelf told as physics: what lies on it when, in grams, and how its scale misbehaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from gateway.model import NS_PER_S, Event, Instant
from gateway.sensors.kind import Context, Faults
from gateway.sensors.shelf.goods import Product
from gateway.sensors.shelf.interpreter import ShelfInterpreter
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import Calibration, ShelfSettings

NINE = 1_795_338_000_000_000_000  # 2026-11-22T09:00:00Z
CALIBRATION = Calibration(84_213, 21.5)
JAM = Product("4006381333931", 330.0, 24, 6)
TEA = Product("4006381333948", 500.0, 12, 3)
Counts = Callable[[float, int], int | None]


def at(seconds: float) -> Instant:
    return Instant(round(seconds * NS_PER_S), NINE + round(seconds * NS_PER_S))


class Shelf:
    """Holds the weight over time; `plays` samples it with noise and keeps the events."""

    def __init__(
        self,
        grams: float,
        *,
        noise_counts: float = 40,
        spikes: float = 0.0,
        seed: int = 1,
        products: tuple[Product, ...] = (JAM,),
        calibration: Calibration | None = CALIBRATION,
        sampled_hz: float | None = None,
        **settings: Any,
    ) -> None:
        self.settings = ShelfSettings(
            "aisle-3", data_pin=5, clock_pin=6, products=products, calibration=calibration, **settings
        )
        self.interpreter = ShelfInterpreter(self.settings, Context(Faults("aisle-3")))
        self.weights: list[tuple[float, float]] = [(0.0, grams)]
        self.ramps: list[tuple[float, float, float]] = []
        self.faults: list[tuple[float, float, Counts]] = []
        self.noise_counts = noise_counts
        self.spikes = spikes
        self.chance = random.Random(seed)
        self.sampled_hz = sampled_hz or self.settings.rate_hz
        self.events: list[Event] = []

    def weighs(self, at_s: float, grams: float) -> Shelf:
        self.weights.append((at_s, grams))
        return self

    def changes(self, at_s: float, grams: float) -> Shelf:
        return self.weighs(at_s, self.weights[-1][1] + grams)

    def drifts(self, from_s: float, until_s: float, grams: float) -> Shelf:
        self.ramps.append((from_s, until_s, grams))
        return self

    def reads(self, from_s: float, until_s: float, counts: Counts) -> Shelf:
        """The converter gives `counts(t, true)`, or nothing where that is None."""
        self.faults.append((from_s, until_s, counts))
        return self

    def counts(self, t: float) -> int | None:
        grams = next(grams for since, grams in reversed(self.weights) if t >= since)
        grams += sum(g * min(1.0, max(0.0, (t - a) / (b - a))) for a, b, g in self.ramps)
        per_gram = 21.5 if self.settings.calibration is None else abs(self.settings.calibration.counts_per_gram)
        counts = 84_213 + per_gram * grams + self.chance.gauss(0, self.noise_counts)
        if self.chance.random() < self.spikes:
            counts = 2 ** self.chance.randint(8, 23) - 1
        true = max(-0x800000, min(0x7FFFFF, round(counts)))
        for from_s, until_s, fault in self.faults:
            if from_s <= t < until_s:
                return fault(t, true)
        return true

    def plays(self, until_s: float) -> list[Event]:
        self.events += self.interpreter.tick(at(0))
        for n in range(int(until_s * self.sampled_hz)):
            now = at(n / self.sampled_hz)
            self.advances(now)
            counts = self.counts(n / self.sampled_hz)
            if counts is not None:
                self.events += self.interpreter.read(ScaleSampled("aisle-3", now, counts))
        self.advances(at(until_s))
        self.events += self.interpreter.finish(at(until_s))
        return self.events

    def advances(self, now: Instant) -> None:
        while (due_ns := self.interpreter.due_ns()) is not None and due_ns <= now.boot_ns:
            self.events += self.interpreter.tick(now.later(due_ns - now.boot_ns))
