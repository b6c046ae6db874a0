"""The format of a segment: one line a record, a checksum each, and in the end a file that stock TinyDB opens.

    {"_seg":{"1":{"_c":"1f0a77be","v":1,"outbox":"5be1c07a","stream":"door","epoch":26,"base":12345,...}},"door":{
     "12345":{"_c":"9a3b0c12","type":...}
    ,"12346":{"_c":"51d0aa07","type":...}
    }}

The name is `{base:016d}-{epoch:08x}.json`, the epoch of 8 digits or more. The key is the sequence; `_c` is the CRC-32
of `outbox:stream:epoch`, the key and what follows `_c` and its comma up to the newline. A new file is zeros behind its
last record; the last line comes when it is sealed and nothing depends on it. Leading zeros of a line are a hole, a line
whose checksum fails is skipped, a number not above the last one or not in the file's range is stale. A payload goes in
and out as bytes, never decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from gateway.machine.bounded import json_object
from gateway.machine.disk import Disk
from gateway.model import Instant, Stream, rfc3339
from gateway.outbox.sealing import AFTER, BEFORE, NONCE_BYTES, TAG_BYTES
from gateway.outbox.sectors import is_of_the_card, read_before, rest_of_sector

PAYLOAD_BYTES_MAX = 64 * 1024  # MQTT services take 128 KiB at most; an event has some 300 bytes
SEALED_BYTES_MAX = (NONCE_BYTES + PAYLOAD_BYTES_MAX + TAG_BYTES + 2) // 3 * 4 + len(BEFORE + AFTER)
LINE_BYTES_MAX = SEALED_BYTES_MAX + 64
LINE_OVERHEAD_BYTES = 24 + 16  # key, checksum and punctuation, at most
BEFORE_BYTES = len(',"":{"_c":"00000000",')  # of a line, without its key, before the payload goes on
CHUNK_BYTES = 64 * 1024
EPOCH_MAX = (1 << 53) - 1  # what JSON's readers hold exactly
BAD_SECTORS_MAX = 64  # one behind the other: each may cost a second, and what lies behind so many is no place to look
FOOTER = b"}}\n"
VERSION = 1

_NAME = re.compile(r"([0-9]{16})-([0-9a-f]{8,16})\.json")
_BEGIN = rb'[ ,]"([0-9]{1,16})":\{"_c":"([0-9a-f]{8})"([,}])'
_RECORD = re.compile(rb"\x00*" + _BEGIN)
_WITHIN = re.compile(_BEGIN)  # sought in a hole, zeros before it would be counted from each of its bytes
_HEADER = re.compile(rb'\{"_seg":\{"1":\{"_c":"([0-9a-f]{8})",(.*\})\},"([a-z]+)":\{')


def segment_name(base: int, epoch: int) -> str:
    """Return the file name of the segment whose first sequence is `base`."""
    return f"{base:016d}-{epoch:08x}.json"


def parse_name(name: str) -> tuple[int, int] | None:
    """Return (base, epoch) of a segment's file name; None where it is none, or no outbox has ever made it."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    base, epoch = int(found[1]), int(found[2], 16)
    return (base, epoch) if base and epoch <= EPOCH_MAX else None


def salt(outbox: str, stream: Stream, epoch: int) -> int:
    """Return the CRC of what a record does not say of itself, so that it is void in any other file."""
    return crc32(f"{outbox}:{stream}:{epoch}".encode())


def check_payload(payload: bytes) -> None:
    """Assert that the payload can be a record: a compact JSON object on one line, not too long."""
    is_object = payload[:2] in (b'{"', b"{}") and payload[-1] == 125
    if not is_object or len(payload) > PAYLOAD_BYTES_MAX or b"\n" in payload or payload[2:4] in (b"_c", b"_e"):
        assert len(payload) <= PAYLOAD_BYTES_MAX, f"payload of {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX}"
        assert is_object, "payload is not a compact JSON object"
        assert b"\n" not in payload, "payload has a newline"
        raise AssertionError("a field that begins with _c or _e: those names are the checksum's and the seal's")


