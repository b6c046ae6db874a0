"""Topics that the broker refuses whole: their events stay in the outbox, as in an outage, while all others go on. Pure.

Law: what was passed over is known as one range of numbers a topic and stream, so that a week of it costs no memory;
nothing is forgotten, for the outbox has it unacknowledged. A new connection passes over anew.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.model import Entry, Stream
from gateway.outbox.intervals import Run


class HeldTopics:
    """Which topics wait; `passed` has, for each, the first and last number that was passed over of each stream."""

    def __init__(self, topic_of: Callable[[Entry], str]) -> None:
        self.topic_of = topic_of
        self.passed: dict[str, dict[Stream, Run]] = {}

    def hold(self, topic: str) -> None:
        """Let the lanes pass over all events of the topic."""
        self.passed.setdefault(topic, {})

    def release(self, topic: str) -> list[tuple[Stream, int, int]]:
        """Return what was passed over of the topic, as ranges in which its events lie."""
        return [(stream, first, last) for stream, (first, last) in self.passed.pop(topic, {}).items()]

    def passes_over(self, entry: Entry) -> bool:
        """Return whether the entry waits with its topic; if so, that is noted."""
        ranges = self.passed.get(self.topic_of(entry))
        if ranges is None:
            return False
        first, last = ranges.get(entry.stream, (entry.sequence, entry.sequence))
        ranges[entry.stream] = min(first, entry.sequence), max(last, entry.sequence)
        return True

    def restart(self) -> None:
        """A new connection reads everything again."""
        for ranges in self.passed.values():
            ranges.clear()
