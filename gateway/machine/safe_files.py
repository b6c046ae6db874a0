"""Files in folders that others may write: a card from a dead gateway, the service's own folders, a bundle.

Law: everything is reached from an opened folder, one name at a time, and no link is followed; what is read is a
regular file with this one name, on the folder's own file system, and no more of it than was asked for. The check is
made on what is open, so that a file swapped meanwhile changes nothing. What is written is new and gets its place by a
rename, so that no file which a planted name leads to is opened, truncated or given away.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.machine.bounded import open_regular, read_opened

NAMES_MAX = 100_000
"""In one folder; more are no folder of ours."""
BLOCK_BYTES = 1 << 20
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Folder:
    """An opened folder; `shown` is its path, for people only."""

    fd: int
    shown: str

    def folder(self, *names: str) -> Folder:
        """Open a folder below, each name in turn, no link followed. Raises OSError; the caller closes it."""
        fd = os.dup(self.fd)
        for name in names:
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return Folder(fd, os.path.join(self.shown, *names))

    def names(self) -> Sequence[str]:
        """Return the names in it, sorted. Raises OSError, also where there are more than a folder of ours has."""
        found: list[str] = []
        with os.scandir(self.fd) as entries:
            for entry in entries:
                if len(found) >= NAMES_MAX:
                    raise OSError(errno.EFBIG, f"it has more than {NAMES_MAX} names", self.shown)
                found.append(entry.name)
        return sorted(found)

    def kind(self, name: str) -> str:
        """Return what a name is: "" for a regular file that has no other name, else words. Raises OSError."""
        found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        return _kind(found, os.fstat(self.fd).st_dev)

    def size(self, name: str) -> int:
        """Return the size of what has this name, no link followed, in bytes. Raises OSError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_size

    def open(self, name: str) -> int:
        """Open a regular file for reading; the caller closes it. Raises OSError that says what it is instead."""
        fd = open_regular(name, follow=False, directory=self.fd)
        if kind := _kind(os.fstat(fd), os.fstat(self.fd).st_dev):
            os.close(fd)
            raise OSError(errno.EINVAL, f"it is {kind}", os.path.join(self.shown, name))
        return fd

    def read(self, name: str, bytes_max: int) -> bytes:
        """Return a whole regular file of `bytes_max` at most. Raises OSError."""
        return read_opened(self.open(name), bytes_max, os.path.join(self.shown, name))

    def write(self, name: str, content: bytes, mode: int, *, replace: bool = True) -> None:
        """Put a file in place whole, synced, with this mode whatever the umask; without `replace` it must be new.

        What had the name before, a link too, is replaced and never opened. Raises OSError.
        """
        fresh = f".{name[:64]}.{secrets.token_hex(4)}"
        fd = self._create(fresh)
        try:
            os.fchmod(fd, mode)
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
            if replace:
                os.rename(fresh, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            else:
                os.link(fresh, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
                os.unlink(fresh, dir_fd=self.fd)
            os.fsync(self.fd)
        except OSError:
            self.remove(fresh)
            raise
        finally:
            os.close(fd)

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Take a name away, a link itself and not what it leads to; what cannot be removed stays."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.fd)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


@contextmanager
def opened(path: Path | str) -> Iterator[Folder]:
    """Open a folder that a person or the configuration named, and close it at the end. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Folder(fd, str(path))
    finally:
        os.close(fd)


def shown(name: str) -> str:
    """Return a foreign name as it may be printed: one line of printable characters, not too long."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name[:128]) + ("..." if name[128:] else "")


def _kind(found: os.stat_result, device: int) -> str:
    if not stat.S_ISREG(found.st_mode):
        return KINDS.get(stat.S_IFMT(found.st_mode), "no file")
    if found.st_nlink > 1:
        return "a file with another name elsewhere (a hard link)"
    return "" if found.st_dev == device else "on another file system"
