"""`gateway watch`: the sensors live, full-screen on a terminal, a line a second elsewhere."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.technician import as_calibrated, seconds
from gateway.cli.verb import Verb, configured, load, printing
from gateway.errors import EXIT_GOOD

if TYPE_CHECKING:
    from gateway.machine.clock import Clock
    from gateway.technician.feed import Feed
    from gateway.technician.watching import Watch

LINE_EVERY_S = 1.0
TEXTUAL = 'pip install "store-gateway[tui]"'


@click.command(
    cls=Verb,
    example="""
    gateway watch
    gateway watch aisle-3
    gateway watch --for 10s --json
    """,
)
@configured
@printing
@click.argument("sensor", required=False)
@click.option("--for", "for_text", metavar="TIME", help="Watch so long. Default: until q, or Ctrl-C.")
@click.option("--plain", is_flag=True, help="A line a second, on a terminal too.")
def watch(config: tuple[Path, ...], as_json: bool, sensor: str | None, for_text: str | None, plain: bool) -> int:
    """Watch SENSOR, or all: latest readings, rates, plots, what they would tell; the outbox and the link.

    Reads what the running daemon reads; where none runs, the hardware. `q` ends it. Off a terminal, or with --plain or
    --json: a line a second.
    """
    configuration = load(config)
    known = [one.id for one in configuration.sensors]
    if sensor is not None and sensor not in known:
        names = ", ".join(known) or "none is configured"
        raise click.BadParameter(f"there is no sensor {sensor!r}; sensors: {names}", param_hint="SENSOR")
    for_s = None if for_text is None else seconds(for_text)
    from gateway.engine.assembly import interpretation_of
    from gateway.errors import GatewayError
    from gateway.machine.clock import SystemClock
    from gateway.technician.feed import Feed
    from gateway.technician.watching import Watch

    if not known:
        raise GatewayError("no sensor is configured, so there is nothing to watch")
    clock = SystemClock()
    sensors = tuple(as_calibrated(configuration, one) for one in configuration.sensors if sensor in (None, one.id))
    watched = replace(configuration, sensors=sensors)
    feed = Feed(configuration, clock, {one.id for one in sensors})
    feed.start()
    view = Watch(sensors, interpretation_of(watched, lambda identity, at: None, {}), clock.now().boot_ns)
    try:
        if as_json or plain or not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
            _lines(view, feed, clock, for_s, as_json)
        elif find_spec("textual") is None:
            click.echo(f"full-screen needs another package: {TEXTUAL}; here a line a second instead", err=True)
            _lines(view, feed, clock, for_s, as_json)
        else:
            from gateway.cli.watch_view import WatchView

            WatchView(view, feed, clock, for_s).run()
    except KeyboardInterrupt:
        pass
    finally:
        feed.close()
    if feed.error is not None:
        raise feed.error
    return EXIT_GOOD


def _lines(view: Watch, feed: Feed, clock: Clock, for_s: float | None, as_json: bool) -> None:
    from gateway.model import NS_PER_S, rfc3339

    pause = threading.Event()
    began_ns = clock.now().boot_ns
    turn = 0
    while feed.error is None and (for_s is None or turn * LINE_EVERY_S < for_s):
        turn += 1
        pause.wait(max(0.0, turn * LINE_EVERY_S - (clock.now().boot_ns - began_ns) / NS_PER_S))
        for now_ns, reading in feed.drain():
            view.take(reading, now_ns)
        view.known = feed.known
        now = clock.now()
        if as_json:
            found = {"time": rfc3339(now.wall_ns), **view.to_json(now.boot_ns, feed.status)}
            click.echo(json.dumps(found, ensure_ascii=False))
        else:
            click.echo(f"{rfc3339(now.wall_ns)[11:19]} {view.line(now.boot_ns, feed.status)}")
