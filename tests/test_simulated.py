"""The simulated shop: physics that holds, truth that is told, and drivers that nothing can tell from hardware."""

from __future__ import annotations

import heapq
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway import simulated
from gateway.config import loads
from gateway.model import NS_PER_S, Instant, Reading
from gateway.recordings.recording import BadLine, ReadingLine, Recording
from gateway.sensors import kinds
from gateway.sensors.kind import Context, Faults
from gateway.sensors.simulation import Door, Goods, Habits, Said, Scanner, Shelf, Tag, Truth
from gateway.simulated import physics
from gateway.simulated.shop import Shop

GOLDEN = Path(__file__).parent.parent / "hardware" / "recordings" / "simulated-morning.jsonl"
GOODS = Goods("4006381333931", 330.0, 24, 2.0)
TAGS = (
    Tag("loyalty", "ibeacon", simulated.LOYALTY_UUID),
    Tag("fridge", "eddystone", simulated.FRIDGE_NAMESPACE),
    Tag("cart-12", "address", "c4:64:e3:00:00:01"),
    Tag("cold-room", "ruuvi", "c4:64:e3:00:00:02"),
    Tag("pallet", "altbeacon", "d3162f5af3ee494799db09756062d0fc"),
)


def shop(seed: int = 1, doors: int = 1, scanners: int = 1, **habits: Any) -> Shop:
    return Shop(
        seed,
        [Door(f"door-{number}") for number in range(doors)],
        [Shelf("aisle-3", (GOODS,))],
        [Scanner(f"ble-{number}", TAGS) for number in range(scanners)],
        Habits(**{"arrivals_per_hour": 300.0, "pace": 3.0, **habits}),
    )


def first_seconds(of: Shop, until_s: float) -> list[Said | Truth]:
    return list(itertools.takewhile(lambda happening: happening.t_s <= until_s, of.happenings()))


def test_equal_seeds_give_equal_shops_and_others_do_not() -> None:
    assert first_seconds(shop(7), 120) == first_seconds(shop(7), 120)
    assert first_seconds(shop(7), 120) != first_seconds(shop(8), 120)


def test_time_only_ascends() -> None:
    happenings = first_seconds(shop(3, doors=2, scanners=2), 300)
    assert happenings[0].t_s >= 0
    assert all(before.t_s <= after.t_s for before, after in itertools.pairwise(happenings))


def test_one_more_scanner_changes_nothing_at_doors_and_shelves() -> None:
    def without_radio(happenings: list[Said | Truth]) -> list[Said | Truth]:
        return [
            one
            for one in happenings
            if (one.subject if isinstance(one, Truth) else one.sensor) in ("door-0", "aisle-3")
        ]

    assert without_radio(first_seconds(shop(5), 300)) == without_radio(first_seconds(shop(5, scanners=0), 300))


def test_body_inward_breaks_outer_first_and_clears_it_first() -> None:
    body = physics.Walk(inward=True, speed_mps=1.2, torso_m=0.25)
    (outer,), (inner,) = physics.occlusions(body, "outer"), physics.occlusions(body, "inner")
    assert outer[0] < inner[0] < outer[1] < inner[1]
    assert physics.occlusions(physics.Walk(False, 1.2, 0.25), "inner") == [outer]


def test_who_turns_back_clears_first_what_was_broken_last() -> None:
    body = physics.Walk(inward=True, speed_mps=1.0, torso_m=0.25, turn_back_m=0.15)
    (outer,), (inner,) = physics.occlusions(body, "outer"), physics.occlusions(body, "inner")
    assert outer[0] < inner[0] < inner[1] < outer[1]
    assert physics.occlusions(physics.Walk(True, 1.0, 0.25, turn_back_m=0.04), "inner") == []


def test_beams_end_as_they_began_and_chatter_never_leaves_a_wrong_level() -> None:
    of = shop(11, arrivals_per_hour=900.0, tailgate_share=0.5)
    level, bodies = dict[str, bool](), 0
    for happening in first_seconds(of, 900):
        if isinstance(happening, Said) and "beam" in happening.values:
            level[happening.values["beam"]] = happening.values["broken"]
            bodies = sum(of._bodies.values())
            if not bodies:
                settled = happening.t_s
    assert bodies > 0 or level == {"outer": False, "inner": False}, settled


