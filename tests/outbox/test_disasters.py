"""One disaster a test: kills with a power cut behind them, syncs that lie, full, stalling and read-only cards."""

from __future__ import annotations

import errno
import json
import time
from random import Random

import pytest

from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.record import EPOCH_MAX, FOOTER, parse_name, segment_name
from gateway.outbox.recovery import LEAP_MAX, leap_epoch
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import SavedState, decode_state, encode_state
from gateway.outbox.writing import InlineWriter, ThreadWriter
from tests.outbox.conftest import Bench, event
from tests.outbox.histories import DIRECTORY, WALL_NS, describe_loss
from tests.simulation.disk import ModelDisk, PowerCut


def losses(bench: Bench) -> list[dict[str, object]]:
    bench.outbox.commit(bench.now)
    entries = bench.outbox.read_kept("gateway", 1, 10**6, 1000, 1 << 20)
    return [json.loads(entry.payload)["data"] for entry in entries if b"events_dropped" in entry.payload]


def test_kill_before_the_sync_and_then_a_power_cut_break_no_word_that_the_opening_gave() -> None:
    for seed in range(40):
        bench = Bench()
        bench.disk.random = Random(seed)
        bench.record("door", 3)
        for number in (4, 5, 6):
            bench.outbox.append("door", event(number), bench.now)
        bench.disk.cut_at = bench.disk.calls + 2  # the write is done, the sync is not
        with pytest.raises(PowerCut):
            bench.outbox.commit(bench.now)
        bench.disk.cut_at = None
        bench.open()  # killed: the page cache still shows what was not synced
        promised = bench.sequences("door")
        bench.disk.power_cut()
        bench.open()
        assert bench.sequences("door") == promised


def test_a_state_that_a_failed_sync_left_in_memory_alone_is_not_believed() -> None:
    for seed in range(40):
        bench = Bench()
        bench.disk.random = Random(seed)
        bench.record("door", 9)
        bench.outbox.save_soon()
        bench.pass_time(1)
        bench.outbox.acknowledge("door", 1, 9)
        bench.disk.sync_error_chance = 1.0
        bench.outbox.save_soon()
        bench.pass_time(1)
        bench.disk.sync_error_chance = 0.0
        bench.open()  # killed: reads may still show the state that never reached the card
        epoch, seen = bench.outbox.epoch, bench.sequences("door")
        bench.disk.power_cut()
        bench.open()
        assert bench.outbox.epoch > epoch
        assert set(bench.sequences("door")) <= set(seen)


@pytest.mark.parametrize("call", range(1, 12))
def test_eio_at_any_call_loses_nothing_that_was_told_to_be_durable(call: int) -> None:
    bench = Bench()
    payloads = bench.record("door", 3)
    bench.disk.fail_at = {bench.disk.calls + call: errno.EIO, bench.disk.calls + call + 1: errno.EIO}
    for number in range(4, 10):
        bench.outbox.append("door", event(number), bench.now)
        payloads.append(event(number))
        bench.pass_time(0.06)
    for _ in range(4):
        bench.pass_time(31)
    bench.outbox.commit(bench.now)
    bench.disk.power_cut()
    bench.open()
    assert [entry.payload for entry in bench.outbox.read("door", 0, 99, 1 << 20)] == payloads


def test_the_record_of_a_loss_fits_on_a_full_disk_that_has_no_gateway_file() -> None:
    bench = Bench()
    bench.open(bytes_max=256 << 10)
    for _ in range(6):
        bench.record("beacon", 40)
        bench.record("door", 40)
        bench.open()
    bench.pass_time(11)
    assert f"{DIRECTORY}/ballast" in bench.disk.paths()
    bench.outbox.close(bench.now)
    for path in bench.files("gateway"):
        bench.disk.lose(path)
    bench.disk.capacity_bytes = bench.disk.used_bytes()  # somebody else has filled the card to the last byte
    bench.open()
    for _ in range(30):
        for _ in range(20):
            bench.outbox.append("door", b'{"x":"%b"}' % (b"y" * 900), bench.now)
        bench.pass_time(31)
    assert {loss["stream"] for loss in losses(bench)} >= {"beacon"}
    named = {
        number
        for loss in losses(bench)
        if loss["stream"] == "beacon"
        for number in range(int(str(loss["first_sequence"])), int(str(loss["last_sequence"])) + 1)
    }
    assert named | set(bench.sequences("beacon")) == set(range(1, 241))
    assert bench.disk.used_bytes() <= bench.disk.capacity_bytes


