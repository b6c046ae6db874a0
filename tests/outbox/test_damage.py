"""Any byte of any file truncated, flipped or zeroed: it opens, salvages what a checksum covers, names the rest."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gateway.outbox.reader import OutboxReader
from tests.outbox.conftest import Bench, event
from tests.outbox.histories import DIRECTORY

COUNT = 12

Damage = Callable[[bytearray, int], None]


def truncate(content: bytearray, at: int) -> None:
    del content[at:]


def flip(content: bytearray, at: int) -> None:
    content[at] ^= 0x41


def zero(content: bytearray, at: int) -> None:
    content[at : at + 40] = bytes(len(content[at : at + 40]))


def zero_all_behind(content: bytearray, at: int) -> None:
    content[at:] = bytes(len(content) - at)


def break_lines(content: bytearray, at: int) -> None:
    content[at : at + 2] = b"\n\n"[: len(content[at : at + 2])]


def double(content: bytearray, at: int) -> None:
    content[at:at] = content[max(0, at - 150) : at]


KINDS = [truncate, flip, zero, zero_all_behind, break_lines, double]


def stopped() -> tuple[Bench, list[bytes]]:
    bench = Bench()
    payloads = bench.record("door", COUNT)
    bench.outbox.close(bench.now)
    return bench, payloads


@pytest.mark.parametrize("damage", KINDS)
def test_a_damaged_segment_is_salvaged_and_the_rest_is_named(damage: Damage) -> None:
    bench, payloads = stopped()
    path = bench.files("door")[0]
    whole = bytes(bench.disk.content(path))
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for at in range(0, len(whole), 7):
        bench, payloads = stopped()
        bench.disk.damage(bench.files("door")[0], lambda content, at=at: damage(content, at))  # type: ignore[misc]
        bench.open()
        found = {entry.sequence: entry.payload for entry in bench.outbox.read("door", 0, 99, 1 << 20)}
        assert all(payload == payloads[sequence - 1] for sequence, payload in found.items())
        before = [number for number in range(1, COUNT + 1) if ends[number] <= at]
        assert set(before) <= set(found), f"offset {at}"
        if damage is flip:
            assert len(found) >= COUNT - 2, f"offset {at}"
        bench.outbox.commit(bench.now)
        gone: set[int] = set()
        for entry in bench.outbox.read("gateway", 0, 99, 1 << 20):
            said = json.loads(entry.payload)["data"]
            assert said["reason"] == "corrupt"
            lost = set(range(said["first_sequence"], said["last_sequence"] + 1))
            assert not lost & gone, f"named twice at offset {at}"
            gone |= lost
        assert gone == set(range(1, COUNT + 1)) - set(found), f"offset {at}"
        assert bench.record("door", 1)
        assert bench.outbox.read("door", COUNT, 9, 9999)[0].payload == event(COUNT + 1)


@pytest.mark.parametrize("damage", KINDS)
def test_a_damaged_state_costs_duplicates_and_no_entry(damage: Damage) -> None:
    for at in range(0, 33_000, 501):
        bench, payloads = stopped()
        bench.disk.damage(f"{DIRECTORY}/state.ack", lambda content, at=at: damage(content, min(at, 32_767)))  # type: ignore[misc]
        bench.open()
        assert [entry.payload for entry in bench.outbox.read("door", 0, 99, 1 << 20)] == payloads, f"offset {at}"


def test_without_any_state_the_files_prove_the_outbox_where_every_stream_has_one() -> None:
    bench = Bench()
    for stream in ("door", "shelf", "beacon", "gateway"):
        bench.record(stream, 3)
    outbox, epoch = bench.outbox.id, bench.outbox.epoch
    bench.disk.damage(f"{DIRECTORY}/state.ack", lambda content: content.__setitem__(slice(None), bytes(len(content))))
    bench.open()
    assert (bench.outbox.id, bench.outbox.epoch, bench.outbox.created) == (outbox, epoch + 1, None)
    assert bench.sequences("shelf") == [1, 2, 3]


def test_without_any_state_and_proof_a_new_outbox_is_made_and_the_old_files_are_set_aside() -> None:
    bench = Bench()
    bench.record("door", 3)
    outbox = bench.outbox.id
    bench.disk.damage(f"{DIRECTORY}/state.ack", lambda content: content.__setitem__(slice(None), b"?" * len(content)))
    bench.disk.lose(bench.files("shelf")[0])
    bench.open()
    assert bench.outbox.id != outbox
    assert bench.outbox.created is not None
    assert bench.outbox.created.previous == outbox
    assert all(
        path.endswith(".bad") or bench.outbox.id in str(bench.disk.content(path)) for path in bench.files("door")
    )
    assert bench.outbox.status().damaged >= 1


def test_a_missing_file_is_a_named_loss() -> None:
    bench = Bench()
    for _ in range(3):
        bench.record("door", 2)
        bench.open()
    bench.disk.lose(bench.files("door")[1])
    bench.open()
    assert bench.sequences("door") == [1, 2, 5, 6]
    bench.outbox.commit(bench.now)
    said = json.loads(bench.outbox.read("gateway", 0, 9, 9999)[0].payload)["data"]
    assert (said["first_sequence"], said["last_sequence"], said["reason"]) == (3, 4, "corrupt")


@pytest.mark.parametrize("name", ["9999999999999999-00000001.json", "0000000000000009-ffffffff.json"])
def test_a_file_under_a_name_that_is_not_its_own_takes_no_numbers_away(name: str) -> None:
    bench = Bench()
    bench.record("door", 2)
    epoch = bench.outbox.epoch
    bench.disk.copy(bench.files("door")[0], f"{DIRECTORY}/door/{name}")
    bench.open()
    assert bench.sequences("door") == [1, 2]
    assert (bench.outbox.next_sequence("door"), bench.outbox.epoch) == (3, epoch + 1)
    bench.pass_time(11)
    assert [path for path in bench.files("door") if path.endswith(f"{name}.bad")]


def test_a_file_that_cannot_be_read_is_named_and_set_aside_when_patience_ends() -> None:
    bench = Bench()
    for _ in range(3):
        bench.record("door", 2)
        bench.open(keep_acknowledged=5.0)
    bench.disk.make_unreadable(bench.files("door")[1])
    assert bench.sequences("door") == [1, 2, 5, 6]
    bench.outbox.commit(bench.now)
    bench.pass_time(11)
    assert bench.outbox.status().lost == 0
    for _ in range(20):
        bench.pass_time(11)
    assert bench.outbox.status().lost == 2
    assert [path for path in bench.files("door") if path.endswith(".bad")]
    bench.open()
    assert bench.sequences("door") == [1, 2, 5, 6]
    assert len(bench.outbox.read("gateway", 0, 9, 9999)) == 1


def test_verify_says_file_and_offset() -> None:
    bench, _ = stopped()
    path = bench.files("door")[0]
    assert list(OutboxReader(DIRECTORY, bench.disk).verify()) == []
    bench.disk.damage(path, lambda content: flip(content, 400))
    found = list(OutboxReader(DIRECTORY, bench.disk).verify())
    assert {damage.path for damage in found} == {path}
    assert any("missing" in damage.detail for damage in found)
    assert any(0 < damage.offset <= 400 and "checksum" in damage.detail for damage in found)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "zeroed", "gone"])
def test_verify_sees_what_the_newest_file_has_lost_at_its_end(damage: str) -> None:
    bench, _ = stopped()
    path = bench.files("door")[0]
    whole = bytes(bench.disk.content(path))
    half = whole.index(b"\n", len(whole) // 2) + 1
    if damage == "gone":
        bench.disk.lose(path)
    else:
        kept = {"truncated": whole[:half], "emptied": b"", "zeroed": bytes(len(whole))}[damage]
        bench.disk.damage(path, lambda content: content.__setitem__(slice(None), kept))
    found = list(OutboxReader(DIRECTORY, bench.disk).verify())
    assert any(f"to {COUNT} are missing" in damage.detail for damage in found)
