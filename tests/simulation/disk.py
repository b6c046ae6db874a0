"""A disk that keeps only what was synced, and is otherwise as impolite as a cheap SD card in a power cut.

Every file has two images: what the program sees, and what the card holds. Writes and sizes wait in a list until `sync`;
names (created, renamed, unlinked, directories too) wait until `sync_directory`. At a power cut each file keeps none,
all, a prefix or a random choice of the sectors written since, some of them as random bytes; each waiting name is
kept or lost. On top: the n-th mutating call is the last (the cut comes before it, inside it or after it), any call
fails with EIO, a failed sync forgets what it did not write although reads still show it, the disk is full, or
read-only. All from a seed.
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from gateway.machine.disk import Space
from tests.simulation.inode import File, put, resize

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """The machine dies here; no `except Exception` may survive it."""


def _directory_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


class ModelDisk:
    """See the module. `capacity_bytes` bounds what all files take; None: never full."""

    answers = True

    def __init__(self, random: Random, capacity_bytes: int | None = None) -> None:
        self.random = random
        self.capacity_bytes = capacity_bytes
        self.read_only = False
        self.sync_error_chance = 0.0
        self.write_error_chance = 0.0
        self.read_error_chance = 0.0
        self.away: str | None = None  # a folder that is not to be found now
        self.is_denied = False  # some file may not be opened now
        self.hangs_until_ns = 0  # a writer of its own gets no answer before
        self.noticed: Callable[[File], None] = lambda file: None  # a read of a file has met what cannot be read
        self.calls = 0  # mutating calls so far
        self.cut_at: int | None = None  # the mutating call at which the machine dies
        self.fail_at: dict[int, int] = {}  # mutating call -> errno
        self.history: list[str] = []  # names of the mutating calls, for a table of crash points
        self._files: dict[str, File] = {}
        self._held_files: dict[str, File] = {}
        self._directories: set[str] = {"/"}
        self._held_directories: set[str] = {"/"}
        self._names_waiting: dict[str, list[tuple[str, str, Any]]] = {}
        self._fds: dict[int, tuple[str, File]] = {}
        self._locks: dict[int, str] = {}
        self._next_fd = 3

    # What happens to the machine.

    def power_cut(self) -> None:
        """Lose what a card may lose, and start again with what it holds; open files and locks are gone."""
        for directory, waiting in self._names_waiting.items():
            for act in waiting:
                if self.random.random() < 0.5:
                    self._apply_name(directory, act)
        self._names_waiting.clear()
        self._held_directories = {
            path for path in self._held_directories if path == "/" or _directory_of(path) in self._held_directories
        }
        self._held_files = {
            path: file for path, file in self._held_files.items() if _directory_of(path) in self._held_directories
        }
        for inode in {id(file): file for file in self._held_files.values()}.values():
            self._keep_some(inode)
            inode.seen = bytearray(inode.held)
        self._files = dict(self._held_files)
        self._directories = set(self._held_directories)
        self.kill()
        self.cut_at = None

    def kill(self) -> None:
        """End the process only: everything written stays, descriptors and locks go. The next one finds its folders."""
        self.away = None
        self._fds.clear()
        self._locks.clear()

    def heal(self) -> None:
        """Let every call succeed from now on."""
        self.sync_error_chance = self.write_error_chance = 0.0
        self.read_only = False
        self.capacity_bytes = None
        self.fail_at.clear()

    def image(self, random: Random) -> ModelDisk:
        """Return a healthy card with what this one holds: copied while it runs, as a power cut would leave it."""
        noticed, self.noticed = self.noticed, lambda file: None
        copied = copy.deepcopy(self)
        self.noticed = noticed
        copied.random = random
        copied.heal()
        copied.mend()
        for file in {**copied._files, **copied._held_files}.values():
            file.bad_for_ever = []
        copied.power_cut()
        return copied

    def used_bytes(self) -> int:
        return sum(len(file.seen) for file in self._files.values())

    def paths(self) -> list[str]:
        """Return the files as the program sees them."""
        return sorted(self._files)

    def content(self, path: str) -> bytearray:
        """Return what the program sees of a file."""
        return self._files[path].seen

    def damage(self, path: str, change: Callable[[bytearray], None]) -> None:
        """Change a file behind everybody's back, on the card and in memory."""
        file = self._files[path]
        change(file.seen)
        file.held = bytearray(file.seen)
        file.waiting.clear()

    def make_unreadable(self, path: str) -> None:
        """Let every read of the file fail with EIO."""
        self.spoil(path, 0, 1 << 40)

    def spoil(self, path: str, start: int, end: int, for_ever: bool = False) -> File:
        """Let every read that touches these bytes fail with EIO."""
        file = self._files[path]
        (file.bad_for_ever if for_ever else file.bad).append((start, end))
        return file

    def deny(self, path: str, number: int = errno.EACCES) -> None:
        """Let every opening of the file fail, as with another owner."""
        self._files[path].denied = number
        self.is_denied = True

    def allow(self) -> None:
        """Let every file be opened again."""
        for file in (*self._files.values(), *self._held_files.values()):
            file.denied = 0
        self.away, self.is_denied = None, False

    def mend(self) -> None:
        """Let every file be opened again, read where it is not bad for ever, and written at once."""
        self.allow()
        self.hangs_until_ns = 0
        for file in (*self._files.values(), *self._held_files.values()):
            file.bad.clear()

    def copy(self, path: str, to: str) -> None:
        """Let a file be there a second time, as a damaged directory may show it."""
        self._files[to] = self._held_files[to] = File(
            bytearray(self._files[path].seen), bytearray(self._files[path].seen)
        )

    def lose(self, path: str) -> None:
        """Let a file vanish from the card."""
        self._files.pop(path)
        self._held_files.pop(path, None)

    def _keep_some(self, file: File) -> None:
        mode = self.random.choice(("none", "all", "prefix", "some", "some"))
        waiting, file.waiting = file.waiting, []
        if mode == "none":
            return
        if mode == "prefix":
            waiting = waiting[: self.random.randrange(len(waiting) + 1)]
        for offset, content in waiting:
            if content is None:
                if mode != "some" or self.random.random() < 0.6:
                    resize(file.held, offset)
            elif mode != "some":
                put(file.held, offset, content)
            else:
                self._put_some(file.held, offset, content)

    def _put_some(self, image: bytearray, offset: int, content: bytes) -> None:
        sector = self.random.choice((SECTOR_BYTES, 8 * SECTOR_BYTES))
        at = offset
        while at < offset + len(content):
            end = min((at // sector + 1) * sector, offset + len(content))
            dice = self.random.random()
            if dice < 0.6:
                put(image, at, content[at - offset : end - offset])
            elif dice < 0.66:
                put(image, at, self.random.randbytes(end - at))
            at = end

    def _apply_name(self, directory: str, act: tuple[str, str, Any]) -> None:
        kind, path, value = act
        if kind == "create":
            self._held_files[path] = value
        elif kind == "unlink":
            self._held_files.pop(path, None)
        elif kind == "directory":
            self._held_directories.add(path)
        elif path in self._held_files:
            self._held_files[value] = self._held_files.pop(path)

    @contextmanager
    def _mutating(
        self, name: str, partly: Callable[[float], None] | None = None, needed: bool = True
    ) -> Iterator[None]:
        self.calls += 1
        self.history.append(name)
        if self.cut_at is not None and self.calls >= self.cut_at:
            when = self.random.random()
            if when < 0.4:
                raise PowerCut
            if partly is not None and when < 0.7:
                partly(self.random.random())
                raise PowerCut
            yield
            raise PowerCut
        if self.read_only and needed:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if self.calls in self.fail_at:
            code = self.fail_at[self.calls]
            if partly is not None:
                partly(self.random.random())
            raise OSError(code, os.strerror(code))
        yield

    # The calls of gateway.machine.disk.Disk.

    def _name(self, act: tuple[str, str, Any]) -> None:
        self._names_waiting.setdefault(_directory_of(act[1]), []).append(act)

    def _find(self, path: str) -> File:
        if path not in self._files or self._is_away(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._files[path]

    def _is_away(self, path: str) -> bool:
        return self.away is not None and (path == self.away or path.startswith(f"{self.away}/"))

    def _open(self, path: str, file: File) -> int:
        if file.denied:
            raise OSError(file.denied, os.strerror(file.denied), path)
        self._next_fd += 1
        self._fds[self._next_fd] = (path, file)
        return self._next_fd

    def open(self, path: str, create: bool = False) -> int:
        if not create:
            file = self._find(path)
            if self.read_only:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
            return self._open(path, file)
        with self._mutating("create"):
            if path in self._files:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            if _directory_of(path) not in self._directories:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            file = self._files[path] = File()
            self._name(("create", path, file))
        return self._open(path, file)

    def open_reading(self, path: str) -> int:
        return self._open(path, self._find(path))

    def close(self, fd: int) -> None:
        if fd in self._locks:
            del self._locks[fd]
        else:
            del self._fds[fd]

    def write_at(self, fd: int, content: bytes, offset: int) -> None:
        file = self._fds[fd][1]

        def partly(part: float) -> None:
            some = content[: int(part * len(content))]
            put(file.seen, offset, some)
            file.waiting.append((offset, some))

        with self._mutating("write", partly):
            if self.random.random() < self.write_error_chance:
                partly(self.random.random())
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._grow(max(0, offset + len(content) - len(file.seen)), partly)
            put(file.seen, offset, content)
            file.waiting.append((offset, bytes(content)))

    def _grow(self, by: int, partly: Callable[[float], None] | None = None) -> None:
        if by and self.capacity_bytes is not None and self.used_bytes() + by > self.capacity_bytes:
            if partly is not None:
                partly(self.random.random())
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read_at(self, fd: int, count: int, offset: int) -> bytes:
        file = self._fds[fd][1]
        if any(start < offset + count and offset < end for start, end in (*file.bad, *file.bad_for_ever)) or (
            self.read_error_chance and self.random.random() < self.read_error_chance
        ):
            self.noticed(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return bytes(file.seen[offset : offset + count])

    def sync(self, fd: int) -> None:
        file = self._fds[fd][1]

        def partly(part: float) -> None:
            self._keep_some(file)

        with self._mutating("sync", partly, needed=bool(file.waiting)):
            if self.random.random() < self.sync_error_chance:
                self._keep_some(file)  # the rest is forgotten, and reads still show it
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            for offset, content in file.waiting:
                if content is None:
                    resize(file.held, offset)
                else:
                    put(file.held, offset, content)
            file.waiting.clear()

    def forget(self, fd: int) -> None:
        file = self._fds[fd][1]
        if not file.waiting:
            file.seen = bytearray(file.held)

    def allocate(self, fd: int, size_bytes: int) -> None:
        file = self._fds[fd][1]
        with self._mutating("allocate"):
            self._grow(max(0, size_bytes - len(file.seen)))
            if size_bytes > len(file.seen):
                resize(file.seen, size_bytes)
                file.waiting.append((size_bytes, None))

    def truncate(self, fd: int, size_bytes: int) -> None:
        file = self._fds[fd][1]
        with self._mutating("truncate"):
            resize(file.seen, size_bytes)
            file.waiting.append((size_bytes, None))

    def size(self, path: str) -> int:
        return len(self._find(path).seen)

    def names(self, directory: str) -> list[str]:
        if directory not in self._directories or self._is_away(directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        found = [path for path in (*self._files, *self._directories) if _directory_of(path) == directory]
        names = [os.path.basename(path) for path in found if path != "/"]
        self.random.shuffle(names)
        return names

    def make_directory(self, path: str) -> None:
        if path in self._directories:
            return
        self.make_directory(_directory_of(path))
        with self._mutating("make_directory"):
            self._directories.add(path)
            self._name(("directory", path, None))

    def rename(self, path: str, to: str) -> None:
        with self._mutating("rename"):
            self._files[to] = self._find(path)
            del self._files[path]
            self._name(("rename", path, to))

    def unlink(self, path: str) -> None:
        with self._mutating("unlink"):
            self._find(path)
            del self._files[path]
            self._name(("unlink", path, None))

    def sync_directory(self, path: str) -> None:
        with self._mutating("sync_directory", needed=bool(self._names_waiting.get(path))):
            if self.random.random() < self.sync_error_chance:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            for act in self._names_waiting.pop(path, ()):
                self._apply_name(path, act)

    def lock(self, directory: str) -> int:
        if directory in self._locks.values():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), directory)
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        self._next_fd += 1
        self._locks[self._next_fd] = directory
        return self._next_fd

    def moved_to(self, directory: str) -> str | None:
        return None

    def space(self, path: str) -> Space:
        if self.capacity_bytes is None:
            return Space(1 << 40, 1 << 41)
        return Space(max(0, self.capacity_bytes - self.used_bytes()), self.capacity_bytes)
