"""What the engine and the uplink rely on, fact by fact."""

from __future__ import annotations

import errno
import json

import pytest

from gateway.errors import OutboxUnusable
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from tests.outbox.conftest import Bench, event
from tests.outbox.histories import DIRECTORY, describe_loss


def losses(bench: Bench) -> list[dict[str, object]]:
    bench.outbox.commit(bench.now)
    entries = bench.outbox.read_kept("gateway", 1, 10**6, 1000, 1 << 20)
    return [json.loads(entry.payload)["data"] for entry in entries if b"events_dropped" in entry.payload]


def test_an_entry_is_read_only_when_it_is_durable(bench: Bench) -> None:
    assert bench.outbox.append("door", event(1), bench.now) == 1
    assert bench.outbox.read("door", 0, 10, 1000) == []
    bench.pass_time(0.05)
    assert [entry.payload for entry in bench.outbox.read("door", 0, 10, 1000)] == [event(1)]
    assert bench.outbox.idle()


def test_a_commit_comes_when_its_interval_is_over_and_not_before(bench: Bench) -> None:
    bench.outbox.append("beacon", event(1), bench.now)
    bench.pass_time(0.9)
    assert bench.outbox.positions("beacon").recorded_through == 0
    assert bench.outbox.due_ns() == 1_000_000_000
    bench.pass_time(0.1)
    assert bench.outbox.positions("beacon").recorded_through == 1


def test_much_that_waits_is_committed_early(bench: Bench) -> None:
    bench.open(bytes_max=1 << 30)
    for _ in range(1, 80):
        bench.outbox.append("beacon", b'{"x":"%b"}' % (b"y" * 1000), bench.now)
    bench.outbox.step(bench.now)
    assert bench.outbox.positions("beacon").recorded_through == 79


def test_the_epoch_rises_and_the_numbers_go_on(bench: Bench) -> None:
    bench.record("door", 3)
    bench.open()
    assert (bench.outbox.epoch, bench.outbox.created, bench.outbox.clean) == (2, None, False)
    bench.record("door", 1)
    assert [(entry.sequence, entry.epoch) for entry in bench.outbox.read("door", 0, 9, 9999)] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 2),
    ]


def test_a_clean_stop_is_told_by_the_next_start(bench: Bench) -> None:
    bench.outbox.append("door", event(1), bench.now)
    bench.outbox.close(bench.now)
    assert bench.open().clean
    assert bench.sequences("door") == [1]


def test_acknowledged_entries_do_not_come_again(bench: Bench) -> None:
    bench.record("door", 9)
    bench.outbox.acknowledge("door", 4, 6)
    bench.outbox.acknowledge("door", 1, 1)
    assert bench.sequences("door") == [2, 3, 7, 8, 9]
    assert bench.outbox.positions("door").backlog == 5
    bench.outbox.save_soon()
    bench.pass_time(1)
    bench.disk.power_cut()
    bench.open()
    assert bench.sequences("door") == [2, 3, 7, 8, 9]


def test_two_lanes_read_the_same_stream(bench: Bench) -> None:
    payloads = bench.record("door", 300)
    live, backfill = 200, 0
    for _ in range(20):
        ahead = bench.outbox.read("door", live, 5, 1 << 20)
        behind = bench.outbox.read("door", backfill, 5, 1 << 20, through=200)
        assert [entry.payload for entry in ahead] == payloads[live : live + 5]
        assert [entry.payload for entry in behind] == payloads[backfill : backfill + 5]
        live, backfill = live + 5, backfill + 5


def test_what_is_acknowledged_is_kept_for_a_while_and_then_unlinked(bench: Bench) -> None:
    bench.open(keep_acknowledged=60.0)
    bench.record("door", 3)
    bench.open()
    bench.record("door", 1)
    bench.outbox.acknowledge("door", 1, 4)
    for _ in range(4):
        bench.pass_time(10)
    assert bench.outbox.kept("door", 1, 4) == [(1, 4)]
    assert len(bench.outbox.read_kept("door", 1, 3, 9, 9999)) == 3
    for _ in range(6):
        bench.pass_time(10)
    assert bench.outbox.kept("door", 1, 4) == [(4, 4)]
    assert len(bench.files("door")) == 1


