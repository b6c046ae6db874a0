"""A simulated shop in the hardware's place: drivers, recordings and a configuration, all of one `Shop`.

Law: nothing behind the drivers can tell the difference. All sensors of a configuration see the same people; readings
carry the moment at which they happened (as a kernel's timestamp would), at their own pace and never faster: a shop
played faster would have people that no sensor could see. What is livelier than a real shop is only how often they come.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.machine.clock import Clock
from gateway.machine.threads import joined, started
from gateway.model import NS_PER_S, Instant, Reading
from gateway.sensors.kind import Driver, Sensor
from gateway.sensors.simulation import ITEM_SPREAD, Door, Goods, Habits, Lone, Said, Scanner, Shelf, Tag, Truth
from gateway.simulated.shop import Shop

if TYPE_CHECKING:
    from gateway.config import Configuration

P = TypeVar("P")
SEED_VARIABLE = "GATEWAY_SIMULATED_SEED"
LIVELY = Habits(arrivals_per_hour=1000.0, pace=4.0, restock_after_s=25.0)
"""Somebody every four seconds: for a demonstration, one sees something happen each second or so."""
BEHIND_MAX_S = 2.0
"""Where the feeding thread was held up longer (a suspended laptop) the shop stood still meanwhile: no flood."""
FEED_AT_LEAST_EVERY_S = 0.25


def shop_of(sensors: Iterable[Sensor[Any]], seed: int | str = 1, habits: Habits | None = None) -> Shop:
    """Return a shop that has the sensors of a configuration, as their kinds simulate them."""
    parts = [part for sensor in sensors if (part := sensor.kind.simulate(sensor.settings)) is not None]

    def those(one: type[P]) -> list[P]:
        return [part for part in parts if isinstance(part, one)]

    return Shop(seed, those(Door), those(Shelf), those(Scanner), habits or LIVELY, those(Lone))


def drivers(configuration: Configuration, clock: Clock, seed: int | str | None = None) -> Mapping[str, Driver]:
    """Return a driver for each configured sensor, all of one shop. Without a seed: that of the environment, else 1."""
    seed = os.environ.get(SEED_VARIABLE, "1") if seed is None else seed
    hardware = SimulatedHardware(configuration.sensors, clock, seed)
    return {sensor.id: hardware.driver(sensor.id) for sensor in configuration.sensors}


class SimulatedHardware:
    """The hardware of a configuration, played by one shop from one thread. `truth` tells it what truly happened.

    The thread begins with the first driver that is started and ends with the last that is closed.
    """

    def __init__(
        self,
        sensors: Sequence[Sensor[Any]],
        clock: Clock,
        seed: int | str = 1,
        habits: Habits | None = None,
        truth: Callable[[Truth], object] = lambda truth: None,
    ) -> None:
        self._kinds = {sensor.id: sensor.kind for sensor in sensors}
        self._clock = clock
        self._truth = truth
        self._happenings = shop_of(sensors, seed, habits).happenings()
        self._next = next(self._happenings, None)
        self._began_ns: int | None = None
        self._listening: dict[str, SimulatedDriver] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.progress_ns: int | None = None  # of the feeding thread's last turn

    def driver(self, sensor: str) -> Driver:
        """Return the driver of this sensor; it says nothing until it is started."""
        return SimulatedDriver(self, sensor)

    def feed(self, now: Instant) -> float:
        """Tell the drivers all that has happened up to `now`; return the seconds until the next happening."""
        began_ns = now.boot_ns if self._began_ns is None else self._began_ns
        if self._next and now.boot_ns - began_ns > (self._next.t_s + BEHIND_MAX_S) * NS_PER_S:
            began_ns = now.boot_ns - int(self._next.t_s * NS_PER_S)
        self._began_ns = began_ns
        while self._next is not None:
            due_ns = began_ns + int(self._next.t_s * NS_PER_S)
            if due_ns > now.boot_ns:
                return (due_ns - now.boot_ns) / NS_PER_S
            if isinstance(self._next, Truth):
                self._truth(self._next)
            else:
                self._tell(self._next, now.later(due_ns - now.boot_ns))
            self._next = next(self._happenings, None)
        return FEED_AT_LEAST_EVERY_S

    def _tell(self, said: Said, at: Instant) -> None:
        driver = self._listening.get(said.sensor)
        if driver is not None and driver.emit is not None:
            driver.emit(self._kinds[said.sensor].reading_of(said.sensor, at, said.values))

    def opened(self, driver: SimulatedDriver) -> None:
        """Count in a started driver."""
        with self._lock:
            self.listen(driver)
            if self._thread is None:
                self._stopping.clear()
                self._thread = threading.Thread(target=self._run, name="simulated-shop", daemon=True)
                started(self._thread)

    def listen(self, driver: SimulatedDriver) -> None:
        """Let a driver hear what its sensor says."""
        self._listening = {**self._listening, driver.sensor: driver}

    def closed(self, driver: SimulatedDriver) -> None:
        """Count out a closed driver; the last one ends the thread, within 2 s."""
        with self._lock:
            self._listening = {name: one for name, one in self._listening.items() if one is not driver}
            if self._listening or self._thread is None:
                return
            thread, self._thread = self._thread, None
            self._stopping.set()
        joined(thread, 2.0)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(min(wait_s, FEED_AT_LEAST_EVERY_S)):
            now = self._clock.now()
            wait_s = self.feed(now)
            self.progress_ns = now.boot_ns


class SimulatedDriver:
    """One sensor's part of the simulated hardware."""

    def __init__(self, hardware: SimulatedHardware, sensor: str) -> None:
        self.sensor = sensor
        self.emit: Callable[[Reading], None] | None = None
        self._hardware = hardware

    def start(self, emit: Callable[[Reading], None]) -> None:
        """Begin to emit this sensor's readings."""
        self.emit = emit
        self._hardware.opened(self)

    def close(self) -> None:
        """Emit no more."""
        self._hardware.closed(self)
        self.emit = None

    def is_settled(self) -> bool:
        """Say yes: what is simulated is never missing."""
        return True

    def progress_ns(self) -> int | None:
        """Return `boot_ns` of the shop's last sign of life."""
        return self._hardware.progress_ns

    def counters(self) -> Mapping[str, int]:
        """Nothing is ever spoiled or discarded here."""
        return {}


