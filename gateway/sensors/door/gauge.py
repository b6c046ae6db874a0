"""How a door is watched: each beam clear or broken, and its last minute as a strip."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from gateway.model import NS_PER_S, Reading
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import BEAMS, DoorSettings
from gateway.sensors.gauge import PLOTTED_S, Gauge, Tone

LEVELS_MAX = 600


class DoorGauge(Gauge):
    """One door as it is watched; `beams` holds the moments at which a beam's level changed."""

    def __init__(self, settings: DoorSettings) -> None:
        super().__init__(settings)
        self.beams: dict[str, deque[tuple[int, bool]]] = {}

    def show(self, reading: Reading, now_ns: int) -> None:
        if isinstance(reading, BeamChanged):
            levels = self.beams.setdefault(reading.beam, deque(maxlen=LEVELS_MAX))
            if not levels or levels[-1][1] != reading.broken:
                levels.append((now_ns, reading.broken))

    def latest(self, now_ns: int) -> str:
        return ", ".join(f"{beam} {'broken' if self.is_broken(beam) else 'clear'}" for beam in self.known_beams())

    def figures(self, now_ns: int) -> dict[str, Any]:
        return {"broken": {beam: self.is_broken(beam) for beam in self.known_beams()}} if self.beams else {}

    def picture(self, now_ns: int, width: int, height: int) -> Iterator[tuple[str, Tone]]:
        for beam in self.known_beams():
            yield f"\n{beam:>6} ", "bad" if self.is_broken(beam) else "quiet"
            yield self.strip(beam, now_ns, width - 8), "strip"

    def known_beams(self) -> list[str]:
        return [beam for beam in BEAMS if beam in self.beams]

    def is_broken(self, beam: str) -> bool:
        return self.beams[beam][-1][1]

    def strip(self, beam: str, now_ns: int, width: int) -> str:
        """Draw a beam's last minute, a character a moment: full where it was broken at all in it."""
        slot_ns = int(PLOTTED_S * NS_PER_S) // max(1, width)
        begin_ns = now_ns - width * slot_ns
        cells = [False] * width
        levels = list(self.beams.get(beam, ()))
        for index, (since_ns, broken) in enumerate(levels):
            until_ns = levels[index + 1][0] if index + 1 < len(levels) else now_ns
            if broken and until_ns >= begin_ns:
                first = max(0, (since_ns - begin_ns) // slot_ns)
                for cell in range(first, min(width - 1, (until_ns - begin_ns) // slot_ns) + 1):
                    cells[cell] = True
        return "".join("█" if cell else "▁" for cell in cells)
