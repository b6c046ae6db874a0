"""The few calls by which the outbox touches the disk, so that a model disk can stand in their place.

Law: no other file of the outbox opens, writes or removes anything. What is not synced may be lost, torn or reordered
by a power cut: file contents are durable after `sync(fd)`, names (created, renamed, unlinked) after `sync_directory`.
Every call raises OSError; what stands under a name and is no regular file (a link, a FIFO, a folder) is `NotAFile`.
Safe to call from two threads (a reader and a writer).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from gateway.machine.owner import DIRECTORY_MODE, FILE_MODE, settle

# Neither a link that is followed nor a FIFO that is waited for: what is opened is looked at before it is believed.
_CAREFULLY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
HUNG_ADVICE = "look at dmesg; a restart of the machine may bring the card back; back it up and replace it"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NotAFile(OSError):
    """Something stands under this name that is no regular file: not ours, neither read, written nor removed."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "it is no regular file", path)


@dataclass(frozen=True, slots=True)
class Space:
    """Room of a file system, in bytes: what an ordinary user may still write, and the whole."""

    free_bytes: int
    total_bytes: int


class Disk(Protocol):
    """What the outbox needs of a disk; paths are absolute or relative to the process, offsets in bytes.

    `answers` is False while a call has not come back for too long, where somebody watches for that (`asker`).
    """

    @property
    def answers(self) -> bool: ...
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
    def lock(self, directory: str) -> int: ...
    def space(self, path: str) -> Space: ...
    def moved_to(self, directory: str) -> str | None: ...


class RealDisk:
    """The disk of this machine.

    While it holds a directory (`lock`), all below it is reached from there: moving it away disturbs nobody, and nothing
    is written into another one that came to its place.
    """

    answers = True
    _held: Mapping[str, int] = MappingProxyType({})

    def _at(self, path: str) -> tuple[str, int | None]:
        """Return the path as it is to be used, and the descriptor of the directory that it starts from."""
        for directory, fd in self._held.items():
            if path.startswith(directory) and path[len(directory) : len(directory) + 1] in ("/", ""):
                return path[len(directory) + 1 :] or ".", fd
        return path, None

    def open(self, path: str, create: bool = False) -> int:
        """Open for reading and writing; with `create` the file must not exist yet, and is the directory's owner's."""
        if not create:
            return self._opened(path, os.O_RDWR)
        name, at = self._at(path)
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFULLY, FILE_MODE, dir_fd=at)
        try:
            settle(fd, FILE_MODE, os.path.dirname(name), at)
        except OSError:
            os.close(fd)
            raise
        return fd

    def open_reading(self, path: str) -> int:
        return self._opened(path, os.O_RDONLY)

    def _opened(self, path: str, how: int) -> int:
        name, at = self._at(path)
        try:
            fd = os.open(name, how | _CAREFULLY, dir_fd=at)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise NotAFile(path) from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotAFile(path)
        return fd

    def close(self, fd: int) -> None:
        if fd in self._held.values():
            self._held = {directory: held for directory, held in self._held.items() if held != fd}
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
        name, at = self._at(path)
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile(path)
        return found.st_size

    def names(self, directory: str) -> list[str]:
        fd = self._folder(directory)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _folder(self, path: str) -> int:
        name, at = self._at(path)
        return os.open(name, _FOLDER, dir_fd=at)

    def make_directory(self, path: str) -> None:
        """Make it and what leads to it, each as its parent's owner would; one that exists is left alone."""
        name, at = self._at(path)
        above = os.path.dirname(path)
        try:
            os.mkdir(name, DIRECTORY_MODE, dir_fd=at)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=at).st_mode):
                raise
            return
        except FileNotFoundError:
            if above in ("", path):
                raise
            self.make_directory(above)
            self.make_directory(path)
            return
        fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
        try:
            settle(fd, DIRECTORY_MODE, os.path.dirname(name), at)
        finally:
            os.close(fd)

    def rename(self, path: str, to: str) -> None:
        name, at = self._at(path)
        name_to, at_to = self._at(to)
        os.rename(name, name_to, src_dir_fd=at, dst_dir_fd=at_to)

    def unlink(self, path: str) -> None:
        name, at = self._at(path)
        os.unlink(name, dir_fd=at)

    def sync_directory(self, path: str) -> None:
        fd = self._folder(path)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, directory: str) -> int:
        """Hold the directory until the returned descriptor is closed; BlockingIOError if another process holds it.

        The lock is on the directory itself: there is no file that could be deleted, and a read-only disk has one too.
        """
        fd = os.open(directory, _FOLDER)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        self._held = {**self._held, directory.rstrip("/") or "/": fd}
        return fd

    def space(self, path: str) -> Space:
        fd = self._folder(path)
        try:
            found = os.fstatvfs(fd)
        finally:
            os.close(fd)
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    def moved_to(self, directory: str) -> str | None:
        """Return where a held directory is now, None while its path leads to it; the kernel's word for a removed one.

        The same path is returned where something else has come to lie there, such as another mount.
        """
        fd = self._held.get(directory.rstrip("/") or "/")
        if fd is None:
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(directory), os.fstat(fd)):
                return None
        return os.readlink(f"/proc/self/fd/{fd}")


def refusal(directory: Path, within_s: float = 3.0) -> OSError | None:
    """Try to make a file without a name in `directory`, which leaves nothing behind; return what refuses it.

    The mounts do not tell: an ext4 that gave up after an error takes no file and is shown as writable (Linux 6.12, and
    Debian's 6.1; the lab's test_storage.py). None also where the file system knows no such files, or is merely full.
    ETIMEDOUT where it does not answer: it is asked by a process of its own, for one that waits for a hung disk cannot
    be ended, and whoever has such a thread does not end either.
    """
    try:
        asking = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TRY, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return error
    try:
        code = asking.wait(within_s)
    except subprocess.TimeoutExpired:
        asking.kill()
        return TimeoutError(errno.ETIMEDOUT, f"it has not answered for {within_s:g} s")
    if code in (0, errno.EOPNOTSUPP, errno.EISDIR, errno.ENOSPC, errno.EDQUOT):
        return None
    return OSError(code, os.strerror(code))


_TRY = f"""import os, sys
try:
    os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR, {FILE_MODE})
except OSError as error:
    sys.exit(error.errno)
"""