# -- recordings and the configuration of a demonstration ---------------------------------------------------------------

STORE = "0042"
GATEWAY = "demo"
LOYALTY_UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
FRIDGE_NAMESPACE = "edd1ebeac04e5defa017"

SENSORS_TOML = f"""\
[[door]]
id = "entrance"
outer_pin = 17
inner_pin = 27
counted_every = "1 min"

[[shelf]]
id = "aisle-3"
data_pin = 5
clock_pin = 6
products = [{{ sku = "4006381333931", unit_grams = 330.0, capacity = 24, low_below = 6 }}]
calibration = {{ offset_counts = 84213, counts_per_gram = 21.5 }}

[[scanner]]
id = "ble"
left_after_s = 8
counted_every = "1 min"
tags = [
  {{ tag = "loyalty", ibeacon = {{ uuid = "{LOYALTY_UUID}" }} }},
  {{ tag = "fridge", eddystone = {{ namespace = "{FRIDGE_NAMESPACE}" }} }},
]
"""

DEMO_DOORS = (Door("entrance"),)
DEMO_SHELVES = (Shelf("aisle-3", (Goods("4006381333931", 330.0, 24, 330.0 * ITEM_SPREAD),)),)
DEMO_SCANNERS = (
    Scanner("ble", (Tag("loyalty", "ibeacon", LOYALTY_UUID), Tag("fridge", "eddystone", FRIDGE_NAMESPACE))),
)


def configuration_text(
    broker_url: str,
    outbox_directory: str,
    protocol: str = "auto",
    reconnect_max_s: float = 300.0,
    with_store: bool = True,
) -> str:
    """Return a whole configuration of the demonstration's store: one door, one shelf, one scanner with two tags.

    Without the store it is what a demonstration lays over a configuration of somebody's own.
    """
    site = f'[site]\nstore = "{STORE}"\ngateway = "{GATEWAY}"\ntimezone = "UTC"\n' if with_store else ""
    return f"""\
# A simulated store, made by `gateway demo`.
{site}
[broker]
url = {json.dumps(broker_url)}
protocol = "{protocol}"
reconnect_max_s = {reconnect_max_s:g}

[outbox]
directory = {json.dumps(outbox_directory)}
bytes_max = "64 MiB"

[health]
every = "10 s"

{SENSORS_TOML if with_store else ""}"""


def recording(
    shop: Shop, until_s: float, started: str = "2026-11-22T09:00:00.000Z", note: str = "simulated"
) -> Iterator[str]:
    """Yield the lines (with newline) of a recording of the shop's first `until_s` seconds, contract section 8.

    Equal shops give equal bytes: `recording(demo_shop(7), 60)`.
    """
    header = {"recording": 1, "started": started, "gateway": GATEWAY, "note": note}
    yield json.dumps(header) + "\n"
    for happening in shop.happenings():
        if happening.t_s > until_s:
            return
        if isinstance(happening, Said):
            yield json.dumps({"t": round(happening.t_s, 6), "sensor": happening.sensor, **happening.values}) + "\n"


def demo_shop(seed: int | str = 1, habits: Habits | None = None) -> Shop:
    """Return the shop of `SENSORS_TOML` without reading a configuration."""
    return Shop(seed, DEMO_DOORS, DEMO_SHELVES, DEMO_SCANNERS, habits or LIVELY)
