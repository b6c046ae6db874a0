"""Whether the disk answers: a card that hangs neither does what it is given nor refuses it, so only time shows it.

Law: values only. A job of the writer's and a question of the loop's are watched apart: the one keeps events from being
recorded, the other from being read and sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import NS_PER_S

HUNG_AFTER_NS = 5 * NS_PER_S  # without an answer; a worn card stalls for 2 s and is well
UNREAD_AFTER_NS = HUNG_AFTER_NS - 2 * NS_PER_S  # the same, where the asker has waited for 2 s before it says so
NOT_WRITTEN = "the disk does not answer: what was given to it more than 5 s ago is neither written nor refused"
NOT_READ = "the disk does not answer: what is recorded cannot be read, and waits"


@dataclass(slots=True)
class Silence:
    """Times are `boot_ns`; `jobs` are in the writer's hands, `answered_ns` is when it last gave one back or got one."""

    now_ns: int
    answered_ns: int
    jobs: int = 0
    unread_ns: int | None = None

    def given(self) -> None:
        """A job goes to the writer."""
        if not self.jobs:
            self.answered_ns = self.now_ns
        self.jobs += 1

    def returned(self) -> None:
        """The writer gives a job back."""
        self.jobs -= 1
        self.answered_ns = self.now_ns

    def look(self, now_ns: int, answers: bool) -> None:
        """Take note of the time, and whether the loop's own questions are answered."""
        self.now_ns = now_ns
        self.unread_ns = None if answers else now_ns if self.unread_ns is None else self.unread_ns

    def progress_ns(self) -> int | None:
        """Return since when the writer has given nothing back; None while it has nothing to do."""
        return self.answered_ns if self.jobs else None

    def due_ns(self) -> int | None:
        """Return when a silence is to be reported."""
        if self.is_hung:
            return None
        return self.answered_ns + HUNG_AFTER_NS if self.jobs else None

    @property
    def is_hung(self) -> bool:
        """Return whether the writer's disk neither does nor refuses what it was given."""
        return self.jobs > 0 and self.now_ns - self.answered_ns >= HUNG_AFTER_NS

    @property
    def is_unread(self) -> bool:
        """Return whether what the loop asked is not answered."""
        return self.unread_ns is not None and self.now_ns - self.unread_ns >= UNREAD_AFTER_NS
