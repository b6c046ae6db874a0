"""The few calls by which the outbox touches the disk, so that a model disk can stand in their place.

Law: no other file of the outbox opens, writes or removes anything. What is not synced may be lost, torn or reordered
by a power cut: file contents are durable after `sync(fd)`, names (created, renamed, unlinked) after `sync_directory`.
Every call raises OSError. Safe to call from two threads (a reader and a writer).
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o640  # the technician's group reads beside the daemon
DIRECTORY_MODE = 0o750


@dataclass(frozen=True, slots=True)
class Space:
    """Room of a file system, in bytes: what an ordinary user may still write, and the whole."""

    free_bytes: int
    total_bytes: int


class Disk(Protocol):
    """What the outbox needs of a disk; paths are absolute or relative to the process, offsets in bytes."""

    def open(self, path: str, create: bool = False) -> int: ...
    def open_reading(self, path: str) -> int: ...
    def close(self, fd: int) -> None: ...
    def write_at(self, fd: int, content: bytes, offset: int) -> None: ...
    def read_at(self, fd: int, count: int, offset: int) -> bytes: ...
    def sync(self, fd: int) -> None: ...
    def forget(self, fd: int) -> None: ...
    def allocate(self, fd: int, size_bytes: int) -> None: ...
    def truncate(self, fd: int, size_bytes: int) -> None: ...
    def size(self, path: str) -> int: ...
    def names(self, directory: str) -> list[str]: ...
    def make_directory(self, path: str) -> None: ...
    def rename(self, path: str, to: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def sync_directory(self, path: str) -> None: ...
    def lock(self, path: str) -> int: ...
    def space(self, path: str) -> Space: ...


class RealDisk:
    """The disk of this machine."""

    def open(self, path: str, create: bool = False) -> int:
        """Open for reading and writing; with `create` the file must not exist yet."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return os.open(path, flags, FILE_MODE)

    def open_reading(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write_at(self, fd: int, content: bytes, offset: int) -> None:
        """Write all of `content` at `offset`; after an error any part of it may have been written."""
        rest = memoryview(content)
        while rest:
            written = os.pwrite(fd, rest, offset)
            rest = rest[written:]
            offset += written

    def read_at(self, fd: int, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from `offset`; empty at the end of the file."""
        return os.pread(fd, count, offset)

    def sync(self, fd: int) -> None:
        """Make durable what was written; EROFS where the file system has become read-only under an open file.

        There ext4 reports success without writing anything (`ext4_sync_file`; seen after a forced remount).
        """
        os.fdatasync(fd)
        is_written = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if is_written and os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def forget(self, fd: int) -> None:
        """Drop what is cached of a synced file, so that the next read tells what the card holds."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def allocate(self, fd: int, size_bytes: int) -> None:
        """Reserve blocks and set the size; the new part reads as zeros."""
        os.posix_fallocate(fd, 0, size_bytes)

    def truncate(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def names(self, directory: str) -> list[str]:
        return os.listdir(directory)

    def make_directory(self, path: str) -> None:
        """Make it and what leads to it; one that exists is left alone."""
        os.makedirs(path, DIRECTORY_MODE, exist_ok=True)

    def rename(self, path: str, to: str) -> None:
        os.rename(path, to)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str) -> int:
        """Take the lock file until the returned descriptor is closed; BlockingIOError if another process has it."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a read-only disk can still be drained by one alone
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def space(self, path: str) -> Space:
        found = os.statvfs(path)
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def refusal(directory: Path) -> OSError | None:
    """Try to make a file without a name in `directory`, which leaves nothing behind; return what refuses it.

    The mounts do not tell: an ext4 that gave up after an error takes no file and is shown as writable (Linux 6.12, and
    Debian's 6.1; the lab's test_storage.py). None also where the file system knows no such files, or is merely full.
    """
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, FILE_MODE))
    except OSError as error:
        return None if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOSPC, errno.EDQUOT) else error
    return None
