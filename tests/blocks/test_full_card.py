"""A real ext4 filled to the last block while nothing may be shed: what memory cannot hold is named when there is room.

Needs root and loop devices; where they are missing the test says what.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.upkeep import PENDING_BYTES_MAX
from gateway.outbox.writing import InlineWriter
from tests.blocks.mounts import Missing
from tests.blocks.ours import losses_in
from tests.outbox.block_device import SmallDisk, small_ext4
from tests.outbox.histories import describe_loss

CARD_BYTES = 24 << 20
LARGE = b'{"n":%d,"x":"' + b"y" * 8000 + b'"}'


def read_all(outbox: Outbox) -> tuple[dict[int, bytes], dict[int, str]]:
    """Return the doors there are, and those named lost with why."""
    doors: dict[int, bytes] = {}
    lost: dict[int, str] = {}
    after = 0
    while entries := outbox.read("door", after, 1000, 1 << 22):
        doors |= {entry.sequence: entry.payload for entry in entries}
        after = entries[-1].sequence
    after = 0
    while entries := outbox.read("gateway", after, 1000, 1 << 22):
        for entry in entries:
            lost |= {number: reason for (stream, number), reason in losses_in(entry).items() if stream == "door"}
        after = entries[-1].sequence
    return doors, lost


def fill_and_free(card: SmallDisk) -> None:
    disk, now = RealDisk(), SystemClock().now()
    chosen = OutboxSettings(bytes_max=64 << 20)  # more than the card has: the card decides
    outbox = Outbox.open(str(card.path / "outbox"), chosen, disk, InlineWriter(disk), now, describe_loss)
    for number in range(1, 6):
        outbox.append("door", LARGE % number, now)
    outbox.commit(now)
    outbox.step(now.later(11_000_000_000))
    filler = card.fill()

    refused = set()
    for number in range(6, 1001):
        if outbox.append("door", LARGE % number, now) is None:
            refused.add(number)
        if number % 100 == 0:
            now = now.later(40_000_000_000)
            outbox.commit(now)
    said = outbox.status()
    assert said.degraded
    assert "No space left" in str(said.trouble)
    assert said.pending_bytes <= PENDING_BYTES_MAX
    assert refused
    assert set(read_all(outbox)[0]) >= {1, 2, 3, 4, 5}

    filler.unlink()
    for _ in range(5):
        now = now.later(40_000_000_000)
        outbox.commit(now)
    assert not outbox.status().degraded, outbox.status().trouble
    for _ in range(2):
        doors, lost = read_all(outbox)
        assert all(doors[number] == LARGE % number for number in doors)
        assert {number for number, reason in lost.items() if reason == "overflow"} == refused
        assert set(doors) | set(lost) == set(range(1, 1001))
        assert not set(doors) & refused
        outbox.close(now)
        outbox = Outbox.open(str(card.path / "outbox"), chosen, disk, InlineWriter(disk), now, describe_loss)
    outbox.close(now)


def test_what_a_full_card_could_not_take_is_named_when_there_is_room_again(tmp_path: Path) -> None:
    try:
        with small_ext4(tmp_path, CARD_BYTES) as card:
            fill_and_free(card)
    except Missing as error:
        pytest.skip(str(error))
