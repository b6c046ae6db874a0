"""Everything at once for minutes: people, a scale, tags, at a machine that is as slow as its instructions say."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cache import say
from tests.lab.machine import counted
from tests.lab.prepared import counting
from tests.lab.shop import SCANNER, SHELF, UNIT_GRAMS, Shop, ibeacon, shop

pytestmark = pytest.mark.lab

ROUNDS = 6
TAGS = 8


@pytest.fixture
def busy(lab: None, tmp_path: Path) -> Iterator[Shop]:
    """A shop with a door, a scale and a radio."""
    with shop(tmp_path, counting(), counted(), sensors=SCANNER + SHELF) as found:
        found.weigh(0)
        found.open()
        yield found


def address_of(number: int) -> str:
    return f"c0:00:00:00:01:{number:02x}"


def test_door_scale_and_radio_at_once_for_minutes_lose_nothing(busy: Shop) -> None:
    """Each round somebody comes in with a tag, puts something on the shelf or takes it, and another goes out."""
    busy.expect("shelf.level", state="empty", within_s=180)
    chance = random.Random(3)
    began_s = time.monotonic()
    for number in range(ROUNDS):
        for tag in range(TAGS):
            busy.carry(address_of(tag), data=ibeacon(1, 10 + tag), noise_db=2, every_s=0.2)
        busy.walk("in", "out", "in")
        is_placed = number % 2 == 0
        busy.weigh(UNIT_GRAMS * (1 if is_placed else 0))
        busy.expect("shelf.placed" if is_placed else "shelf.picked", number // 2 + 1, within_s=180)
        busy.expect("beacon.arrived", (number + 1) * TAGS, within_s=180)
        for tag in sorted(range(TAGS), key=lambda _: chance.random()):
            busy.carry_away(address_of(tag))
        busy.walk("out")
        busy.expect("beacon.left", (number + 1) * TAGS, within_s=180)
    busy.expect("door.passed", 4 * ROUNDS, within_s=120)
    busy.complete(180)
    assert busy.doors() == ["in", "out", "in", "out"] * ROUNDS
    assert len(busy.consumer.of("store.gateway.started")) == 1
    said = f"{ROUNDS} rounds in {time.monotonic() - began_s:.0f} s of ours, {len(busy.consumer.events())} events"
    say(f"  {said}; longest pulse {busy.scale('high_longest_ns') // 1000} us, {busy.scale('frames')} frames")
