"""In the machine: the product's own driver reads the simulated converter, and every sample is compared with the truth.

usage: /opt/gateway/current/bin/python frames.py FRAMES      prints a line of JSON
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["LG_WD"] = os.getcwd()
os.environ["GPIOZERO_PIN_FACTORY"] = "lgpio"

from gateway.machine.clock import SystemClock
from gateway.model import Reading
from gateway.sensors.shelf.drivers.hx711 import Hx711Driver
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings

SCALE = Path("/sys/module/gpio_sim/parameters")
TRUTHS = (0, 84213, -84213, 0x7FFFF0, -0x7FFFF0, 1 << 20)
WITHIN_S = 600.0


def put(name: str, number: int) -> None:
    (SCALE / f"hx_{name}").write_text(str(number))


def get(name: str) -> int:
    return int((SCALE / f"hx_{name}").read_text())


def loop_ms() -> float:
    """How long a plain Python loop takes here: the processor's speed in a unit that every Pi has."""
    began_ns = time.perf_counter_ns()
    for _ in range(100_000):
        pass
    return round((time.perf_counter_ns() - began_ns) / 1e6, 2)


def main(frames: int) -> None:
    """Read until so many frames were clocked."""
    samples: list[int] = []

    def take(reading: Reading) -> None:
        if isinstance(reading, ScaleSampled):
            samples.append(reading.counts)

    put("period_us", 12500)
    put("settling_us", 50000)
    for name in ("frames", "resets", "high_longest_ns"):
        put(name, 0)
    driver = Hx711Driver(ShelfSettings("aisle-3", data_pin=5, clock_pin=6, rate_hz=80), SystemClock())
    speed_ms = loop_ms()
    exact = wrong = 0
    driver.start(take)
    until_s = time.monotonic() + WITHIN_S
    for truth in TRUTHS:
        put("raw", truth & 0xFFFFFF)
        time.sleep(0.1)  # what was converted before is read
        samples.clear()
        wanted = driver.counters()["frames"] + frames // len(TRUTHS)
        while driver.counters()["frames"] < wanted and time.monotonic() < until_s:
            time.sleep(0.05)
        exact += sum(sample == truth for sample in samples)
        wrong += sum(sample != truth for sample in samples)
    driver.close()
    told = driver.counters()
    found = {
        "loop_ms": speed_ms,
        "frames": told["frames"],
        "spoiled": told["frames_spoiled"],
        "out_of_step": told["frames_out_of_step"],
        "resets": get("resets") - told["resets"],
        "exact": exact,
        "wrong": wrong,
        "longest_us": told["high_max_us"],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
