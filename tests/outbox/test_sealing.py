"""The outbox at rest: nobody reads it without its key, nobody loses anything for want of it."""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from random import Random
from zlib import crc32

import pytest

from gateway.errors import EXIT_CONFIGURATION, OutboxSealed
from gateway.model import STREAMS, Entry, Instant, Loss
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.record import salt
from gateway.outbox.recovery import LEAP_MAX
from gateway.outbox.repair import repair
from gateway.outbox.sealing import PLAIN, Sealing, key_of, place_of
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.state import STATE_NAME
from gateway.outbox.writing import InlineWriter
from tests.outbox.conftest import event
from tests.outbox.histories import DIRECTORY, WALL_NS, describe_loss
from tests.simulation.disk import ModelDisk, PowerCut

CANARY = b"staff-anna"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
SEALED, ANOTHER = Sealing(KEY), Sealing(OTHER)
OPENS_ONLY = Sealing(None, [KEY])


def secret(number: int) -> bytes:
    return b'{"type":"store.tag.seen","subject":"%b","data":{"n":%d}}' % (CANARY, number)


class Card:
    """An outbox on a model disk that is opened under one key or another."""

    def __init__(self, sealing: Sealing = SEALED) -> None:
        self.disk = ModelDisk(Random(7))
        self.now = Instant(0, WALL_NS)
        self.outbox = self.open(sealing)

    def open(self, sealing: Sealing, is_killed: bool = True, **changed: float) -> Outbox:
        """Open it (again), as after a kill."""
        if is_killed:
            self.disk.kill()
        settings = OutboxSettings(**{"bytes_max": 1 << 20, **changed})  # type: ignore[arg-type]
        writer = InlineWriter(self.disk)
        self.outbox = Outbox.open(DIRECTORY, settings, self.disk, writer, self.now, describe_loss, sealing=sealing)
        return self.outbox

    def record(self, count: int = 5) -> None:
        for _ in range(count):
            self.outbox.append("beacon", secret(self.outbox.next_sequence("beacon")), self.now)
        self.outbox.memory.streams["beacon"] = {"here": CANARY.decode()}
        self.outbox.commit(self.now)
        self.outbox.save_soon()
        self.outbox.step(self.now)

    def contents(self) -> dict[str, bytes]:
        return {path: bytes(self.disk.read_at(self.disk.open_reading(path), 1 << 22, 0)) for path in self.disk.paths()}

    def put(self, path: str, content: bytes) -> None:
        fd = self.disk.open(path)
        self.disk.write_at(fd, content, 0)
        self.disk.sync(fd)
        self.disk.close(fd)

    def all(self) -> list[Entry]:
        return self.outbox.read("beacon", 0, 1000, 1 << 20)

    def numbers(self) -> list[int]:
        return [entry.sequence for entry in self.all()]

    def file(self) -> str:
        return next(path for path in self.disk.paths() if "/beacon/" in path)


def test_no_file_shows_what_is_sealed_and_it_is_read_back_byte_for_byte() -> None:
    card = Card()
    card.record()
    card.outbox.refuse(card.all()[0], "too large")
    card.outbox.step(card.now.later(2 * 10**9))
    contents = card.contents()
    assert {path.rsplit("/", 1)[1] for path in contents} >= {STATE_NAME, "refused.jsonl"}
    assert [path for path, content in contents.items() if CANARY in content or b"store.tag" in content] == []
    assert [entry.payload for entry in card.all()] == [secret(number) for number in range(2, 6)]
    again = card.open(SEALED)
    assert [entry.payload for entry in card.all()] == [secret(number) for number in range(2, 6)]
    assert again.memory.streams["beacon"] == {"here": CANARY.decode()}
    reader = OutboxReader(DIRECTORY, card.disk, SEALED)
    assert [entry.payload for entry in reader.entries("beacon")] == [secret(number) for number in range(2, 6)]
    assert json.loads(next(iter(reader.refused())))["event"] == json.loads(secret(1))
    assert list(reader.verify()) == []


def test_what_waits_and_the_record_of_a_loss_are_sealed_too_and_read_as_they_are() -> None:
    card = Card()
    card.outbox.append("beacon", secret(1), card.now)
    assert [entry.payload for entry in card.outbox.waiting("beacon")] == [secret(1)]
    card.record(1)
    card.outbox.refuse(card.all()[0], "no")
    card.outbox.step(card.now.later(2 * 10**9))
    told = card.outbox.read("gateway", 0, 10, 1 << 20)
    assert [json.loads(entry.payload)["data"]["reason"] for entry in told] == ["refused"]
    assert not any(b"refused" in content for path, content in card.contents().items() if "/gateway/" in path)


def test_the_file_is_still_one_that_stock_tinydb_opens() -> None:
    card = Card()
    card.record(2)
    card.outbox.close(card.now)
    table = json.loads(card.contents()[card.file()])["beacon"]
    assert [set(document) for document in table.values()] == [{"_c", "_e"}] * 2


