"""`gateway record`: write down what the sensors say."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click

from gateway.cli.verb import Verb, configured, load


@click.command(
    cls=Verb,
    example="""
    gateway record --output morning.jsonl --for 10min
    gateway replay morning.jsonl
    """,
)
@configured
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where to write.")
@click.option("--for", "for_text", metavar="TIME", help='How long, for example "10min". Default: until Ctrl-C.')
@click.option("--note", default="", help="A word for those who read it later.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def record(config: tuple[Path, ...], output: Path, for_text: str | None, note: str, force: bool) -> int:
    """Write a recording of the running daemon's readings, or of the hardware where no daemon runs.

    It holds what every radio near the scanner sends, with addresses: personal data. Keep it in the store.
    """
    from gateway.errors import RecordingError
    from gateway.machine.clock import SystemClock
    from gateway.machine.owner import begun
    from gateway.machine.process import Signals
    from gateway.recordings.recorder import Recorded, Recorder
    from gateway.units import duration_s

    try:
        for_s = None if for_text is None else duration_s(for_text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    configuration = load(config)
    if not configuration.sensors:
        raise RecordingError("no sensor is configured, so there is nothing to record")
    if output.exists() and not force:
        raise RecordingError(f"{output} is there already", "name another file, or give --force")
    try:
        raw = begun(output)
    except OSError as error:
        raise RecordingError(f"{output} cannot be written: {error.strerror}", "name another with --output") from None
    with io.TextIOWrapper(raw, encoding="utf-8", write_through=True) as file:
        recorder = Recorder(configuration, SystemClock(), file, note, for_s)

        def progress(recorded: Recorded) -> None:
            if not sys.stderr.isatty():
                return
            counts = ", ".join(f"{sensor} {count}" for sensor, count in recorded.lines.items())
            click.echo(f"\rreadings: {counts} ", err=True, nl=False)

        with Signals(lambda number: recorder.stopping.set()):
            source = recorder.record(progress)
    lead = "\n" if sys.stderr.isatty() else ""
    total = sum(recorder.recorded.lines.values())
    click.echo(f"{lead}{total} readings of the {source} are in {output}", err=True)
    if recorder.recorded.missed:
        click.echo(f"{recorder.recorded.missed} readings came too fast and are not in it", err=True)
    return 0
