"""A door told as physics: which beam is broken when, for how long; what the interpreter makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.model import NS_PER_MS, Event, Instant, data_of
from gateway.sensors.door.interpreter import DoorInterpreter
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BeamName, DoorSettings
from gateway.sensors.kind import Context, Faults

NINE = 1_795_338_000_000_000_000  # 2026-11-22T09:00:00Z
OUTER, INNER, ONLY = "outer", "inner", "only"


def at(ms: float, wall_ns: int = NINE) -> Instant:
    return Instant(int(ms * NS_PER_MS), wall_ns + int(ms * NS_PER_MS))


class Door:
    """Collects level changes, plays them in the order of time, and keeps the events."""

    def __init__(self, *, single: bool = False, remembered: Mapping[str, Any] | None = None, **settings: Any) -> None:
        settings |= {"beam_pin": 17} if single else {"outer_pin": 17, "inner_pin": 27}
        self.settings = DoorSettings("entrance", **settings)
        self.interpreter = DoorInterpreter(self.settings, Context(Faults("entrance"), remembered=remembered or {}))
        self.levels: list[tuple[float, BeamName, bool]] = []
        self.events: list[Event] = []

    def breaks(self, beam: BeamName, at_ms: float, for_ms: float) -> Door:
        self.levels += [(at_ms, beam, True), (at_ms + for_ms, beam, False)]
        return self

    def walks_in(self, at_ms: float, torso_ms: float = 200, shift_ms: float = 60) -> Door:
        return self.breaks("outer", at_ms, torso_ms).breaks("inner", at_ms + shift_ms, torso_ms)

    def walks_out(self, at_ms: float, torso_ms: float = 200, shift_ms: float = 60) -> Door:
        return self.breaks("inner", at_ms, torso_ms).breaks("outer", at_ms + shift_ms, torso_ms)

    def plays(self, until_ms: float | None = None, tick_every_ms: float | None = None) -> list[Event]:
        """Play what was collected, ticked at due moments (and besides where asked), and finish at `until_ms`."""
        levels = sorted(self.levels, key=lambda level: level[0])
        end_ms = until_ms if until_ms is not None else (levels[-1][0] if levels else 0) + 10_000
        ticks: Iterable[float] = ()
        if tick_every_ms is not None:
            ticks = (n * tick_every_ms for n in range(int(end_ms / tick_every_ms) + 1))
        moments: list[tuple[float, int, Any]] = [(ms, 1, (beam, broken)) for ms, beam, broken in levels]
        moments += [(ms, 0, None) for ms in ticks]
        self.events += self.interpreter.tick(at(0))
        for ms, _, level in sorted(moments, key=lambda moment: moment[:2]):
            self.advances(ms)
            if level is None:
                self.events += self.interpreter.tick(at(ms))
            else:
                self.events += self.interpreter.read(BeamChanged("entrance", at(ms), *level))
        self.advances(end_ms)
        self.events += self.interpreter.finish(at(end_ms))
        return self.events

    def advances(self, ms: float) -> None:
        until = at(ms)
        while (due_ns := self.interpreter.due_ns()) is not None and due_ns <= until.boot_ns:
            self.events += self.interpreter.tick(until.later(due_ns - until.boot_ns))

    def passages(self, until_ms: float | None = None) -> list[str]:
        """Play, and return the directions in the order decided."""
        return [data_of(event.fact)["direction"] for event in self.plays(until_ms) if is_a(event, "passed")]


def is_a(event: Event, fact: str) -> bool:
    return event.fact.type.endswith(f".{fact}")


def told(events: Iterable[Event], fact: str) -> list[dict[str, Any]]:
    return [data_of(event.fact) for event in events if is_a(event, fact)]
