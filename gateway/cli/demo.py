"""`gateway demo`: a simulated store, an embedded broker and a live view."""

from __future__ import annotations

import dataclasses
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import click

from gateway.cli.verb import Verb, configured, printing, say_json
from gateway.errors import EXIT_FAILED, EXIT_GOOD
from gateway.units import duration_s

LENGTH_S_MIN = 5.0


def _length(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        length_s = float(text) if text.replace(".", "", 1).isdigit() else duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if length_s < LENGTH_S_MIN:
        raise click.BadParameter(f"at least {LENGTH_S_MIN:g} s: a line must be cut and mended in it")
    return length_s


@click.command(
    cls=Verb,
    example="""
    gateway demo
    gateway demo --script --for 30s
    gateway demo --script --broker amqtt --json
    """,
)
@configured
@click.option("--script", is_flag=True, help="Without a person: runs, cuts the line, mends it, sums up.")
@click.option("--seed", default="54", show_default=True, help="Of the simulated shop.")
@click.option("--for", "length_s", callback=_length, metavar="DURATION", help="How long (default of --script: 30 s).")
@click.option(
    "--broker", type=click.Choice(("auto", "mosquitto", "amqtt")), default="auto", show_default=True, help="Which one."
)
@printing
def demo(config: tuple[Path, ...], script: bool, seed: str, length_s: float | None, broker: str, as_json: bool) -> int:
    """A simulated store, a broker and a live view, with nothing to install or configure.

    Customers walk through a door, take goods from a shelf and carry tags; the daemon is the same as on a Pi. Press b
    to cut the line to the broker and again to mend it, q to end. Exit status 0 where every recorded event was
    delivered, else 1. With --config, the store and the sensors are yours, and only the hardware is simulated.
    """
    from gateway.demo.script import LENGTH_S, Script, lines_of
    from gateway.demo.stage import Stage

    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    is_on_screen = sys.stdout.isatty() and sys.stdin.isatty() and find_spec("textual") is not None
    with Stage(cast(Any, broker), seed, config) as stage:
        if script or as_json or not is_on_screen:
            say = (lambda line: click.echo(line, err=True)) if as_json else _say
            summary = Script(stage, say, length_s or LENGTH_S).play()
        else:
            from gateway.demo.view import DemoView

            view = DemoView(stage, length_s)
            view.run()
            if view.error is not None:
                raise view.error
            if stage.backlog:
                _say(f"{stage.backlog} events still wait: the line is mended, and they are sent")
            summary, _ = stage.finish()
        if as_json:
            say_json(dataclasses.asdict(summary))
        else:
            for line in lines_of(summary):
                _say(line)
    return EXIT_GOOD if summary.complete else EXIT_FAILED


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
