"""A shop with people, goods and radios, as its sensors see it and as it truly was. Pure, seeded, endless.

`Shop.happenings()` yields `Said` (a line of a recording, contract section 8, without header) and `Truth` in ascending
time, for whatever doors, shelves and scanners it is given. Law: equal plan, habits and seed give equal happenings, and
each part of the shop draws from its own random numbers: one more scanner changes nothing at the doors and shelves.
Not modelled: pairs side by side as such (they are tailgaters whose bodies overlap), goods put on the wrong shelf.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from gateway.sensors.simulation import Door, Goods, Habits, Lone, Said, Scanner, Shelf, Tag, Truth
from gateway.simulated import physics

PEOPLE_MAX = 60
"""Beyond this nobody comes in: bounds the memory of an endless shop."""
APPROACH_S = 3.0
"""Between being heard of outside and reaching the door; also the time in which an arm may be ahead."""


class _Board:
    """What lies on a shelf: every item with its own weight, and the cell below."""

    def __init__(self, shelf: Shelf, seed: str) -> None:
        self.shelf = shelf
        self.rng = Random(f"{seed}/goods")
        self.cell = physics.LoadCell(Random(f"{seed}/cell"), shelf.offset_counts, shelf.counts_per_gram)
        self.items: dict[str, list[float]] = {goods.sku: [] for goods in shelf.goods}
        self.busy_until_s = 0.0
        for goods in shelf.goods:
            self.put(-60.0, goods, [self.weigh(goods) for _ in range(max(1, round(goods.capacity * 0.7)))])

    def weigh(self, goods: Goods) -> float:
        return max(self.rng.gauss(goods.unit_grams, goods.spread_grams), 0.0)

    def put(self, at_s: float, goods: Goods, weights: Sequence[float]) -> None:
        self.items[goods.sku].extend(weights)
        self.cell.load(at_s, sum(weights))

    def take(self, at_s: float, goods: Goods, count: int) -> list[float]:
        taken = [self.items[goods.sku].pop() for _ in range(min(count, len(self.items[goods.sku])))]
        self.cell.load(at_s, -sum(taken))
        return taken


Happening = Said | Truth
Action = Callable[[float], Iterator[Happening]]


class Shop:
    """A shop from a seed. Positions in metres: doors along y = 0, shelves along y = 7, scanners between."""

    def __init__(
        self,
        seed: int | str,
        doors: Sequence[Door] = (),
        shelves: Sequence[Shelf] = (),
        scanners: Sequence[Scanner] = (),
        habits: Habits | None = None,
        lone: Sequence[Lone] = (),
    ) -> None:
        self.seed = str(seed)
        self.habits = habits or Habits()
        self.doors = tuple(doors)
        self.shelves = tuple(shelves)
        self.scanners = tuple(scanners)
        self.lone = tuple(lone)
        self._people_rng = Random(f"{self.seed}/people")
        self._boards = {shelf.id: _Board(shelf, f"{self.seed}/{shelf.id}") for shelf in shelves}
        self._bodies = {(door.id, beam): 0 for door in doors for beam in door.beams}
        self._edges = dict.fromkeys(self._bodies, 0)
        self._agenda: list[tuple[float, int, Action]] = []
        self._planned = 0
        self._inside = 0
        self._customers = 0

    def happenings(self) -> Iterator[Happening]:
        """Yield what is said and what is true, for ever, `t_s` ascending from 0. May be called once.

        A shop without any sensor has nothing to tell and ends at once.
        """
        if self.doors or self.shelves or self.scanners or self.lone:
            self._open()
        while self._agenda:
            at_s, _, action = heapq.heappop(self._agenda)
            yield from action(at_s)

    def _plan(self, at_s: float, action: Action) -> None:
        self._planned += 1
        heapq.heappush(self._agenda, (at_s, self._planned, action))

    def _tell(self, truth: Truth) -> None:
        self._plan(truth.t_s, lambda at_s: iter((truth,)))

    def _open(self) -> None:
        for door in self.doors:
            rng = Random(f"{self.seed}/{door.id}")
            for beam in door.beams:
                self._plan(0.0, lambda t, d=door, b=beam, r=rng: self._edge(d, b, r, 0, t))  # type: ignore[misc]
        for shelf in self.shelves:
            rng = Random(f"{self.seed}/{shelf.id}/clock")
            period_s = 1 / (shelf.rate_hz * rng.uniform(0.97, 1.03))  # the chip's own oscillator
            self._plan(rng.uniform(0, period_s), lambda t, s=shelf, p=period_s: self._convert(s, p, t))  # type: ignore[misc]
        for one in self.lone:
            self._say_next(one.id, one.said(Random(f"{self.seed}/{one.id}")))
        known: dict[Any, Tag] = {(t.kind, t.value, t.device): t for s in self.scanners for t in s.tags}
        self._tags = {kind: [tag for tag in known.values() if tag.kind == kind] for kind in {key[0] for key in known}}
        for number, tag in enumerate(known.values()):
            if tag.kind in ("eddystone", "altbeacon", "ruuvi"):
                self._fix(tag, number)
        self._carts = list(self._tags.get("address", ()))
        self._plan(self._next_arrival_s(0.0), self._arrive)

    def _say_next(self, sensor: str, said: Iterator[tuple[float, Mapping[str, Any]]]) -> None:
        """Plan what a sensor says next that people do not touch."""
        if (following := next(said, None)) is not None:
            t_s, values = following
            self._plan(t_s, lambda at_s: self._say(Said(at_s, sensor, values), said))

    def _say(self, said: Said, more: Iterator[tuple[float, Mapping[str, Any]]]) -> Iterator[Happening]:
        yield said
        self._say_next(said.sensor, more)

    # -- doors ---------------------------------------------------------------------------------------------------------

    def _walk_through(self, door: Door, body: physics.Walk, at_s: float, rng: Random) -> float:
        """Plan a body's edges, its front at the first beam at `at_s`; return when the last beam is clear."""
        ends_s = at_s
        for beam in door.beams:
            for begin_s, end_s in physics.occlusions(body, beam):
                self._plan(at_s + begin_s, lambda t, b=beam: self._edge(door, b, rng, 1, t))  # type: ignore[misc]
                self._plan(at_s + end_s, lambda t, b=beam: self._edge(door, b, rng, -1, t))  # type: ignore[misc]
                ends_s = max(ends_s, at_s + end_s)
        if body.turn_back_m is not None:
            self._tell(Truth(ends_s, door.id, "turned_back"))
        else:
            self._tell(Truth(ends_s, door.id, "passed_in" if body.inward else "passed_out"))
        return ends_s

    def _edge(self, door: Door, beam: str, rng: Random, by: int, at_s: float) -> Iterator[Happening]:
        """One body more or less in a beam; the receiver's output changes only with the first and the last."""
        key = (door.id, beam)
        was_broken = self._bodies[key] > 0
        self._bodies[key] += by
        broken = self._bodies[key] > 0
        if broken == was_broken and by:
            return
        self._edges[key] += 1
        yield Said(at_s, door.id, {"beam": beam, "broken": broken})
        if by:
            for flip, delay_s in enumerate(physics.bounces(rng)):
                level, edge = broken ^ (flip % 2 == 0), self._edges[key]
                self._plan(at_s + delay_s, lambda t, lv=level, e=edge: self._chatter(door, beam, lv, e, t))  # type: ignore[misc]

    def _chatter(self, door: Door, beam: str, level: bool, edge: int, at_s: float) -> Iterator[Happening]:
        if self._edges[(door.id, beam)] == edge:  # else the beam truly changed meanwhile
            yield Said(at_s, door.id, {"beam": beam, "broken": level})

    # -- people --------------------------------------------------------------------------------------------------------

    def _next_arrival_s(self, at_s: float) -> float:
        return at_s + self._people_rng.expovariate(self.habits.arrivals_per_hour / 3600.0)

    def _arrive(self, at_s: float) -> Iterator[Happening]:
        self._plan(self._next_arrival_s(at_s), self._arrive)
        rng = self._customer()
        if self._inside >= PEOPLE_MAX:
            return
        door = rng.choice(self.doors) if self.doors else None
        at_door_s = at_s + APPROACH_S
        if door and rng.random() < self.habits.turn_back_share:
            self._walk_through(door, physics.walk(rng, rng.random() < 0.7, turns_back=True), at_door_s, rng)
            return
        tailgater_s = rng.uniform(0.45, 1.2) if rng.random() < self.habits.tailgate_share else None
        self._visit(door, at_door_s, rng)
        if tailgater_s is not None:
            self._visit(door, at_door_s + tailgater_s, self._customer())
        yield from ()

    def _customer(self) -> Random:
        """Return the random numbers of one more customer's way."""
        self._customers += 1
        return Random(f"{self.seed}/customer/{self._customers}/way")

    def _visit(self, door: Door | None, at_s: float, rng: Random) -> None:
        """Plan one customer's whole way: in, to some shelves, out by some door."""
        pace = self.habits.pace
        self._inside += 1
        hands, pockets = (Random(f"{self.seed}/customer/{self._customers}/{part}") for part in ("hands", "pockets"))
        x = 4.0 * self.doors.index(door) if door else 0.0
        route = [(at_s - APPROACH_S, x, -1.2 * APPROACH_S), (at_s, x, 0.0)]
        now_s = self._walk_through(door, physics.walk(rng, True), at_s, rng) if door else at_s
        for _ in range(rng.randint(0, self.habits.visits_max) if self.shelves else 0):
            number = rng.randrange(len(self.shelves))
            place = (2.5 * number + rng.uniform(-0.4, 0.4), 6.5)
            now_s += math.dist(route[-1][1:], place) / (1.0 * pace) + rng.uniform(0.0, 4.0) / pace
            route.append((now_s, *place))
            stay_s = rng.uniform(4.0, 12.0) / min(pace, 2.0)
            self._plan(now_s + 0.3 * stay_s, lambda t, n=number: self._reach(self.shelves[n], hands, t))  # type: ignore[misc]
            now_s += stay_s
            route.append((now_s, *place))
        way_out = rng.choice(self.doors) if self.doors else None
        x = 4.0 * self.doors.index(way_out) if way_out else 0.0
        now_s += math.dist(route[-1][1:], (x, 0.0)) / (1.0 * pace) + rng.uniform(1.0, 5.0) / pace
        route.append((now_s, x, 0.0))
        left_s = self._walk_through(way_out, physics.walk(rng, False), now_s, rng) if way_out else now_s
        route.append((left_s + 15.0 / pace, x, -25.0))
        self._equip(route, at_s, left_s, pockets)
        self._plan(left_s, self._leave)

    def _leave(self, at_s: float) -> Iterator[Happening]:
        self._inside -= 1
        yield from ()

    # -- shelves -------------------------------------------------------------------------------------------------------

    def _convert(self, shelf: Shelf, period_s: float, at_s: float) -> Iterator[Happening]:
        yield Said(at_s, shelf.id, {"counts": self._boards[shelf.id].cell.counts(at_s)})
        self._plan(at_s + period_s, lambda t: self._convert(shelf, period_s, t))

    def _reach(self, shelf: Shelf, rng: Random, at_s: float) -> Iterator[Happening]:
        """A customer takes something, and may put it back; nobody reaches into another's arms."""
        board = self._boards[shelf.id]
        goods = rng.choice(shelf.goods)
        if at_s < board.busy_until_s or rng.random() > self.habits.pick_share or not board.items[goods.sku]:
            return
        count = min(rng.choices((1, 2, 3), (0.7, 0.22, 0.08))[0], len(board.items[goods.sku]))
        board.cell.press(at_s, 0.35, rng.uniform(100.0, 500.0))
        board.busy_until_s = at_s + 6.0
        self._plan(at_s + 0.35, lambda t: self._take(board, goods, count, t))
        if rng.random() < self.habits.put_back_share:
            back_s = at_s + rng.uniform(5.0, 9.0)
            board.busy_until_s = back_s + 6.0
            self._plan(back_s, lambda t: self._put(board, goods, 1, t))
        yield from ()

    def _take(self, board: _Board, goods: Goods, count: int, at_s: float) -> Iterator[Happening]:
        if taken := board.take(at_s, goods, count):
            yield Truth(at_s, board.shelf.id, "picked", goods.sku, len(taken))
        if len(board.items[goods.sku]) <= goods.capacity // 5:
            self._plan(at_s + self.habits.restock_after_s, lambda t: self._restock(board, goods, t))

    def _put(self, board: _Board, goods: Goods, count: int, at_s: float) -> Iterator[Happening]:
        board.put(at_s, goods, [board.weigh(goods) for _ in range(count)])
        board.cell.press(at_s, 0.3, board.rng.uniform(100.0, 400.0))
        yield Truth(at_s, board.shelf.id, "placed", goods.sku, count)

    def _restock(self, board: _Board, goods: Goods, at_s: float) -> Iterator[Happening]:
        """Staff fill the shelf up, an armful of six every few seconds."""
        if at_s < board.busy_until_s:
            self._plan(board.busy_until_s + 0.1, lambda t: self._restock(board, goods, t))
        elif (room := goods.capacity - len(board.items[goods.sku])) > 0:
            board.busy_until_s = at_s + 4.0
            yield from self._put(board, goods, min(room, 6), at_s)
            self._plan(at_s + 4.1, lambda t: self._restock(board, goods, t))

    # -- radio ---------------------------------------------------------------------------------------------------------

    def _fix(self, tag: Tag, number: int) -> None:
        """A tag that stays: an Eddystone beacon that tells its telemetry now and then, or a RuuviTag."""
        rng = Random(f"{self.seed}/tag/{tag.value}")
        place = (0.0, rng.uniform(-4.0, 8.0), rng.uniform(2.0, 8.0))
        address = tag.value if tag.kind == "ruuvi" else physics.random_address(rng, 3)
        celsius = rng.uniform(3.0, 7.0)
        instance = next((str(part).lower() for part in tag.device if part is not None), f"{number + 1:012x}")
        altbeacon = tag.value.ljust(40, "0")
        identity = {
            "ruuvi": f"address:{address}",
            "altbeacon": f"altbeacon:{altbeacon}",
        }.get(tag.kind, f"eddystone:{tag.value}:{instance}")

        def payload(at_s: float, sent: int) -> bytes:
            warm = celsius + 0.5 * math.sin(at_s / 600.0)
            if tag.kind == "ruuvi":
                return physics.ruuvi(warm, 62.0, 2950, sent, address)
            if tag.kind == "altbeacon":
                return physics.altbeacon(altbeacon, -59)
            if sent % 10 == 9:
                return physics.eddystone_tlm(2890, warm, sent, at_s)
            return physics.eddystone_uid(tag.value, instance, -59)

        self._advertise(physics.Radio(address, 1.0, -59, [place], payload), rng, rng.uniform(0.0, 1.0))
        self._tell(Truth(0.0, tag.tag, "came", identity))

    def _equip(self, route: list[tuple[float, float, float]], entered_s: float, left_s: float, rng: Random) -> None:
        """Give a customer a phone, perhaps a loyalty tag, perhaps a cart from inside the door."""
        begin_s, end_s = route[0][0], route[-1][0]
        if rng.random() < self.habits.phone_share:
            said = physics.phone(rng)
            address = physics.random_address(rng, 1)
            phone = physics.Radio(address, rng.choice((0.3, 0.9, 1.3)), -62, route, lambda t, n: said, end_s)
            self._advertise(phone, rng, begin_s)
        if (loyal := self._tags.get("ibeacon")) and rng.random() < self.habits.tag_share:
            tag = rng.choice(loyal)
            numbers = (1, rng.randrange(65_536))
            major, minor = (
                int(n if rule is None else rule) for n, rule in zip(numbers, tag.device or (None, None), strict=True)
            )
            frame = physics.ibeacon(tag.value, major, minor, -59)
            carried = physics.Radio(physics.random_address(rng, 3), 0.5, -59, route, lambda t, n: frame, end_s)
            self._carry(tag, f"ibeacon:{tag.value}:{major}:{minor}", carried, entered_s, left_s, begin_s, rng)
        if self._carts and rng.random() < 0.3:
            tag = self._carts.pop(rng.randrange(len(self._carts)))
            frame = physics.name_only(tag.tag)
            cart = physics.Radio(
                tag.value, 0.7, -59, [p for p in route if p[0] >= entered_s], lambda t, n: frame, left_s
            )
            self._carry(tag, f"address:{tag.value}", cart, entered_s, left_s, entered_s, rng)
            self._plan(left_s + 60.0 / self.habits.pace, lambda t: self._return_cart(tag))

    def _return_cart(self, tag: Tag) -> Iterator[Happening]:
        self._carts.append(tag)
        yield from ()

    def _carry(
        self, tag: Tag, identity: str, radio: physics.Radio, came_s: float, went_s: float, begin_s: float, rng: Random
    ) -> None:
        self._advertise(radio, rng, begin_s)
        self._tell(Truth(came_s, tag.tag, "came", identity))
        self._tell(Truth(went_s, tag.tag, "went", identity))

    def _advertise(self, radio: physics.Radio, rng: Random, at_s: float) -> None:
        own = Random(f"{self.seed}/radio/{radio.address}/{rng.random()}")
        radio.paths = {scanner.id: physics.RadioPath(own) for scanner in self.scanners}
        self._plan(max(at_s, 0.0), lambda t: self._send(radio, own, t))

    def _send(self, radio: physics.Radio, rng: Random, at_s: float) -> Iterator[Happening]:
        """One packet to whichever scanner hears it; the next follows an interval and up to 10 ms later, as BLE asks."""
        if at_s > radio.until_s:
            return
        x, y = radio.place(at_s)
        payload = radio.payload(at_s, radio.sent)
        radio.sent += 1
        for number, scanner in enumerate(self.scanners):
            distance_m = math.dist((x, y), (2.0 + 6.0 * number, 3.5))
            rssi_dbm = radio.paths[scanner.id].rssi_dbm(at_s, distance_m, radio.measured_dbm)
            if rssi_dbm is not None:
                said = {
                    "address": radio.address,
                    "address_type": "random",
                    "rssi_dbm": rssi_dbm,
                    "payload": payload.hex(),
                }
                yield Said(at_s, scanner.id, said)
        self._plan(at_s + radio.interval_s + rng.uniform(0.0, 0.01), lambda t: self._send(radio, rng, t))
