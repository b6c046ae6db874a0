"""Rooms with tags and strangers in them: what the scanner hears, and who truly was where.

Path loss with the distance, slow shadowing by bodies, Rician fading, lost packets; strangers say what phones, headsets,
trackers and other shops' beacons say, some of them one bit away from what a rule looks for.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from gateway.model import data_of
from gateway.sensors.kind import Sensor
from gateway.sensors.scanner.kind import KIND
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import EddystoneRule, IBeaconRule, TagRule
from gateway.simulated import physics
from tests.accuracy.labelled import Decided, Measures, at, interpret
from tests.accuracy.worlds import Radio, World

UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
NAMESPACE = "edd1ebeac04e5defa017"
NEAR_M = 4.0
LEFT_AFTER_S = 30.0
SETTINGS = ScannerSettings(
    "ble",
    left_after_s=LEFT_AFTER_S,
    tags=(
        TagRule("loyalty", ibeacon=IBeaconRule(UUID)),
        TagRule("fridge", eddystone=EddystoneRule(NAMESPACE)),
        TagRule("cart", address="c4:64:e3:00:00:01"),
    ),
)


@dataclass(slots=True)
class Sender:
    """A device that advertises from `from_s` to `until_s`; `distance_m` says how far away it is when."""

    address: str
    payload: Callable[[], bytes]
    from_s: float
    until_s: float
    interval_s: float
    distance_m: Callable[[float], float]
    shadow_db: float = 0.0
    last_s: float | None = None


@dataclass(slots=True)
class Room:
    """Senders, and the air between them and the scanner."""

    radio: Radio
    rng: Random
    senders: list[Sender] = field(default_factory=list)

    def readings(self) -> Iterator[Advertisement]:
        agenda = [(sender.from_s + self.rng.uniform(0, sender.interval_s), n) for n, sender in enumerate(self.senders)]
        heapq.heapify(agenda)
        while agenda:
            t_s, n = heapq.heappop(agenda)
            sender = self.senders[n]
            if t_s > sender.until_s:
                continue
            rssi_dbm = self._rssi_dbm(sender, t_s)
            if rssi_dbm is not None:
                yield Advertisement("ble", at(t_s), sender.address, "random", rssi_dbm, sender.payload())
            heapq.heappush(agenda, (t_s + sender.interval_s + self.rng.uniform(0.0, 0.01), n))

    def _rssi_dbm(self, sender: Sender, t_s: float) -> int | None:
        radio, rng = self.radio, self.rng
        if sender.last_s is None:
            sender.shadow_db = rng.gauss(0.0, radio.shadow_db)
        else:
            keep = math.exp(-(t_s - sender.last_s) / radio.shadow_lasts_s)
            sender.shadow_db = keep * sender.shadow_db + math.sqrt(1 - keep * keep) * rng.gauss(0.0, radio.shadow_db)
        sender.last_s = t_s
        scatter = math.sqrt(1 / (2 * (radio.fading_k + 1)))
        direct = math.sqrt(radio.fading_k / (radio.fading_k + 1)) + rng.gauss(0.0, scatter)
        power = direct * direct + rng.gauss(0.0, scatter) ** 2
        loss_db = 10 * radio.exponent * math.log10(max(sender.distance_m(t_s), 0.2))
        rssi_dbm = radio.measured_dbm - loss_db + sender.shadow_db + 10 * math.log10(max(power, 1e-6))
        if rssi_dbm < radio.sensitivity_dbm or rng.random() < radio.lost_share:
            return None
        return round(rssi_dbm)


def _loyalty(number: int, radio: Radio) -> bytes:
    return physics.ibeacon(UUID, 1, number, radio.measured_dbm)


def _tag(room: Room, number: int, from_s: float, until_s: float, distance_m: Callable[[float], float],
         interval_s: float = 1.0) -> None:  # fmt: skip
    frame = _loyalty(number, room.radio)
    address = physics.random_address(room.rng, 3)
    room.senders.append(Sender(address, lambda: frame, from_s, until_s, interval_s, distance_m))


def _told(room: Room, until_s: float) -> list[Decided]:
    return list(interpret([Sensor(KIND, SETTINGS)], room.readings(), until_s))


def _visits(told: list[Decided]) -> dict[str, list[tuple[str, float, float]]]:
    """Return what was told of each identity: (arrived or left or moved, when it happened, when it was decided)."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    for decided in told:
        kind = decided.event.fact.type.removeprefix("store.beacon.")
        if kind in ("arrived", "left", "moved"):
            identity = str(data_of(decided.event.fact).get("identity"))
            found.setdefault(identity, []).append((kind, decided.event.at.boot_ns / 1e9, decided.t_s))
    return found


