"""Shelves: weight into what was picked, placed or changed, the shelf's level, and the scale's faults.

Law: only a settled difference is a change, and only one combination of products explains it, else it is `changed`. A
faulty scale tells its fault and never grams; afterwards it settles anew and only a real difference is a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, Event, Fact, Instant, Reading, Stream
from gateway.sensors import Driver, Kind, Surroundings
from gateway.sensors.ailments import WORD_MAX, WORD_MIN, Ailments
from gateway.sensors.goods import Product, Spreads, State, Stock, explain, shares, state_of, suspects
from gateway.sensors.weighing import Balance, Blocks, Change, Sizes
from gateway.units import Identifier, Pin, Seconds

LEAST_GRAMS = 2.0
"""A lesser difference is draught, dust and creep; for items below 5 g it is 0.4 of one."""
PICKED_NS = 1_200 * NS_PER_S // 1000
MANY = 3
MANY_NS = 2_500 * NS_PER_S // 1000
"""Some placed, or many picked: also what a hand on the shelf could look like, and nobody waits for it."""
MANY_PLACED_NS = 3_400 * NS_PER_S // 1000
"""A hand that leans weighs kilogrammes, and those are some number of items as well; staff bring an armful every 4 s."""
UNEXPLAINED_NS = 5 * NS_PER_S
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
        if not -0x800000 <= self.offset_counts <= 0x7FFFFF:
            raise ValueError("offset_counts must be a signed 24-bit value")
        if not 1e-4 <= abs(self.counts_per_gram) <= 1e6:
            raise ValueError("counts_per_gram must not be zero, and within 0.0001 to 1000000 in size")

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
        if self.driver == "hx711":
            if self.data_pin is None or self.clock_pin is None:
                raise ValueError('driver "hx711" needs data_pin and clock_pin')
            if self.data_pin == self.clock_pin:
                raise ValueError(f"data_pin and clock_pin are both {self.data_pin}; each needs a pin of its own")
        elif self.data_pin is not None or self.clock_pin is not None:
            raise ValueError(f'data_pin and clock_pin belong to driver "hx711", not to "{self.driver}"')
        if self.bus is not None and self.bus not in SPI_PINS:
            raise ValueError("bus must be 0, the SPI bus that gpiozero opens")
        if self.device is not None and not 0 <= self.device <= 99:
            raise ValueError("device must lie between 0 and 99")
        if self.rate_hz not in (10, 80):
            raise ValueError("rate_hz must be 10 or 80, as the chip's RATE pin is wired")
        skus = [product.sku for product in self.products]
        if len(set(skus)) < len(skus):
            raise ValueError("products: each sku may stand once only")
        if len(skus) > 12:
            raise ValueError("products: at most 12 can be told apart on one scale")
        if not 0.0 <= self.level_dwell_s <= 86_400.0:
            raise ValueError("level_dwell_s must lie between 0 s and 1 d")


def pins_of(settings: ShelfSettings) -> Mapping[str, int]:
    """Return the BCM number of each pin by its key."""
    if settings.driver == "hx711-spi":
        return SPI_PINS[settings.bus or 0]
    keys = ("data_pin", "clock_pin")
    return {key: pin for key in keys if (pin := getattr(settings, key)) is not None}


@dataclass(frozen=True, slots=True)
class ScaleSampled(Reading):
    """One conversion of the HX711: `counts` is its signed 24-bit value."""

    counts: int


def reading_of(sensor: str, at: Instant, line: Mapping[str, Any]) -> ScaleSampled:
    """Read a recording's line; ValueError says what is wrong."""
    counts = line.get("counts")
    if isinstance(counts, bool) or not isinstance(counts, int) or not WORD_MIN <= counts <= WORD_MAX:
        raise ValueError(f'"counts" must be an integer from -8388608 to 8388607, not {counts!r}')
    return ScaleSampled(sensor, at, counts)


