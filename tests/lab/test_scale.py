"""A kilogram on the converter, bit-banged under its real 60 us rule, on a machine whose time counts instructions.

Emulated by the wall clock an instruction takes as long as the host lets it, and pulses spoil. Counted, a pulse is as
long as its instructions, so "how slow may the processor get?" has an answer: `test_how_slow...` writes the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cache import HERE, ROOT, say
from tests.lab.machine import counted
from tests.lab.prepared import counting, installed, on_disk
from tests.lab.shop import SCALE, SHELF, UNIT_GRAMS, Shop, shop

pytestmark = pytest.mark.lab

TABLE = ROOT / "tests/bench/results/lab-scale.md"
SHIFTS = (0, 1, 2, 3, 4)
FRAMES = 200
HEAD = """\
# How slow may the processor get before a scale's frames spoil?

`scripts/lab run how_slow`: the product's own driver, gpiozero and lgpio on the kernel's simulated GPIO chip, the
HX711's model under its real rule (PD_SCK high for more than 60 us powers it down). Each row is a machine on which an
instruction lasts so long; "a Python loop" is `for _ in range(100_000): pass`, to be compared with a Pi's by hand.
"Spoiled" is the driver's count, "resets" the part's. No row was compared with a Pi.

| ns an instruction | a Python loop, ms | frames | spoiled | resets of the part | exact samples | longest pulse, us |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


@pytest.fixture(scope="module")
def aisle(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with a scale; an hour of the host's patience, for its machine is slow."""
    with shop(tmp_path_factory.mktemp("aisle"), counting(), counted(), sensors=SHELF) as found:
        found.weigh(0)
        found.open()
        yield found


@pytest.mark.core
def test_kilogram_is_placed_and_picked(aisle: Shop) -> None:
    aisle.expect("shelf.level", state="empty", within_s=180)
    aisle.weigh(UNIT_GRAMS)
    placed = aisle.expect("shelf.placed", within_s=180)[-1]
    assert placed["count"] == 1
    assert abs(placed["grams"] - UNIT_GRAMS) < 5
    assert aisle.expect("shelf.level", state="low", within_s=180)
    aisle.weigh(0)
    picked = aisle.expect("shelf.picked", within_s=180)[-1]
    assert (picked["count"], picked["remaining_count"]) == (1, 0)
    say(f"  frames {aisle.scale('frames')}, longest pulse {aisle.scale('high_longest_ns') // 1000} us")


def test_pulse_that_is_too_long_gives_no_wrong_weight(aisle: Shop) -> None:
    """With a part that falls asleep after 5 us every frame is doubtful: silence and a fault, never a number."""
    changes = len([event for event in aisle.consumer.events() if event["type"].startswith("store.shelf.")])
    aisle.machine.put(f"{SCALE}/hx_high_max_us", "5")
    aisle.expect_failure("aisle-3", "silent", "unplugged", "noisy", "wrong_rate", "saturated", within_s=300)
    heard = [event for event in aisle.consumer.events() if event["type"].startswith("store.shelf.")]
    assert len(heard) == changes
    aisle.machine.put(f"{SCALE}/hx_high_max_us", "60")
    aisle.weigh(UNIT_GRAMS)
    aisle.expect("shelf.placed", 2, within_s=300)
    aisle.complete(180)


def test_how_slow_the_processor_may_get(lab: None) -> None:
    rows = []
    for shift in SHIFTS:
        with on_disk(installed(), counted(shift)) as machine:
            machine.start(within_s=900)
            machine.put("/run/lab/frames.py", (HERE / "guest/frames.py").read_text())
            said = machine.sh(f"cd /run/lab && /opt/gateway/current/bin/python frames.py {FRAMES}", 1800)
        found = json.loads(said.strip().splitlines()[-1])
        row = (1 << shift, found["loop_ms"], found["frames"], found["spoiled"], found["resets"], found["exact"])
        rows.append(f"| {' | '.join(map(str, row))} | {found['longest_us']} |\n")
        say(f"  {rows[-1].strip()}")
        assert found["wrong"] == 0, "a spoiled frame was taken for a sample"
    TABLE.write_text(HEAD + "".join(rows))


def test_frames_without_the_rule_are_exact_even_where_time_is_not_counted(lab: None, tmp_path: Path) -> None:
    """On the everyday machine a pulse is as long as the host likes: what the driver lets through is right."""
    with shop(tmp_path, installed()) as front:
        front.machine.put("/run/lab/frames.py", (HERE / "guest/frames.py").read_text())
        said = front.machine.sh(f"cd /run/lab && /opt/gateway/current/bin/python frames.py {FRAMES}", 600)
        found = json.loads(said.strip().splitlines()[-1])
        say(f"  {found}")
        assert found["wrong"] == 0