@pytest.mark.parametrize("sealing", [PLAIN, ANOTHER, Sealing(None, [OTHER])], ids=["no key", "wrong key", "wrong old"])
def test_without_its_key_it_is_not_opened_nothing_is_written_and_nothing_lost(sealing: Sealing) -> None:
    card = Card()
    card.record()
    card.outbox.close(card.now)
    before = card.contents()
    for _ in range(3):
        with pytest.raises(OutboxSealed, match=rf"{DIRECTORY} is sealed with key {SEALED.seals_with}") as caught:
            card.open(sealing)
        assert caught.value.exit_code == EXIT_CONFIGURATION
        assert "key_file" in caught.value.advice
        with pytest.raises(OutboxSealed):
            OutboxReader(DIRECTORY, card.disk, sealing)
    assert card.contents() == before
    with pytest.raises(OutboxSealed):
        card.open(sealing)
    card.open(SEALED, is_killed=False)  # the lock was let go of
    assert card.numbers() == [1, 2, 3, 4, 5]
    assert card.outbox.status().lost == 0
    assert card.outbox.status().damaged == 0


def test_a_state_that_is_lost_does_not_hide_that_a_key_is_needed() -> None:
    card = Card()
    card.record()
    for stream in STREAMS:  # each has a file, so the files prove the outbox
        card.outbox.append(stream, event(1), card.now)
    card.outbox.commit(card.now)
    card.put(f"{DIRECTORY}/{STATE_NAME}", b"?" * 32768)
    before = card.contents()
    with pytest.raises(OutboxSealed):
        card.open(PLAIN)
    assert card.contents() == before
    assert card.open(SEALED).created is None
    assert card.numbers()[:5] == [1, 2, 3, 4, 5]


def test_switched_on_and_off_old_entries_are_read_beside_new_ones() -> None:
    card = Card(PLAIN)
    card.record(3)
    card.open(SEALED)
    card.record(3)
    card.open(OPENS_ONLY)
    card.record(3)
    assert [entry.payload for entry in card.all()] == [secret(number) for number in range(1, 10)]
    files = [content for path, content in card.contents().items() if "/beacon/" in path]
    assert [CANARY in content for content in files] == [True, False, True]
    with pytest.raises(OutboxSealed):
        card.open(PLAIN)  # what was sealed still waits
    assert len(list(OutboxReader(DIRECTORY, card.disk, OPENS_ONLY).entries("beacon"))) == 9


@pytest.mark.parametrize("after", [PLAIN, ANOTHER], ids=["off", "another key"])
def test_an_old_key_is_needed_no_more_once_nothing_is_sealed_with_it(after: Sealing) -> None:
    between = OPENS_ONLY if after is PLAIN else Sealing(OTHER, [KEY])
    card = Card()
    card.record()
    outbox = card.open(between, keep_acknowledged=0.0)
    card.record(1)
    assert card.numbers() == [1, 2, 3, 4, 5, 6]
    for stream in STREAMS:
        outbox.acknowledge(stream, 1, outbox.next_sequence(stream) - 1)
    for _ in range(5):
        card.now = card.now.later(11 * 10**9)
        outbox.step(card.now)
    outbox.close(card.now)
    assert card.open(after).memory.streams["beacon"] == {"here": CANARY.decode()}
    assert card.outbox.created is None
    assert SEALED.seals_with not in card.outbox._upkeep.saver.keys


def test_a_kill_at_any_write_of_the_first_sealed_run_loses_nothing_and_never_forgets_the_key() -> None:
    for calls in range(1, 60, 2):
        card = Card(PLAIN)
        card.record(3)
        card.disk.cut_at = card.disk.calls + calls
        recorded = 3
        with suppress(PowerCut):
            card.open(SEALED)
            for _ in range(3):
                card.record(1)
                recorded += 1
        card.disk.cut_at = None
        card.disk.power_cut()
        is_sealed = any(b'"_e"' in content for path, content in card.contents().items() if "/beacon/" in path)
        if is_sealed:
            with pytest.raises(OutboxSealed):
                card.open(PLAIN)
        card.disk.power_cut()
        card.open(SEALED)
        assert card.numbers()[:recorded] == list(range(1, recorded + 1)), calls
        assert card.outbox.status().lost == 0


def tampered(card: Card, sequence: int) -> None:
    """Change a bit of what is sealed, and set its checksum right: as one would who knows the format."""
    path = card.file()
    content = card.contents()[path]
    line = re.search(rb'"%d":\{"_c":"([0-9a-f]{8})",("_e":"([^"]+)"\})\n' % sequence, content)
    assert line is not None
    raw = bytearray(base64.b64decode(line[3]))
    raw[20] ^= 1
    rest = b'"_e":"%b"}' % base64.b64encode(raw)
    epoch = int(path[-13:-5], 16)
    seed = salt(card.outbox.id, "beacon", epoch)
    checksum = b"%08x" % crc32(rest, crc32(b"%d" % sequence, seed))
    card.put(path, content.replace(line[1], checksum).replace(line[2], rest))


