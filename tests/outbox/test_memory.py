"""What is kept over restarts beside the events: each part within its bound, all of them within the state's slot."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gateway.config
from gateway.config import load, loads
from gateway.engine.assembly import forget_strangers, rememberer
from gateway.errors import ConfigurationError
from gateway.model import STREAMS
from gateway.outbox.memory import (
    ANCHORS_MAX,
    MEMORY_BYTES_MAX,
    SENSORS_BYTES_MAX,
    LinkMemory,
    Memory,
    known_bytes,
    sensors_bytes,
)
from gateway.outbox.state import INTERVALS_MAX, SLOT_BYTES, SavedState, StreamState, decode_state, encode_state
from gateway.sensors import kinds
from gateway.sensors.door.facts import DoorPassed
from gateway.sensors.door.kind import KIND as DOOR
from gateway.uplink.fallback import ProtocolChoice
from tests.outbox.conftest import Bench

LONGEST = 64
TOTALS = {"direction": "in", "in_total": 10**12 - 1, "out_total": 10**12 - 1, "unknown_total": 10**12 - 1}


def shop_of(doors: int, length: int = LONGEST) -> str:
    ids = [f"{number:03}".ljust(length, "x") for number in range(doors)]
    return '[site]\nstore = "s1"\n' + "".join(
        f'[[door]]\nid = "{name}"\nbeam_pin = {pin}\n' for pin, name in enumerate(ids)
    )


def full() -> Memory:
    """Everything at its bound: a door on each pin, with the longest names and totals of a thousand years."""
    known = DOOR.remember({}, DoorPassed.type, TOTALS)
    memory = Memory({"door": {f"{number:03}".ljust(LONGEST, "x"): known for number in range(28)}})
    memory.streams["gateway"] = {"creation_told": True, "bootid": "b" * 36}
    for number in range(ANCHORS_MAX):
        memory.anchor(f"{number:036}", -(2**53) + 1)
    memory.shutdown = "unclean"
    memory.link = LinkMemory("f" * 16, False, -(2**53) + 1)
    return memory


def test_a_door_on_every_pin_with_the_longest_name_fits_with_room_to_spare() -> None:
    configuration = loads(shop_of(28))
    taken = sensors_bytes(
        (sensor.kind.stream, sensor.id, sensor.kind.remembered_bytes_max) for sensor in configuration.sensors
    )
    memory = full()
    assert len(json.dumps({"door": memory.streams["door"]}, separators=(",", ":"))) <= taken < SENSORS_BYTES_MAX - 900
    assert known_bytes(memory.streams["door"]["000".ljust(LONGEST, "x")]) == DOOR.remembered_bytes_max
    assert Memory.of(json.loads(memory.text())) == memory


def test_all_parts_at_their_bounds_fit_the_memory_and_the_memory_sealed_fits_a_slot() -> None:
    memory = full()
    fixed = len(memory.text()) - len(json.dumps(memory.streams["door"], separators=(",", ":")))
    assert fixed + SENSORS_BYTES_MAX <= MEMORY_BYTES_MAX
    sealed = {"_e": "x" * (4 * (MEMORY_BYTES_MAX + 28) // 3 + 4)}
    runs = tuple((1_000_020 + 20 * n, 1_000_029 + 20 * n) for n in range(INTERVALS_MAX))
    streams = dict.fromkeys(STREAMS, StreamState(1_002_000, 999_999, runs))
    text = encode_state(SavedState(1, "0badcafe", 1, True, streams, sealed))
    assert len(text) <= SLOT_BYTES
    saved = decode_state(text)
    assert saved is not None
    assert saved.streams[STREAMS[0]].acked == runs


@pytest.mark.parametrize(("known_max", "fits"), [(114, True), (115, False)])
def test_sensors_that_keep_too_much_are_refused_with_a_sentence(
    known_max: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hungry = replace(DOOR, remembered_bytes_max=known_max)
    monkeypatch.setattr(gateway.config, "kinds", lambda: tuple(hungry if one is DOOR else one for one in kinds()))
    text = shop_of(28)
    needed = sensors_bytes(("door", "x" * LONGEST, known_max) for _ in range(28))
    assert (needed <= SENSORS_BYTES_MAX) is fits
    if fits:
        assert len(loads(text).sensors) == 28
        return
    with pytest.raises(ConfigurationError) as refused:
        loads(text)
    assert f"takes {needed} bytes; allowed is at most {SENSORS_BYTES_MAX} bytes" in str(refused.value)
    assert "Shorten the ids" in str(refused.value)


def test_the_longest_address_of_a_broker_takes_no_more_room_than_the_shortest(bench: Bench, tmp_path: Path) -> None:
    url = "ws://broker.example.com/" + "x" * 4100
    path = tmp_path / "gateway.toml"
    path.write_text(f'[site]\nstore = "s1"\n[broker]\nurl = "{url}"\n')
    assert load((path,)).broker.url == url
    choice = ProtocolChoice("auto", url, bench.outbox.memory, bench.outbox.save_soon)
    choice.up("5", 0)
    bench.outbox.memory.streams["door"] = full().streams["door"]
    bench.outbox.save_soon()
    bench.pass_time(1)
    bench.disk.power_cut()
    bench.open()
    assert bench.outbox.memory.link.spoke_5
    assert url not in bench.outbox.memory.text()


def test_a_kind_that_remembers_more_than_it_said_keeps_what_it_knew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    greedy = replace(DOOR, remembered_bytes_max=DOOR.remembered_bytes_max - 1)
    monkeypatch.setattr(gateway.config, "kinds", lambda: (greedy,))
    remember = rememberer(loads(shop_of(1)))
    name = "000".ljust(LONGEST, "x")
    fits: dict[str, Any] = {**TOTALS, "in_total": 10**11 - 1}
    known = remember(name, {}, DoorPassed.type, fits)
    assert known["in_total"] == 10**11 - 1
    with caplog.at_level(logging.ERROR):
        assert remember(name, known, DoorPassed.type, TOTALS) is known
    assert "remembers more than it may" in caplog.text


def test_sensors_that_are_gone_are_forgotten_the_oldest_first_once_there_is_no_room(bench: Bench) -> None:
    configuration = loads(shop_of(14))
    known = DOOR.remember({}, DoorPassed.type, TOTALS)
    here = {sensor.id: known for sensor in configuration.sensors}
    gone = {f"gone-{number:02}".ljust(LONGEST, "x"): known for number in range(30)}
    bench.outbox.memory.streams["door"] = {**gone, **here}
    forget_strangers(bench.outbox, configuration)
    kept = bench.outbox.memory.streams["door"]
    assert set(here) < set(kept)
    left = [name for name in gone if name in kept]
    assert left == list(gone)[-len(left) :]
    each = len(json.dumps({"x" * LONGEST: known}, separators=(",", ":"))) - 1
    assert SENSORS_BYTES_MAX - each < len(json.dumps({"door": kept}, separators=(",", ":"))) + 2 <= SENSORS_BYTES_MAX


@pytest.mark.parametrize(
    "strange",
    [
        {"link": {"url": "mqtt://h", "spoke_5": True, "fallback_ms": None}},  # of an earlier version
        {"link": {"broker": "f" * 5000, "spoke_5": True, "fallback_ms": None}},
        {"anchors": {"b" * 5000: 1, "a": "x"}},
        {"shutdown": "perhaps", "x": "y" * 5000},
        {"door": {"entrance": "y" * 9000}},
        {"anchors": [], "link": [], "shutdown": []},
    ],
)
def test_what_is_no_part_or_too_long_is_left_out_when_it_is_read(strange: dict[str, Any]) -> None:
    memory = Memory.of({"shelf": {"s": {}}, **strange})
    assert memory == Memory({"shelf": {"s": {}}})
    assert len(memory.text()) < 100
