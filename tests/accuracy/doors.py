"""Doorways with people in them: who breaks which beam when, and who truly went through.

A person is a trunk that moves at a speed that is nearly constant, and often two hands that swing ahead of and behind it
in opposite phase: a beam sees the union, at another phase of the swing than the other beam. Bodies of several people in
one beam are one blockage. Not modelled: legs (beams at hip height), height of beams, carts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from gateway.model import data_of
from gateway.sensors.door.kind import KIND
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BeamName, DoorSettings
from gateway.sensors.kind import Sensor
from tests.accuracy.labelled import Measures, at, interpret
from tests.accuracy.worlds import Walking, World

STEP_S = 0.004
MATCH_S = 1.0


@dataclass(frozen=True, slots=True)
class Body:
    """One person. `turn_m` is how deep the front comes before turning back (None: goes through).

    `pushed_m` is the length of what is pushed or held ahead, `pushed_gap_m` the gap between that and the trunk.
    """

    inward: bool
    speed_mps: float
    trunk_m: float
    hand_m: float = 0.0
    swing_m: float = 0.0
    stride_hz: float = 0.9
    phase: float = 0.0
    turn_m: float | None = None
    stays_s: float = 0.0
    pushed_m: float = 0.0
    pushed_gap_m: float = 0.0

    def spans(self, t_s: float) -> Iterator[tuple[float, float]]:
        """Yield what the body covers along its way at `t_s`; its trunk's front is at 0 when t is 0."""
        front_m = self.front(t_s)
        yield front_m - self.trunk_m, front_m
        if self.pushed_m:
            behind_m = front_m + self.pushed_gap_m
            yield behind_m, behind_m + self.pushed_m
        if self.swing_m:
            middle_m = front_m - self.trunk_m / 2
            for side in (0.0, math.pi):
                hand_m = middle_m + self.swing_m * math.sin(2 * math.pi * self.stride_hz * t_s + self.phase + side)
                yield hand_m - self.hand_m / 2, hand_m + self.hand_m / 2

    def front(self, t_s: float) -> float:
        if self.turn_m is None:
            return self.speed_mps * t_s
        turns_s = self.turn_m / self.speed_mps
        if t_s <= turns_s:
            return self.speed_mps * t_s
        return self.turn_m - self.speed_mps * max(0.0, t_s - turns_s - self.stays_s)

    def occlusions(self, place_m: float) -> list[tuple[float, float]]:
        """Return when a beam at `place_m` along this body's way is covered: (from, until), in seconds."""
        reach_m = self.trunk_m + self.swing_m + self.hand_m
        begin_s = (place_m - reach_m - self.pushed_m - self.pushed_gap_m) / self.speed_mps - 0.2
        end_s = (place_m + 2 * reach_m) / self.speed_mps + 0.2
        if self.turn_m is not None:
            end_s += 2 * self.turn_m / self.speed_mps + self.stays_s
        found: list[tuple[float, float]] = []
        began_s: float | None = None
        for n in range(int((end_s - begin_s) / STEP_S) + 2):
            t_s = begin_s + n * STEP_S
            covered = any(low <= place_m <= high for low, high in self.spans(t_s))
            if covered and began_s is None:
                began_s = t_s
            elif not covered and began_s is not None:
                found.append((began_s, t_s))
                began_s = None
        return found


@dataclass(slots=True)
class Doorway:
    """Collects people; gives the beams' changes and the truth."""

    walking: Walking
    gap_m: float
    rng: Random
    single: bool = False
    people: list[tuple[float, Body]] = field(default_factory=list)

    def enters(self, t_s: float, body: Body) -> None:
        self.people.append((t_s, body))

    def readings(self) -> list[BeamChanged]:
        events: list[tuple[float, BeamName, int]] = []
        beams: tuple[BeamName, ...] = ("only",) if self.single else ("outer", "inner")
        for t_s, body in self.people:
            for beam in beams:
                is_first = beam == "only" or (beam == "outer") == body.inward
                for begin_s, end_s in body.occlusions(0.0 if is_first else self.gap_m):
                    events += [(t_s + begin_s, beam, 1), (t_s + end_s, beam, -1)]
        changes: list[tuple[float, BeamName, bool]] = []
        inside = dict.fromkeys(beams, 0)
        for t_s, beam, by in sorted(events):
            before, inside[beam] = inside[beam], inside[beam] + by
            if (before > 0) != (inside[beam] > 0):
                changes += self._edge(t_s, beam, inside[beam] > 0)
        changes.sort(key=lambda change: change[0])
        return [BeamChanged("door", at(t_s + 10.0), beam, broken) for t_s, beam, broken in changes]

    def _edge(self, t_s: float, beam: BeamName, broken: bool) -> Iterator[tuple[float, BeamName, bool]]:
        t_s += self.rng.uniform(0.0, self.walking.latency_s)
        yield t_s, beam, broken
        if self.rng.random() < self.walking.chatter_share:
            for _ in range(self.rng.randint(1, 3)):
                t_s += self.rng.uniform(0.0001, 0.0008)
                yield t_s, beam, not broken
                t_s += self.rng.uniform(0.0001, 0.0008)
                yield t_s, beam, broken

    def truth(self) -> list[tuple[float, str]]:
        """Return (when the trunk cleared the last beam, direction) of all who went through."""
        gap_m = 0.0 if self.single else self.gap_m
        return sorted(
            (10.0 + t_s + (gap_m + body.trunk_m) / body.speed_mps, "in" if body.inward else "out")
            for t_s, body in self.people
            if body.turn_m is None
        )


