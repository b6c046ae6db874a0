"""The facts of stream `shelf`: what was picked, placed or changed, and how full the shelf is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.model import Fact, Stream
from gateway.sensors.shelf.goods import State


class ShelfFact(Fact):
    """A fact of stream `shelf`."""

    __slots__ = ()
    stream: ClassVar[Stream] = "shelf"


@dataclass(frozen=True, slots=True)
class ShelfPicked(ShelfFact):
    """Items of one product were taken; `grams` positive, `remaining_*` of the product and of the shelf.

    `settled` is when it was sure. `while_away` (true, else absent): it
    happened while the scale was off or the daemon did not run, and the time is that of the first settled reading.
    """

    type: ClassVar[str] = "store.shelf.picked"
    sku: str
    count: int
    grams: float
    remaining_count: int | None
    remaining_grams: float | None
    confidence: float
    settled: str | None = None
    while_away: bool | None = None


@dataclass(frozen=True, slots=True)
class ShelfPlaced(ShelfFact):
    """Items of one product were put back or restocked; as `ShelfPicked`."""

    type: ClassVar[str] = "store.shelf.placed"
    sku: str
    count: int
    grams: float
    remaining_count: int | None
    remaining_grams: float | None
    confidence: float
    settled: str | None = None
    while_away: bool | None = None


@dataclass(frozen=True, slots=True)
class ShelfChanged(ShelfFact):
    """A settled change, signed, that no product explains, or of the one product `sku` that is sold by weight.

    `settled` and `while_away` are as in `ShelfPicked`.
    """

    type: ClassVar[str] = "store.shelf.changed"
    grams: float
    remaining_grams: float | None
    settled: str | None = None
    while_away: bool | None = None
    sku: str | None = None


@dataclass(frozen=True, slots=True)
class ShelfLevel(ShelfFact):
    """How full the shelf is of one product; `grams` is the whole shelf's weight.

    `count` is absent where no count explains the weight, and of what is sold by weight.
    """

    type: ClassVar[str] = "store.shelf.level"
    state: State
    sku: str
    count: int | None
    capacity: int | None
    grams: float
