"""A writer that takes its time: a card that stalls while the engine goes on (implements gateway.outbox.Writer).

Jobs run one after the other as the law of the real one has it; when each runs, and when the engine hears of it, is up
to chance. A job that ran may be reported much later: the disk then knows more than the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from gateway.model import NS_PER_MS, NS_PER_S
from gateway.outbox.jobs import Job
from gateway.outbox.writing import CLOSE_WAIT_S, Done
from tests.simulation.clock import Agenda
from tests.simulation.disk import ModelDisk

STALL_MAX_NS = 3 * NS_PER_S


class SlowWriter:
    """See the module."""

    def __init__(self, agenda: Agenda, disk: ModelDisk, random: Random, wake: Callable[[], None]) -> None:
        self._agenda, self._disk, self._random, self._wake = agenda, disk, random, wake
        self._jobs: deque[Job] = deque()
        self._submitted_ns: deque[int] = deque()  # of jobs that are not told
        self._longest_ns = 0
        self._answered_ns = 0
        self._done: list[Done] = []
        self._running = False
        self._dead = False

    def submit(self, job: Job) -> None:
        self._jobs.append(job)
        if not self._submitted_ns:
            self._answered_ns = self._agenda.now_ns
        self._submitted_ns.append(self._agenda.now_ns)
        self._begin()

    def behind_ns(self) -> int:
        """Return the longest that a job has taken so far, from its submission until it was told."""
        waits_ns = self._agenda.now_ns - self._submitted_ns[0] if self._submitted_ns else 0
        return max(self._longest_ns, waits_ns)

    def silent_ns(self) -> int:
        """Return for how long something has been under way and nothing was told."""
        return self._agenda.now_ns - self._answered_ns if self._submitted_ns else 0

    def finished(self) -> list[Done]:
        done, self._done = self._done, []
        return done

    def wait(self, timeout_s: float) -> None:
        """Let time pass until something has run, at most `timeout_s`."""
        until_ns = self._agenda.now_ns + int(timeout_s * NS_PER_S)
        while not self._done:
            next_ns = self._agenda.next_ns()
            if next_ns is None or next_ns > until_ns:
                self._agenda.move_to(until_ns)
                return
            self._agenda.move_to(next_ns)
            self._agenda.happen()

    def close(self, wait_s: float = CLOSE_WAIT_S) -> None:
        """Run what was submitted, unless the card does not answer; then end."""
        while self._jobs and not self._dead and self._disk.hangs_until_ns <= self._agenda.now_ns:
            self._run(self._jobs.popleft())
        self._dead = True

    def die(self) -> None:
        """The process is gone: what waits never runs."""
        self._dead = True
        self._jobs.clear()

    def _begin(self) -> None:
        if self._running or not self._jobs:
            return
        self._running = True
        takes_ns = self._random.randint(0, 20 * NS_PER_MS)
        if self._random.random() < 0.03:
            takes_ns = self._random.randint(0, STALL_MAX_NS)
        early_ns = self._random.choice((0, takes_ns, self._random.randint(0, takes_ns)))
        self._agenda.after(early_ns, self._turn, takes_ns - early_ns)

    def _turn(self, then_ns: int) -> None:
        if self._dead:
            return
        if self._disk.hangs_until_ns > self._agenda.now_ns:
            self._agenda.at(self._disk.hangs_until_ns, self._turn, then_ns)
            return
        self._agenda.after(then_ns, self._tell, self._result(self._jobs.popleft()))

    def _tell(self, done: Done) -> None:
        if self._dead:
            return
        self._running = False
        self._longest_ns = max(self._longest_ns, self._agenda.now_ns - self._submitted_ns.popleft())
        self._answered_ns = self._agenda.now_ns
        self._done.append(done)
        self._wake()
        self._begin()

    def _run(self, job: Job) -> None:
        self._done.append(self._result(job))

    def _result(self, job: Job) -> Done:
        try:
            return Done(job, job.run(self._disk))
        except OSError as error:
            return Done(job, error=error)
