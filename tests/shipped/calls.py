"""What this process really asks of the disk: every call below a folder, in order, and what a power cut would leave.

Law of the model: content is on the card after a sync of its file that succeeded, as it was then; a name after a sync of
its folder, or at any moment before, for a journal goes when it likes: so `cuts` gives both ends, names as late and as
early as may be. What a failed sync was to write is gone for good, also for a later sync (Linux takes the pages for
clean). The calls are caught in `os` and `io`, below everything of ours, so that nothing of ours can only say it syncs.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Inode = tuple[int, int]
Names = dict[Inode, dict[str, Inode]]
"""Of each folder, whatever it is called: what lies in it."""
Tree = dict[str, bytes]
"""Files by their path below the folder."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its name, the path below the folder (of a descriptor too), and what else it was given."""

    name: str
    path: str
    rest: tuple[Any, ...] = ()


def inode_of(path: Path | str | int) -> Inode:
    """Return which file or folder it is, whatever its name."""
    about = os.stat(path)
    return about.st_dev, about.st_ino


class Calls:
    """Records while entered. `fail(call)` may return an errno that the call is to end with, instead of being made."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder.resolve()
        self.made: list[Call] = []
        self.fail: Callable[[Call], int | None] = lambda call: None
        self.each: Callable[[Call], None] = lambda call: None
        self._patch = patch
        self._real = {name: getattr(os, name) for name in (*WATCHED, "dup", "pread", "listdir", "scandir")}
        self._open = io.open
        self._held: dict[Inode, int] = {}  # a descriptor of each file, so that no inode number comes twice
        self._safe: dict[Inode, bytes] = {}
        self._spoiled: dict[Inode, bytes] = {}
        self._names: Names = {}
        self._asks = 0

    def __enter__(self) -> Calls:
        for where, _, _ in os.walk(self.folder):
            self._names[inode_of(where)] = self._listed(where, trusted=True)
        for name in WATCHED:
            self._patch.setattr(os, name, self._caught(name))
        self._patch.setattr(io, "open", self._opened)
        self._patch.setattr(builtins, "open", self._opened)
        return self

    def __exit__(self, *exception: object) -> None:
        self._patch.undo()
        for descriptor in self._held.values():
            os.close(descriptor)

    def names(self, *only: str) -> list[str]:
        """Return the names of the calls so far, of those in `only`."""
        return [call.name for call in self.made if not only or call.name in only]

    def of(self, name: str) -> list[Call]:
        return [call for call in self.made if call.name == name]

    # What a power cut would leave.

    def cuts(self) -> Iterator[Tree]:
        """Yield what a power cut now could leave: the names as last synced, and as they are."""
        yield self._tree(self._names)
        yield self._tree({inode_of(where): self._listed(where) for where, _, _ in self._walk()})

    def safe(self) -> Tree:
        """Return what survives a power cut now in any case."""
        return self._tree(self._names)

    def now(self) -> Tree:
        """Return what is read now."""
        found: Tree = {}
        for where, _, names in self._walk():
            for name in names:
                with self._open(os.path.join(where, name), "rb") as file:
                    found[self._below(os.path.join(where, name))] = file.read()
        return found

    def _tree(self, names: Names) -> Tree:
        found: Tree = {}
        reached = [("", inode_of(self.folder))]
        while reached:
            where, folder = reached.pop()
            for name, inode in names.get(folder, {}).items():
                path = os.path.join(where, name)
                if inode in self._safe:
                    found[path] = self._safe[inode]
                else:
                    reached.append((path, inode))
        return found

    def _walk(self) -> Iterator[tuple[str, list[str], list[str]]]:
        self._asks += 1
        try:
            yield from os.walk(self.folder)
        finally:
            self._asks -= 1

    def _below(self, path: str) -> str:
        below = os.path.relpath(os.path.realpath(os.path.dirname(path)), self.folder)
        name = os.path.basename(path)
        full = os.path.normpath(os.path.join(below, name))
        return "" if os.path.realpath(path) == str(self.folder) else full

    def _is_ours(self, path: str) -> bool:
        return path == str(self.folder) or os.path.realpath(path).startswith(f"{self.folder}{os.sep}")

    def _listed(self, where: str, trusted: bool = False) -> dict[str, Inode]:
        found = {}
        for name in self._real["listdir"](where):
            path = os.path.join(where, name)
            about = os.lstat(path)
            found[name] = (about.st_dev, about.st_ino)
            if os.path.isfile(path) and not os.path.islink(path):
                self._know(path, trusted)
        return found

    def _know(self, path: str, trusted: bool) -> None:
        inode = inode_of(path)
        if inode not in self._held:
            self._held[inode] = self._real["open"](path, os.O_RDONLY)
            self._safe[inode] = self._content(self._held[inode]) if trusted else b""

    def _content(self, descriptor: int) -> bytes:
        return bytes(self._real["pread"](descriptor, os.fstat(descriptor).st_size, 0))

    # The calls.

    def _path_of(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> str | None:
        first = arguments[0]
        if isinstance(first, int):
            try:
                return os.readlink(f"/proc/self/fd/{first}")
            except OSError:
                return None
        dir_fd = options.get("dir_fd", options.get("src_dir_fd"))
        path = os.fsdecode(os.fspath(first))
        if dir_fd is not None:
            return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        return os.path.abspath(path)

    def _caught(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*arguments: Any, **options: Any) -> Any:
            path = None if self._asks or not arguments else self._path_of(name, arguments, options)
            if path is None or not self._is_ours(path):
                return real(*arguments, **options)
            made = Call(name, self._below(path), (*arguments[1:], *options.values()))
            if (number := self.fail(made)) is not None:
                self._failed(made, arguments)
                raise OSError(number, os.strerror(number), path)
            result = real(*arguments, **options)
            self._take(made, path, arguments)
            return result

        return call

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        is_write = set(mode) & set("wax+") and not isinstance(file, int)
        path = os.path.abspath(os.fsdecode(os.fspath(file))) if is_write else ""
        if self._asks or not is_write or not self._is_ours(path):
            return self._open(file, mode, *arguments, **options)
        made = Call("open", self._below(path), (mode,))
        if (number := self.fail(made)) is not None:
            raise OSError(number, os.strerror(number), path)
        result = self._open(file, mode, *arguments, **options)
        self._take(made, path, (file,))
        return result

    def _take(self, made: Call, path: str, arguments: tuple[Any, ...]) -> None:
        self.made.append(made)
        if made.name == "open" and os.path.isfile(path):
            self._know(path, trusted=False)
        if made.name in ("fsync", "fdatasync"):
            self._synced(arguments[0], path)
        self._asks += 1
        try:
            self.each(made)
        finally:
            self._asks -= 1

    def _synced(self, descriptor: int, path: str) -> None:
        inode = inode_of(descriptor)
        if os.path.isdir(path):
            self._names[inode] = self._listed(path)
            return
        if inode not in self._held:
            return
        content = self._content(self._held[inode])
        lost, before = self._spoiled.get(inode), self._safe[inode]
        if lost is not None:  # what was to be written then, and is the same now, was not written
            content = bytes(
                before[at]
                if at < len(lost) and byte == lost[at] and at < len(before)
                else 0
                if at < len(lost) and byte == lost[at]
                else byte
                for at, byte in enumerate(content)
            )
        self._safe[inode] = content

    def _failed(self, made: Call, arguments: tuple[Any, ...]) -> None:
        if made.name in ("fsync", "fdatasync"):
            inode = inode_of(arguments[0])
            if inode in self._held:
                self._spoiled[inode] = self._content(self._held[inode])


WATCHED = (
    "open", "close", "write", "pwrite", "writev", "fsync", "fdatasync", "ftruncate", "truncate", "posix_fallocate",
    "posix_fadvise", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "link", "symlink", "chmod", "fchmod",
    "chown", "fchown", "sendfile", "pread",
)  # fmt: skip
"""Of `os`: whatever changes a file or a folder, makes it durable, or reads past it."""


def first(name: str, number: int = errno.EIO, after: int = 0) -> Callable[[Call], int | None]:
    """Return what fails one call of that name, the one behind `after` others."""
    left = [after]

    def fail(call: Call) -> int | None:
        if call.name != name:
            return None
        left[0] -= 1
        return number if left[0] == -1 else None

    return fail
