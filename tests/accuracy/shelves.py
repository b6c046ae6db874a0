"""Shelves with hands at them: what the scale reads, and what was truly taken or put there.

The load is the sum of items, each with its own weight; a step rings and settles; hands press; zero and gain follow the
day's warmth; the load creeps; words are spoiled now and then. Truth is clustered: what one moment's movement hides
(a pick and a put-back between two settled levels) counts as its net, for nobody can see more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from gateway.model import data_of
from gateway.sensors.kind import Sensor
from gateway.sensors.shelf.goods import Product
from gateway.sensors.shelf.kind import KIND
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import Calibration, ShelfSettings
from tests.accuracy.labelled import Measures, at, interpret
from tests.accuracy.worlds import Weighing, World

DAY_S = 86_400.0
RATE_HZ: Literal[10, 80] = 10
CLUSTER_S = 4.5
"""Closer together than this, several changes may be told as their sum."""
LATE_S = 7.0
CREEP_S = 600.0
RINGS_S = 3.0


@dataclass(frozen=True, slots=True)
class Took:
    """`count` items of `sku` at `t_s`: negative taken, positive put there; `sku` empty is a thing of no product."""

    t_s: float
    sku: str
    count: int


@dataclass(slots=True)
class Shelf:
    """One shelf's history, and what its scale reads of it."""

    world: Weighing
    rng: Random
    products: tuple[Product, ...]
    until_s: float = 0.0
    kelvin_a_day: float = 0.0
    spikes: float | None = None
    noise_counts: float | None = None
    took: list[Took] = field(default_factory=list)
    steps: list[tuple[float, float]] = field(default_factory=list)
    presses: list[tuple[float, float, float]] = field(default_factory=list)
    start_grams: float = 0.0
    spread_share: float = 0.01

    def fill(self, counts: int) -> None:
        self.spread_share = self.rng.uniform(*self.world.spread_share)
        self.start_grams = sum(sum(self.weigh(p) for _ in range(counts)) for p in self.products)

    def weigh(self, product: Product) -> float:
        return max(0.2 * product.unit_grams, self.rng.gauss(product.unit_grams, self.spread_share * product.unit_grams))

    def change(self, t_s: float, product: Product, count: int) -> None:
        """Take or put items; where the load lies on the board, the gain differs a little."""
        grams = math.copysign(sum(self.weigh(product) for _ in range(abs(count))), count)
        self.steps.append((t_s, grams * (1 + self.rng.gauss(0.0, self.world.gain_error))))
        self.took.append(Took(t_s, product.sku, count))
        self.until_s = max(self.until_s, t_s + 15.0)

    def press(self, t_s: float, for_s: float, grams: float) -> None:
        self.presses.append((t_s, for_s, grams))

    @property
    def calibration(self) -> Calibration:
        return Calibration(self.world.offset_counts, self.world.counts_per_gram)

    def readings(self) -> Iterator[ScaleSampled]:
        world, rng = self.world, self.rng
        period_s = 1 / (RATE_HZ * rng.uniform(0.97, 1.03))
        warmest_s = rng.uniform(0.0, DAY_S)
        noise = world.noise_counts if self.noise_counts is None else self.noise_counts
        spikes = world.spikes if self.spikes is None else self.spikes
        steps, presses = sorted(self.steps), sorted(self.presses)
        settled, creep = self.start_grams, 0.0
        ringing: list[tuple[float, float]] = []
        pressing: list[tuple[float, float, float]] = []
        next_step = next_press = 0
        kelvin_due_s, kelvin = 0.0, 0.0
        t_s = rng.uniform(0.0, period_s)
        while t_s < self.until_s:
            while next_step < len(steps) and steps[next_step][0] <= t_s:
                ringing.append(steps[next_step])
                next_step += 1
            while ringing and t_s - ringing[0][0] > RINGS_S:
                settled += ringing.pop(0)[1]
            while next_press < len(presses) and presses[next_press][0] <= t_s:
                pressing.append(presses[next_press])
                next_press += 1
            grams = settled
            for began_s, step_grams in ringing:
                since_s = t_s - began_s
                swing = math.exp(-since_s / world.settling_s) * math.cos(2 * math.pi * world.ringing_hz * since_s)
                grams += step_grams * (1 - swing)
            if pressing:
                pressing = [press for press in pressing if t_s < press[0] + press[1]]
                for began_s, for_s, press_grams in pressing:
                    rise_s = min(0.15, for_s / 2)
                    flank = min(1.0, (t_s - began_s) / rise_s, (began_s + for_s - t_s) / rise_s)
                    grams += press_grams * max(0.0, flank) * (1 + 0.06 * math.sin(9.0 * (t_s - began_s)))
            creep += (world.creep_share * grams - creep) * period_s / CREEP_S
            if t_s >= kelvin_due_s:
                kelvin_due_s = t_s + 1.0
                kelvin = self.kelvin_a_day / 2 * math.sin(2 * math.pi * (t_s - warmest_s) / DAY_S)
            zero = world.zero_grams_per_kelvin * kelvin
            exact = world.offset_counts + world.counts_per_gram * (
                (grams + creep) * (1 + world.gain_per_kelvin * kelvin) + zero
            )
            counts = max(-0x800000, min(0x7FFFFF, round(exact + rng.gauss(0.0, noise))))
            if spikes and rng.random() < spikes:
                counts = _spoiled(counts, rng)
            yield ScaleSampled("shelf", at(t_s), counts)
            t_s += period_s