def encode(seed: int, items: Iterable[tuple[int, bytes]], first: bool) -> bytes:
    """Return the lines of records (sequence, payload); `first` where the file has none before them."""
    lines = []
    for sequence, payload in items:
        key = b"%d" % sequence
        rest = payload[1:]
        line = b',"%b":{"_c":"%08x",%b\n' if rest != b"}" else b',"%b":{"_c":"%08x"%b\n'
        lines.append(line % (key, crc32(rest, crc32(key, seed)), rest))
    if first and lines:
        lines[0] = b" " + lines[0][1:]
    return b"".join(lines)


def encode_header(
    outbox: str, stream: Stream, epoch: int, base: int, now: Instant, keys: Collection[str] = ()
) -> bytes:
    """Return the first line of a segment; it carries what the name and directory say, and a checksum of its own.

    `keys` are the check values of the keys that may be needed to open what stands in it.
    """
    about: dict[str, Any] = {
        "v": VERSION,
        "outbox": outbox,
        "stream": stream,
        "epoch": epoch,
        "base": base,
        "created": rfc3339(now.wall_ns),
        "created_ms": now.wall_ns // 1_000_000,
        "clock": now.clock,
    }
    if keys:
        about["keys"] = sorted(keys)
    rest = json.dumps(about, separators=(",", ":"))[1:].encode()
    return b'{"_seg":{"1":{"_c":"%08x",%b},"%b":{\n' % (crc32(rest), rest, stream.encode())


def decode_header(line: bytes) -> dict[str, Any] | None:
    """Return what a segment says of itself; None where it is damaged or of an unknown version."""
    found = _HEADER.match(line)
    if found is None or crc32(found[2]) != int(found[1], 16):
        return None
    try:
        about = json_object(b"{" + found[2])
    except ValueError:
        return None
    return about if about.get("v") == VERSION else None


def payload_at(buffer: bytes, at: int, newline: int, sequence: int, seed: int) -> bytes | None:
    """Return the payload of the line `buffer[at:newline]` where it is the record `sequence` and its checksum holds."""
    key = b"%d" % sequence
    rest = buffer[at + len(key) + BEFORE_BYTES : newline]
    before = b',"%b":{"_c":"%08x",' % (key, crc32(rest, crc32(key, seed)))
    if rest and buffer.startswith(before, at):
        return b"{" + rest
    if buffer[at : at + 1] not in (b" ", b","):
        return None
    if rest and buffer.startswith(before[1:], at + 1):
        return b"{" + rest
    if buffer[at + 1 : newline] == b'"%b":{"_c":"%08x"}' % (key, crc32(b"}", crc32(key, seed))):
        return b"{}"
    return None


def line_of(sequence: int) -> bytes:
    """Return how the line of a record begins, with the newline before it."""
    return b'\n,"%d":{"_c":"' % sequence


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose checksum holds; `end` is the offset behind its newline."""

    sequence: int
    payload: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that are no record, and a sentence for the technician."""

    path: str
    offset: int
    detail: str


