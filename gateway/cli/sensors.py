"""`gateway sensors`: each sensor as the running daemon knows it."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli import say_error
from gateway.cli.status import say_sensors
from gateway.cli.verb import Verb, configured, console, load, printing, say_json, table
from gateway.errors import EXIT_GOOD, EXIT_UNAVAILABLE, Unavailable


@click.command(cls=Verb, example="gateway sensors --config gateway.toml")
@configured
@printing
def sensors(config: tuple[Path, ...], as_json: bool) -> int:
    """Each sensor: last reading, its age, faults. Where no daemon runs: what is configured, and exit status 69."""
    configuration = load(config)
    from gateway.control.asking import ask

    try:
        known = ask(configuration, "status")["sensors"]
    except Unavailable as error:
        pins = {one.id: (one.kind.table, one.kind.pins(one.settings)) for one in configuration.sensors}
        if as_json:
            found = {sensor: {"kind": kind, "pins": dict(of)} for sensor, (kind, of) in pins.items()}
            say_json({"running": False, "sensors": found, "why": str(error), "advice": error.advice})
        else:
            rows = [
                (sensor, kind, ", ".join(f"{key} GPIO{pin}" for key, pin in of.items()))
                for sensor, (kind, of) in pins.items()
            ]
            console().print(table(("sensor", "kind", "pins"), rows))
            say_error(error)
        return EXIT_UNAVAILABLE
    if as_json:
        say_json({"running": True, "sensors": known})
    else:
        say_sensors(known)
    return EXIT_GOOD
