"""How the simulated broker treats each topic: what the contract lets wait there, and let go before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

HELD_AFTER = 8
"""So many refusals on end, and none of its events taken between them: from then on a topic may be held (contract 5)."""
CLOSED = HELD_AFTER // 2
"""Two events at which it closed, or which it never acknowledges, suffice (contract 5)."""

Topic = tuple[str, str, str]


def topic_of(event: Mapping[str, Any]) -> Topic:
    return event["outbox"], event["type"].split(".")[1], event["subject"]


class Topics:
    """Counts by the broker's own acts, whatever the gateway makes of them."""

    def __init__(self) -> None:
        self._refused_on_end: Counter[Topic] = Counter()
        self._evidence: Counter[Topic] = Counter()
        self._ever_held: set[Topic] = set()
        self.waiting: set[tuple[str, str, int]] = set()
        """What still waits at the end: outbox, stream and sequence."""

    def waiting_of(self, outbox: str, stream: str) -> set[int]:
        """Return the sequences of a stream that wait at the end."""
        return {sequence for place, name, sequence in self.waiting if (place, name) == (outbox, stream)}

    def refused(self, events: Iterable[Mapping[str, Any]], weight: int = 1) -> None:
        """The broker refused a message with these events; closed at it, or did not acknowledge it: `CLOSED`."""
        for topic in {topic_of(event) for event in events}:
            self._refused_on_end[topic] += 1
            self._evidence[topic] += weight
            if self._evidence[topic] >= HELD_AFTER:
                self._ever_held.add(topic)

    def begin_again(self) -> None:
        """The broker is polite from now on: what it did in bad weather excuses nothing."""
        self._refused_on_end.clear()

    def taken(self, events: Iterable[Mapping[str, Any]]) -> None:
        """The broker took a message with these events."""
        for event in events:
            self._refused_on_end.pop(topic_of(event), None)
            self._evidence.pop(topic_of(event), None)

    def may_be_late(self, event: Mapping[str, Any]) -> bool:
        """Tell whether the event may first be sent after a later one: its topic was held once."""
        return topic_of(event) in self._ever_held

    def may_wait(self, event: Mapping[str, Any]) -> bool:
        """Tell whether the event may wait now: nothing of its topic is taken."""
        return self._refused_on_end[topic_of(event)] >= HELD_AFTER