def test_output_that_still_chatters_when_the_beam_changes_ends_at_the_true_level() -> None:
    door = Door("d")
    for seed in range(40):
        of, rng, said = Shop(1, [door]), Random(seed), list[Any]()
        said += of._edge(door, "outer", rng, +1, 0.0)
        said += of._edge(door, "outer", rng, -1, 0.00005)
        while of._agenda:
            at_s, _, action = heapq.heappop(of._agenda)
            said += action(at_s)
        assert [one.values["broken"] for one in said][-1] is False


def test_load_settles_to_what_lies_on_the_shelf() -> None:
    cell = physics.LoadCell(Random(1), offset_counts=84_213, counts_per_gram=21.5)
    cell.spike_share = cell.drift_grams = 0.0
    cell.load(10.0, 330.0)
    assert cell.grams(9.9) == 0.0
    assert abs(cell.grams(10.05) - 330.0) > 30.0  # it rings
    assert cell.grams(12.0) == pytest.approx(330.0, abs=0.1)
    counts = [cell.counts(12.0 + number / 10) for number in range(100)]
    assert sum(counts) / 100 == pytest.approx(84_213 + 330 * 21.5, abs=10)


def test_counts_saturate_at_24_bits() -> None:
    cell = physics.LoadCell(Random(1), offset_counts=9e6, counts_per_gram=21.5)
    cell.spike_share = 0.0
    assert cell.counts(0.0) == 2**23 - 1


def test_signal_fades_with_distance_and_is_lost_far_away() -> None:
    air = {m: physics.RadioPath(Random(4)) for m in (1.0, 4.0, 900.0)}
    heard = {m: [path.rssi_dbm(n * 0.5, m, -59) for n in range(400)] for m, path in air.items()}
    near, far = (
        [rssi for rssi in heard[m] if rssi is not None and rssi != physics.NOT_AVAILABLE_DBM] for m in (1.0, 4.0)
    )
    assert sum(near) / len(near) > sum(far) / len(far) + 10  # 13.8 dB by the path loss
    assert heard[900.0] == [None] * 400


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            physics.ibeacon("e2c56db5-dffb-48d2-b060-d0f5a71096e0", 100, 0, -59),
            "0201061aff4c000215e2c56db5dffb48d2b060d0f5a71096e000640000c5",
        ),
        (
            physics.eddystone_tlm(2840, 19.0, 5223, 1094.8),
            "0201060303aafe1116aafe20000b1813000000146700002ac4",
        ),
    ],
)
def test_frames_are_those_of_the_specifications(payload: bytes, expected: str) -> None:
    assert payload.hex() == expected
    assert len(payload) <= 31


def configured(extra: str = "") -> Any:
    return loads(simulated.configuration_text("mqtt://127.0.0.1:1883", "/nowhere") + extra)


def test_configuration_of_the_demonstration_is_valid_and_its_sensors_are_the_demo_shop() -> None:
    configuration = configured()
    assert configuration.site.store == "0042"
    assert [sensor.id for sensor in configuration.sensors] == ["entrance", "aisle-3", "ble"]
    of = simulated.shop_of(configuration.sensors, 3)
    assert (of.doors, of.shelves, of.scanners) == (
        simulated.DEMO_DOORS,
        simulated.DEMO_SHELVES,
        simulated.DEMO_SCANNERS,
    )


