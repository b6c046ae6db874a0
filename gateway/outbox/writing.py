"""The two writers that run the outbox's jobs.

Law: jobs run one after the other in the order given. An OSError becomes part of the result; any other error is a
mistake in the program and is raised again where results are taken in.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.machine.disk import Disk
from gateway.outbox.jobs import Job

CLOSE_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Done:
    """A job that ran: what it returned, or how the disk failed it."""

    job: Job
    value: Any = None
    error: OSError | None = None


class Writer(Protocol):
    """Runs jobs in order. `finished` returns what ran since it was last asked."""

    def submit(self, job: Job) -> None: ...
    def finished(self) -> list[Done]: ...
    def wait(self, timeout_s: float) -> None: ...
    def close(self, wait_s: float = CLOSE_WAIT_S) -> None: ...


def _run(job: Job, disk: Disk) -> Done:
    try:
        return Done(job, job.run(disk))
    except OSError as error:
        return Done(job, error=error)


class InlineWriter:
    """Runs each job at once: for the simulator, the tests, and commands that need no thread."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._done: list[Done] = []

    def submit(self, job: Job) -> None:
        self._done.append(_run(job, self._disk))

    def finished(self) -> list[Done]:
        done, self._done = self._done, []
        return done

    def wait(self, timeout_s: float) -> None:
        """Return at once: nothing is ever under way."""

    def close(self, wait_s: float = CLOSE_WAIT_S) -> None:
        """Nothing to end."""


class ThreadWriter:
    """Runs jobs in one thread, so that a card that stalls for seconds blocks nobody; `on_done` is called from it."""

    def __init__(self, disk: Disk, on_done: Callable[[], None] | None = None) -> None:
        self._disk = disk
        self.on_done = on_done
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: deque[Done | BaseException] = deque()
        self._arrived = threading.Event()
        self._thread = threading.Thread(target=self._work, name="outbox-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def finished(self) -> list[Done]:
        """Return what ran; a mistake of the program in the thread is raised here, in the engine's."""
        self._arrived.clear()
        done = []
        while self._done:
            result = self._done.popleft()
            if not isinstance(result, Done):
                raise result
            done.append(result)
        return done

    def wait(self, timeout_s: float) -> None:
        """Block until something ran, at most `timeout_s`."""
        self._arrived.wait(timeout_s)

    def close(self, wait_s: float = CLOSE_WAIT_S) -> None:
        """Run what was submitted and end the thread; a card that hangs is waited for `wait_s`, then left."""
        self._jobs.put(None)
        self._thread.join(wait_s)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._done.append(_run(job, self._disk))
            except BaseException as mistake:  # noqa: BLE001 - handed to the engine's thread, which raises it
                self._done.append(mistake)
            self._arrived.set()
            if self.on_done is not None:
                self.on_done()
