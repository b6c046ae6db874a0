"""The state file: what is acknowledged, where numbers go on, and the engine's memory, in two slots.

    state.ack    2 slots of 16 KiB, each one line "%08x {json}\n", the CRC-32 of the JSON text; the newest valid wins

Law: a save never goes to the slot that the last synced save went to, and only a synced save changes which one that is:
so a torn save costs at most what was saved since. `next` is the last durable sequence + 1, never an un-synced one, or a
power cut would leave a silent hole. An interval over a file that was removed (`gone`) is never left out. The room of
both slots is reserved: what finds no room for a record of its own (`owed`) is still kept here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any
from zlib import crc32

from gateway.machine.bounded import json_object
from gateway.machine.disk import Disk
from gateway.model import STREAMS, Loss, Stream
from gateway.outbox.intervals import NUMBER_MAX, Intervals, Run
from gateway.outbox.record import EPOCH_MAX
from gateway.outbox.sectors import is_of_the_card, read_before

STATE_NAME = "state.ack"
SLOT_BYTES = 16 * 1024
INTERVALS_MAX = 64  # a stream; more cost duplicates after a restart, not losses
GONE_MAX = 16  # a stream; more are not removed out of order
OWED_MAX = 16  # a stream; of more the lower ones are found missing at the opening, and named all the same
DAMAGED_MAX = 16  # a stream; a file forgotten here is removed when it is acknowledged, like a whole one

_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream: next sequence, acknowledged (or lost and named) numbers, removed files, and what `memory` knows.

    `damaged` are the bases of files to set aside instead of removing them; `owed` numbers that were given and never
    written, and of whose loss there is no record yet.
    """

    next: int = 1
    through: int = 0
    acked: tuple[Run, ...] = ()
    gone: tuple[Run, ...] = ()
    mark: int = 0
    damaged: tuple[int, ...] = ()
    owed: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedState:
    """Everything that is saved at once."""

    generation: int
    outbox: str
    epoch: int
    clean: bool = False
    streams: Mapping[Stream, StreamState] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    told: tuple[tuple[int, Loss], ...] = ()  # losses by the sequence of their record, which nobody acknowledged yet
    keys: tuple[str, ...] = ()  # check values of the keys that something in the outbox may be sealed with


def encode_state(state: SavedState) -> bytes:
    """Write the state as the text of one slot, leaving out the smallest intervals where they are too many."""
    for keep in (INTERVALS_MAX, 48, 32, 16, 8, 0):
        text = _text(state, keep)
        if len(text) <= SLOT_BYTES:
            return text
    raise AssertionError(f"state of {len(text)} bytes, a slot has {SLOT_BYTES}")


def _text(state: SavedState, keep: int) -> bytes:
    streams = {}
    for name, stream in state.streams.items():
        acked = Intervals(stream.through, stream.acked)
        gone = Intervals(0, stream.gone)
        if len(acked) > keep:
            acked.forget_smallest(keep, lambda run, gone=gone: gone.count(*run) > 0)  # type: ignore[misc]
        streams[name] = {"next": stream.next, "through": acked.through, "acked": acked.runs, "mark": stream.mark}
        if stream.gone:
            streams[name]["gone"] = stream.gone
        if stream.damaged:
            streams[name]["damaged"] = stream.damaged[-DAMAGED_MAX:]
        if stream.owed:
            streams[name]["owed"] = stream.owed[-OWED_MAX:]
    about = {
        "g": state.generation,
        "outbox": state.outbox,
        "epoch": state.epoch,
        "clean": state.clean,
        "streams": streams,
        "counters": dict(state.counters),
        "told": [[sequence, *astuple(loss)] for sequence, loss in state.told],
        "memory": state.memory,
        "keys": state.keys,
    }
    text = json.dumps(about, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %b\n" % (crc32(text), text)


def decode_state(slot: bytes) -> SavedState | None:
    """Read one slot; None where it holds no whole state."""
    line, newline, _ = slot.partition(b"\n")
    if not newline or line[8:9] != b" " or line[:8] != b"%08x" % crc32(line[9:]):
        return None
    try:
        about = json_object(line[9:])
        streams: dict[Stream, StreamState] = {}
        for name in STREAMS:
            found = about["streams"].get(name, {})
            acked = Intervals(int(found.get("through", 0)), [(int(a), int(b)) for a, b in found.get("acked", ())])
            gone = tuple((int(first), int(last)) for first, last in found.get("gone", ()))
            place = int(found.get("next", 1)), acked.through, tuple(acked.runs), gone, int(found.get("mark", 0))
            owed = Intervals(0, [(int(first), int(last)) for first, last in found.get("owed", ())])
            damaged = tuple(int(base) for base in found.get("damaged", ()))
            streams[name] = StreamState(*place, damaged, tuple(owed.within(1, NUMBER_MAX)))
        outbox = str(about["outbox"])
        if not _ID.fullmatch(outbox) or not 0 < int(about["epoch"]) <= EPOCH_MAX:
            return None
        counters = {str(key): int(count) for key, count in about.get("counters", {}).items()}
        memory = dict(about.get("memory", {}))
        told = tuple((int(sequence), Loss(*loss)) for sequence, *loss in about.get("told", ()))
        place_in_time = int(about["g"]), outbox, int(about["epoch"]), bool(about.get("clean"))
        keys = tuple(str(key) for key in about.get("keys", ()))
        return SavedState(*place_in_time, streams, memory, counters, told, keys)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class Slots:
    """The newest whole state of the file, the slot it stands in, and whether anything was ever written."""

    state: SavedState | None
    slot: int
    written: bool


def read_slots(disk: Disk, path: str) -> Slots:
    """Read both slots; OSError where the file cannot be read, an empty result where it does not exist."""
    try:
        fd = disk.open_reading(path)
    except FileNotFoundError:
        return Slots(None, 1, False)
    try:
        texts = []
        for slot in (0, 1):
            try:
                texts.append(read_before(disk, fd, SLOT_BYTES, slot * SLOT_BYTES))
            except OSError as error:
                if not is_of_the_card(error):
                    raise
                texts.append(b"?")  # a sector that cannot be read must not take the other slot with it
    finally:
        disk.close(fd)
    states = [decode_state(text) for text in texts]
    whole = [(state.generation, slot, state) for slot, state in enumerate(states) if state is not None]
    written = any(text.count(0) < len(text) for text in texts)
    if not whole:
        return Slots(None, 1, written)
    _, slot, state = max(whole, key=lambda found: found[:2])
    return Slots(state, slot, written)
