"""The trial of a door: walk in, walk out."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import NS_PER_S, Event, Instant, Reading
from gateway.sensors.door.facts import DoorBlocked, DoorPassed
from gateway.sensors.door.interpreter import DoorInterpreter
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.kind import Context, Faults
from gateway.sensors.trial import Tools, Verdict

LAG_NS = NS_PER_S
"""Readings come through a tap late by some tenths of a second: time passes for a door only up to this before now."""


class DoorTrial:
    """Walk in, walk out."""

    def __init__(self, settings: DoorSettings, tools: Tools) -> None:
        self._settings = settings
        self._is_dual = len(settings.beams) == 2
        self._ways = ("in", "out") if self._is_dual else ("unknown",)
        self.acts = tuple(
            {"in": "walk in once", "out": "walk out once", "unknown": "walk through once"}[way] for way in self._ways
        )
        self._act = 0
        self._last: Instant | None = None
        self._edges = 0
        self._interpreter = DoorInterpreter(settings, Context(Faults(settings.id)))

    def begin(self, act: int) -> Verdict | None:
        self._act, self._edges, self._last = act, 0, None
        self._interpreter = DoorInterpreter(self._settings, Context(Faults(self._settings.id)))
        return None

    def take(self, reading: Reading) -> Verdict | None:
        self._last = reading.at
        self._edges += 1
        return self._judge(list(self._interpreter.read(reading)))

    def passed(self, since_last_ns: int) -> Verdict | None:
        if self._last is None or since_last_ns <= LAG_NS:
            return None
        return self._judge(list(self._interpreter.tick(self._last.later(since_last_ns - LAG_NS))))

    def give_up(self) -> Verdict:
        if not self._edges:
            return Verdict("failed", "no beam was broken", "check the supply of the beams, their pins and alignment")
        found = "beams were broken, but by nothing that is a passage"
        return Verdict("failed", found, f"gateway diagnose {self._settings.id} --for 30s, and walk through meanwhile")

    def _judge(self, events: Sequence[Event]) -> Verdict | None:
        for event in events:
            if isinstance(event.fact, DoorBlocked):
                return Verdict("failed", f"the {event.fact.beam} beam stays broken", "align it, and clear its way")
            if not isinstance(event.fact, DoorPassed):
                continue
            wanted, told = self._ways[self._act], event.fact.direction
            found = f"told as {told}, {event.fact.duration_ms} ms"
            if told == wanted:
                return Verdict("ok", found)
            if told == "unknown":
                return Verdict("failed", found, "both beams must break one after the other: check their alignment")
            return Verdict("failed", found, "swap outer_pin and inner_pin in the configuration, or walk the other way")
        return None
