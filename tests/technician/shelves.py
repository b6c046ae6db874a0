"""A scale as physics: levels held for some time, with the converter's noise, from a seed; and the shop around it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from gateway.model import NS_PER_S, Instant
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BeamName
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings

OFFSET, PER_GRAM = 84_213, 21.5
SHELF = ShelfSettings("aisle-3", data_pin=5, clock_pin=6)
SITE = '[site]\nstore = "0042"\ngateway = "front"\ntimezone = "UTC"\n'
SHELF_TOML = '[[shelf]]\nid = "aisle-3"\ndata_pin = 5\nclock_pin = 6\n'


def at(t_s: float) -> Instant:
    return Instant(round(t_s * NS_PER_S), round(t_s * NS_PER_S) + 1_700_000_000 * NS_PER_S)


def counts_of(
    levels: Sequence[tuple[float, float]], noise: float = 20.0, rate_hz: int = 10, seed: int = 1
) -> list[tuple[float, int]]:
    """Return (seconds, counts) of a scale on which each `(grams, seconds)` stands in turn."""
    chance, found, t_s = random.Random(seed), [], 0.0
    for grams, for_s in levels:
        for _ in range(round(for_s * rate_hz)):
            found.append((t_s, round(OFFSET + PER_GRAM * grams + chance.gauss(0, noise))))
            t_s += 1 / rate_hz
    return found


def samples(
    levels: Sequence[tuple[float, float]], noise: float = 20.0, rate_hz: int = 10, seed: int = 1
) -> list[ScaleSampled]:
    return [ScaleSampled("aisle-3", at(t_s), counts) for t_s, counts in counts_of(levels, noise, rate_hz, seed)]


def beams(*changes: tuple[float, BeamName, bool]) -> list[BeamChanged]:
    return [BeamChanged("entrance", at(t_s), beam, broken) for t_s, beam, broken in changes]


def passage(begin_s: float, first: BeamName, second: BeamName) -> list[BeamChanged]:
    return beams(
        (begin_s, first, True),
        (begin_s + 0.06, second, True),
        (begin_s + 0.25, first, False),
        (begin_s + 0.31, second, False),
    )


def recording(lines: Sequence[dict[str, object]]) -> str:
    header = {"recording": 1, "started": "2026-11-22T09:00:00.000Z", "gateway": "front", "note": ""}
    ordered = sorted(lines, key=lambda line: float(str(line["t"])))
    return "".join(json.dumps(line) + "\n" for line in [header, *ordered])


def scale_lines(levels: Sequence[tuple[float, float]], sensor: str = "aisle-3") -> list[dict[str, object]]:
    return [{"t": round(t_s, 3), "sensor": sensor, "counts": counts} for t_s, counts in counts_of(levels)]


def configuration(folder: Path, more: str = SHELF_TOML) -> Path:
    path = folder / "gateway.toml"
    path.write_text(f'{SITE}[outbox]\ndirectory = "{folder}/outbox"\n{more}')
    return path
