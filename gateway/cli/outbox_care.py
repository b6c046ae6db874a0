"""`gateway outbox verify | repair | estimate`: whether the outbox is whole, making it so, and how long it lasts."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.verb import Verb, configured, console, load, printing, say_json, size, table
from gateway.errors import EXIT_FAILED, EXIT_GOOD, GatewayError
from gateway.model import STREAMS, Event, Instant, Loss

if TYPE_CHECKING:
    from rich.progress import Progress


class NotRepaired(GatewayError):
    """The disk did not let the outbox be repaired; the originals are where the message says."""


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal; elsewhere nothing is drawn."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    drawn = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=drawn, transient=True, disable=not sys.stderr.isatty()) as progress:
        yield progress


@click.command(cls=Verb, example="gateway outbox verify")
@configured
@printing
def verify(config: tuple[Path, ...], as_json: bool) -> int:
    """Check every record on the disk. Exit status 1 where something is damaged or missing."""
    from gateway.cli.outbox_at_rest import reader_of

    reader = reader_of(load(config))
    kept = sum(reader.backlog(stream) for stream in STREAMS)
    damages = []
    with progress_bar() as progress:
        task = progress.add_task("files", total=reader.files())
        damages = list(reader.verify(lambda: progress.advance(task)))
    if as_json:
        say_json({"outbox": reader.id, "damages": [dataclasses.asdict(damage) for damage in damages]})
    elif damages:
        console().print(table(("file", "offset", "what"), [tuple(dataclasses.astuple(damage)) for damage in damages]))
        click.echo("to name what is lost and go on with the rest: gateway outbox repair")
    else:
        click.echo(f"outbox {reader.id}: good, {kept} entries wait")
    return EXIT_FAILED if damages else EXIT_GOOD


@click.command(cls=Verb, example="systemctl stop gateway && gateway outbox repair && systemctl start gateway")
@configured
@printing
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--originals",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Where the damaged files are kept. Default: beside the outbox, with the date.",
)
def repair(config: tuple[Path, ...], as_json: bool, yes: bool, originals: Path | None) -> int:
    """Name as lost what is missing, and write the damaged files anew from the records that are whole.

    The daemon must not run. Every file that is touched is copied before; nothing of it is deleted. Exit status 1 where
    it was not confirmed, or damage is left.
    """
    configuration = load(config)
    from gateway import wire
    from gateway.cli.outbox_at_rest import reader_of
    from gateway.config.outbox_key import sealing_of
    from gateway.facts import EventsDropped
    from gateway.machine.clock import SystemClock
    from gateway.machine.disk import RealDisk
    from gateway.model import rfc3339
    from gateway.outbox.repair import repair as mend

    clock = SystemClock()
    directory = str(configuration.outbox.directory)
    sealing = sealing_of(configuration.outbox)
    damages = list(reader_of(configuration).verify())
    if not damages:
        if as_json:
            say_json({"damages": 0, "copied": [], "rewritten": [], "lost": 0, "left": 0})
        else:
            click.echo("nothing is damaged; nothing has changed")
        return EXIT_GOOD
    stamp = rfc3339(clock.now().wall_ns)[:19].replace(":", "").replace("-", "")
    place = str(originals) if originals is not None else f"{directory.rstrip('/')}.originals-{stamp}"
    for damage in damages:
        click.echo(f"{damage.path}, byte {damage.offset}: {damage.detail}", err=True)
    if not yes and not click.confirm(f"keep the originals in {place}, and repair?", default=False, err=True):
        click.echo("nothing has changed", err=True)
        return EXIT_FAILED

    def describe_loss(outbox_id: str, loss: Loss, at: Instant) -> bytes:
        dropped = EventsDropped(outbox_id, loss.stream, loss.reason, loss.first, loss.last, loss.count)
        return wire.record(Event("gateway", at, dropped), clock.bootid)

    def say(what: str) -> None:
        click.echo(what, err=True)

    try:
        now = clock.now()
        done = mend(directory, place, damages, configuration.outbox, RealDisk(), now, describe_loss, say, sealing)
    except OSError as error:
        raise NotRepaired(
            f"the outbox was not repaired: {error.strerror or error}", f"the originals are in {place}; run it again"
        ) from None
    left = list(reader_of(configuration).verify())
    if as_json:
        said: dict[str, Any] = dataclasses.asdict(done)
        say_json({"damages": len(damages), **said, "left": len(left)})
    else:
        click.echo(f"{len(done.rewritten)} files written anew, {done.lost} entries named as lost; originals in {place}")
        for damage in left:
            click.echo(f"left: {damage.path}, byte {damage.offset}: {damage.detail}")
    return EXIT_FAILED if left else EXIT_GOOD


@click.command(cls=Verb, example="gateway outbox estimate")
@configured
@printing
def estimate(config: tuple[Path, ...], as_json: bool) -> int:
    """How many hours the outbox lasts without a broker, what is shed first, how long the card lives at this rate."""
    configuration = load(config)
    import shutil

    from gateway.cli.outbox_at_rest import reader_of
    from gateway.machine.clock import SystemClock
    from gateway.outbox.estimate import AMPLIFICATION, CYCLES
    from gateway.outbox.estimate import estimate as reckon

    reader = reader_of(configuration)
    wall_ns = SystemClock().now().wall_ns
    used = {stream: reader.stream_bytes(stream) for stream in STREAMS}
    rates = {stream: rate for stream in STREAMS if (rate := reader.rate(stream, wall_ns)) is not None}
    card = shutil.disk_usage(str(configuration.outbox.directory))
    other = max(0, reader.used_bytes() - sum(used.values()))
    found = reckon(configuration.outbox, used, other, card.free, card.total, rates)
    assumptions = {
        "rate": "of what is on the disk, since its oldest file was begun; the broker away from now on",
        "erase_cycles": CYCLES,
        "write_amplification": AMPLIFICATION,
        "card_bytes": found.card_bytes,
    }
    if as_json:
        say_json({**json.loads(json.dumps(dataclasses.asdict(found))), "assumptions": assumptions})
        return EXIT_GOOD
    if found.hours_left is None or found.card_years is None:
        click.echo("too little is recorded yet to tell a rate (a minute of files from a clock that was set)")
        return EXIT_GOOD
    rows = [
        (stream, f"{rate.entries_per_s * 3600:.1f}", f"{size(rate.bytes_per_s * 86_400)}", f"{rate.seconds / 3600:.1f}")
        for stream, rate in rates.items()
    ]
    console().print(table(("stream", "events an hour", "a day", "over hours"), rows))
    click.echo(
        f"without a broker: {found.hours_left:.0f} hours ({size(found.free_bytes)} left); "
        f"then {found.shed_first} is shed first"
    )
    click.echo(f"the card: {size(found.card_bytes_per_day)} written a day, worn out in {found.card_years:.0f} years")
    click.echo(
        f"assumed: the rate stays; a card of {size(found.card_bytes)}, {CYCLES} erase cycles a cell, its controller "
        f"erasing {AMPLIFICATION:g} bytes a byte; nothing else writes to it"
    )
    return EXIT_GOOD