def line_of(reading: ScaleSampled) -> dict[str, Any]:
    """Return what a recording's line says of the reading."""
    return {"counts": reading.counts}


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


@dataclass(slots=True)
class Standing:
    """A product's state: what was told, and what holds now since when, as it was when reached."""

    told: State | None = None
    now: State | None = None
    since: Instant | None = None
    fact: ShelfLevel | None = None


def _rounded(grams: float) -> float:
    return round(grams, 1) + 0.0  # + 0.0 makes -0.0 plain zero


class ShelfInterpreter:
    """One shelf."""

    def __init__(self, settings: ShelfSettings, surroundings: Surroundings) -> None:
        self.settings = settings
        self.faults = surroundings.faults
        self.stock = Stock(settings.products)
        self.spreads = Spreads(settings.products)
        self._ailments = Ailments(settings.rate_hz, surroundings.faults)
        self._blocks = Blocks(settings.rate_hz)
        self._standings = [Standing() for _ in settings.products]
        self._is_waiting = False  # a state differs from what was told
        self._dwell_ns = int(settings.level_dwell_s * NS_PER_S)
        self._latest_ns = 0
        per_gram = abs(settings.calibration.counts_per_gram) if settings.calibration is not None else 1.0
        units = [product.unit_grams for product in settings.products]
        least = min(LEAST_GRAMS, 0.4 * min(units)) if units else 2 * LEAST_GRAMS
        sizes = Sizes(least * per_gram, min(units) * per_gram if units else None)
        self._balance = Balance(sizes, self._patience_ns)

    def read(self, reading: Reading) -> Iterator[Event]:
        """Take one sample."""
        behind_ns = self._latest_ns - reading.at.boot_ns
        at = reading.at.later(behind_ns) if behind_ns > 0 else reading.at
        yield from self.tick(at)
        if not isinstance(reading, ScaleSampled):
            return
        yield from self._ailments.sample(at, reading.counts)
        if self.settings.calibration is None:
            detail = "the scale is not calibrated: run gateway calibrate, or give calibration in the configuration"
            yield from self.faults.fail(at, "not_calibrated", detail)
            return
        if reading.counts in (WORD_MAX, WORD_MIN) or self._ailments.is_frozen:
            if self._ailments.is_frozen:
                self._blocks.clear()
                self._balance.disturb()
            return
        point = self._blocks.add(at, reading.counts)
        if point is None:
            return
        yield from self._ailments.point(point)
        if not self._ailments.is_sound:
            self._balance.disturb()
            return
        change = self._balance.point(point)
        if change is not None:
            yield from self._changed(change)
        yield from self._tell_levels(at)

    def tick(self, now: Instant) -> Iterator[Event]:
        """Tell silence, and levels that have lasted."""
        self._latest_ns = max(self._latest_ns, now.boot_ns)
        if (due_ns := self._level_due_ns()) is not None and due_ns <= now.boot_ns:
            yield from self._tell_levels(now)
        was_silent = "silent" in self.faults.active
        yield from self._ailments.tick(now)
        if not was_silent and "silent" in self.faults.active:
            self._blocks.clear()
            self._balance.disturb()

    def due_ns(self) -> int | None:
        dues = (self._ailments.due_ns(), self._level_due_ns())
        return min((due for due in dues if due is not None), default=None)

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        """Nothing here hangs on the wall clock."""
        yield from ()

    def finish(self, now: Instant) -> Iterator[Event]:
        """Tell a change that stands already and that a product explains."""
        yield from self.tick(now)
        calibration = self.settings.calibration
        if calibration is not None and self._ailments.is_sound and (change := self._balance.pending()) is not None:
            yield from self._changed(change, is_last=True)
            yield from self._tell_levels(now)

    def _patience_ns(self, difference: float, noise: float) -> int:
        calibration = self.settings.calibration
        assert calibration is not None
        grams, noise_grams = difference / calibration.counts_per_gram, noise / abs(calibration.counts_per_gram)
        found = explain(grams, noise_grams, self.settings.products, self.stock.counts, self.spreads)
        if found is None:
            return UNEXPLAINED_NS
        is_many = sum(abs(n) for n in found.counts) > MANY
        if all(n <= 0 for n in found.counts):
            return MANY_NS if is_many else PICKED_NS
        return MANY_PLACED_NS if is_many else MANY_NS

    def _changed(self, change: Change, *, is_last: bool = False) -> Iterator[Event]:
        calibration, products = self.settings.calibration, self.settings.products
        assert calibration is not None
        remaining = calibration.grams(change.after)
        if change.before is not None:
            grams = remaining - calibration.grams(change.before)
            noise_grams = change.noise / abs(calibration.counts_per_gram)
            found = explain(grams, noise_grams, products, self.stock.counts, self.spreads)
            if found is not None:
                self.spreads.learn(found, grams)
                self.stock.change(found.counts)
            elif is_last:
                return
            else:
                self.stock.doubt(suspects(grams, noise_grams, products, self.stock.counts, self.spreads))
            self.stock.settle(remaining)
            left = _rounded(remaining)
            if found is None:
                yield Event(self.settings.id, change.left, ShelfChanged(_rounded(grams), left))
            else:
                for place, share in shares(found, products, grams).items():
                    n = found.counts[place]
                    kind = ShelfPicked if n < 0 else ShelfPlaced
                    there = self.stock.counts[place]
                    weight = _rounded(abs(share))
                    fact = kind(products[place].sku, abs(n), weight, there, left, found.confidence)
                    yield Event(self.settings.id, change.left, fact)
        else:
            self.stock.settle(remaining)
        self._note_states(change.since, remaining)

    def _note_states(self, since: Instant, grams: float) -> None:
        for product, count, standing in zip(self.settings.products, self.stock.counts, self._standings, strict=True):
            if count is None:
                continue
            state = state_of(count, product, standing.now)
            if state != standing.now:
                standing.now, standing.since = state, since
                standing.fact = ShelfLevel(state, product.sku, count, product.capacity, _rounded(grams))
        self._is_waiting = any(standing.now != standing.told for standing in self._standings)

    def _level_due_ns(self) -> int | None:
        if not self._is_waiting or self._balance.is_moving or not self._ailments.is_sound:
            return None
        waiting = (s for s in self._standings if s.now != s.told and s.since is not None)
        return min((self._told_at_ns(standing) for standing in waiting), default=None)

    def _told_at_ns(self, standing: Standing) -> int:
        assert standing.since is not None
        return standing.since.boot_ns + (self._dwell_ns if standing.told is not None else 0)

    def _tell_levels(self, now: Instant) -> Iterator[Event]:
        if not self._is_waiting or self._balance.is_moving or not self._ailments.is_sound:
            return
        for standing in self._standings:
            if standing.now == standing.told or standing.since is None or standing.fact is None:
                continue
            if self._told_at_ns(standing) <= now.boot_ns:
                standing.told = standing.now
                yield Event(self.settings.id, standing.since, standing.fact)
        self._is_waiting = any(standing.now != standing.told for standing in self._standings)


def interpreter(settings: ShelfSettings, surroundings: Surroundings) -> ShelfInterpreter:
    """Build the interpreter of one shelf."""
    return ShelfInterpreter(settings, surroundings)


def driver(settings: ShelfSettings, clock: Clock) -> Driver:
    """Build the driver of one shelf's converter."""
    from gateway.sensors.drivers import hx711

    return hx711.driver_for(settings, clock)


KIND: Kind[ShelfSettings] = Kind(
    table="shelf",
    stream="shelf",
    settings=ShelfSettings,
    facts=(ShelfPicked, ShelfPlaced, ShelfChanged, ShelfLevel),
    interpreter=interpreter,
    driver=driver,
    reading_of=reading_of,
    line_of=line_of,
    pins=pins_of,
)