def draw(rng: Random, walking: Walking, inward: bool, *, arms_share: float | None = None) -> Body:
    """Draw one person."""
    swings = rng.random() < (walking.arms_share if arms_share is None else arms_share)
    speed_mps = min(2.4, max(0.35, walking.speed_mps * math.exp(rng.gauss(0.0, walking.speed_sigma))))
    return Body(
        inward=inward,
        speed_mps=speed_mps,
        trunk_m=rng.uniform(*walking.trunk_m),
        hand_m=rng.uniform(*walking.hand_m),
        swing_m=rng.uniform(*walking.swing_m) * min(1.0, speed_mps / 1.0) if swings else 0.0,
        stride_hz=rng.uniform(*walking.stride_hz),
        phase=rng.uniform(0.0, 2 * math.pi),
    )


Scene = Callable[[Random, Walking, int], Doorway]


def _one_by_one(
    rng: Random, walking: Walking, count: int, *, gap_m: float | None = None, arms_share: float | None = None
) -> Doorway:
    """Everybody leaves the doorway before the next one comes, 0.6 s later at the earliest, 4 s in the middle."""
    door = Doorway(walking, walking.gap_m if gap_m is None else gap_m, rng)
    t_s = 0.0
    for _ in range(count):
        body = draw(rng, walking, rng.random() < 0.5, arms_share=arms_share)
        door.enters(t_s, body)
        t_s += (door.gap_m + body.trunk_m + 2 * body.swing_m) / body.speed_mps + 0.6 + rng.expovariate(1 / 3.4)
    return door


def _turn_backs(rng: Random, walking: Walking, count: int) -> Doorway:
    door = _one_by_one(rng, walking, count)
    for n, (t_s, body) in enumerate(door.people):
        if rng.random() < 0.1:
            depth_m = rng.choice((0.6 * door.gap_m, 0.12, 0.2))
            stays_s = rng.uniform(0.1, 0.8)
            turned = Body(body.inward, body.speed_mps, body.trunk_m, turn_m=depth_m, stays_s=stays_s)
            door.people[n] = (t_s, turned)
    spread: list[tuple[float, Body]] = []
    late_s = 0.0
    for t_s, body in door.people:
        spread.append((t_s + late_s, body))
        late_s += 1.0 if body.turn_m is not None else 0.0
    door.people = spread
    return door


def _pairs(rng: Random, walking: Walking, count: int) -> Doorway:
    """One in ten is accompanied: side by side, up to 0.15 s behind."""
    door = _one_by_one(rng, walking, count)
    for t_s, body in list(door.people):
        if rng.random() < 0.1:
            beside = draw(rng, walking, body.inward, arms_share=0.0)
            pace = Body(body.inward, body.speed_mps, beside.trunk_m)
            door.enters(t_s + rng.uniform(0.0, 0.15), pace)
    return door


def _queue(rng: Random, walking: Walking, count: int) -> Doorway:
    """People behind one another, one way: a clear gap of 0.2 m and more between trunks, at nearly one speed."""
    door = Doorway(walking, walking.gap_m, rng)
    t_s = 0.0
    while len(door.people) < count:
        inward, speed_mps = rng.random() < 0.5, rng.uniform(0.6, 1.3)
        for _ in range(rng.randint(3, 10)):
            body = draw(rng, walking, inward, arms_share=0.15)
            own = Body(
                inward, speed_mps * rng.uniform(0.95, 1.05), body.trunk_m, body.hand_m, body.swing_m * 0.4,
                body.stride_hz, body.phase,
            )  # fmt: skip
            door.enters(t_s, own)
            t_s += (body.trunk_m + 0.2 + rng.expovariate(1 / 0.35)) / speed_mps
        t_s += 4.0
    return door


def _two_way(rng: Random, walking: Walking, count: int) -> Doorway:
    """Dense and both ways at once: 0.25 s and more after one another whatever the direction; many overlap."""
    door = Doorway(walking, walking.gap_m, rng)
    t_s = 0.0
    for _ in range(count):
        door.enters(t_s, draw(rng, walking, rng.random() < 0.5, arms_share=0.2))
        t_s += 0.25 + rng.expovariate(1 / 0.8)
    return door


