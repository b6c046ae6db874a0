"""A memory card that keeps what was flushed and forgets at random what was not: a block server for QEMU (NBD).

Killing an emulator alone loses nothing that its guest has written, since the host's page cache has it. A card loses
what it had not finished. So writes lie in order in memory until the guest's kernel flushes; when the power is cut, each
that was not flushed is kept, dropped, or torn at a sector, by a seeded chance. What was flushed is always kept.

The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, fixed newstyle, simple replies.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

SECTOR_BYTES = 512
MAGIC, OPTION_MAGIC, REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
FIXED_NEWSTYLE = 1
OPT_EXPORT_NAME, OPT_ABORT, OPT_GO = 1, 2, 7
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, 0x80000001
HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM = 1, 4, 8, 32
FLAGS = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM
READ, WRITE, DISCONNECT, FLUSH, TRIM = 0, 1, 2, 3, 4
FUA = 1
EINVAL = 22
KEPT, DROPPED = 0.4, 0.8
"""Below the first a write is kept, below the second dropped, above it is torn."""
FLUSH_MAX_S = 0.15
"""A flush takes cards from some milliseconds to some hundred; in which the power may be cut."""
PENDING_MAX_BYTES = 64 << 20
"""A card's own buffer is far smaller; beyond it the oldest writes are done."""


class Card:
    """The card in a file; one machine at a time."""

    def __init__(self, image: Path, socket_path: Path, seed: int) -> None:
        self.image = image
        self.socket_path = socket_path
        self.random = random.Random(seed)
        self.pending: list[tuple[int, bytes]] = []
        self.pending_bytes = 0
        self.flushes = self.lost = self.torn = 0
        self.has_power = self.is_served = False
        self._file = os.open(image, os.O_RDWR)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(socket_path))
        self._server.listen()
        self._serving: threading.Thread | None = None

    @property
    def drive(self) -> str:
        """What QEMU calls it."""
        return f"nbd+unix:///?socket={self.socket_path}"

    def insert(self) -> None:
        """Wait for the next machine, in a thread that ends with it."""
        self.has_power, self.is_served = True, False
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def cut(self, kill: Callable[[], object]) -> int:
        """Cut the power of card and machine, which `kill` ends; returns how many writes were lost or torn."""
        assert self._serving is not None
        assert self.is_served, "the server had ended before the power was cut"
        self.has_power = False
        kill()
        self._serving.join(10)
        assert not self._serving.is_alive(), "the machine still has the card"
        before = self.lost + self.torn
        for offset, content in self.pending:
            chance = self.random.random()
            if chance < KEPT:
                os.pwrite(self._file, content, offset)
            elif chance < DROPPED or len(content) <= SECTOR_BYTES:
                self.lost += 1
            else:
                self.torn += 1
                sectors = self.random.randrange(1, len(content) // SECTOR_BYTES)
                os.pwrite(self._file, content[: sectors * SECTOR_BYTES], offset)
        self.pending.clear()
        self.pending_bytes = 0
        return self.lost + self.torn - before

    def await_write(self, within_s: float) -> None:
        """Wait until something was written and not flushed: then a cut has something to take."""
        until_s = time.monotonic() + within_s
        while not self.pending and time.monotonic() < until_s:
            time.sleep(0.0005)

    def close(self) -> None:
        """Give file and socket back; the machine is off, and what it wrote last may still be on its way."""
        self.has_power = False
        if self._serving is not None:
            self._serving.join(10)
        self._server.close()
        os.close(self._file)
        self.socket_path.unlink(missing_ok=True)

    # --- the protocol -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        link, _ = self._server.accept()
        with link, contextlib.suppress(EOFError, ConnectionError):
            self.is_served = True
            if self._agree(link):
                while self._answer(link):
                    pass
            self.is_served = False

    def _agree(self, link: socket.socket) -> bool:
        """Shake hands; returns whether the transmission begins."""
        link.sendall(MAGIC + OPTION_MAGIC + struct.pack(">H", FIXED_NEWSTYLE))
        taken(link, 4)
        size = os.fstat(self._file).st_size
        while True:
            _, option, length = struct.unpack(">8sII", taken(link, 16))
            taken(link, length)
            if option == OPT_EXPORT_NAME:
                link.sendall(struct.pack(">QH", size, FLAGS) + bytes(124))
                return True
            if option == OPT_GO:
                told = struct.pack(">HQH", 0, size, FLAGS)
                link.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REP_INFO, len(told)) + told)
                link.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REP_ACK, 0))
                return True
            if option == OPT_ABORT:
                return False
            link.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REP_ERR_UNSUP, 0))

    def _answer(self, link: socket.socket) -> bool:
        """Do one request; returns whether more may come."""
        _, flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", taken(link, 28))
        if not self.has_power:
            return False
        told, error = b"", 0
        if kind == READ:
            told = self._read(offset, length)
        elif kind == WRITE:
            self._write(offset, taken(link, length))
            if flags & FUA:
                self._flush()
        elif kind == FLUSH:
            self._flush()
        elif kind == DISCONNECT:
            return False
        elif kind != TRIM:
            error = EINVAL
        link.sendall(struct.pack(">IIQ", 0x67446698, error, cookie) + told)
        return True

    def _read(self, offset: int, length: int) -> bytes:
        """Read through what lies in memory."""
        content = bytearray(os.pread(self._file, length, offset).ljust(length, b"\0"))
        for at, written in self.pending:
            first, last = max(at, offset), min(at + len(written), offset + length)
            if first < last:
                content[first - offset : last - offset] = written[first - at : last - at]
        return bytes(content)

    def _write(self, offset: int, content: bytes) -> None:
        self.pending.append((offset, content))
        self.pending_bytes += len(content)
        while self.pending_bytes > PENDING_MAX_BYTES:
            at, oldest = self.pending.pop(0)
            os.pwrite(self._file, oldest, at)
            self.pending_bytes -= len(oldest)

    def _flush(self) -> None:
        time.sleep(self.random.uniform(0, FLUSH_MAX_S))
        if not self.has_power:
            raise EOFError
        for offset, content in self.pending:
            os.pwrite(self._file, content, offset)
        self.pending.clear()
        self.pending_bytes = 0
        self.flushes += 1


def taken(link: socket.socket, length: int) -> bytes:
    """Read exactly so many bytes; EOFError where the other side is gone."""
    parts = bytearray()
    while len(parts) < length:
        chunk = link.recv(min(length - len(parts), 1 << 20))
        if not chunk:
            raise EOFError
        parts += chunk
    return bytes(parts)
