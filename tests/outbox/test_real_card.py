"""The outbox on a small ext4 of its own: filled to the last block, remounted read-only, killed again and again.

Needs root and loop devices; where they are missing each test says what.
"""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk, refusal
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from tests.outbox.block_device import SmallDisk, card_or_skip
from tests.outbox.conftest import event
from tests.outbox.histories import describe_loss
from tests.outbox.test_real_files import WRITER

CARD_BYTES = 24 << 20
LARGE = b'{"x":"%b"}' % (b"y" * 4000)


@pytest.fixture
def card(tmp_path: Path) -> Iterator[SmallDisk]:
    with card_or_skip(tmp_path, CARD_BYTES) as disk:
        yield disk


def opened(card: SmallDisk, now: Instant) -> Outbox:
    disk = RealDisk()
    chosen = OutboxSettings(bytes_max=64 << 20)  # more than the card has: the card decides
    return Outbox.open(str(card.path / "outbox"), chosen, disk, InlineWriter(disk), now, describe_loss)


def with_thirty(card: SmallDisk) -> tuple[Outbox, Instant]:
    """Return an open outbox with thirty recorded events, and the moment."""
    now = SystemClock().now()
    outbox = opened(card, now)
    for number in range(1, 31):
        outbox.append("door", event(number), now)
    outbox.commit(now)
    return outbox, now


def named(outbox: Outbox) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    after = 0
    while entries := outbox.read("gateway", after, 1000, 1 << 20):
        for entry in entries:
            said = json.loads(entry.payload)["data"]
            found.setdefault(said["stream"], set()).update(range(said["first_sequence"], said["last_sequence"] + 1))
        after = entries[-1].sequence
    return found


def sequences(outbox: Outbox, stream: str) -> list[int]:
    found: list[int] = []
    while entries := outbox.read(stream, found[-1] if found else 0, 1000, 1 << 22):
        found += [entry.sequence for entry in entries]
    return found


def test_a_card_full_to_the_last_block_sheds_by_worth_names_the_loss_and_loses_nothing_else(card: SmallDisk) -> None:
    now = SystemClock().now()
    outbox = opened(card, now)
    for _ in range(20):
        for _ in range(100):
            outbox.append("beacon", LARGE, now)
        outbox.commit(now)
        now = now.later(1_000_000_000)
    outbox.step(now.later(11_000_000_000))
    card.fill()
    for number in range(1, 2001):
        outbox.append("door", event(number), now)
        if number % 20 == 0:
            now = now.later(40_000_000_000)
            outbox.commit(now)
    for _ in range(5):
        now = now.later(40_000_000_000)
        outbox.commit(now)
    assert sequences(outbox, "door") == list(range(1, 2001))
    assert not outbox.status().degraded, outbox.status().trouble
    lost, kept = named(outbox).get("beacon", set()), set(sequences(outbox, "beacon"))
    assert lost | kept == set(range(1, 2001))
    outbox.close(now)
    again = opened(card, now)
    assert sequences(again, "door") == list(range(1, 2001))
    again.close(now)


def test_a_file_system_that_gave_up_is_named_though_it_is_still_mounted_writable(card: SmallDisk) -> None:
    outbox, now = with_thirty(card)
    assert refusal(card.path) is None
    card.give_up()
    outbox.append("door", event(31), now)
    for _ in range(4):
        now = now.later(5_000_000_000)
        outbox.commit(now)
    refused = refusal(card.path)
    assert refused is not None
    assert refused.errno in (errno.EROFS, errno.EIO)
    status = outbox.status()
    told = (status.degraded, status.trouble_errno, sequences(outbox, "door"), outbox.waiting("door"))
    assert told[0], told
    assert status.trouble_errno == refused.errno
    assert sequences(outbox, "door") == list(range(1, 31)), "what is not on the card is not handed out"
    assert [entry.sequence for entry in outbox.waiting("door")] == [31]
    outbox.close(now)


def test_a_card_remounted_read_only_is_drained_and_written_again_when_it_may_be(card: SmallDisk) -> None:
    outbox, now = with_thirty(card)
    outbox.close(now)
    card.turn("ro")
    outbox = opened(card, now)
    assert sequences(outbox, "door") == list(range(1, 31))
    outbox.acknowledge("door", 1, 10)
    assert outbox.append("door", event(31), now) == 31
    now = now.later(5_000_000_000)
    outbox.step(now)
    assert sequences(outbox, "door") == list(range(11, 31))
    assert "ead-only" in str(outbox.status().trouble)
    card.turn("rw")
    for _ in range(3):
        now = now.later(40_000_000_000)
        outbox.commit(now)
    assert sequences(outbox, "door") == list(range(11, 32))
    outbox.close(now)


def killed_rounds(directory: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    told = 0
    epoch = 0
    for _ in range(rounds):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = int(child.stdout.readline())
        time.sleep(chance.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split("\n")[:-1]
        child.wait()
        told = int(rest[-1]) if rest else told
        reader = OutboxReader(str(directory))
        assert reader.epoch > epoch
        epoch = reader.epoch
        assert reader.positions("door").recorded_through >= told
        newest = {entry.sequence: entry.payload for entry in reader.entries("door", max(0, told - 400))}
        assert all(newest[number] == event(number) for number in range(max(1, told - 399), told + 1))
    found = [entry.sequence for entry in OutboxReader(str(directory)).entries("door")]
    assert found[:told] == list(range(1, told + 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hundreds_of_kills_lose_nothing_that_was_told_to_be_durable(tmp_path: Path) -> None:
    killed_rounds(tmp_path, 300, 1)
