"""A simulated shop's plan, its people's habits, and what comes out of it: what sensors said, and what was true.

A kind puts its sensors into the plan: as a door, a shelf or a scanner, which people walk through, take goods from and
are heard by, or as a `Lone` sensor, of which people take no notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

ITEM_SPREAD = 0.006
"""One sigma of an item's weight, of its unit weight: 2 g of 330 g, as packed goods have it."""


@dataclass(frozen=True, slots=True)
class Door:
    """A doorway; `beams` is ("outer", "inner") or ("only",)."""

    id: str
    beams: tuple[str, ...] = ("outer", "inner")


@dataclass(frozen=True, slots=True)
class Goods:
    """A product on a shelf; a single item weighs `unit_grams`, give or take `spread_grams` (one sigma)."""

    sku: str
    unit_grams: float
    capacity: int
    spread_grams: float


@dataclass(frozen=True, slots=True)
class Shelf:
    """A shelf on a scale."""

    id: str
    goods: tuple[Goods, ...]
    rate_hz: float = 10.0
    offset_counts: float = 84_213.0
    counts_per_gram: float = 21.5


@dataclass(frozen=True, slots=True)
class Tag:
    """A known radio. `ibeacon` is carried by customers, each with an own number; `address` is on a cart; the rest stay.

    `value` is the UUID, the address, the Eddystone namespace or the AltBeacon's id; `device` tells one of many apart
    (major and minor, instance) where the rule does.
    """

    tag: str
    kind: Literal["ibeacon", "address", "eddystone", "altbeacon", "ruuvi"]
    value: str
    device: tuple[int | str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Scanner:
    id: str
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True)
class Lone:
    """A sensor that people do not touch. `said` yields seconds, ascending, and the keys of a recording's line.

    It draws from the random numbers that it is given and from nothing else, and may go on for ever.
    """

    id: str
    said: Callable[[Random], Iterator[tuple[float, Mapping[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Habits:
    """How people behave here. `pace` above 1 shortens ways and pauses (a demonstration), never the physics."""

    arrivals_per_hour: float = 60.0
    pace: float = 1.0
    tailgate_share: float = 0.15
    turn_back_share: float = 0.05
    tag_share: float = 0.4
    phone_share: float = 0.9
    visits_max: int = 3
    pick_share: float = 0.75
    put_back_share: float = 0.2
    restock_after_s: float = 90.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a sensor said: `values` are the keys of a recording's line beside `t` and `sensor`."""

    t_s: float
    sensor: str
    values: Mapping[str, Any]


Happened = Literal["passed_in", "passed_out", "turned_back", "picked", "placed", "came", "went"]


@dataclass(frozen=True, slots=True)
class Truth:
    """What truly happened: at a door, at a shelf (`name` the sku, `count` items), or to a tag (`name` its identity)."""

    t_s: float
    subject: str
    what: Happened
    name: str = ""
    count: int = 1


Part = Door | Shelf | Scanner | Lone
