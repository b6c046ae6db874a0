"""The settings of a shelf: its converter, its products, its calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from gateway.sensors.shelf.goods import Product
from gateway.units import Identifier, Pin, Seconds
from gateway.wrong import Wrong, refuse

SPI_PINS: Mapping[int, Mapping[str, int]] = {
    0: {"bus 0 (MISO)": 9, "bus 0 (MOSI)": 10, "bus 0 (SCLK)": 11, "bus 0 (CE0)": 8},
}
"""gpiozero opens the header's first bus alone."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the empty shelf reads, and the counts of one gram (negative where the load cell's wires are swapped)."""

    offset_counts: Annotated[float, Ge(-0x800000), Le(0x7FFFFF)]  # the converter's 24 bits
    counts_per_gram: Annotated[float, Ge(-1e6), Le(1e6)]

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if not -0x800000 <= self.offset_counts <= 0x7FFFFF:
            yield Wrong("offset_counts", "must be a signed 24-bit value")
        if not 1e-4 <= abs(self.counts_per_gram) <= 1e6:
            yield Wrong("counts_per_gram", "must not be zero, and within 0.0001 to 1000000 in size")

    def grams(self, counts: float) -> float:
        """Return the weight at `counts`."""
        return (counts - self.offset_counts) / self.counts_per_gram


@dataclass(frozen=True, slots=True)
class ShelfSettings:
    """One `[[shelf]]`: its converter, its products, its calibration."""

    id: Identifier
    driver: Literal["hx711", "hx711-spi", "hx711-iio"] = "hx711"
    data_pin: Pin | None = None
    clock_pin: Pin | None = None
    bus: int | None = None
    device: int | None = None
    rate_hz: Literal[10, 80] = 10
    products: tuple[Product, ...] = ()
    calibration: Calibration | None = None
    level_dwell_s: Seconds = 10.0

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if self.driver == "hx711":
            if self.data_pin is None or self.clock_pin is None:
                yield Wrong("", 'driver "hx711" needs data_pin and clock_pin', also=("driver", "data_pin", "clock_pin"))
            elif self.data_pin == self.clock_pin:
                why = f"data_pin and clock_pin are both {self.data_pin}; each needs a pin of its own"
                yield Wrong("data_pin", why, also=("clock_pin",))
        elif self.data_pin is not None or self.clock_pin is not None:
            key = "clock_pin" if self.data_pin is None else "data_pin"
            why = f'data_pin and clock_pin belong to driver "hx711", not to "{self.driver}"'
            yield Wrong(key, why, also=("driver", "data_pin", "clock_pin"))
        if self.bus is not None and self.bus not in SPI_PINS:
            yield Wrong("bus", "must be 0, the SPI bus that gpiozero opens")
        if self.device is not None and not 0 <= self.device <= 99:
            yield Wrong("device", "must lie between 0 and 99")
        if self.rate_hz not in (10, 80):
            yield Wrong("rate_hz", "must be 10 or 80, as the chip's RATE pin is wired")
        skus = [product.sku for product in self.products]
        if len(set(skus)) < len(skus):
            yield Wrong("products", "each sku may stand once only")
        if len(skus) > 12:
            yield Wrong("products", "at most 12 can be told apart on one scale")
        if not 0.0 <= self.level_dwell_s <= 86_400.0:
            yield Wrong("level_dwell_s", "must lie between 0 s and 1 d")


def pins_of(settings: ShelfSettings) -> Mapping[str, int]:
    """Return the BCM number of each pin by its key."""
    if settings.driver == "hx711-spi":
        return SPI_PINS[settings.bus or 0]
    keys = ("data_pin", "clock_pin")
    return {key: pin for key in keys if (pin := getattr(settings, key)) is not None}
