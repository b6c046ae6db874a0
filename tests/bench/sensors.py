"""What the sensors cost one core, readings to events, with the engine's `Interpretation` around the interpreters.

    python tests/bench/sensors.py [--quick] [--json]

Advertisements: a shop of 30 tags and 300 strangers (more scenes: tests/bench/advertisements.py). Scales: 64 of them at
80 samples a second, at rest and with something taken every few seconds. Edges: 1,600 people an hour, and a dense queue.
A Pi Zero 2 W is assumed to be 10 times slower a core than an x86 server (Cortex-A53 of 1 GHz, CPython): not measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Iterable
from typing import Literal

from gateway.engine.interpretation import Interpretation, Interpreted
from gateway.model import NS_PER_S, Instant, Reading
from gateway.sensors.door.interpreter import DoorInterpreter
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BeamName, DoorSettings
from gateway.sensors.kind import Context, Faults
from gateway.sensors.scanner.interpreter import BeaconInterpreter
from gateway.sensors.shelf.goods import Product
from gateway.sensors.shelf.interpreter import ShelfInterpreter
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import Calibration, ShelfSettings
from tests.bench import advertisements

WALL_NS = 1_795_000_000 * NS_PER_S
SLOWER_ZERO = 10.0
SCALES = 64
SCALE_HZ: Literal[10, 80] = 80


def at(t_s: float) -> Instant:
    t_ns = int(t_s * NS_PER_S)
    return Instant(t_ns, WALL_NS + t_ns)


def cost_us(interpretations: Iterable[Interpreted], readings: list[Reading]) -> float:
    """Return microseconds of CPU a reading."""
    pipe = Interpretation(interpretations)
    gc.collect()
    began = time.process_time()
    for reading in readings:
        for _ in pipe.read(reading):
            pass
    return (time.process_time() - began) / len(readings) * 1e6


def edges(people: int, gap_s: float) -> tuple[list[Interpreted], list[Reading]]:
    dice = random.Random(3)
    levels: list[tuple[float, BeamName, bool]] = []
    t_s = 1.0
    for _ in range(people):
        speed = dice.lognormvariate(0.15, 0.3)
        for_s, shift_s = dice.uniform(0.22, 0.35) / speed, 0.08 / speed
        first, second = ("outer", "inner") if dice.random() < 0.5 else ("inner", "outer")
        beams: tuple[tuple[BeamName, float], ...] = ((first, 0.0), (second, shift_s))  # type: ignore[assignment]
        for beam, late_s in beams:
            levels += [(t_s + late_s, beam, True), (t_s + late_s + for_s, beam, False)]
        t_s += 0.6 + dice.expovariate(1 / gap_s)
    faults = Faults("door")
    settings = DoorSettings("door", outer_pin=17, inner_pin=27)
    interpretations = [Interpreted("door", DoorInterpreter(settings, Context(faults)), faults)]
    return interpretations, [BeamChanged("door", at(t_s), beam, broken) for t_s, beam, broken in sorted(levels)]


def scales(seconds: float, busy: bool) -> tuple[list[Interpreted], list[Reading]]:
    dice = random.Random(5)
    interpretations, readings = [], []
    grams = [3300.0] * SCALES
    for n in range(SCALES):
        faults = Faults(f"shelf-{n}")
        settings = ShelfSettings(
            f"shelf-{n}", data_pin=5, clock_pin=6, rate_hz=SCALE_HZ, products=(Product("jar", 330.0, 24, 6),),
            calibration=Calibration(84_213, 21.5),
        )  # fmt: skip
        interpretations.append(Interpreted(settings.id, ShelfInterpreter(settings, Context(faults)), faults))
    for tick in range(int(seconds * SCALE_HZ)):
        for n in range(SCALES):
            if busy and dice.random() < 1 / (5 * SCALE_HZ):
                grams[n] += 330.0 if grams[n] < 1000.0 else -330.0
            t_s = tick / SCALE_HZ + n / SCALE_HZ / SCALES
            readings.append(ScaleSampled(f"shelf-{n}", at(t_s), int(84_213 + 21.5 * grams[n] + dice.gauss(0, 30))))
    return interpretations, list(readings)


def radio(count: int) -> tuple[list[Interpreted], list[Reading]]:
    dice = random.Random(1)
    heard = advertisements.heard(advertisements.tags() + advertisements.strangers(dice, 300), count, dice)
    faults = Faults("ble")
    return [Interpreted("ble", BeaconInterpreter(advertisements.SETTINGS, Context(faults)), faults)], list(heard)


def measure(quick: bool) -> dict[str, dict[str, float]]:
    share = 0.1 if quick else 1.0
    results: dict[str, dict[str, float]] = {}
    us = cost_us(*radio(int(200_000 * share)))
    results["advertisements, a shop"] = {"us": us, "a_second": 1e6 / us, "aim_a_second": 100_000}
    for name, busy in (("scales, 64 at 80/s, at rest", False), ("scales, 64 at 80/s, a pick each 5 s", True)):
        us = cost_us(*scales(40.0 * share, busy))
        core = us * SCALES * SCALE_HZ / 1e4
        results[name] = {
            "us": us,
            "core_percent": core,
            "aim_core_percent": 5.0,
            "zero_2_w_core_percent": core * SLOWER_ZERO,
        }
    for name, gap_s in (("edges, every 2.3 s somebody", 1.7), ("edges, a dense queue", 0.3)):
        us = cost_us(*edges(int(20_000 * share), gap_s))
        results[name] = {"us": us, "a_second": 1e6 / us, "aim_a_second": 10_000}
    for row in results.values():
        if "a_second" in row:
            row["zero_2_w_a_second"] = row["a_second"] / SLOWER_ZERO
    return results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    results = measure(options.quick)
    if options.json:
        json.dump(results, sys.stdout, indent=1)
        print()
        return
    for name, row in results.items():
        print(f"{name:36}" + "".join(f"  {key} {value:,.1f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
