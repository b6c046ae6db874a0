"""`gateway replay FILE`: a recording's events on standard output."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.verb import Verb, configured, load
from gateway.errors import EXIT_FAILED, EXIT_GOOD


@click.command(cls=Verb, example="gateway replay morning.jsonl --config gateway.toml | jq -c '[.time, .type, .data]'")
@click.argument("file", type=click.Path(path_type=Path))
@configured
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: what is printed in any case.")
def replay(file: Path, config: tuple[Path, ...], as_json: bool) -> int:
    """Print the events that a recording makes, one JSON object a line, as fast as possible.

    No hardware, network or outbox is touched; equal input gives equal bytes. Exit status 1 where lines of the
    recording could not be understood: the first hundred are named by their numbers, the rest counted.
    """
    configuration = load(config)
    from gateway.recordings.replay import replay as replay_recording

    out = sys.stdout.buffer

    def write(envelope: bytes) -> None:
        out.write(envelope)
        out.write(b"\n")

    done = replay_recording(file, configuration, write)
    out.flush()
    for line in done.bad_lines:
        click.echo(f"{file}: line {line.number}: {line.why}", err=True)
    if more := done.bad_count - len(done.bad_lines):
        click.echo(f"{file}: and {more} more lines that could not be understood", err=True)
    for sensor, count in done.unknown_sensors.items():
        click.echo(f"{file}: {count} readings of {sensor!r}, which the configuration does not name", err=True)
    return EXIT_FAILED if done.bad_lines else EXIT_GOOD
