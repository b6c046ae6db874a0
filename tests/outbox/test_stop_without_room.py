"""A stop while the disk has no room: what is lost by it is named after the restart, and no number is given twice."""

from __future__ import annotations

import json
from random import Random

from gateway.model import STREAMS, Stream
from gateway.outbox.state import OWED_MAX, SLOT_BYTES, SavedState, StreamState, decode_state, encode_state
from gateway.outbox.upkeep import PENDING_BYTES_MAX
from tests.outbox.conftest import Bench, event
from tests.simulation.disk import ModelDisk

STATE_BYTES = 2 * SLOT_BYTES
FLOOD = b'{"type":"x","x":"%b"}' % (b"y" * 60_000)


def fill(bench: Bench) -> None:
    """Leave no room at all."""
    bench.disk.capacity_bytes = bench.disk.used_bytes()


def full_from_the_start() -> Bench:
    """Return an outbox that found room for its state and for nothing else."""
    bench = Bench()
    bench.disk = ModelDisk(Random(1), STATE_BYTES)
    bench.open()
    assert bench.disk.used_bytes() == STATE_BYTES
    return bench


def flood(bench: Bench, stream: Stream = "beacon") -> int:
    """Append more than memory holds; return how many events."""
    count = PENDING_BYTES_MAX // len(FLOOD) + 20
    for _ in range(count):
        bench.outbox.append(stream, FLOOD, bench.now)
    bench.pass_time(1)
    return count


def stop_and_open(bench: Bench) -> None:
    bench.outbox.close(bench.now)
    assert bench.outbox.remembers
    bench.open()


def named(bench: Bench) -> dict[str, list[int]]:
    """Return the numbers that the records to be delivered name, by stream; each record must say `overflow`."""
    bench.outbox.commit(bench.now)
    found: dict[str, list[int]] = {name: [] for name in STREAMS}
    for entry in bench.outbox.read("gateway", 0, 1000, 1 << 22):
        if b"events_dropped" in entry.payload:
            data = json.loads(entry.payload)["data"]
            assert data["reason"] == "overflow"
            assert data["count"] == data["last_sequence"] - data["first_sequence"] + 1
            found[data["stream"]] += range(data["first_sequence"], data["last_sequence"] + 1)
    return found


def test_what_was_lost_without_room_for_any_file_is_named_after_the_restart() -> None:
    bench = full_from_the_start()
    count = flood(bench)
    bench.outbox.append("door", event(1), bench.now)
    stop_and_open(bench)
    assert bench.outbox.next_sequence("beacon") == count + 1, "no number is given twice"
    bench.disk.heal()
    bench.pass_time(60)
    found = named(bench)
    assert found["beacon"] == list(range(1, count + 1))
    assert found["door"] == [1]
    assert found["gateway"] == [], "a record that found no room is no loss by itself"
    assert bench.outbox.status().lost == count + 1


def test_two_stops_without_room_forget_nothing_and_name_nothing_twice() -> None:
    bench = full_from_the_start()
    first = flood(bench)
    stop_and_open(bench)
    second = flood(bench)
    stop_and_open(bench)
    bench.disk.heal()
    bench.pass_time(60)
    assert sorted(named(bench)["beacon"]) == list(range(1, first + second + 1))


def test_what_was_recorded_before_the_disk_was_full_is_delivered_and_the_rest_is_named(bench: Bench) -> None:
    bench.record("door", 5)
    fill(bench)
    for number in range(40):
        bench.outbox.append("shelf", FLOOD, bench.now)
        bench.outbox.append("door", event(number), bench.now)
        bench.pass_time(1)
    given = {name: bench.outbox.next_sequence(name) for name in STREAMS}
    stop_and_open(bench)
    bench.disk.heal()
    bench.pass_time(60)
    found = named(bench)
    for name in ("door", "shelf"):
        assert sorted(bench.sequences(name) + found[name]) == list(range(1, given[name]))


def test_a_power_cut_after_the_state_was_saved_forgets_no_loss_either() -> None:
    bench = full_from_the_start()
    count = flood(bench)
    bench.pass_time(60)
    bench.disk.power_cut()
    bench.open()
    bench.disk.heal()
    bench.pass_time(60)
    assert bench.outbox.next_sequence("beacon") == count + 1
    assert bench.outbox.status().lost == count


def test_what_is_named_once_is_not_named_again_after_the_next_restart() -> None:
    bench = full_from_the_start()
    count = flood(bench)
    stop_and_open(bench)
    bench.disk.heal()
    bench.pass_time(60)
    bench.open()  # as after a kill: the last state still says that it is to be named
    bench.pass_time(60)
    assert named(bench)["beacon"] == list(range(1, count + 1))


def test_the_state_stays_bounded_and_forgets_no_number_that_was_given() -> None:
    owed = tuple((number, number) for number in range(100, 10_000, 2))
    streams = {name: StreamState(owed=owed) for name in STREAMS}
    text = encode_state(SavedState(1, "0123abcd", 1, streams=streams))
    assert len(text) <= SLOT_BYTES
    kept = decode_state(text)
    assert kept is not None
    for name in STREAMS:
        assert len(kept.streams[name].owed) == OWED_MAX
        assert kept.streams[name].owed[-1] == owed[-1]
