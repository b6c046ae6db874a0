"""`gateway run`: the daemon in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gateway.cli.verb import Verb, configured, load
from gateway.errors import EXIT_GOOD, OutboxUnusable
from gateway.machine.disk import HUNG_ADVICE
from gateway.machine.threads import started

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
SPEEDS = {"1": 1.0, "10": 10.0, "max": None}


READ_WITHIN_S = 30.0
"""For the configuration, its secrets and the cloud's part of it, which lie beside the outbox; a start has 90 s."""


def _end_unread() -> None:
    """End the process, whose main thread waits for a disk and hears nothing."""
    click.echo(
        f"gateway: the configuration was not read within {READ_WITHIN_S:g} s: a disk does not answer\n"
        f"  what to do: {HUNG_ADVICE}",
        err=True,
    )
    os._exit(OutboxUnusable.exit_code)


@contextmanager
def _read_in_time() -> Iterator[None]:
    """End the process where what is read in it does not end in time; no longer than it lasts, also where it raises."""
    overdue = threading.Timer(READ_WITHIN_S, _end_unread)
    overdue.daemon = True
    started(overdue)
    try:
        yield
    finally:
        overdue.cancel()


@click.command(
    cls=Verb,
    example="""
    gateway run --config /etc/gateway/gateway.toml
    gateway run --config shop.toml --simulated
    gateway run --config shop.toml --recording morning.jsonl --speed max
    """,
)
@configured
@click.option("--simulated", is_flag=True, help="A simulated store in the hardware's place.")
@click.option("--recording", type=click.Path(path_type=Path), metavar="FILE", help="A recording in its place.")
@click.option("--speed", type=click.Choice(tuple(SPEEDS)), default="1", show_default=True, help="Of the recording.")
@click.option("--log-level", type=click.Choice(LEVELS), default="INFO", show_default=True, help="Of what is logged.")
@click.option("--stay", is_flag=True, help="Keep running when the recording has ended.")
def run(
    config: tuple[Path, ...], simulated: bool, recording: Path | None, speed: str, log_level: str, stay: bool
) -> int:
    """The daemon, in the foreground: reads the sensors, records events, sends them until acknowledged.

    SIGTERM and SIGINT stop it cleanly within 5 s.
    """
    if simulated and recording is not None:
        raise click.UsageError("--simulated and --recording both take the hardware's place: give one of them")
    if recording is None and (speed != "1" or stay):
        raise click.UsageError("--speed and --stay are about a recording: give --recording FILE")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: sys.exit(EXIT_GOOD))  # until the daemon takes them over
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with _read_in_time():  # behind it the service itself looks to the disk
        configuration = load(config)
        from gateway.config import load_with
        from gateway.config.known_secrets import redactor_of
        from gateway.daemon import service
        from gateway.machine.logs import begin_logging

        begin_logging(log_level, redactor_of(configuration))
    status = service.run(
        configuration,
        simulated=simulated,
        recording=recording,
        speed=SPEEDS[speed],
        stay=stay,
        reread=lambda: load(config),
        overlaid=lambda overlay: load_with(config, overlay),
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it has stopped already
    return status
