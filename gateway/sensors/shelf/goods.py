"""Goods: what a product is, and how full a shelf is of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from gateway.units import Pattern
from gateway.wrong import Wrong, refuse

State = Literal["empty", "low", "ok", "over"]


@dataclass(frozen=True, slots=True)
class Product:
    """What lies on a shelf; `capacity` and `low_below` in items, absent where they do not matter.

    `unit_spread` is how much items differ, one sigma as a share of `unit_grams` (0.1: an apple more or less); absent,
    1.5 % until seen otherwise. What is sold `by_weight` is told in grams and never counted: `unit_grams` is what one
    piece or portion weighs, and serves for `low_below` and `capacity` alone.
    """

    sku: Annotated[str, Pattern(r"[\s\S]{1,64}", "1 to 64 characters")]
    unit_grams: Annotated[float, Ge(0.1), Le(500_000)]
    capacity: Annotated[int, Ge(1), Le(100_000)] | None = None
    low_below: Annotated[int, Ge(0)] | None = None
    unit_spread: Annotated[float, Ge(0.001), Le(0.5)] | None = None
    by_weight: bool = False

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if self.capacity is not None and self.low_below is not None and self.low_below > self.capacity:
            yield Wrong("low_below", "must not be above capacity", also=("capacity",))


def state_of(count: int, product: Product, before: State | None) -> State:
    """Return the state at `count`; `low` is entered below `low_below` and left above it."""
    if count <= 0:
        return "empty"
    if product.low_below is not None and (
        count < product.low_below or (before == "low" and count == product.low_below)
    ):
        return "low"
    if product.capacity is not None and count > product.capacity:
        return "over"
    return "ok"


def shares(counts: Sequence[int], products: Sequence[Product], grams: float) -> Mapping[int, float]:
    """Split the measured change over the products by place: the nominal weights, the misfit in their proportion."""
    nominal = {place: n * products[place].unit_grams for place, n in enumerate(counts) if n}
    misfit = grams - sum(nominal.values())
    whole = sum(abs(weight) for weight in nominal.values())
    return {place: weight + misfit * abs(weight) / whole for place, weight in nominal.items()}
