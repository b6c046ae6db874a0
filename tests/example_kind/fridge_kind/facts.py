"""The facts of stream `fridge`: how warm it was, and when it was too warm for too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.model import Fact, Stream


class FridgeFact(Fact):
    """A fact of stream `fridge`."""

    __slots__ = ()
    stream: ClassVar[Stream] = "fridge"


@dataclass(frozen=True, slots=True)
class FridgeMeasured(FridgeFact):
    """The coldest and the warmest from `from` (inclusive) to `to` (exclusive), RFC 3339."""

    type: ClassVar[str] = "store.fridge.measured"
    from_: str
    to: str
    least_celsius: float
    most_celsius: float


@dataclass(frozen=True, slots=True)
class FridgeWarm(FridgeFact):
    """It has been above `warm_above_celsius` for `warm_after`."""

    type: ClassVar[str] = "store.fridge.warm"
    celsius: float


@dataclass(frozen=True, slots=True)
class FridgeCool(FridgeFact):
    """It is cool again; `warm_ms` since it began to be warm."""

    type: ClassVar[str] = "store.fridge.cool"
    celsius: float
    warm_ms: int