def test_a_card_that_turns_read_only_is_drained_and_acknowledgements_stay_in_memory(bench: Bench) -> None:
    bench.record("door", 20)
    bench.disk.read_only = True
    bench.outbox.acknowledge("door", 1, 10)
    bench.pass_time(20)
    assert bench.sequences("door") == list(range(11, 21))
    assert bench.outbox.status().trouble is not None
    bench.open()  # nothing could be saved: they come again, under the same ids
    assert bench.sequences("door") == list(range(1, 21))
    assert {entry.epoch for entry in bench.outbox.read("door", 0, 99, 1 << 20)} == {1}


class StalledDisk(ModelDisk):
    """A card whose sync does not come back before it is let go."""

    def __init__(self) -> None:
        super().__init__(Random(1))
        import threading

        self.may_sync = threading.Event()
        self.may_sync.set()

    def sync(self, fd: int) -> None:
        self.may_sync.wait(10)
        super().sync(fd)


def test_a_card_that_stalls_in_a_sync_never_blocks_an_append() -> None:
    disk, now = StalledDisk(), Instant(0, WALL_NS)
    writer = ThreadWriter(disk)
    outbox = Outbox.open(DIRECTORY, OutboxSettings(bytes_max=1 << 20), disk, writer, now, describe_loss)

    def settle() -> None:
        for _ in range(200):
            outbox.step(now)
            if outbox.idle():
                return
            writer.wait(0.05)

    settle()
    disk.may_sync.clear()
    for number in range(1, 501):  # would take for ever, were one of them to wait for the card
        assert outbox.append("door", event(number), now) == number
        outbox.commit(now)
    assert outbox.positions("door").recorded_through == 0
    assert outbox.read("door", 0, 99, 1 << 20) == []
    disk.may_sync.set()
    settle()
    assert outbox.positions("door").recorded_through == 500
    outbox.close(now)


def test_damaged_files_stay_known_over_a_restart_and_are_set_aside_then(bench: Bench) -> None:
    bench.open(keep_acknowledged=0.0)
    for _ in range(3):
        bench.record("door", 6)
        bench.open()
    path = bench.files("door")[1]
    bench.disk.damage(path, lambda content: content.__setitem__(500, content[500] ^ 0x41))
    assert len(bench.sequences("door")) == 17
    bench.outbox.commit(bench.now)
    bench.outbox.save_soon()
    bench.pass_time(1)
    bench.open()
    bench.outbox.acknowledge("door", 1, 18)
    for _ in range(4):
        bench.pass_time(11)
    assert f"{path}.bad" in bench.files("door")


def test_damaged_files_that_were_set_aside_are_bounded(bench: Bench) -> None:
    for number in range(40):
        bench.disk.open(f"{DIRECTORY}/door/{number:016d}-00000001.json.bad", create=True)
        bench.disk.damage(
            f"{DIRECTORY}/door/{number:016d}-00000001.json.bad", lambda content: content.extend(bytes(8192))
        )
    bench.open()
    bench.pass_time(1)
    left = [path for path in bench.files("door") if path.endswith(".bad")]
    assert sum(len(bench.disk.content(path)) for path in left) <= (1 << 20) // 8
    assert left
    assert left[-1].endswith("0000000000000039-00000001.json.bad")


FOREIGN = {
    "/outbox/state.ack": b"\xff" * 40_000,
    "/outbox/lock": b"not a lock",
    "/outbox/ballast": b"",
    "/outbox/control": b"\xff\x00\n" * 50,
    "/outbox/refused.jsonl": b'{"id":',
    "/outbox/door/notes.txt": b"hello",
    "/outbox/door/0000000000000000-00000001.json": b"{}",
    "/outbox/door/9999999999999999-ffffffff.json": b"",
    "/outbox/door/0000000000000002-00000001.json.new": b"half",
    "/outbox/shelf/0000000000000001-00000001.json": FOOTER * 9000,
}


@pytest.mark.parametrize("path", FOREIGN)
def test_it_opens_whatever_lies_in_its_directory(bench: Bench, path: str) -> None:
    bench.record("door", 5)
    bench.outbox.close(bench.now)
    if path not in bench.disk.paths():
        bench.disk.open(path, create=True)
    bench.disk.damage(path, lambda content: content.__setitem__(slice(None), FOREIGN[path]))
    bench.open()
    if "9999999999999999" not in path:
        assert bench.record("door", 1)
        assert bench.sequences("door")[-1] == bench.outbox.positions("door").recorded_through


def opened_copy(bench: Bench, image: dict[str, bytes], leap: int | None = None) -> Outbox:
    disk = ModelDisk(Random(2))
    disk.make_directory(DIRECTORY)
    for path, content in image.items():
        disk.make_directory(path.rpartition("/")[0])
        disk.close(disk.open(path, create=True))
        disk.damage(path, lambda held, content=content: held.extend(content))  # type: ignore[misc]
    return Outbox.open(DIRECTORY, bench.settings, disk, InlineWriter(disk), bench.now, describe_loss, leap)


