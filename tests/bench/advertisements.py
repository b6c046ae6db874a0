"""How many advertisements a second one core takes from bytes to presence.

    python tests/bench/advertisements.py [--quick] [--json]

Scenes: a shop (30 tags by UUID, address and namespace, 300 strangers, each heard once a second), 3,000 tags, 30 tags
alone, 5,000 random addresses a minute with payloads never heard before, and decoding without the memory of payloads.
`pipeline_us` has the engine's `Interpretation.read` around it.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Iterator

from gateway.engine.interpretation import Interpretation, Interpreted
from gateway.model import NS_PER_S, Instant
from gateway.sensors.kind import Context, Faults
from gateway.sensors.scanner.advertisement import decode
from gateway.sensors.scanner.interpreter import BeaconInterpreter
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import EddystoneRule, IBeaconRule, TagRule

UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
NAMESPACE = "edd1ebeac04e5defa017"
WALL_NS = 1_795_000_000 * NS_PER_S
SETTINGS = ScannerSettings(
    "ble",
    tags=(
        TagRule("loyalty", ibeacon=IBeaconRule(UUID)),
        TagRule("fridge", eddystone=EddystoneRule(NAMESPACE)),
        *(TagRule(f"cart-{n}", address=f"c4:64:e3:00:00:{n:02x}") for n in range(10)),
    ),
)


def ibeacon(major: int, minor: int) -> bytes:
    return bytes.fromhex(f"02011a1aff4c000215{UUID.replace('-', '')}{major:04x}{minor:04x}c5")


def eddystone(instance: int) -> bytes:
    return bytes.fromhex(f"0201060303aafe1716aafe00e7{NAMESPACE}{instance:012x}0000")


def tags() -> list[tuple[str, bytes]]:
    return [
        *((f"d0:00:00:00:00:{n:02x}", ibeacon(1, n)) for n in range(10)),
        *((f"d1:00:00:00:00:{n:02x}", eddystone(n)) for n in range(10)),
        *((f"c4:64:e3:00:00:{n:02x}", b"\x02\x01\x06") for n in range(10)),
    ]


def strangers(dice: random.Random, count: int) -> list[tuple[str, bytes]]:
    def one() -> tuple[str, bytes]:
        address = dice.randbytes(6).hex(":")
        return address, bytes.fromhex("02011a0bff4c001006") + dice.randbytes(6)

    return [one() for _ in range(count)]


def heard(devices: list[tuple[str, bytes]], count: int, dice: random.Random) -> Iterator[Advertisement]:
    """Every device once a second, in a new order each second, fading by 4 dB. Bytes are new, as from a radio."""
    t_ns = 0
    step_ns = NS_PER_S // len(devices)
    for n in range(count):
        if n % len(devices) == 0:
            dice.shuffle(devices)
        address, payload = devices[n % len(devices)]
        t_ns += step_ns
        at = Instant(t_ns, WALL_NS + t_ns)
        rssi_dbm = int(dice.gauss(-70, 4))
        yield Advertisement("ble", at, address, "random", rssi_dbm, bytes(bytearray(payload)))


def new_addresses(count: int, dice: random.Random) -> Iterator[Advertisement]:
    step_ns = 60 * NS_PER_S // 5000
    for n in range(count):
        at = Instant(n * step_ns, WALL_NS + n * step_ns)
        ((address, payload),) = strangers(dice, 1)
        yield Advertisement("ble", at, address, "random", -80, payload)


def microseconds_each(work: Callable[[], int], count: int, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / count * 1e6


def interpreted(readings: list[Advertisement]) -> Callable[[], int]:
    def work() -> int:
        interpreter = BeaconInterpreter(SETTINGS, Context(Faults("ble")))
        return sum(1 for reading in readings for _ in interpreter.read(reading))

    return work


def piped(readings: list[Advertisement]) -> Callable[[], int]:
    def work() -> int:
        faults = Faults("ble")
        pipe = Interpretation([Interpreted("ble", BeaconInterpreter(SETTINGS, Context(faults)), faults)])
        return sum(1 for reading in readings for _ in pipe.read(reading))

    return work


def peer() -> tuple[str, Callable[[bytes], object]] | None:
    """The decoder of a published library, where one is installed."""
    try:
        from beacontools import parse_packet  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    return "beacontools", parse_packet


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    count, repeats = (20_000, 2) if options.quick else (200_000, 3)
    dice = random.Random(1)
    scenes = {
        "shop: 30 tags, 300 strangers": list(heard(tags() + strangers(dice, 300), count, dice)),
        "3,000 tags present": list(heard([(f"{n:012x}", ibeacon(2, n)) for n in range(3000)], count, dice)),
        "30 tags only": list(heard(tags(), count, dice)),
        "5,000 new addresses a minute": list(new_addresses(count, dice)),
    }
    results: dict[str, dict[str, float]] = {}
    for name, readings in scenes.items():
        alone = microseconds_each(interpreted(readings), count, repeats)
        whole = microseconds_each(piped(readings), count, repeats)
        results[name] = {"interpreter_us": alone, "pipeline_us": whole, "a_second": 1e6 / alone}
    payloads = [payload for _, payload in tags()] * (count // 30)
    decoding = microseconds_each(lambda: sum(len(decode(p)) for p in payloads), len(payloads), repeats)
    results["decoding alone"] = {"interpreter_us": decoding, "a_second": 1e6 / decoding}
    if (found := peer()) is not None:
        name, parse = found
        some = payloads[: count // 10]
        theirs = microseconds_each(lambda: sum(parse(p) is None for p in some), len(some), repeats)
        results[f"decoding by {name}"] = {
            "interpreter_us": theirs,
            "a_second": 1e6 / theirs,
            "ratio": theirs / decoding,
        }
    if options.json:
        json.dump(results, sys.stdout, indent=1)
        print()
        return
    for name, row in results.items():
        print(f"{name:32}" + "".join(f"  {key} {value:10,.2f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
