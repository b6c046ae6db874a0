"""Jobs: what one act does to the disk, in its order.

Law: a job is a value, `run(disk)` its only deed. A writer (`writing`) runs them, one after the other as given.

| job | order |
| --- | --- |
| `Append` | (new file: create, allocate, header) records, zeros ahead, sync, (new file: sync the directory) |
| `Begin` | directories, state file, sync what was read, new state, sync, sync the directory |
| `Confirm` | sync what was read, where `Begin` cannot |
| `Save` | text into the slot named, sync where it says so |
| `Seal`, `Trim` | footer, truncate, close: cosmetic, its failure is forgotten |
| `LoadBallast` | create, allocate, sync; unlinked by an `Append` of stream `gateway` that finds the disk full |
| `Remove` | rename what is damaged, unlink the rest, sync the directories: what comes back would not be bounded |
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.machine.disk import Disk
from gateway.model import Stream
from gateway.outbox.record import FOOTER
from gateway.outbox.state import SLOT_BYTES

REFUSED_BYTES_MAX = 256 * 1024  # a file; one older file is kept beside it
FULL = (errno.ENOSPC, errno.EDQUOT)
RESERVE_PART = 20  # a twentieth of the file system stays free for everybody else...
RESERVE_BYTES_MAX = 64 << 20  # ...but not more than this


class Job(Protocol):
    """One act on the disk."""

    def run(self, disk: Disk) -> Any: ...


class NotCreated(OSError):
    """A new file could not be made, and no trace of it can come back: the file before it may still be written.

    Else it may not: were the empty file found after a power cut, its base would end the range of the one before.
    """


@dataclass(frozen=True, slots=True)
class Create:
    """A new segment of a given size; `keep_reserve` refuses it (ENOSPC) where the file system would be filled up."""

    path: str
    size_bytes: int
    header: bytes
    keep_reserve: bool = True
    ballast: str = ""  # given up where the disk is full: what names a loss must fit


@dataclass(frozen=True, slots=True)
class Append:
    """Records to write at `offset` of `fd`, or of a new file. Returns the descriptor; on an error it is closed."""

    stream: Stream
    fd: int
    offset: int
    content: bytes
    create: Create | None = None

    def run(self, disk: Disk) -> int:
        fd = self.fd if self.create is None else self._create(disk, self.create)
        try:
            if self.create is not None:
                self._allocate(disk, fd, self.create)
                disk.write_at(fd, self.create.header + self.content, 0)
            else:
                disk.write_at(fd, self.content, self.offset)
            disk.sync(fd)
            if self.create is not None:
                disk.sync_directory(os.path.dirname(self.create.path))
        except OSError as error:
            with contextlib.suppress(OSError):
                disk.close(fd)
            if self.create is not None:
                self._undo(disk, self.create, error)
            raise
        return fd

    @staticmethod
    def _allocate(disk: Disk, fd: int, create: Create) -> None:
        try:
            disk.allocate(fd, create.size_bytes)
        except OSError as error:
            if error.errno not in FULL or not create.ballast:
                raise
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(create.ballast)
            disk.allocate(fd, create.size_bytes)

    @staticmethod
    def _undo(disk: Disk, create: Create, error: OSError) -> None:
        """Take the name back; nothing in the file was reported to anybody. Only a synced name cannot come back."""
        try:
            disk.unlink(create.path)
            disk.sync_directory(os.path.dirname(create.path))
        except OSError:
            return
        raise NotCreated(error.errno, error.strerror, error.filename or create.path) from None

    @staticmethod
    def _create(disk: Disk, create: Create) -> int:
        if create.keep_reserve:
            space = disk.space(os.path.dirname(create.path))
            if space.free_bytes - create.size_bytes < min(RESERVE_BYTES_MAX, space.total_bytes // RESERVE_PART):
                raise NotCreated(errno.ENOSPC, "the reserve of free disk is reached", create.path)
        return disk.open(create.path, create=True)


@dataclass(frozen=True, slots=True)
class Save:
    """The state's text for one slot."""

    path: str
    slot: int
    text: bytes
    synced: bool

    def run(self, disk: Disk) -> None:
        fd = disk.open(self.path)
        try:
            disk.write_at(fd, self.text, self.slot * SLOT_BYTES)
            if self.synced:
                disk.sync(fd)
        finally:
            disk.close(fd)


