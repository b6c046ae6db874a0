"""The two topics of a single event, its own and the backfill topic: which of them the broker takes. Pure.

Law: where a broker refuses events on one of them, and takes the same events on the other, `SHUT_AFTER` times on end,
the topic is shut: live events that belong there go on the backfill topic at once. One message asks again after 2 s,
4 s, ... 60 s (10 minutes where asking ends the connection); the first that is taken opens the topic.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Instant
from gateway.uplink.suspects import Suspect
from gateway.uplink.verdicts import PROBE_BASE_NS, Hold

SHUT_AFTER = 2


@dataclass(slots=True)
class _Way:
    rounds: int = 0
    shut: Hold | None = None


class Ways:
    """What was learnt of each topic; of one that is taken nothing is kept."""

    def __init__(self) -> None:
        self._ways: dict[str, _Way] = {}

    def shut(self, topic: str) -> Hold | None:
        """Return why the topic is not used, and when to ask it; None: it is used."""
        way = self._ways.get(topic) if self._ways else None
        return None if way is None else way.shut

    def all_shut(self) -> list[tuple[str, Hold]]:
        """Return the topics that are shut."""
        return [(topic, way.shut) for topic, way in self._ways.items() if way.shut is not None]

    def went_round(self, suspect: Suspect, now: Instant) -> None:
        """An event that was refused on one of its topics was taken on the other."""
        assert suspect.refused_on is not None
        way = self._ways.setdefault(suspect.refused_on, _Way())
        way.rounds += 1
        if way.rounds >= SHUT_AFTER and way.shut is None:
            way.shut = Hold(suspect.why, now, now.boot_ns + PROBE_BASE_NS, suspect.evidence)

    def forget(self) -> None:
        """The broker closed for a reason of its own: what was learnt of the topics may be wrong."""
        self._ways.clear()

    def went_straight(self, topic: str) -> None:
        """A message was taken on this topic."""
        if self._ways:
            self._ways.pop(topic, None)
