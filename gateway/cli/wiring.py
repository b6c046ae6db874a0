"""`gateway wiring`: the 40-pin header with every configured pin, as a technician sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.verb import Verb, configured, console, load, printing, say_json
from gateway.errors import EXIT_GOOD

if TYPE_CHECKING:
    from gateway.config import Configuration

HEADER: tuple[str | int, ...] = (
    *("3V3", "5V", 2, "5V", 3, "GND", 4, 14, "GND", 15),
    *(17, 18, 27, "GND", 22, 23, "3V3", 24, 10, "GND"),
    *(9, 25, 11, 8, "GND", 7, 0, 1, 5, "GND"),
    *(6, 12, 13, "GND", 19, 16, 26, 20, "GND", 21),
)
"""Pins 1 to 40 of every Pi since the B+: a supply, or a BCM number. `hardware/header.toml` has the whole table."""


@click.command(cls=Verb, example="gateway wiring --config gateway.toml")
@configured
@printing
def wiring(config: tuple[Path, ...], as_json: bool) -> int:
    """The header of this board with every configured pin. Pin 1 is at the end beside the SD card."""
    configuration = load(config)
    users = users_of(configuration)
    if as_json:
        found = [
            {"pin": pin, **({"bcm": what} if isinstance(what, int) else {"power": what}), "user": users.get(what)}
            for pin, what in enumerate(HEADER, start=1)
        ]
        say_json({"pins": [{key: value for key, value in one.items() if value is not None} for one in found]})
        return EXIT_GOOD
    _draw(users)
    return EXIT_GOOD


def users_of(configuration: Configuration) -> dict[Any, str]:
    """Return who uses each BCM number: `entrance.outer_pin`."""
    return {
        pin: f"{settings.id}.{key}"
        for kind, settings in configuration.sensors
        for key, pin in kind.pins(settings).items()
    }


def _draw(users: dict[Any, str]) -> None:
    from rich.table import Table
    from rich.text import Text

    header = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for justify in ("right", "right", "right", "left", "left", "left"):
        header.add_column(justify=justify)

    def cells(pin: int) -> tuple[Text, Text, Text]:
        what = HEADER[pin - 1]
        name = f"GPIO{what}" if isinstance(what, int) else what
        style = {"5V": "red", "3V3": "yellow", "GND": "dim"}.get(name, "bold green" if what in users else "")
        return Text(users.get(what, ""), "bold green"), Text(name, style), Text(f"({pin})", "dim")

    for row in range(1, 41, 2):
        left, right = cells(row), cells(row + 1)
        header.add_row(*left, *reversed(right))
    console().print(header)
