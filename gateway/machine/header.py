"""The 40-pin header, and a drawing of it (SVG) with what hangs on each pin. Pure: values in, text out.

A wire leaves to the right: from the right column behind the pin's name, from the left one between two rows, so that no
wire crosses a pin or a name. Parts stand to the right, in the order in which they are given, each with a line for every
terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

HEADER: tuple[str | int, ...] = (
    *("3V3", "5V", 2, "5V", 3, "GND", 4, 14, "GND", 15),
    *(17, 18, 27, "GND", 22, 23, "3V3", 24, 10, "GND"),
    *(9, 25, 11, 8, "GND", 7, 0, 1, 5, "GND"),
    *(6, 12, 13, "GND", 19, 16, 26, 20, "GND", 21),
)
"""Pins 1 to 40 of every Pi since the B+: a supply, or a BCM number. `hardware/header.toml` has the whole table."""

PITCH, PIN, TOP = 30, 18, 74
LEFT_X, RIGHT_X = 112, 146
WIRES_X = 232  # right of the names of the right column
PART_X, PART_WIDTH = 400, 380
LINE = 24
MARGIN = 20

PIN_COLOURS = {"5V": "#d64541", "3V3": "#e08e0b", "GND": "#4a4a4a"}
USED, UNUSED = "#2e7d32", "#c8c8c8"
WIRE_COLOURS = {
    "red": "#d64541",
    "black": "#222222",
    "white": "#ffffff",
    "orange": "#e67e22",
    "yellow": "#f1c40f",
    "green": "#27ae60",
    "blue": "#2471a3",
    "violet": "#8e44ad",
    "brown": "#795548",
    "grey": "#7f8c8d",
}
CYCLE = ("blue", "yellow", "green", "orange", "violet", "brown", "red", "grey")
"""For wires whose colour nobody has chosen."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """A place on a part where a wire from `pin` (1 to 40) ends; without a colour there is none: the pin stays free."""

    name: str
    pin: int
    wire: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.pin <= len(HEADER):
            raise ValueError(f"the header has pins 1 to 40, found {self.pin}")
        if self.wire is not None and self.wire not in WIRE_COLOURS:
            raise ValueError(f"a wire is one of {', '.join(WIRE_COLOURS)}, found {self.wire}")


@dataclass(frozen=True, slots=True)
class Part:
    """A board, a sensor: a box with its terminals."""

    name: str
    terminals: tuple[Terminal, ...]


def signal(pin: int) -> str:
    """Return what stands beside a pin: `3V3`, `GND`, `GPIO17`."""
    what = HEADER[pin - 1]
    return f"GPIO{what}" if isinstance(what, int) else what


def drawing(title: str, parts: Sequence[Part], notes: Iterable[str] = ()) -> str:
    """Return the drawing as an SVG document; equal values give equal text."""
    notes = tuple(notes)
    boxes, bottom = _boxes(parts)
    height = max(TOP + 20 * PITCH, bottom) + MARGIN + 18 * len(notes)
    width = PART_X + PART_WIDTH + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fafafa"/>',
        _text(MARGIN, 30, title, size=18, weight="bold"),
        _text(MARGIN, 52, "Header J8; pin 1 is at the end beside the SD card.", colour="#666666"),
        *_header({terminal.pin for part in parts for terminal in part.terminals if terminal.wire}),
        *(line for _, terminals in boxes for terminal, y in terminals for line in _wire(terminal, y)),
        *(line for box, terminals in boxes for line in [*box, *_names(terminals)]),
    ]
    first = height - 18 * len(notes)
    lines += [_text(MARGIN, first + 18 * number, note, colour="#444444") for number, note in enumerate(notes)]
    return "\n".join([*lines, "</svg>"]) + "\n"


Placed = list[tuple[Terminal, int]]


def _boxes(parts: Sequence[Part]) -> tuple[list[tuple[list[str], Placed]], int]:
    """Lay the parts out from the top down; return each box with its terminals' heights, and where the last one ends."""
    found = []
    y = TOP - 14
    for part in parts:
        height = LINE * (len(part.terminals) + 1) + 10
        frame = f'x="{PART_X}" y="{y}" width="{PART_WIDTH}" height="{height}" rx="6"'
        box = [
            f'<rect {frame} fill="#ffffff" stroke="#888888"/>',
            _text(PART_X + 14, y + 20, part.name, weight="bold"),
        ]
        found.append((box, [(terminal, y + LINE * (row + 2) - 8) for row, terminal in enumerate(part.terminals)]))
        y += height + 16
    return found, y


def _header(used: set[int]) -> Iterable[str]:
    x, width = LEFT_X - PIN // 2 - 7, RIGHT_X - LEFT_X + PIN + 14
    yield f'<rect x="{x}" y="{TOP - 16}" width="{width}" height="{20 * PITCH + 2}" rx="5" fill="#1f3a2d"/>'
    for pin, what in enumerate(HEADER, start=1):
        left, y = pin % 2 == 1, _pin_y(pin)
        name = signal(pin)
        colour = PIN_COLOURS.get(name, USED if pin in used else UNUSED)
        across = LEFT_X if left else RIGHT_X
        shape = f'x="{across - PIN // 2}" y="{y - PIN // 2}" width="{PIN}" height="{PIN}" rx="{1 if pin == 1 else 9}"'
        ring = ' stroke="#ffffff" stroke-width="2"' if pin in used else ""
        yield f'<rect {shape} fill="{colour}"{ring}/>'
        dark = isinstance(what, int) and pin not in used
        yield _text(across, y + 4, str(pin), size=10, anchor="middle", colour="#222222" if dark else "#ffffff")
        weight = "bold" if pin in used else "normal"
        at, anchor = (LEFT_X - 24, "end") if left else (RIGHT_X + 24, "start")
        yield _text(at, y + 4, name, anchor=anchor, weight=weight, colour="#111111" if pin in used else "#888888")


def _pin_y(pin: int) -> int:
    return TOP + (pin - 1) // 2 * PITCH


def _wire(terminal: Terminal, y: int) -> Iterable[str]:
    if terminal.wire is None:
        return
    start = _pin_y(terminal.pin)
    if terminal.pin % 2:  # down between two rows of pins, and out under the names
        lane = start + PITCH // 2
        begin = f"M {LEFT_X} {start + PIN // 2} V {lane} H {WIRES_X}"
    else:
        lane = start
        begin = f"M {RIGHT_X + 28 + 9 * len(signal(terminal.pin))} {start} H {WIRES_X}"
    middle = (WIRES_X + PART_X) // 2
    path = f"{begin} C {middle} {lane}, {middle} {y}, {PART_X} {y}"
    yield f'<path d="{path}" fill="none" stroke="#555555" stroke-width="4.5"/>'
    yield f'<path d="{path}" fill="none" stroke="{WIRE_COLOURS[terminal.wire]}" stroke-width="3"/>'


def _names(terminals: Placed) -> Iterable[str]:
    for terminal, y in terminals:
        free = terminal.wire is None
        fill = "#ffffff" if terminal.wire is None else WIRE_COLOURS[terminal.wire]
        yield f'<circle cx="{PART_X}" cy="{y}" r="5" fill="{fill}" stroke="#555555"/>'
        words = f"{terminal.name}  -  pin {terminal.pin}, {signal(terminal.pin)}"
        yield _text(PART_X + 14, y + 4, words, colour="#888888" if free else "#111111")


def _text(
    x: int,
    y: int,
    words: str,
    *,
    size: int = 13,
    weight: str = "normal",
    anchor: str = "start",
    colour: str = "#111111",
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'