@pytest.mark.parametrize("is_live", [True, False])
def test_a_flipped_bit_in_what_is_sealed_is_a_loss_by_name_and_the_rest_is_read(is_live: bool) -> None:
    card = Card()
    card.record(6)
    path = card.file()
    if is_live:  # the checksum sees it
        content = bytearray(card.contents()[path])
        content[content.index(b'"3":{"_c"') + 40] ^= 2
        card.put(path, bytes(content))
    else:
        tampered(card, 3)
    damages = list(OutboxReader(DIRECTORY, card.disk, SEALED).verify())
    assert [damage.path for damage in damages] == [path] * len(damages)
    assert damages
    card.open(SEALED)
    assert card.numbers() == [1, 2, 4, 5, 6]
    card.outbox.commit(card.now)
    told = [json.loads(entry.payload)["data"] for entry in card.outbox.read("gateway", 0, 10, 1 << 20)]
    assert [(one["reason"], one["first_sequence"], one["last_sequence"]) for one in told] == [("corrupt", 3, 3)]


def test_repair_leaves_out_what_was_not_sealed_there_and_needs_the_key() -> None:
    card = Card()
    card.record(6)
    card.outbox.close(card.now)
    card.disk.kill()
    tampered(card, 3)
    damages = list(OutboxReader(DIRECTORY, card.disk, SEALED).verify())
    with pytest.raises(OutboxSealed):
        repair(DIRECTORY, "/kept", damages, OutboxSettings(), card.disk, card.now, describe_loss)
    card.disk.kill()
    done = repair(DIRECTORY, "/kept", damages, OutboxSettings(), card.disk, card.now, describe_loss, sealing=SEALED)
    assert done.lost == 1
    reader = OutboxReader(DIRECTORY, card.disk, SEALED)
    assert list(reader.verify()) == []
    assert [entry.sequence for entry in reader.entries("beacon")] == [1, 2, 4, 5, 6]


def test_a_sealed_payload_opens_at_its_place_alone_and_no_two_are_alike() -> None:
    place = place_of("5be1c07a", "door", 7)
    sealed = SEALED.seal(secret(1), place)
    assert SEALED.open(sealed, place) == secret(1)
    for elsewhere in (("5be1c07b", "door", 7), ("5be1c07a", "shelf", 7), ("5be1c07a", "door", 8)):
        assert SEALED.open(sealed, place_of(*elsewhere)) is None
    assert ANOTHER.open(sealed, place) is None
    assert PLAIN.open(sealed, place) is None
    assert PLAIN.seal(secret(1), place) == PLAIN.open(secret(1), place) == secret(1)
    assert SEALED.seal(secret(1), place) != sealed
    for cut in range(len(sealed) - 2):
        assert SEALED.open(sealed[:cut] + b'"}', place) in (None, sealed[:cut] + b'"}')
    assert SEALED.open(b'{"_e":"\xff\xfe"}', place) is None


def test_the_largest_payload_is_sealed_and_read_back() -> None:
    card = Card()
    largest = b'{"x":"' + b"y" * (65536 - 8) + b'"}'
    card.outbox.append("beacon", largest, card.now)
    card.outbox.commit(card.now)
    assert card.open(SEALED).read("beacon", 0, 1, 1)[0].payload == largest
    assert list(OutboxReader(DIRECTORY, card.disk, SEALED).verify()) == []


def test_the_losses_of_a_file_that_leaves_are_named_again() -> None:
    card = Card()
    assert card.outbox.epoch <= LEAP_MAX
    loss = Loss("beacon", "full", 1, 2, 2)
    card.outbox.append("gateway", describe_loss(card.outbox.id, loss, card.now), card.now)
    card.outbox.commit(card.now)
    card.open(SEALED)
    assert [told for _, told in card.outbox._upkeep.losses.told] == [loss]


@pytest.mark.parametrize(
    "content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n", base64.b64encode(KEY) + b"\r\n"]
)
def test_a_key_is_32_bytes_raw_or_as_hex_or_base64(content: bytes) -> None:
    assert key_of(content) == KEY


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"secret",
        KEY[:31],
        KEY + b"\n",
        KEY.hex().encode()[:63],
        KEY.hex().encode()[:32],  # half a key, and yet 32 bytes
        base64.b64encode(KEY)[:32],
        b"correct horse battery staple 123",
        bytes(32),  # what a power cut leaves
        b"00" * 32,
        b"\xff" * 44,
    ],
)
def test_what_is_no_key_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        key_of(content)