@dataclass(frozen=True, slots=True)
class Confirm:
    """Whether what was read of `tails` is on the card: nothing is written, and a card that is read-only answers too.

    A clean one says yes. One whose file system has given up says EROFS: then a power cut may take back what is read.
    """

    tails: tuple[str, ...]

    def run(self, disk: Disk) -> None:
        for path in self.tails:
            fd = disk.open_reading(path)
            try:
                disk.sync(fd)
            finally:
                disk.close(fd)
            disk.sync_directory(os.path.dirname(path))


@dataclass(frozen=True, slots=True)
class Begin:
    """The first save of an opening: directories, the state file with both slots allocated, and the new epoch in it.

    What was read may still be only in memory (after a kill), so it is synced before the other slot is written: `tails`
    are the newest files that hold records of which no state says that they are durable. (What a failed sync of the last
    run, in the same boot, has left in memory alone looks like what is on the card.)
    """

    directory: str
    directories: tuple[str, ...]
    path: str
    slot: int
    text: bytes
    tails: tuple[str, ...] = ()

    def run(self, disk: Disk) -> None:
        for path in self.directories:
            disk.make_directory(path)
        with contextlib.suppress(PermissionError):  # not ours to open; then whoever made the directory has synced it
            disk.sync_directory(os.path.dirname(self.directory) or ".")
        Confirm(self.tails).run(disk)
        try:
            fd = disk.open(self.path)
        except FileNotFoundError:
            fd = disk.open(self.path, create=True)
        try:
            if disk.size(self.path) < 2 * SLOT_BYTES:
                disk.allocate(fd, 2 * SLOT_BYTES)
            disk.sync(fd)
            disk.write_at(fd, self.text, self.slot * SLOT_BYTES)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.sync_directory(self.directory)


@dataclass(frozen=True, slots=True)
class Trim:
    """The newest file as a crash left it: `end` is where its records end, `solid_end` where its bytes do.

    Zeros behind are given back; only where nothing else follows is the closing line written. Cosmetic, like `Seal`.
    """

    path: str
    end: int
    solid_end: int
    clean: bool

    def run(self, disk: Disk) -> int:
        size = self.end + len(FOOTER) if self.clean else self.solid_end
        fd = disk.open(self.path)
        try:
            if self.clean:
                disk.write_at(fd, FOOTER, self.end)
            disk.truncate(fd, size)
        finally:
            disk.close(fd)
        return size


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of a segment: the line that makes it a whole JSON file, at `offset`, and nothing behind it."""

    fd: int
    offset: int

    def run(self, disk: Disk) -> None:
        try:
            disk.write_at(self.fd, FOOTER, self.offset)
            disk.truncate(self.fd, self.offset + len(FOOTER))
        finally:
            disk.close(self.fd)


@dataclass(frozen=True, slots=True)
class Remove:
    """Files that a synced state no longer needs; those in `aside` are damaged and renamed to `*.bad` instead."""

    paths: tuple[str, ...]
    aside: tuple[str, ...] = ()

    def run(self, disk: Disk) -> None:
        for path in self.aside:
            with contextlib.suppress(FileNotFoundError):
                disk.rename(path, path + ".bad")
        for path in self.paths:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(path)
        for directory in sorted({os.path.dirname(path) for path in (*self.paths, *self.aside)}):
            disk.sync_directory(directory)


@dataclass(frozen=True, slots=True)
class LoadBallast:
    """A file of nothing that takes its room, so that it can be given up on a full disk. Returns whether it was made."""

    path: str
    size_bytes: int

    def run(self, disk: Disk) -> bool:
        with contextlib.suppress(FileNotFoundError):
            if disk.size(self.path) == self.size_bytes:
                return False
            disk.unlink(self.path)
        fd = disk.open(self.path, create=True)
        try:
            disk.allocate(fd, self.size_bytes)
            disk.sync(fd)
        except OSError:
            disk.unlink(self.path)
            raise
        finally:
            disk.close(fd)
        return True


@dataclass(frozen=True, slots=True)
class SetAside:
    """A line of `refused.jsonl`: what the broker refused, for a technician to find. Bounded by one older file."""

    path: str
    line: bytes
    bytes_max: int = REFUSED_BYTES_MAX

    def run(self, disk: Disk) -> None:
        try:
            fd = disk.open(self.path)
        except FileNotFoundError:
            fd = disk.open(self.path, create=True)
        try:
            end = disk.size(self.path)
            if end and end + len(self.line) > self.bytes_max:
                disk.rename(self.path, self.path + ".1")
                disk.close(fd)
                fd = disk.open(self.path, create=True)
                end = 0
            disk.write_at(fd, self.line, end)
            disk.sync(fd)
            disk.sync_directory(os.path.dirname(self.path))
        finally:
            disk.close(fd)