def test_a_file_behind_an_old_backlog_leaves_too(bench: Bench) -> None:
    bench.open(keep_acknowledged=0.0)
    for _ in range(3):
        bench.record("door", 2)
        bench.open()
    bench.outbox.acknowledge("door", 3, 6)
    for _ in range(5):
        bench.pass_time(11)
    assert bench.outbox.kept("door", 1, 6) == [(1, 2)]
    bench.disk.power_cut()
    bench.open()
    assert bench.sequences("door") == [1, 2]
    assert losses(bench) == []


def test_memory_and_what_was_recorded_since_are_exactly_what_was_recorded(bench: Bench) -> None:
    bench.record("door", 2)
    bench.outbox.memory.streams["door"] = 2
    bench.outbox.save_soon()
    bench.pass_time(1)
    bench.record("door", 3)
    bench.outbox.memory.streams["door"] = 5
    bench.disk.power_cut()
    bench.open()
    assert bench.outbox.memory.streams == {"door": 2}
    assert [entry.sequence for entry in bench.outbox.recorded_since_memory()] == [3, 4, 5]


def test_a_flood_of_beacons_is_shed_before_doors_and_the_loss_is_named(bench: Bench) -> None:
    bench.open(bytes_max=256 << 10)
    bench.record("door", 40)
    for _ in range(40):
        bench.record("beacon", 60)
        bench.pass_time(1)
        assert bench.disk.used_bytes() <= 256 << 10
    assert bench.sequences("door") == list(range(1, 41))
    kept = bench.sequences("beacon")
    named = losses(bench)
    assert {loss["reason"] for loss in named} == {"full"}
    assert {loss["stream"] for loss in named} == {"beacon"}
    assert kept[0] - 1 == sum(int(str(loss["count"])) for loss in named)


def test_old_entries_expire_one_file_a_minute_and_only_by_a_trusted_clock(bench: Bench) -> None:
    bench.open(age_max=86_400.0)
    for _ in range(3):
        bench.record("door", 1)
        bench.open()
    bench.record("door", 1)
    day = 90_000_000_000_000
    bench.now = Instant(bench.now.boot_ns, bench.now.wall_ns + day, "unsynced")
    bench.pass_time(120)
    assert bench.sequences("door") == [1, 2, 3, 4]
    bench.now = Instant(bench.now.boot_ns, bench.now.wall_ns, "synced")
    bench.pass_time(70)
    assert bench.sequences("door") == [2, 3, 4]
    bench.pass_time(70)
    bench.pass_time(70)
    assert bench.sequences("door") == [4]
    assert {loss["reason"] for loss in losses(bench)} == {"expired"}


def test_a_refused_entry_is_set_aside_named_and_does_not_block(bench: Bench) -> None:
    bench.record("door", 3)
    bench.outbox.refuse(bench.outbox.read("door", 1, 1, 9999)[0], "0x95 packet too large")
    bench.outbox.commit(bench.now)
    assert bench.sequences("door") == [1, 3]
    about = json.loads(bytes(bench.disk.content(f"{DIRECTORY}/refused.jsonl")))
    assert about["id"] == f"{bench.outbox.id}-1-door-0000000000000002"
    assert about["event"]["data"]["n"] == 2
    assert losses(bench)[0]["reason"] == "refused"
    assert bench.outbox.status().refused == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", range(1, 4))
def test_a_failed_commit_is_written_again_to_a_new_file_under_the_same_numbers(
    bench: Bench, code: int, call: int
) -> None:
    payloads = bench.record("door", 2)
    bench.disk.fail_at[bench.disk.calls + call] = code
    payloads += bench.record("door", 3)
    bench.pass_time(2)
    payloads += bench.record("door", 1)
    bench.pass_time(2)
    entries = bench.outbox.read("door", 0, 99, 1 << 20)
    assert [entry.payload for entry in entries] == payloads
    assert not bench.outbox.status().degraded
    bench.disk.power_cut()
    bench.open()
    assert [entry.payload for entry in bench.outbox.read("door", 0, 99, 1 << 20)] == payloads