def test_an_old_image_of_the_card_gives_no_id_again_that_left_since() -> None:
    bench = Bench()
    bench.record("door", 2)
    bench.outbox.close(bench.now)
    image = {path: bytes(bench.disk.content(path)) for path in bench.disk.paths()}
    left: list[str] = []
    for leap in (None, None, 0, LEAP_MAX - 1, 7):  # lives of the same image: put back, put back again, copied
        outbox = opened_copy(bench, image, leap)
        assert [entry.sequence for entry in outbox.read("door", 0, 9, 9999)] == [1, 2]
        for payload in (event(3), event(4)):
            outbox.append("door", payload, bench.now)
        outbox.commit(bench.now)
        left += [f"{outbox.id}-{entry.epoch}-{entry.sequence}" for entry in outbox.read("door", 2, 9, 9999)]
        assert outbox.id == bench.outbox.id
    assert len(left) == len(set(left)) == 10


def test_many_openings_with_the_longest_steps_keep_the_epoch_rising_within_its_bounds() -> None:
    epoch = 1
    for _ in range(3000):
        after = leap_epoch(epoch + 1, LEAP_MAX - 1)
        assert epoch < after <= EPOCH_MAX
        epoch = after
    for near in (EPOCH_MAX - (1 << 52), EPOCH_MAX - (1 << 30), EPOCH_MAX - 1, EPOCH_MAX):
        assert near <= leap_epoch(near, LEAP_MAX - 1) <= EPOCH_MAX
    assert parse_name(segment_name(1, EPOCH_MAX)) == (1, EPOCH_MAX)


def test_an_epoch_that_no_outbox_reaches_is_believed_neither_of_a_name_nor_of_a_state(bench: Bench) -> None:
    assert parse_name(segment_name(1, EPOCH_MAX + 1)) is None
    assert parse_name("0000000000000001-ffffffffffffffff.json") is None
    for epoch, is_state in ((EPOCH_MAX, True), (EPOCH_MAX + 1, False), (0, False), (-1, False)):
        assert (decode_state(encode_state(SavedState(1, "0123abcd", epoch))) is not None) == is_state
    bench.record("door", 2)
    bench.outbox.close(bench.now)
    foreign = f"{DIRECTORY}/door/{segment_name(3, (1 << 64) - 1)}"
    bench.disk.close(bench.disk.open(foreign, create=True))
    bench.disk.kill()
    outbox = Outbox.open(DIRECTORY, bench.settings, bench.disk, InlineWriter(bench.disk), bench.now, describe_loss)
    assert outbox.epoch < EPOCH_MAX
    assert [entry.sequence for entry in outbox.read("door", 0, 9, 9999)] == [1, 2]
    assert foreign in bench.disk.paths(), "it is none of ours: it is left where it lies"


def test_files_of_long_and_short_epochs_are_one_outbox(bench: Bench) -> None:
    for leap in (0, 1 << 31, LEAP_MAX - 1, 5):
        bench.outbox.close(bench.now)
        bench.disk.kill()
        bench.outbox = Outbox.open(
            DIRECTORY, bench.settings, bench.disk, InlineWriter(bench.disk), bench.now, describe_loss, leap
        )
        bench.record("door", 2)
    assert bench.outbox.epoch > LEAP_MAX
    assert bench.sequences("door") == list(range(1, 9))


def test_a_hole_of_zeros_in_a_line_does_not_hold_the_opening_up(bench: Bench) -> None:
    bench.record("door", 3)
    bench.outbox.close(bench.now)
    [path] = bench.files("door")
    bench.disk.damage(path, lambda held: held.extend(b"x" + bytes(120_000) + b"y\n"))
    began_s = time.process_time()
    bench.open()
    assert bench.sequences("door") == [1, 2, 3]
    assert time.process_time() - began_s < 5  # byte by byte from each of its bytes it takes more than a minute


def test_a_reader_at_the_tail_reads_each_piece_of_the_disk_once(bench: Bench) -> None:
    reads = []
    read_at = bench.disk.read_at
    bench.disk.read_at = lambda fd, count, offset: reads.append(offset) or read_at(fd, count, offset)  # type: ignore
    bench.record("door", 50)
    for number in range(51, 151):
        bench.record("door", 1)
        assert [entry.sequence for entry in bench.outbox.read("door", number - 1, 9, 9999)] == [number]
    assert reads == [], "what has only just become durable comes from memory"
    bench.open()
    reads.clear()
    after = 0
    while entries := bench.outbox.read("door", after, 1, 1):
        after = entries[-1].sequence
    assert after == 150
    assert len(reads) < 20, "a reader reads on where it stopped"