class Scan:
    """Iterates the valid records of a segment from `offset` on, in bounded memory; afterwards `damages` and `end`.

    `end` is the offset behind the last valid record (or header), `clean` whether only zeros or the footer follow it.
    A sector that cannot be read is passed over: `skipped` says that there was one since the record before, and
    `unread_bytes` how many bytes of such sectors follow the last record so closely that a record may stand in them.
    """

    def __init__(
        self,
        disk: Disk,
        fd: int,
        seed: int,
        first: int,
        last: int,
        offset: int = 0,
        path: str = "",
        audit: bool = False,
    ) -> None:
        self._disk, self._fd, self._seed, self._path = disk, fd, seed, path
        self._first, self._last, self._offset, self._audit = first, last, offset, audit
        self.damages: list[Damage] = []
        self.header: dict[str, Any] | None = None
        self.end = offset
        self.solid_end = offset  # behind the last byte that is not zero
        self.clean = True
        self.skipped = False
        self.unread_bytes = 0
        self._bad_sectors = 0  # running

    def __iter__(self) -> Iterator[Record]:
        buffer, at, position = b"", self._offset, self._offset
        while chunk := self._chunk(position, touches=bool(buffer)):
            position += len(chunk)
            buffer += chunk
            start = 0
            while (newline := buffer.find(b"\n", start)) >= 0:
                self.solid_end = at + newline + 1
                record = self._line(buffer[start:newline], at + start, at + newline + 1)
                for one in (record,) if isinstance(record, Record) else record:
                    yield one
                    self.skipped, self.unread_bytes = False, 0
                start = newline + 1
            rest = buffer[start:].lstrip(b"\0")
            at += len(buffer) - len(rest)
            buffer = rest
            if len(buffer) > LINE_BYTES_MAX + 1:
                self._damaged(at, f"{len(buffer)} bytes without the end of a record")
                self.solid_end = at + len(buffer)
                cut = len(buffer) - LINE_BYTES_MAX
                buffer, at = buffer[cut:], at + cut
        if tail := buffer.rstrip(b"\0"):
            self.solid_end = max(self.solid_end, at + len(tail))
            self._damaged(at, f"{len(tail)} bytes of a record that was not finished")

    def _chunk(self, position: int, touches: bool) -> bytes:
        """Read on; of a sector that cannot be read make zeros. `touches`: a record has begun before `position`."""
        try:
            chunk = read_before(self._disk, self._fd, CHUNK_BYTES, position)
            self._bad_sectors = 0
            return chunk
        except OSError as error:
            if not is_of_the_card(error) or self._bad_sectors >= BAD_SECTORS_MAX:
                raise
            why = error.strerror
        chunk = bytes(rest_of_sector(position))
        self._damaged(position, f"{len(chunk)} bytes cannot be read: {why}")
        if touches or position == self.end or (self._bad_sectors and self.unread_bytes):
            self.unread_bytes += len(chunk)
        self._bad_sectors += 1
        self.skipped = True
        self.solid_end = position + len(chunk)
        return chunk

    def _line(self, raw: bytes, at: int, end: int) -> Record | tuple[Record, ...]:
        sequence = self._first
        payload = payload_at(raw, 0, len(raw), sequence, self._seed) if sequence <= self._last else None
        if payload is not None:  # the next number in its place: no need to look for it
            self._first, self.end, self.clean = sequence + 1, end, True
            return Record(sequence, payload, end)
        record = self._record(raw, end)
        if record is not None:
            return record
        if at == 0:
            self.header = decode_header(raw)
            if self.header is not None:
                self.end = end
                return ()
        if raw == FOOTER[:-1]:
            return ()
        found = []
        for begin in _WITHIN.finditer(raw, 1):  # a lost newline joins a broken line to a whole one
            record = self._record(raw[begin.start() :], end)
            if record is not None:
                found.append(record)
                raw = raw[: begin.start()]
                break
        self._damaged(
            at,
            "the header cannot be read" if at == 0 else f"{len(raw)} bytes are no record, or one whose checksum fails",
        )
        return tuple(found)

    def _record(self, raw: bytes, end: int) -> Record | None:
        found = _RECORD.match(raw)
        if found is None:
            return None
        key, checksum, mark = found.groups()
        rest = raw[found.end() :] if mark == b"," else raw[found.end() - 1 :]
        if crc32(rest, crc32(key, self._seed)) != int(checksum, 16) or (mark == b"}" and rest != b"}"):
            return None
        sequence = int(key)
        if not self._first <= sequence <= self._last:
            return None
        self._first = sequence + 1
        self.end = end
        self.clean = True
        return Record(sequence, b"{" + rest, end)

    def _damaged(self, at: int, detail: str) -> None:
        self.clean = False
        if self._audit:
            self.damages.append(Damage(self._path, at, detail))