def _spoiled(counts: int, rng: Random) -> int:
    kind = rng.random()
    if kind < 0.4:
        return int(2 ** rng.randint(8, 23) - 1)
    if kind < 0.7:
        word = (counts << 1) & 0xFFFFFF
        return word - 2**24 if word & 0x800000 else word
    return max(-0x800000, min(0x7FFFFF, counts ^ (1 << rng.randint(8, 22))))


def _noise_grams(world: Weighing) -> float:
    return world.noise_counts / abs(world.counts_per_gram)


def _jars(world: World, rng: Random) -> tuple[Product, ...]:
    return (Product("jar", world.unit_grams[0], 60, 6),)


def _visits(shelf: Shelf, count: int, gap_s: tuple[float, float] = (7.0, 20.0)) -> Shelf:
    """Customers take one to three of something, one in four puts one back later; staff fill up. No hands pressing."""
    stock = {product.sku: 30 for product in shelf.products}
    shelf.fill(30)
    t_s = 12.0
    for _ in range(count):
        product = shelf.rng.choice(shelf.products)
        if stock[product.sku] < 8:
            by = shelf.rng.randint(4, 6)
        elif shelf.rng.random() < 0.2:
            by = 1
        else:
            by = -shelf.rng.choices((1, 2, 3), (0.7, 0.22, 0.08))[0]
        stock[product.sku] += by
        shelf.change(t_s, product, by)
        t_s += shelf.rng.uniform(*gap_s)
    return shelf


def _above_five(world: World, rng: Random, count: int) -> Shelf:
    times = math.exp(rng.uniform(math.log(5.0), math.log(60.0)))
    product = Product("item", times * _noise_grams(world.weighing), 200, 6)
    return _visits(Shelf(world.weighing, rng, (product,)), count)


def _five(world: World, rng: Random, count: int) -> Shelf:
    product = Product("item", 5.0 * _noise_grams(world.weighing), 200, 6)
    return _visits(Shelf(world.weighing, rng, (product,)), count)


def _mixed(world: World, rng: Random, count: int) -> Shelf:
    products = tuple(Product(f"product-{n}", grams, 60, 6) for n, grams in enumerate(world.unit_grams))
    return _visits(Shelf(world.weighing, rng, products), count)


def _small(world: World, rng: Random, count: int) -> Shelf:
    return _visits(Shelf(world.weighing, rng, (Product("sweets", 20.0, 200, 10),)), count)


def _hands(world: World, rng: Random, count: int) -> Shelf:
    """A hand leans at every pick, and as often without one."""
    shelf = _visits(Shelf(world.weighing, rng, _jars(world, rng)), count, (14.0, 30.0))
    for took in list(shelf.took):
        shelf.press(took.t_s - rng.uniform(0.2, 0.8), rng.uniform(0.5, 1.0), rng.uniform(50.0, 900.0))
        if rng.random() < 0.5:
            shelf.press(took.t_s + 6.5, rng.uniform(0.3, 2.5), rng.uniform(50.0, 4000.0))
    return shelf


