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
    """Items of one product were taken; `grams` positive, `remaining_*` of the product and of the shelf."""

    type: ClassVar[str] = "store.shelf.picked"
    sku: str
    count: int
    grams: float
    remaining_count: int | None
    remaining_grams: float | None
    confidence: float


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


@dataclass(frozen=True, slots=True)
class ShelfChanged(ShelfFact):
    """A settled change, signed, that no product explains."""

    type: ClassVar[str] = "store.shelf.changed"
    grams: float
    remaining_grams: float | None


@dataclass(frozen=True, slots=True)
class ShelfLevel(ShelfFact):
    """How full the shelf is of one product; `grams` is the whole shelf's weight."""

    type: ClassVar[str] = "store.shelf.level"
    state: State
    sku: str
    count: int
    capacity: int | None
    grams: float
