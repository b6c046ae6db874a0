"""What happens in the shop, as cheaply as physics allows: passages, a hand in the shelf, radios that come and go.

Each act yields (seconds from its beginning, reading's maker); the makers want the instant. The shop knows nothing of
the gateway: it goes on in a power cut, only nobody hears it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from gateway.model import Instant, Reading
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BeamName
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.simulated import physics

LOYALTY_UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
FRIDGE_ADDRESS = "c4:64:e3:00:00:02"
UNIT_GRAMS = 330.0
RATE_HZ = 10

Saying = tuple[float, Callable[[Instant], Reading]]

SENSORS_TOML = f"""
[[door]]
id = "entrance"
outer_pin = 17
inner_pin = 27

[[door]]
id = "back"
beam_pin = 22

[[shelf]]
id = "aisle"
data_pin = 5
clock_pin = 6
products = [{{ sku = "4006381333931", unit_grams = {UNIT_GRAMS}, capacity = 24, low_below = 6 }}]
calibration = {{ offset_counts = 84213, counts_per_gram = 21.5 }}

[[scanner]]
id = "ble"
tags = [
  {{ tag = "loyalty", ibeacon = {{ uuid = "{LOYALTY_UUID}" }} }},
  {{ tag = "fridge", address = "{FRIDGE_ADDRESS}", telemetry = true }},
]
"""


class Shop:
    """See the module."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._cell = physics.LoadCell(random, 84_213, 21.5)
        self._cell.load(-60.0, 12 * UNIT_GRAMS)
        self._items = 12
        self._fridge_sent = 0

    def passage(self) -> Iterator[Saying]:
        """Somebody goes through a door: two beams one after the other, or the single one."""
        if self._random.random() < 0.3:
            beams = [("only", physics.occlusions(physics.walk(self._random, True), "only"))]
            sensor = "back"
        else:
            body = physics.walk(self._random, self._random.random() < 0.5, self._random.random() < 0.05)
            beams = [(beam, physics.occlusions(body, beam)) for beam in ("outer", "inner")]
            sensor = "entrance"
        edges = [
            (at_s, beam, broken)
            for beam, spans in beams
            for span in spans
            for at_s, broken in zip(span, (True, False), strict=True)
        ]
        first_s = min(at_s for at_s, _, _ in edges) if edges else 0.0
        for at_s, beam, broken in sorted(edges):
            yield at_s - first_s, _beam(sensor, beam, broken)  # type: ignore[arg-type]

    def radio(self) -> Iterator[Saying]:
        """A customer's tag is heard some times, or the fridge tells how it is, or a phone passes."""
        dice = self._random.random()
        if dice < 0.25:
            self._fridge_sent += 1
            payload = physics.ruuvi(4.5, 62.0, 2950, self._fridge_sent, FRIDGE_ADDRESS)
            yield 0.0, _heard(FRIDGE_ADDRESS, -60, payload)
        elif dice < 0.4:
            yield 0.0, _heard(physics.random_address(self._random, 1), -75, physics.phone(self._random))
        else:
            address, number = physics.random_address(self._random, 3), self._random.randrange(65_536)
            payload = physics.ibeacon(LOYALTY_UUID, 1, number, -59)
            for count in range(self._random.randint(1, 3)):
                yield count * 1.1, _heard(address, self._random.randint(-85, -45), payload)

    def shift(self, at_s: float) -> Iterator[Saying]:
        """The scale is read for some seconds, and somebody takes or brings something meanwhile. `at_s`: shop's time."""
        lasts_s = self._random.uniform(6.0, 12.0)
        takes = self._items > 3 and self._random.random() < 0.6
        count = self._random.randint(1, 2) if takes else 6
        if takes or self._items < 18:
            self._items += -count if takes else count
            self._cell.load(at_s + 2.5, (-count if takes else count) * UNIT_GRAMS)
        for sample in range(int(lasts_s * RATE_HZ)):
            after_s = sample / RATE_HZ
            yield after_s, _sampled(self._cell.counts(at_s + after_s))


def _beam(sensor: str, beam: BeamName, broken: bool) -> Callable[[Instant], Reading]:
    return lambda at: BeamChanged(sensor, at, beam, broken)


def _heard(address: str, rssi_dbm: int, payload: bytes) -> Callable[[Instant], Reading]:
    return lambda at: Advertisement("ble", at, address, "random", rssi_dbm, payload)


def _sampled(counts: int) -> Callable[[Instant], Reading]:
    return lambda at: ScaleSampled("aisle", at, counts)
