"""Asking a disk that may never answer: the call is made in a thread of its own, and waited for a short while only.

Law: `Asker.call` returns within its limit, whatever the disk does. A call that has taken longer goes on in its thread
(nobody can end it), and until it has come back every other one fails at once: one silence costs its caller one wait.
What a late call comes back with is undone, or forgotten. The failure is an OSError of the moment (ETIMEDOUT): it says
nothing of what is recorded.
"""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from gateway.machine.disk import Disk, Space

ANSWER_WITHIN_S = 2.0
"""A worn card stalls for 2 s and is well; the loop stands still meanwhile, and its inbox holds more than that."""

PATIENCE_S = 10.0
"""For a configuration that is read or kept: it is rare, and the watchdog waits for 30 s."""
OPENING_WITHIN_S = 30.0
"""For one call before the daemon has started: nothing waits for it yet, and systemd gives a start 90 s."""

T = TypeVar("T")


_Call = tuple[Callable[..., Any], tuple[Any, ...], queue.SimpleQueue[Any]]


class Ask(Protocol):
    """Calls something that may take long, or fails."""

    def __call__(self, act: Callable[..., T], *arguments: Any) -> T: ...


def at_once(act: Callable[..., T], *arguments: Any) -> T:
    """Call it here, and wait for as long as it takes."""
    return act(*arguments)


class Asker:
    """Makes calls one after the other, from any thread. Until `limit` is called it waits for as long as they take.

    The daemon has a limit from its start on, a longer one (`OPENING_WITHIN_S`) while it opens the outbox.
    """

    def __init__(self) -> None:
        self._limit_s: float | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._late: tuple[queue.SimpleQueue[Any], Callable[[Any], object] | None] | None = None

    def limit(self, seconds: float = ANSWER_WITHIN_S) -> None:
        """Wait no longer than this for a call from now on."""
        if self._limit_s is None:
            self._thread = threading.Thread(target=self._work, name="disk-asker", daemon=True)
            self._thread.start()
        self._limit_s = seconds

    def close(self) -> None:
        """End the thread behind what it was asked; what is asked from now on is waited for again."""
        if self._limit_s is not None:
            self._limit_s = None
            self._calls.put(None)

    @property
    def is_answered(self) -> bool:
        """Return whether no call is late."""
        late = self._late
        return late is None or not late[0].empty()

    def call(
        self,
        act: Callable[..., T],
        *arguments: Any,
        undo: Callable[[T], object] | None = None,
        within_s: float | None = None,
    ) -> T:
        """Return what `act` returns, or raise what it raises; TimeoutError where it takes too long, or another does.

        `undo` is called with what it returns too late, in the thread of the calls. `within_s` is this call's own limit.
        """
        if self._limit_s is None or threading.current_thread() is self._thread:
            return act(*arguments)
        with self._lock:
            self._take_late()
            answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
            self._calls.put((act, arguments, answer))
            try:
                value, error = answer.get(timeout=within_s or self._limit_s)
            except queue.Empty:
                self._late = answer, undo
                raise _silence() from None
        if error is not None:
            raise error
        found: T = value
        return found

    def patiently(self, act: Callable[..., T], *arguments: Any) -> T:
        """Call what does many things at once, or what is better waited for than left half done."""
        return self.call(act, *arguments, within_s=PATIENCE_S)

    def leave(self, act: Callable[..., object], *arguments: Any) -> None:
        """Let `act` be called when its turn comes; nobody waits for it, or hears of it."""
        if self._limit_s is None:
            act(*arguments)
        else:
            self._calls.put((act, arguments, queue.SimpleQueue()))

    def _take_late(self) -> None:
        if self._late is None:
            return
        answer, undo = self._late
        try:
            value, error = answer.get_nowait()
        except queue.Empty:
            raise _silence() from None
        self._late = None
        if error is None and undo is not None:
            self.leave(undo, value)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            act, arguments, answer = call
            try:
                answer.put((act(*arguments), None))
            except BaseException as error:  # noqa: BLE001 - raised where it was asked
                answer.put((None, error))


def _silence() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, "the disk does not answer")


class AskedDisk:
    """A disk behind an asker: for the loop, which must go on; the outbox's writer waits for the disk itself."""

    def __init__(self, disk: Disk, asker: Asker) -> None:
        self._disk, self._asker = disk, asker
        self._locks: set[int] = set()

    @property
    def answers(self) -> bool:
        return self._asker.is_answered

    def open(self, path: str, create: bool = False) -> int:
        return self._asker.call(self._disk.open, path, create, undo=self._disk.close)

    def open_reading(self, path: str) -> int:
        return self._asker.call(self._disk.open_reading, path, undo=self._disk.close)

    def close(self, fd: int) -> None:
        """Close it when its turn comes; a lock is free when this returns."""
        if fd in self._locks:
            self._locks.discard(fd)
            self._disk.close(fd)
        else:
            self._asker.leave(self._disk.close, fd)

    def write_at(self, fd: int, content: bytes, offset: int) -> None:
        self._asker.call(self._disk.write_at, fd, content, offset)

    def read_at(self, fd: int, count: int, offset: int) -> bytes:
        return self._asker.call(self._disk.read_at, fd, count, offset)

    def sync(self, fd: int) -> None:
        self._asker.call(self._disk.sync, fd)

    def forget(self, fd: int) -> None:
        self._asker.call(self._disk.forget, fd)

    def allocate(self, fd: int, size_bytes: int) -> None:
        self._asker.call(self._disk.allocate, fd, size_bytes)

    def truncate(self, fd: int, size_bytes: int) -> None:
        self._asker.call(self._disk.truncate, fd, size_bytes)

    def size(self, path: str) -> int:
        return self._asker.call(self._disk.size, path)

    def names(self, directory: str) -> list[str]:
        return self._asker.call(self._disk.names, directory)

    def make_directory(self, path: str) -> None:
        self._asker.call(self._disk.make_directory, path)

    def rename(self, path: str, to: str) -> None:
        self._asker.call(self._disk.rename, path, to)

    def unlink(self, path: str) -> None:
        self._asker.call(self._disk.unlink, path)

    def sync_directory(self, path: str) -> None:
        self._asker.call(self._disk.sync_directory, path)

    def lock(self, directory: str) -> int:
        fd = self._asker.call(self._disk.lock, directory, undo=self._disk.close)
        self._locks.add(fd)
        return fd

    def space(self, path: str) -> Space:
        return self._asker.call(self._disk.space, path)

    def moved_to(self, directory: str) -> str | None:
        return self._asker.call(self._disk.moved_to, directory)