def near_zone(world: World, seed: int, count: int) -> Measures:
    """Tags appear 1 to 3.5 m away, stay one to ten minutes, say something once a second, and are gone."""
    rng = Random(f"{world.name}/near/{seed}")
    room = Room(world.radio, rng)
    truth = []
    for number in range(count):
        came_s = rng.uniform(0.0, 3600.0)
        went_s = came_s + rng.uniform(60.0, 600.0)
        place_m = rng.uniform(1.0, 3.5)
        _tag(room, number, came_s, went_s, lambda t, d=place_m: d)  # type: ignore[misc]
        truth.append((came_s, went_s))
    visits = _visits(_told(room, 4400.0))
    arrivals, departures, flaps, moves = [], [], 0, 0
    for number, (came_s, went_s) in enumerate(truth):
        mine = visits.get(f"ibeacon:{UUID}:1:{number}", [])
        first = [decided_s for kind, _, decided_s in mine if kind == "arrived"]
        lasts = [decided_s for kind, _, decided_s in mine if kind == "left"]
        if first:
            arrivals.append(first[0] - came_s)
            flaps += len(first) - 1
        if lasts:
            departures.append(lasts[-1] - went_s)
        moves += sum(kind == "moved" for kind, _, _ in mine)
    hours = sum(went_s - came_s for came_s, went_s in truth) / 3600
    return {
        "arrived within 2 s": sum(delay <= 2.0 for delay in arrivals) / count,
        "arrival delay s": statistics.fmean(arrivals),
        "departure delay s": statistics.fmean(departures),
        "flaps a visit": flaps / count,
        "zones an hour": moves / hours,
    }


def edge_of_range(world: World, seed: int, count: int) -> Measures:
    """Tags lie still for two hours where the mean strength is 5 dB below to 5 dB above what arrives."""
    rng = Random(f"{world.name}/edge/{seed}")
    room = Room(world.radio, rng)
    for number in range(count):
        mean_dbm = SETTINGS.arrive_rssi_dbm + rng.uniform(-5.0, 5.0)
        place_m = 10 ** ((world.radio.measured_dbm - mean_dbm) / (10 * world.radio.exponent))
        _tag(room, number, 0.0, 7200.0, lambda t, d=place_m: d)  # type: ignore[misc]
    visits = _visits(_told(room, 7200.0))
    arrived = [sum(kind == "arrived" for kind, _, _ in mine) for mine in visits.values()]
    return {"flaps an hour": sum(max(0, n - 1) for n in arrived) / (2 * count)}


def walking_in(world: World, seed: int, count: int) -> Measures:
    """Customers come from 40 m away, shop between 1 and 9 m from the scanner for some minutes, and walk away."""
    rng = Random(f"{world.name}/walking/{seed}")
    room = Room(world.radio, rng)
    truth = []
    for number in range(count):
        came_s, speed_mps, nearest_m = rng.uniform(0.0, 3600.0), rng.uniform(0.7, 1.5), rng.uniform(1.0, 3.0)
        stay_s, phase = rng.uniform(60.0, 600.0), rng.uniform(0.0, 6.0)
        walk_s = (40.0 - nearest_m) / speed_mps

        def distance_m(
            t_s: float, came_s: float = came_s, speed: float = speed_mps, near: float = nearest_m,
            stay_s: float = stay_s, walk_s: float = walk_s, phase: float = phase,
        ) -> float:  # fmt: skip
            since_s = t_s - came_s
            if since_s < walk_s:
                return 40.0 - speed * since_s
            if since_s < walk_s + stay_s:
                return near + (9.0 - near) * 0.5 * (1 - math.cos((since_s - walk_s) / 40.0 * math.pi))
            return min(60.0, 9.0 + speed * (since_s - walk_s - stay_s))

        _tag(room, number, came_s, came_s + 2 * walk_s + stay_s + 60, distance_m, rng.choice((0.3, 0.5, 1.0)))
        truth.append((came_s + walk_s - (NEAR_M - nearest_m) / speed_mps, came_s + walk_s + stay_s))
    visits = _visits(_told(room, 4800.0))
    late, departures, flaps = [], [], 0
    for number, (near_s, went_s) in enumerate(truth):
        mine = visits.get(f"ibeacon:{UUID}:1:{number}", [])
        first = [decided_s for kind, _, decided_s in mine if kind == "arrived"]
        lasts = [decided_s for kind, _, decided_s in mine if kind == "left"]
        late.append(first[0] - near_s if first else math.inf)
        flaps += max(0, len(first) - 1)
        if lasts:
            departures.append(lasts[-1] - went_s)
    return {
        "arrived within 2 s": sum(delay <= 2.0 for delay in late) / count,
        "departure delay s": statistics.fmean(departures),
        "flaps a visit": flaps / count,
    }


