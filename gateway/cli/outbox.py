"""`gateway outbox`: look into the outbox on the disk, also while the daemon runs. Nothing here writes to it.

The verbs that check, mend, carry and reckon are in `outbox_care` and `outbox_journey`.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.outbox_at_rest import database_of, outbox_at_rest, reader_of
from gateway.cli.outbox_care import estimate, repair, verify
from gateway.cli.outbox_journey import export, import_
from gateway.cli.verb import VerbGroup, ago, configured, console, load, printing, say_json, size, table
from gateway.errors import EXIT_FAILED, EXIT_GOOD, GatewayError
from gateway.machine.bounded import json_object
from gateway.model import STREAMS, Stream

if TYPE_CHECKING:
    from gateway.outbox.table import Document

LISTED = 20
DATA_SHOWN_MAX = 100
STREAM = click.Choice(STREAMS)
EVENT_ID = re.compile(rf"[0-9a-f]{{8}}-[0-9]+-({'|'.join(STREAMS)})-([0-9]{{1,16}})")


class NothingThere(GatewayError):
    """What was asked for is not in the outbox: never recorded, or acknowledged and given up since."""


@click.group(
    cls=VerbGroup,
    example="""
    gateway outbox status
    gateway outbox query 'type == "store.door.passed" and data.direction == "in"'
    """,
)
def outbox() -> None:
    """Look into the outbox, also while the daemon runs."""


@outbox.command(example="gateway outbox status --json | jq .streams")
@configured
@printing
def status(config: tuple[Path, ...], as_json: bool) -> int:
    """How much lies in the outbox, stream by stream, and what is damaged or refused."""
    configuration = load(config)
    found, streams = outbox_at_rest(configuration)
    if as_json:
        say_json({**found, "streams": streams})
        return EXIT_GOOD
    out = console()
    out.print(f"outbox {found['outbox']}, epoch {found['epoch']}, in {configuration.outbox.directory}", markup=False)
    oldest = "" if found["oldest_entry_ms"] is None else f", the oldest {ago(found['oldest_entry_ms'])} old"
    out.print(f"{found['entries']} not acknowledged{oldest}; {size(found['bytes'])} of {size(found['bytes_max'])}")
    out.print(f"{found['damaged']} damaged, {found['refused']} refused by the broker")
    rows = [(stream, *positions.values()) for stream, positions in streams.items()]
    out.print(table(("stream", "recorded", "acknowledged", "backlog"), rows))
    return EXIT_GOOD


@outbox.command("list", example="gateway outbox list door --limit 5")
@click.argument("stream", type=STREAM, required=False)
@configured
@printing
@click.option(
    "--limit", type=click.IntRange(min=1), default=LISTED, show_default=True, help="At most so many a stream."
)
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="N", help="Only sequences above N.")
def list_entries(stream: str | None, config: tuple[Path, ...], as_json: bool, limit: int, after: int) -> int:
    """The entries that wait for their acknowledgement, oldest first. With --json: their envelopes, one a line."""
    configuration = load(config)
    reader = reader_of(configuration)
    database = database_of(configuration, reader)
    entries = [(name, entry) for name in _streams(stream) for entry in database.table(name).find(None, limit, after)]
    _say_entries(entries, as_json)
    left = sum(reader.backlog(name) for name in _streams(stream)) - len(entries)
    if left > 0 and not after and not as_json:
        click.echo(f"and {left} more: --limit, --after")
    return EXIT_GOOD


@outbox.command(
    example="""
    gateway outbox show door 17
    gateway outbox show 0a1b2c3d-1-door-0000000000000017
    """
)
@click.argument("entry", nargs=-1, required=True, metavar="STREAM SEQUENCE | ID")
@configured
@printing
def show(entry: tuple[str, ...], config: tuple[Path, ...], as_json: bool) -> int:
    """One entry as it leaves the store, also an acknowledged one that is still kept."""
    named = EVENT_ID.fullmatch(entry[0]) if len(entry) == 1 else None
    place = named.groups() if named else entry
    is_place = len(place) == 2 and place[0] in STREAMS and place[1].isdecimal()
    if not is_place and len(entry) != 1:
        raise click.UsageError(f"give a stream ({', '.join(STREAMS)}) and a sequence number, or an event's id")
    configuration = load(config)
    reader = reader_of(configuration)
    found = None
    if is_place:
        found = database_of(configuration, reader, acknowledged=True).table(place[0]).get(doc_id=int(place[1]))
    if found is None or (named and found["id"] != entry[0]):  # of another outbox, or of another epoch
        raise NothingThere(
            f"{' '.join(entry)} is not in the outbox {reader.id}, or no longer",
            "see what is there: gateway outbox list",
        )
    say_json(found)
    return EXIT_GOOD


@outbox.command(example="gateway outbox query 'data.direction == \"in\" and data.duration_ms > 500' --stream door")
@click.argument("expression")
@configured
@printing
@click.option("--stream", type=STREAM, help="Only in this one.")
@click.option("--limit", type=click.IntRange(min=1), default=LISTED, show_default=True, help="At most so many.")
def query(expression: str, config: tuple[Path, ...], as_json: bool, stream: str | None, limit: int) -> int:
    """Waiting entries for which an expression holds: dotted fields, == != < <= > >=, and, or, not.

    A field is any that `show` prints.

    Exit status 1 where there is none, 2 where the expression cannot be read.
    """
    configuration = load(config)
    from gateway.outbox.query import parse_query

    condition = parse_query(expression)
    reader = reader_of(configuration)
    database = database_of(configuration, reader)
    matching = ((name, entry) for name in _streams(stream) for entry in database.table(name).find(condition))
    found = list(islice(matching, limit))
    _say_entries(found, as_json)
    return EXIT_GOOD if found else EXIT_FAILED


@outbox.command(example="gateway outbox refused --json | jq .event.id")
@configured
@printing
def refused(config: tuple[Path, ...], as_json: bool) -> int:
    """What the broker refused for good, and why. With --json: one JSON object a line."""
    reader = reader_of(load(config))
    lines = list(reader.refused())
    if as_json:
        for line in lines:
            click.echo(line)
        return EXIT_GOOD
    if not lines:
        click.echo("nothing was refused")
        return EXIT_GOOD
    rows = []
    for line in lines:
        try:
            about = json_object(line)
            event = about["event"]
            rows.append((about["id"], about["refused"], event.get("type", ""), event.get("subject", ""), about["why"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            rows.append(("", "", "", "", f"a line of {len(line)} bytes that cannot be read"))
    console().print(table(("id", "when", "type", "subject", "why"), rows))
    return EXIT_GOOD


for verb in (verify, repair, estimate, export, import_):
    outbox.add_command(verb)


def _streams(stream: str | None) -> tuple[Stream, ...]:
    return (stream,) if stream else STREAMS


def _say_entries(entries: list[tuple[Stream, Document]], as_json: bool) -> None:
    if as_json:
        for _, entry in entries:
            click.echo(json.dumps(entry, separators=(",", ":"), ensure_ascii=False))
    else:
        rows = [_row(stream, entry) for stream, entry in entries]
        console().print(table(("stream", "sequence", "time", "type", "subject", "data"), rows))


def _row(stream: Stream, event: Document) -> tuple[str, ...]:
    data = json.dumps(event.get("data", {}), ensure_ascii=False)
    attributes = (event.get(name, "") for name in ("time", "type", "subject"))
    return stream, str(event.doc_id), *attributes, data if len(data) <= DATA_SHOWN_MAX else data[:97] + "..."