def test_a_disk_that_turns_read_only_is_drained_and_recovers(bench: Bench) -> None:
    bench.record("door", 3)
    bench.disk.read_only = True
    bench.open()
    assert bench.sequences("door") == [1, 2, 3]
    bench.outbox.acknowledge("door", 1, 2)
    assert bench.outbox.append("door", event(4), bench.now) == 4
    bench.pass_time(5)
    assert bench.outbox.status().degraded
    assert "read-only" in str(bench.outbox.status().trouble).lower()
    assert bench.sequences("door") == [3]
    bench.disk.read_only = False
    bench.pass_time(40)
    bench.pass_time(1)
    assert bench.sequences("door") == [3, 4]
    assert not bench.outbox.status().degraded


def test_memory_stays_bounded_while_the_disk_takes_nothing_and_the_overflow_is_named(bench: Bench) -> None:
    bench.record("beacon", 1)
    bench.disk.read_only = True
    big = b'{"x":"%b"}' % (b"y" * 60_000)
    given = [bench.outbox.append("beacon", big, bench.now) for _ in range(100)]
    assert given[-1] is None
    assert bench.outbox.append("door", event(1), bench.now) == 1
    bench.pass_time(1)
    assert bench.outbox.status().pending_bytes <= 4 << 20
    bench.disk.read_only = False
    for _ in range(60):
        bench.pass_time(31)
    assert bench.sequences("door") == [1]
    named = losses(bench)
    assert {"overflow"} <= {str(loss["reason"]) for loss in named}
    gone = {n for loss in named for n in range(int(str(loss["first_sequence"])), int(str(loss["last_sequence"])) + 1)}
    assert gone | set(bench.sequences("beacon")) == set(range(1, 102))


def test_what_overflows_memory_again_and_again_is_named_once(bench: Bench) -> None:
    bench.record("beacon", 1)
    bench.disk.read_only = True
    small, big = b'{"x":1}', b'{"x":"%b"}' % (b"y" * 60_000)
    for number in range(400):  # the newest beacons are shed for doors, and newer ones come behind what was lost
        bench.outbox.append("beacon", (small, big)[number % 3 == 0], bench.now)
        bench.outbox.append("door", big if number % 5 == 0 else small, bench.now)
    bench.pass_time(1)
    bench.disk.read_only = False
    for _ in range(60):
        bench.pass_time(31)
    named = [loss for loss in losses(bench) if (loss["stream"], loss["reason"]) == ("beacon", "overflow")]
    numbers = [
        n for loss in named for n in range(int(str(loss["first_sequence"])), int(str(loss["last_sequence"])) + 1)
    ]
    assert len(numbers) == len(set(numbers)) == sum(int(str(loss["count"])) for loss in named)
    assert bench.outbox.status().lost == sum(int(str(loss["count"])) for loss in losses(bench)), "counted once"
    ends = {int(str(loss["last_sequence"])) + 1 for loss in named}
    assert not ends & {loss["first_sequence"] for loss in named}, "what touches is one range"


def test_a_second_daemon_is_refused_with_a_sentence(bench: Bench) -> None:
    with pytest.raises(OutboxUnusable, match="another gateway is running"):
        Outbox.open(DIRECTORY, bench.settings, bench.disk, InlineWriter(bench.disk), bench.now, describe_loss)


def test_more_intervals_than_the_file_takes_cost_duplicates_not_losses(bench: Bench) -> None:
    bench.record("door", 400)
    for number in range(1, 400, 2):
        bench.outbox.acknowledge("door", number + 1, number + 1)
    bench.outbox.save_soon()
    bench.pass_time(1)
    bench.open()
    again = set(bench.sequences("door"))
    assert set(range(1, 400, 2)) <= again
    assert len(again) == 200 + 200 - 64


def test_settings_refuse_what_cannot_work() -> None:
    with pytest.raises(ValueError, match="at least"):
        OutboxSettings(bytes_max=1000)
