"""A file in memory, seen through FUSE: what a block device above it is asked is logged, and slowed like a memory card.

Run as a process of its own (`python -m tests.blocks.fuse FD SIZE_BYTES`, of /dev/fuse), for a caller that waits for the
disk may hold what the answer needs; and outside of the mounts, for the last one to see them has to unmount what only
this one can answer for. It speaks the kernel's protocol itself (linux/fuse.h, 7.31): the root of the file system is the
one regular file, so there is nothing to look up.

Commands on standard input, a line each, a line in answer. `begin`, when it is mounted; `record`: log from here;
`position`: how many writes and flushes are logged; `dump PATH`: the file as it was at `record` and the log, pickled;
`slow WRITE_US BYTES_PER_S FLUSH_US`, all 0 for as fast as it goes; `counts`: writes, bytes, flushes so far;
`stall PER_MILLION LEAST_MS MOST_MS`: so many flushes take so long; `stall_once MS`: the next one does; `stalled`: how
many did.
It ends with its input, hence with its parent, and when it is unmounted.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import pickle
import random
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

WRITE_BYTES_MAX = 1 << 20
_BUFFER_BYTES = WRITE_BYTES_MAX + 4096
_FLAGS = 1 << 0 | 1 << 5 | 1 << 22  # ASYNC_READ, BIG_WRITES, MAX_PAGES
_KEEP_CACHE = 2
_FOREVER_S = 1 << 31

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_ATTR_OUT = struct.Struct("<QII6Q3I7I")
_IO = struct.Struct("<QQII")
_STATFS_OUT = struct.Struct("<5Q4I24x")

_GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE = 3, 4, 14, 15, 16, 17, 18
_FORGET, _FSYNC, _FLUSH, _INIT, _ACCESS, _INTERRUPT, _DESTROY, _BATCH_FORGET = 2, 20, 25, 26, 34, 36, 38, 42
_UNANSWERED = {_FORGET, _INTERRUPT, _BATCH_FORGET}


class Written(NamedTuple):
    """What the device was told to write; a flush is one at offset -1."""

    offset: int
    content: bytes


FLUSH = Written(-1, b"")
BEGIN = b"begin\n"
HARDWARE_PRIORITY = -15  # a card is not slower because the processor is busy


@dataclass(slots=True)
class Slowness:
    """What the card takes its time for."""

    write_s: float = 0.0
    bytes_per_s: float = 0.0
    flush_s: float = 0.0

    def write(self, count: int) -> None:
        if self.write_s:
            time.sleep(self.write_s + count / self.bytes_per_s)

    def flush(self) -> None:
        if self.flush_s:
            time.sleep(self.flush_s)


@dataclass(slots=True)
class Stalls:
    """Flushes that take long, by chance but the same each time, and one that is told to."""

    per_million: int = 0
    least_ms: int = 0
    most_ms: int = 0
    once_ms: int = 0
    count: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def flush(self) -> None:
        stall_ms, self.once_ms = self.once_ms, 0
        if self.chance.random() * 1_000_000 < self.per_million:
            stall_ms = max(stall_ms, self.chance.randint(self.least_ms, self.most_ms))
        if stall_ms:
            self.count += 1
            time.sleep(stall_ms / 1000)


class MemoryFile:
    """The file, its log, and the answers to the kernel."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.content = mmap.mmap(-1, size_bytes)
        self.log: list[Written] | None = None
        self.beginning = b""
        self.slowness, self.stalls = Slowness(), Stalls()
        self.writes = self.bytes = self.flushes = 0
        self._answers: dict[int, Callable[[memoryview], bytes | memoryview]] = {
            _INIT: self._init,
            _GETATTR: lambda _: self._attributes(),
            _SETATTR: lambda _: self._attributes(),
            _OPEN: lambda _: struct.pack("<QII", 1, _KEEP_CACHE, 0),
            _READ: self._read,
            _WRITE: self._write,
            _FSYNC: self._fsync,
            _STATFS: lambda _: _STATFS_OUT.pack(self.size_bytes >> 12, 0, 0, 1, 0, 4096, 255, 4096, 0),
            **dict.fromkeys((_RELEASE, _FLUSH, _ACCESS, _DESTROY), lambda _: b""),
        }

    def answer(self, request: memoryview) -> bytes | None:
        """Return the answer to one request of the kernel; None where it wants none."""
        _, opcode, unique, *_ = _IN.unpack_from(request)
        if opcode in _UNANSWERED:
            return None
        act = self._answers.get(opcode)
        if act is None:
            return _OUT.pack(_OUT.size, -errno.ENOSYS, unique)
        said = act(request[_IN.size :])
        return _OUT.pack(_OUT.size + len(said), 0, unique) + said

    def _init(self, asked: memoryview) -> bytes:
        _, _, readahead, flags = struct.unpack_from("<IIII", asked)
        pages = WRITE_BYTES_MAX // mmap.PAGESIZE
        return _INIT_OUT.pack(7, 31, readahead, flags & _FLAGS, 16, 12, WRITE_BYTES_MAX, 1, pages, 0, 0)

    def _attributes(self) -> bytes:
        sizes = (1, self.size_bytes, self.size_bytes >> 9, 0, 0, 0)
        return _ATTR_OUT.pack(_FOREVER_S, 0, 0, *sizes, 0, 0, 0, 0o100600, 1, 0, 0, 0, 4096, 0)

    def _read(self, asked: memoryview) -> bytes:
        _, offset, count, _ = _IO.unpack_from(asked)
        return self.content[offset : offset + count]

    def _write(self, asked: memoryview) -> bytes:
        _, offset, count, _ = _IO.unpack_from(asked)
        content = bytes(asked[40 : 40 + count])
        self.slowness.write(count)
        self.content[offset : offset + count] = content
        self.writes += 1
        self.bytes += count
        if self.log is not None:
            self.log.append(Written(offset, content))
        return struct.pack("<II", count, 0)

    def _fsync(self, asked: memoryview) -> bytes:
        self.slowness.flush()
        self.stalls.flush()
        self.flushes += 1
        if self.log is not None:
            self.log.append(FLUSH)
        return b""

    def obey(self, command: str) -> str:
        """Do what a line of standard input says, and return the line in answer."""
        name, *arguments = command.split()
        match name:
            case "position":
                return str(len(self.log or ()))
            case "record":
                self.beginning, self.log = bytes(self.content), []
            case "dump":
                with open(arguments[0], "wb") as file:
                    pickle.dump((self.beginning, [tuple(written) for written in self.log or ()]), file)
            case "slow":
                write_us, bytes_per_s, flush_us = (float(argument) for argument in arguments)
                self.slowness = Slowness(write_us / 1e6, bytes_per_s, flush_us / 1e6)
            case "stall":
                per_million, least_ms, most_ms = map(int, arguments)
                self.stalls = Stalls(per_million, least_ms, most_ms)
            case "stall_once":
                self.stalls.once_ms = int(arguments[0])
            case "stalled":
                return str(self.stalls.count)
            case "counts":
                return f"{self.writes} {self.bytes} {self.flushes}"
            case _:
                return f"unknown: {command}"
        return "done"


def serve(device: int, file: MemoryFile, commands: int, answers: int) -> None:
    """Answer the kernel and the parent until one of them is gone."""
    poll = select.poll()
    poll.register(device, select.POLLIN)
    poll.register(commands, select.POLLIN)
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    heard = b""
    while True:
        ready = dict(poll.poll())
        if device in ready:
            try:
                count = os.readv(device, [buffer])
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EAGAIN):
                    continue
                return  # ENODEV: unmounted
            said = file.answer(view[:count])
            if said is not None:
                with contextlib.suppress(FileNotFoundError):  # who asked was interrupted
                    os.write(device, said)
        elif commands in ready:
            got = os.read(commands, 4096)
            if not got:
                return
            *lines, heard = (heard + got).split(b"\n")
            for line in lines:
                os.write(answers, file.obey(line.decode()).encode() + b"\n")


def main() -> None:
    """Serve the file once it is mounted."""
    device, size_bytes = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and unmounts
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, HARDWARE_PRIORITY)
    file = MemoryFile(size_bytes)
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        if os.read(0, len(BEGIN)) == BEGIN:
            os.write(1, b"done\n")
            serve(device, file, 0, 1)


if __name__ == "__main__":
    main()
