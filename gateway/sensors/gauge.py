"""How a sensor is watched live: its rate, its latest words, its picture. Pure.

Law: it only shows. Readings and the moment they arrived go in, words and lines of characters come out; memory is
bounded however long one watches. Radio addresses of strangers are counted for a moment and shown nowhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from gateway.model import NS_PER_S, Reading

RATE_OVER_S = 5.0
ARRIVALS_MAX = 5_000
PLOTTED_S = 60.0

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The dots of a braille character, four rows of two (Unicode 28xx)."""

Tone = Literal["quiet", "bad", "series", "strip", "tag"]
"""What a piece of a picture is; the view has a colour for each."""


class Gauge:
    """One sensor as it is watched. `arrivals` are `boot_ns` of the watcher. A kind shows more by overriding."""

    def __init__(self, settings: Any) -> None:
        self.id: str = settings.id
        self.arrivals: deque[int] = deque(maxlen=ARRIVALS_MAX)
        self.readings = 0

    def take(self, reading: Reading, now_ns: int) -> None:
        """Take a reading that arrived at `now_ns`."""
        self.readings += 1
        self.arrivals.append(now_ns)
        self.show(reading, now_ns)

    def show(self, reading: Reading, now_ns: int) -> None:
        """Keep of a reading what is shown of it."""

    def latest(self, now_ns: int) -> str:
        """Say the latest of it in a few words, once there is a reading."""
        return f"{self.readings} readings"

    def figures(self, now_ns: int) -> dict[str, Any]:
        """Return what `gateway watch --json` says of it beside its kind and its rate."""
        return {}

    def picture(self, now_ns: int, width: int, height: int) -> Iterator[tuple[str, Tone]]:
        """Yield pieces of text and their tones, to stand after the words; a new line begins with a line feed."""
        yield from ()

    def words(self, now_ns: int) -> str:
        """Say the latest of it in a few words."""
        return self.latest(now_ns) if self.readings else "nothing yet"

    def rate_hz(self, now_ns: int, watched_s: float = RATE_OVER_S) -> float:
        """Return the readings a second of the last seconds."""
        over_s = max(1.0, min(RATE_OVER_S, watched_s))
        since_ns = now_ns - int(over_s * NS_PER_S)
        return sum(1 for arrived in self.arrivals if arrived > since_ns) / over_s

    def age_s(self, now_ns: int) -> float | None:
        """Return how long ago the last reading arrived; None before the first."""
        return (now_ns - self.arrivals[-1]) / NS_PER_S if self.arrivals else None


def plot(points: Sequence[tuple[int, float]], now_ns: int, width: int, height: int, least: float) -> list[str]:
    """Draw the last minute of values as `height` lines of braille, newest at the right, with a scale at the left.

    `least` is the smallest range that fills the height: below it, noise is not blown up to look like movement.
    """
    since_ns = now_ns - int(PLOTTED_S * NS_PER_S)
    recent = [(at, value) for at, value in points if at > since_ns]
    if not recent or width < 12 or height < 1:
        return ["" for _ in range(height)]
    ordered = sorted(value for _, value in recent)
    # One word of bit errors in a hundred must not flatten the rest: it is drawn at the edge.
    low, high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    labels = [f"{high:.0f}", *[""] * (height - 2), f"{low:.0f}"][:height]
    margin = max(len(label) for label in labels) + 1
    columns, rows = 2 * (width - margin), 4 * height
    cells = [[0] * (width - margin) for _ in range(height)]
    for at, value in recent:
        column = min(columns - 1, (at - since_ns) * columns // int(PLOTTED_S * NS_PER_S))
        row = round((high - min(high, max(low, value))) / (high - low) * (rows - 1))
        cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    lines = zip(labels, cells, strict=True)
    return [f"{label:>{margin - 1}} " + "".join(chr(0x2800 + cell) for cell in line) for label, line in lines]


def bar(rssi_dbm: int | None, width: int) -> str:
    """Draw a strength between -100 and -40 dBm."""
    if rssi_dbm is None:
        return ""
    filled = round(min(1.0, max(0.0, (rssi_dbm + 100) / 60)) * width)
    return "█" * filled + "░" * (width - filled)
