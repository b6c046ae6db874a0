"""`gateway wiring`: the 40-pin header with every configured pin, as a technician sees it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.verb import Verb, configured, console, load, printing, say_json
from gateway.errors import EXIT_GOOD, GatewayError
from gateway.machine.header import CYCLE, HEADER, Part, Terminal, drawing
from gateway.machine.owner import written

if TYPE_CHECKING:
    from gateway.config import Configuration


@click.command(cls=Verb, example="gateway wiring --svg wiring.svg")
@configured
@printing
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Write a drawing for the store's folder.")
def wiring(config: tuple[Path, ...], as_json: bool, svg: Path | None) -> int:
    """The header of this board with every configured pin. Pin 1 is at the end beside the SD card."""
    configuration = load(config)
    users = users_of(configuration)
    if svg is not None:
        _write(svg, svg_of(configuration))
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
        pin: f"{sensor.id}.{key}"
        for sensor in configuration.sensors
        for key, pin in sensor.kind.pins(sensor.settings).items()
    }


def svg_of(configuration: Configuration) -> str:
    """Return the drawing (SVG) of the header with every configured pin, a box for each sensor."""
    colours = itertools.cycle(CYCLE)
    parts = []
    for sensor in configuration.sensors:
        terminals = tuple(
            Terminal(key.removesuffix("_pin").replace("_", " "), HEADER.index(pin) + 1, next(colours))
            for key, pin in sensor.kind.pins(sensor.settings).items()
        )
        if terminals:
            parts.append(Part(f"{sensor.kind.table} {sensor.id}", terminals))
    site = configuration.site
    notes = ("Supplies and ground: see hardware/wiring. A pin takes 3.3 V, never 5 V.",)
    return drawing(f"Store {site.store}, gateway {site.gateway}", parts, notes)


def _write(path: Path, text: str) -> None:
    try:
        with written(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {error.strerror}", "name another with --svg") from None
    click.echo(f"drawn in {path}", err=True)


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