def _quick(world: World, rng: Random, count: int) -> Shelf:
    """Three to five picks, each half a second to a second and a half after the last."""
    shelf = Shelf(world.weighing, rng, _jars(world, rng))
    shelf.fill(40)
    t_s, left = 12.0, 40
    for _ in range(max(1, count // 4)):
        burst = rng.randint(3, 5)
        if left < burst:
            shelf.change(t_s, shelf.products[0], 6)
            left += 6
        else:
            for _ in range(burst):
                shelf.change(t_s, shelf.products[0], -1)
                t_s += rng.uniform(0.5, 1.5)
            left -= burst
        t_s += rng.uniform(12.0, 25.0)
    return shelf


def _warm(world: World, rng: Random, count: int) -> Shelf:
    """A visit each half hour, 10 K a day."""
    shelf = Shelf(world.weighing, rng, (Product("sweets", 30.0, 200, 10),), kelvin_a_day=world.weighing.kelvin_a_day)
    return _visits(shelf, max(4, count // 8), (1200.0, 2400.0))


def _spiky(world: World, rng: Random, count: int) -> Shelf:
    return _visits(Shelf(world.weighing, rng, _jars(world, rng), spikes=0.03), count)


def _strange(world: World, rng: Random, count: int) -> Shelf:
    """Every third change is none of the product's: a bag laid down, and taken away again."""
    shelf = _visits(Shelf(world.weighing, rng, _jars(world, rng)), count, (25.0, 40.0))
    for n, took in enumerate(list(shelf.took)):
        if n % 3 == 0:
            grams = rng.uniform(0.1, 3.0) * shelf.products[0].unit_grams
            shelf.steps += [(took.t_s + 8.0, grams), (took.t_s + 17.0, -grams)]
    return shelf


Scene = Callable[[World, Random, int], Shelf]
SCENES: dict[str, Scene] = {
    "units of 5 to 60 times the noise": _above_five,
    "units of 5 times the noise": _five,
    "three products mixed": _mixed,
    "small units, 20 g": _small,
    "hands that press": _hands,
    "quick picks": _quick,
    "small units, 10 K a day": _warm,
    "3 % of words spoiled": _spiky,
    "strange things laid down": _strange,
}


def measure(scene: str, world: World, seed: int, count: int) -> tuple[Measures, list[tuple[float, bool]]]:
    """Weigh one seed of a scene; also return (confidence, was it right) of every change told."""
    rng = Random(f"{world.name}/{scene}/{seed}")
    shelf = SCENES[scene](world, rng, count)
    told = _told(shelf)
    clusters = _clusters(shelf.took)
    judged: list[tuple[float, bool]] = []
    right = 0
    strays = 0
    for number, cluster in enumerate(clusters):
        until_s = clusters[number + 1][0].t_s - 1.2 if number + 1 < len(clusters) else math.inf
        net: dict[str, int] = {}
        for took in cluster:
            net[took.sku] = net.get(took.sku, 0) + took.count
        begin_s, end_s = cluster[0].t_s - 1.2, min(cluster[-1].t_s + LATE_S, until_s)
        own = [found for found in told if begin_s <= found[0].t_s < end_s]
        told = [found for found in told if found not in own]
        found_net: dict[str, int] = {}
        for found, _ in own:
            found_net[found.sku] = found_net.get(found.sku, 0) + found.count
        is_right = {k: v for k, v in net.items() if v} == {k: v for k, v in found_net.items() if v}
        right += is_right
        judged += [(confidence, is_right) for _, confidence in own]
    strays = len(told)
    judged += [(confidence, False) for _, confidence in told]
    measures = {"recall": right / len(clusters)}
    if judged:
        measures["precision"] = sum(ok for _, ok in judged) / len(judged)
    measures["false"] = strays / len(clusters)
    return measures, judged


def _told(shelf: Shelf) -> list[tuple[Took, float]]:
    settings = ShelfSettings(
        "shelf", data_pin=5, clock_pin=6, rate_hz=RATE_HZ, products=shelf.products, calibration=shelf.calibration
    )
    found = []
    for decided in interpret([Sensor(KIND, settings)], shelf.readings()):
        kind = decided.event.fact.type
        if kind in ("store.shelf.picked", "store.shelf.placed"):
            data = data_of(decided.event.fact)
            count = data["count"] if kind.endswith("placed") else -data["count"]
            found.append((Took(decided.event.at.boot_ns / 1e9, data["sku"], count), data["confidence"]))
    return found


def _clusters(took: list[Took]) -> list[list[Took]]:
    clusters: list[list[Took]] = []
    for one in sorted(took, key=lambda took: took.t_s):
        if clusters and one.t_s - clusters[-1][-1].t_s < CLUSTER_S:
            clusters[-1].append(one)
        else:
            clusters.append([one])
    return clusters


def idle(world: World, seed: int, days: float) -> Measures:
    """Nobody comes, the day warms and cools: how many changes of goods, and of anything, are told a day."""
    rng = Random(f"{world.name}/idle/{seed}")
    shelf = Shelf(world.weighing, rng, (Product("item", 330.0, 40, 6),), days * DAY_S, world.weighing.kelvin_a_day)
    shelf.fill(20)
    settings = ShelfSettings("shelf", data_pin=5, clock_pin=6, products=shelf.products, calibration=shelf.calibration)
    kinds = [decided.event.fact.type for decided in interpret([Sensor(KIND, settings)], shelf.readings())]
    picks = sum(kind in ("store.shelf.picked", "store.shelf.placed") for kind in kinds)
    return {
        "picks a day": picks / days,
        "changed a day": sum(kind == "store.shelf.changed" for kind in kinds) / days,
        "faults a day": sum(kind == "store.sensor.failed" for kind in kinds) / days,
    }


def theft(world: World, seed: int, over_s: float) -> Measures:
    """One item of 330 g sinks away evenly over `over_s`: which share of its weight was told, as pick or change."""
    rng = Random(f"{world.name}/theft/{over_s}/{seed}")
    shelf = Shelf(world.weighing, rng, (Product("item", 330.0, 40, 6),), over_s + 120.0)
    shelf.fill(20)
    parts = int(over_s * 2)
    shelf.steps = [(60.0 + n / 2, -330.0 / parts) for n in range(parts)]
    settings = ShelfSettings("shelf", data_pin=5, clock_pin=6, products=shelf.products, calibration=shelf.calibration)
    grams = 0.0
    for decided in interpret([Sensor(KIND, settings)], shelf.readings()):
        data = data_of(decided.event.fact)
        kind = decided.event.fact.type
        grams += data["grams"] * {"store.shelf.picked": 1, "store.shelf.placed": -1, "store.shelf.changed": -1}.get(
            kind, 0
        )
    return {"share told": grams / 330.0}