def interpreted(of: Shop, configuration: Any, until_s: float) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Run a shop through the configured interpreters: events by type, passages and items by kind; truth alike."""
    interpreters = {
        one.id: one.kind.interpreter(one.settings, Context(Faults(one.id), ZoneInfo("UTC")))
        for one in configuration.sensors
    }
    known = {one.id: one.kind for one in configuration.sensors}
    seen, types, truth = Counter[str](), Counter[str](), Counter[str]()

    def count(events: Iterator[Any]) -> None:
        for event in events:
            types[event.fact.type] += 1
            if event.fact.type == "store.door.passed":
                seen[f"passed_{event.fact.direction}"] += 1
            elif event.fact.type in ("store.shelf.picked", "store.shelf.placed"):
                seen[event.fact.type.rpartition(".")[2]] += event.fact.count

    for happening in first_seconds(of, until_s):
        if isinstance(happening, Truth):
            truth[happening.what] += happening.count
            continue
        at = Instant(round(happening.t_s * NS_PER_S), round(happening.t_s * NS_PER_S))
        for interpreter in interpreters.values():
            while (due_ns := interpreter.due_ns()) is not None and due_ns <= at.boot_ns:
                count(interpreter.tick(at.later(due_ns - at.boot_ns)))
        sensor = happening.sensor
        count(interpreters[sensor].read(known[sensor].reading_of(sensor, at, happening.values)))
    return seen, truth, types


def test_door_sees_the_people_who_walk_through_it() -> None:
    configuration = configured()
    for seed in (1, 2):
        of = simulated.demo_shop(seed, Habits(arrivals_per_hour=120.0, tailgate_share=0.0))
        seen, truth, _ = interpreted(of, configuration, 1800)
        assert truth["passed_in"] > 35
        for way in ("passed_in", "passed_out"):
            assert seen[way] == pytest.approx(truth[way], rel=0.05), seed


def test_shelf_and_scanner_see_what_was_taken_and_who_came() -> None:
    seen, truth, types = interpreted(simulated.demo_shop(3, Habits(arrivals_per_hour=150.0)), configured(), 1800)
    assert truth["picked"] > 40
    assert seen["picked"] == pytest.approx(truth["picked"], rel=0.05)
    assert seen["placed"] == pytest.approx(truth["placed"], rel=0.05)
    assert types["store.beacon.arrived"] == pytest.approx(truth["came"], rel=0.1)
    assert types["store.shelf.changed"] <= 2


def test_shop_without_any_sensor_is_quiet() -> None:
    assert not list(Shop(1).happenings())
    assert not simulated.drivers(loads('[site]\nstore = "0042"\n'), Clock())


def test_single_beam_door_has_only_that_beam() -> None:
    single = loads('[site]\nstore = "0042"\n[[door]]\nid = "back"\nbeam_pin = 4\n')
    of = simulated.shop_of(single.sensors, 1)
    said = [one for one in first_seconds(of, 60) if isinstance(one, Said)]
    assert {one.values["beam"] for one in said} == {"only"}


def test_tag_rules_for_one_device_carry_that_device() -> None:
    rules = """tags = [
      { tag = "one", ibeacon = { uuid = "F7826DA64FA24E988024BC5B71E0893E", major = 7, minor = 9 } },
      { tag = "two", eddystone = { namespace = "EDD1EBEAC04E5DEFA017", instance = "0123456789ab" } },
      { tag = "three", altbeacon = { id = "d3162f5af3ee494799db09756062d0fc005a0005" } },
      { tag = "four", address = "C4:64:E3:00:00:02", telemetry = true },
    ]"""
    configuration = loads(f'[site]\nstore = "0042"\n[[scanner]]\nid = "ble"\n{rules}\n')
    of = simulated.shop_of(configuration.sensors, 1, Habits(arrivals_per_hour=900.0))
    came = {one.subject: one.name for one in first_seconds(of, 120) if isinstance(one, Truth) and one.what == "came"}
    assert came == {
        "one": f"ibeacon:{simulated.LOYALTY_UUID}:7:9",
        "two": "eddystone:edd1ebeac04e5defa017:0123456789ab",
        "three": "altbeacon:d3162f5af3ee494799db09756062d0fc005a0005",
        "four": "address:c4:64:e3:00:00:02",
    }


def test_no_tag_of_the_truth_is_invented_and_strangers_stay_unnamed() -> None:
    happenings = first_seconds(shop(2), 600)
    came = Counter(one.subject for one in happenings if isinstance(one, Truth) and one.what == "came")
    assert came["fridge"] == came["cold-room"] == came["pallet"] == 1
    assert came["loyalty"] > 5
    assert came["cart-12"] >= 1
    payloads = {one.values["payload"] for one in happenings if isinstance(one, Said) and "payload" in one.values}
    assert any(payload.startswith("02011a020a0c") for payload in payloads)  # somebody's phone
    assert all(len(payload) <= 62 for payload in payloads)


class Clock:
    """A clock that stands where it is put."""

    bootid = "0badc0de"

    def __init__(self) -> None:
        self.at = Instant(1_000 * NS_PER_S, 5_000 * NS_PER_S)

    def now(self) -> Instant:
        return self.at


class Opened:
    """Simulated hardware whose thread never turns: the test feeds it."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock()
        self.readings: list[Reading] = []
        self.truth: list[Truth] = []
        configuration = configured()
        self.hardware = simulated.SimulatedHardware(
            configuration.sensors, self.clock, seed, simulated.LIVELY, self.truth.append
        )
        self.hardware.opened = lambda driver: self.hardware.listen(driver)  # type: ignore[method-assign]
        self.drivers = {sensor.id: self.hardware.driver(sensor.id) for sensor in configuration.sensors}
        for driver in self.drivers.values():
            driver.start(self.readings.append)

    def pass_(self, seconds: float) -> None:
        self.clock.at = self.clock.at.later(int(seconds * NS_PER_S))
        self.hardware.feed(self.clock.at)


