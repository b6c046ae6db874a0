"""A card that hangs: nothing that it was given is done, and nothing is refused. It is said, bounded, and survived."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from gateway.model import NS_PER_S, Instant, Stream
from gateway.outbox.jobs import Job
from gateway.outbox.losses import told_loss
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.upkeep import JOBS_WAITING_MAX, PENDING_BYTES_MAX
from gateway.outbox.writing import CLOSE_WAIT_S, InlineWriter
from tests.outbox.conftest import event
from tests.outbox.histories import DIRECTORY, WALL_NS, describe_loss
from tests.simulation.disk import ModelDisk


class HangingWriter(InlineWriter):
    """Runs jobs at once, as long as the card does not hang; then they wait, in order."""

    def __init__(self, disk: ModelDisk) -> None:
        super().__init__(disk)
        self.waiting: list[Job] = []
        self.is_hung = False

    def submit(self, job: Job) -> None:
        if self.is_hung:
            self.waiting.append(job)
        else:
            super().submit(job)

    def go_on(self) -> None:
        self.is_hung = False
        waiting, self.waiting = self.waiting, []
        for job in waiting:
            super().submit(job)

    def do_one(self) -> None:
        super().submit(self.waiting.pop(0))


class Hanging:
    """An outbox on a card that hangs when it is told to."""

    def __init__(self, from_the_start: bool = False) -> None:
        self.disk = ModelDisk(Random(1))
        self.writer = HangingWriter(self.disk)
        self.writer.is_hung = from_the_start
        self.now = Instant(0, WALL_NS)
        settings = OutboxSettings(bytes_max=64 << 20)
        self.outbox = Outbox.open(DIRECTORY, settings, self.disk, self.writer, self.now, describe_loss)

    def pass_time(self, seconds: float) -> None:
        self.now = self.now.later(int(seconds * NS_PER_S))
        self.outbox.step(self.now)

    def append(self, stream: Stream, payload: bytes = event(1)) -> int | None:
        return self.outbox.append(stream, payload, self.now)

    def handed_out(self, stream: Stream) -> Iterator[bytes]:
        after = 0
        while entries := self.outbox.read(stream, after, 500, 1 << 20):
            yield from (entry.payload for entry in entries)
            after = entries[-1].sequence


@pytest.fixture
def card() -> Hanging:
    return Hanging()


def test_after_five_seconds_it_is_said_that_the_disk_does_not_answer(card: Hanging) -> None:
    card.pass_time(1)
    recorded = card.outbox.recorded
    card.writer.is_hung = True
    card.append("door")
    card.pass_time(1)
    card.pass_time(2)
    assert card.outbox.trouble is None, "a card that stalls for 2 s is well"
    assert card.outbox.due_ns() is not None, "the moment at which it must be said is due by itself"
    card.pass_time(3)
    status = card.outbox.status()
    assert status.degraded
    assert "does not answer" in str(status.trouble)
    assert card.outbox.trouble == status.trouble
    assert card.outbox.recorded == recorded, "what is not on the card is not counted as recorded"
    card.writer.go_on()
    card.pass_time(0.1)
    assert not card.outbox.status().degraded
    assert card.outbox.recorded == recorded + 1


def test_after_five_seconds_it_is_said_that_the_disk_does_not_answer_when_it_is_read(card: Hanging) -> None:
    card.pass_time(1)
    card.disk.answers = False  # its asker has waited for 2 s
    card.pass_time(0.1)
    assert card.outbox.unreadable is None
    card.append("door")
    card.pass_time(3)
    assert "does not answer" in str(card.outbox.unreadable)
    assert card.outbox.status().unreadable == card.outbox.unreadable
    assert card.outbox.trouble is None, "what happens is recorded"
    assert card.outbox.idle()
    card.disk.answers = True
    card.pass_time(1)
    assert card.outbox.unreadable is None


def test_a_slow_card_that_goes_on_is_no_hung_one(card: Hanging) -> None:
    card.writer.is_hung = True
    for _ in range(10):
        card.append("door")
        card.append("beacon")
        card.pass_time(3)
        card.writer.do_one()
        card.pass_time(0)
        assert card.outbox.trouble is None


def test_a_hang_at_the_very_start_is_said_and_ends(card: Hanging) -> None:
    card = Hanging(from_the_start=True)
    card.append("door")
    card.pass_time(6)
    assert "does not answer" in str(card.outbox.trouble)
    assert card.outbox.recorded == 0
    card.writer.go_on()
    card.pass_time(1)
    assert card.outbox.trouble is None
    assert list(card.handed_out("door")) == [event(1)]


def test_what_waits_is_bounded_beacons_go_first_and_the_loss_is_named_when_the_disk_returns(card: Hanging) -> None:
    card.pass_time(1)
    card.writer.is_hung = True
    beacon = event(1)[:-1] + b',"pad":"' + b"x" * 4000 + b'"}'
    beacons, doors = 2 * PENDING_BYTES_MAX // len(beacon), 300
    for number in range(beacons):
        card.append("beacon", beacon)
        if number % (beacons // doors) == 0 and number // (beacons // doors) < doors:
            card.append("door")
        if number % 50 == 0:
            card.pass_time(1)
        assert card.outbox.status().pending_bytes <= PENDING_BYTES_MAX + len(beacon)
    assert len(card.writer.waiting) <= JOBS_WAITING_MAX
    card.writer.go_on()
    for _ in range(100):
        card.pass_time(1)
    assert card.outbox.idle()
    assert len(list(card.handed_out("door"))) == doors
    losses = [loss for payload in card.handed_out("gateway") if (loss := told_loss(payload, card.outbox.id))]
    assert {(loss.stream, loss.reason) for loss in losses} == {("beacon", "overflow")}
    assert sum(loss.count for loss in losses) + len(list(card.handed_out("beacon"))) == beacons


def test_copies_of_what_the_broker_refuses_do_not_pile_up(card: Hanging) -> None:
    for _ in range(3 * JOBS_WAITING_MAX):
        card.append("door")
    card.pass_time(1)
    card.writer.is_hung = True
    for entry in card.outbox.read("door", 0, 1000, 1 << 20):
        card.outbox.refuse(entry, "0x99")
    card.pass_time(60)
    card.pass_time(3600)
    assert len(card.writer.waiting) <= JOBS_WAITING_MAX + 10


def test_stopped_while_it_hangs_it_says_what_is_lost_and_does_not_wait(
    card: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.pass_time(1)
    card.writer.is_hung = True
    waits: list[float] = []
    monkeypatch.setattr(card.writer, "wait", waits.append)
    monkeypatch.setattr(card.writer, "close", lambda wait_s=CLOSE_WAIT_S: waits.append(wait_s))
    card.append("door")
    card.pass_time(1)
    card.append("door")
    card.pass_time(6)
    card.outbox.close(card.now)
    assert sum(waits) == 0
    assert [entry.sequence for entry in card.outbox.waiting("door")] == [1, 2]


def test_a_stop_within_the_first_seconds_of_a_hang_is_short_too(card: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    card.pass_time(1)
    card.writer.is_hung = True
    waits: list[float] = []
    monkeypatch.setattr(card.writer, "wait", waits.append)
    monkeypatch.setattr(card.writer, "close", lambda wait_s=CLOSE_WAIT_S: waits.append(wait_s))
    card.append("door")
    card.pass_time(1)
    card.outbox.close(card.now)
    assert sum(waits) < 4


def test_at_a_stop_a_disk_that_refused_is_tried_without_waiting(card: Hanging) -> None:
    card.pass_time(1)
    card.disk.write_error_chance = 1.0
    card.append("door")
    for _ in range(60):
        card.pass_time(1)
    assert card.outbox.trouble is not None
    card.disk.write_error_chance = 0.0
    card.append("door")
    card.outbox.close(card.now)
    assert card.outbox.waiting("door") == []
    assert card.outbox.positions("door").recorded_through == 2