def _slow(rng: Random, walking: Walking, count: int) -> Doorway:
    """The old, the hesitating, those with a pram: a third of the speed."""
    door = Doorway(walking, walking.gap_m, rng)
    t_s = 0.0
    for _ in range(count):
        drawn = draw(rng, walking, rng.random() < 0.5, arms_share=0.1)
        body = Body(drawn.inward, max(0.2, drawn.speed_mps / 3), drawn.trunk_m, drawn.hand_m, drawn.swing_m / 2,
                    drawn.stride_hz / 2, drawn.phase)  # fmt: skip
        door.enters(t_s, body)
        t_s += (door.gap_m + 2 * body.trunk_m) / body.speed_mps + 1.0 + rng.expovariate(1 / 3.0)
    return door


def _families(rng: Random, walking: Walking, count: int) -> Doorway:
    """Behind every third adult a child, half as deep or less, at the same pace and 0.25 to 0.6 m behind."""
    door = _one_by_one(rng, walking, count, arms_share=0.2)
    late_s, spread = 0.0, []
    for t_s, body in door.people:
        spread.append((t_s + late_s, body))
        if rng.random() < 1 / 3:
            behind_m = body.trunk_m + rng.uniform(0.25, 0.6)
            child = Body(body.inward, body.speed_mps, rng.uniform(0.12, 0.18))
            spread.append((t_s + late_s + behind_m / body.speed_mps, child))
            late_s += (behind_m + 0.2) / body.speed_mps
    door.people = spread
    return door


def _held_ahead(rng: Random, walking: Walking, count: int) -> Doorway:
    """Half of them hold something ahead: a telephone, a basket, a hand at the door, 5 to 25 cm from the trunk."""
    door = _one_by_one(rng, walking, count, arms_share=0.3)
    for n, (t_s, body) in enumerate(door.people):
        if rng.random() < 0.5:
            held_m, gap_m = rng.uniform(0.04, 0.15), rng.uniform(0.05, 0.25)
            held = Body(body.inward, body.speed_mps * 0.9, body.trunk_m, pushed_m=held_m, pushed_gap_m=gap_m)
            door.people[n] = (t_s, held)
    return door


def _trolleys(rng: Random, walking: Walking, count: int) -> Doorway:
    """One in five pushes a trolley: a basket of 0.75 to 0.95 m at the beams' height, a gap of 10 to 30 cm, a trunk."""
    door = _one_by_one(rng, walking, count, arms_share=0.2)
    late_s, spread = 0.0, []
    for t_s, body in door.people:
        if rng.random() < 0.2:
            pushed_m, gap_m = rng.uniform(0.75, 0.95), rng.uniform(0.1, 0.3)
            late_s += (pushed_m + gap_m) / body.speed_mps
            body = Body(body.inward, 0.8 * body.speed_mps, body.trunk_m, pushed_m=pushed_m, pushed_gap_m=gap_m)
        spread.append((t_s + late_s, body))
    door.people = spread
    return door


def _single_beam(rng: Random, walking: Walking, count: int) -> Doorway:
    door = _one_by_one(rng, walking, count)
    door.single = True
    return door


SCENES: dict[str, Scene] = {
    "single file": _one_by_one,
    "single file, all arms swing": lambda rng, w, n: _one_by_one(rng, w, n, arms_share=1.0),
    "turn-backs, 1 in 10": _turn_backs,
    "queues": _queue,
    "beams apart": lambda rng, w, n: _one_by_one(rng, w, n, gap_m=w.apart_m),
    "slow": _slow,
    "families, every third with a child": _families,
    "something held ahead, every second": _held_ahead,
    "trolleys, 1 in 5": _trolleys,
    "pairs side by side, 1 in 10": _pairs,
    "dense two-way": _two_way,
    "one beam, single file": _single_beam,
}


def measure(scene: str, world: World, seed: int, count: int) -> Measures:
    """Count one seed of a scene. `right` are passages told once, in their direction, within a second."""
    rng = Random(f"{world.name}/{scene}/{seed}")
    door = SCENES[scene](rng, world.walking, count)
    settings = DoorSettings("door", beam_pin=4) if door.single else DoorSettings("door", outer_pin=4, inner_pin=5)
    truth = [(t_s, "unknown" if door.single else way) for t_s, way in door.truth()]
    told = [
        (decided.event.at.boot_ns / 1e9, str(data_of(decided.event.fact)["direction"]))
        for decided in interpret([Sensor(KIND, settings)], door.readings())
        if decided.event.fact.type == "store.door.passed"
    ]
    return {
        "right": _matched(truth, told) / len(truth),
        "bias": len(told) / len(truth) - 1,
        "absolute error": sum(
            abs(sum(w == way for _, w in told) - sum(w == way for _, w in truth)) for way in ("in", "out", "unknown")
        )
        / len(truth),
        "told wrongly": 1 - _matched(truth, told) / max(1, len(told)),
    }


def _matched(truth: list[tuple[float, str]], told: list[tuple[float, str]]) -> int:
    matched, free = 0, sorted(told)
    for t_s, way in truth:
        near = [found for found in free if found[1] == way and abs(found[0] - t_s) <= MATCH_S]
        if near:
            free.remove(min(near, key=lambda found: abs(found[0] - t_s)))
            matched += 1
    return matched