def test_readings_carry_the_moment_at_which_they_happened() -> None:
    opened = Opened()
    opened.hardware.feed(opened.clock.at)
    for _ in range(60):
        opened.pass_(1.0)
    begun_ns = 1_000 * NS_PER_S
    expected = [
        begun_ns + int(one.t_s * NS_PER_S) for one in first_seconds(simulated.demo_shop(1), 60) if isinstance(one, Said)
    ]
    assert [reading.at.boot_ns for reading in opened.readings] == expected
    assert {reading.at.offset_ns for reading in opened.readings} == {4_000 * NS_PER_S}
    assert {reading.sensor for reading in opened.readings} == {"entrance", "aisle-3", "ble"}
    assert opened.truth


def test_suspended_machine_is_no_flood_of_readings() -> None:
    opened = Opened()
    opened.hardware.feed(opened.clock.at)
    opened.pass_(1.0)
    opened.readings.clear()
    opened.pass_(3_600.0)
    assert len(opened.readings) < 100
    opened.pass_(1.0)
    assert opened.readings[-1].at.boot_ns >= opened.clock.at.boot_ns - NS_PER_S


def test_closed_driver_says_nothing_more() -> None:
    opened = Opened()
    opened.drivers["ble"].close()
    opened.hardware.feed(opened.clock.at)
    for _ in range(20):
        opened.pass_(1.0)
    assert {reading.sensor for reading in opened.readings} == {"entrance", "aisle-3"}


def test_thread_begins_with_the_first_driver_and_ends_with_the_last() -> None:
    from gateway.machine.clock import SystemClock

    clock, heard = SystemClock(), threading.Event()
    drivers = simulated.drivers(configured(), clock, seed=1)
    for driver in drivers.values():
        driver.start(lambda reading: heard.set())
    assert heard.wait(5.0)
    assert any(thread.name == "simulated-shop" for thread in threading.enumerate())
    assert next(iter(drivers.values())).progress_ns() is not None
    for driver in drivers.values():
        driver.close()
    assert not any(thread.name == "simulated-shop" for thread in threading.enumerate())


def test_recording_of_a_seed_is_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "shop.jsonl"
    path.write_text("".join(simulated.recording(simulated.demo_shop(4), 30)))
    lines = list(Recording(path).lines())
    assert not [line for line in lines if isinstance(line, BadLine)]
    by_sensor = Counter(line.sensor for line in lines if isinstance(line, ReadingLine))
    assert set(by_sensor) == {"entrance", "aisle-3", "ble"}
    by_table = {kind.table: kind for kind in kinds()}
    for line in lines:
        assert isinstance(line, ReadingLine)
        kind = by_table[{"entrance": "door", "aisle-3": "shelf", "ble": "scanner"}[line.sensor]]
        reading = kind.reading_of(line.sensor, Instant(line.t_ns, line.t_ns), line.values)
        said = {key: value for key, value in line.values.items() if key not in ("t", "sensor")}
        assert kind.line_of(reading) == said or said.get("rssi_dbm") == physics.NOT_AVAILABLE_DBM


def test_golden_recording_is_what_its_note_says() -> None:
    header = json.loads(GOLDEN.read_text().partition("\n")[0])
    again = "".join(simulated.recording(simulated.demo_shop(42), 100, note=header["note"]))
    assert GOLDEN.read_text() == again
    assert GOLDEN.stat().st_size < 300_000