def passing_by(world: World, seed: int, count: int) -> Measures:
    """People with a tag pass 8 m away at 1.3 m/s: each is one visit at most."""
    rng = Random(f"{world.name}/passing/{seed}")
    room = Room(world.radio, rng)
    for number in range(count):
        came_s = rng.uniform(0.0, 3600.0)
        _tag(room, number, came_s, came_s + 92.0, lambda t, c=came_s: math.hypot(8.0, 1.3 * (t - c) - 60.0))  # type: ignore[misc]
    visits = _visits(_told(room, 3800.0))
    arrived = [sum(kind == "arrived" for kind, _, _ in mine) for mine in visits.values()]
    return {"flaps a visit": sum(max(0, n - 1) for n in arrived) / count}


def crowd(world: World, seed: int, count: int) -> Measures:
    """5,000 random addresses a minute, some nearly a tag of a rule; the ten that are tags must still be seen."""
    rng = Random(f"{world.name}/crowd/{seed}")
    room = Room(world.radio, rng)
    span_s = count / 5000 * 60
    for _ in range(count):
        payload = _stranger(rng)
        from_s = rng.uniform(0.0, span_s)
        place_m = rng.uniform(1.0, 15.0)
        room.senders.append(
            Sender(physics.random_address(rng, rng.choice((0, 1, 3))), lambda p=payload: p, from_s, from_s + 2.0,  # type: ignore[misc]
                   rng.choice((0.3, 0.9, 1.3)), lambda t, d=place_m: d)  # type: ignore[misc]
        )  # fmt: skip
    for number in range(10):
        _tag(room, number, 0.0, span_s, lambda t: 2.0, 0.5)
    own = {f"ibeacon:{UUID}:1:{number}" for number in range(10)}
    visits = _visits(_told(room, span_s))
    return {
        "strangers identified": float(len(visits.keys() - own)),
        "tags seen": len(visits.keys() & own) / 10,
    }


def _stranger(rng: Random) -> bytes:
    kind = rng.randrange(8)
    near_uuid = bytearray.fromhex(UUID.replace("-", ""))
    near_uuid[rng.randrange(16)] ^= 1 << rng.randrange(8)
    near_namespace = bytearray.fromhex(NAMESPACE)
    near_namespace[rng.randrange(10)] ^= 1 << rng.randrange(8)
    if kind == 0:
        return physics.ibeacon(near_uuid.hex(), 1, rng.randrange(10), -59)
    if kind == 1:
        return physics.eddystone_uid(near_namespace.hex(), rng.randbytes(6).hex(), -59)
    if kind == 2:
        return physics.eddystone_tlm(3000, 20.0, 5, 10.0)
    if kind == 3:
        return _cut(physics.ibeacon(UUID, 1, rng.randrange(10), -59), rng)  # the right one, cut short
    if kind == 4:
        return physics.altbeacon(near_uuid.hex() + "00010001", -59)
    if kind == 5:
        return rng.randbytes(rng.randrange(32))
    return physics.phone(rng)


def _cut(frame: bytes, rng: Random) -> bytes:
    return frame[: rng.randrange(len(frame))]


Scene = Callable[[World, int, int], Measures]
SCENES: dict[str, tuple[Scene, int]] = {
    "near zone, once a second": (near_zone, 120),
    "walking in, shopping, leaving": (walking_in, 60),
    "edge of range, lying still": (edge_of_range, 20),
    "passing by": (passing_by, 120),
    "crowd of strangers, 5,000 a minute": (crowd, 20_000),
}
"""And how many tags or strangers a seed has."""
