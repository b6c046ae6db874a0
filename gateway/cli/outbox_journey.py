"""`gateway outbox export | import`: the backlog as JSON Lines, out of one gateway and home through another.

Law: an exported line is the event as it leaves the store; an import sends those very bytes. So an event keeps its
identity: `source`, `id`, `outbox`, `epoch`, `stream` and `sequence` are the dead gateway's, consumers drop what it had
delivered itself, and count its numbers as complete. This gateway's outbox is not touched: its numbers are for its own
events. The file is the store meanwhile; an import that was cut short is run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.outbox_care import progress_bar
from gateway.cli.verb import Verb, configured, load, say_json
from gateway.errors import EXIT_GOOD, ConfigurationError, GatewayError
from gateway.machine.bounded import json_object, open_regular
from gateway.machine.owner import written
from gateway.model import STREAMS

LINE_BYTES_MAX = 128 * 1024
_SOURCE = re.compile(r"/stores/([A-Za-z0-9_-]{1,64})/gateways/([A-Za-z0-9_-]{1,64})")


class NoExport(GatewayError):
    """A file is no export of an outbox: the message names the line; nothing of it has been sent."""


@click.command(cls=Verb, example="gateway outbox export backlog.jsonl")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@configured
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="The same as FILE.")
@click.option("--stream", type=click.Choice(STREAMS), help="Only this one.")
@click.option("--tinydb", is_flag=True, help="One file for stock TinyDB instead, a table a stream.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: what is written without --tinydb.")
def export(
    file: Path | None, config: tuple[Path, ...], output: Path | None, stream: str | None, tinydb: bool, as_json: bool
) -> int:
    """Write every waiting entry's envelope to FILE (or standard output), one JSON object a line. The outbox keeps them.

    A time that is still unsynced stays so. `gateway outbox import` on another gateway brings them home.
    """
    configuration = load(config)
    from gateway.cli.outbox_at_rest import envelope, reader_of

    reader = reader_of(configuration)
    names = (stream,) if stream else STREAMS
    target = file or output
    count = 0
    try:
        to = click.open_file("-", "wb") if target is None or str(target) == "-" else written(target)
        with to as lines, progress_bar() as progress:
            task = progress.add_task("entries", total=sum(reader.backlog(name) for name in names))
            for table, name in enumerate(names):
                if tinydb:
                    lines.write(b'%b"%b":{' % (b"}," if table else b"{", name.encode()))
                for index, entry in enumerate(reader.entries(name)):
                    event = envelope(configuration, reader, entry)
                    key = b'%b\n"%d":' % (b"," if index else b"", entry.sequence) if tinydb else b""
                    lines.write(key + event + (b"" if tinydb else b"\n"))
                    count += 1
                    progress.advance(task)
            lines.write(b"}}\n" if tinydb else b"")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise GatewayError(f"{target} cannot be written: {error.strerror}", "name another file") from None
    click.echo(f"{count} entries", err=True)
    return EXIT_GOOD


@click.command("import", cls=Verb, example="gateway outbox import backlog-of-the-dead-gateway.jsonl")
@click.argument("file", type=click.Path(path_type=Path))
@configured
@click.option(
    "--here", is_flag=True, help="Send them below this gateway's topic, where the broker lets it write no other."
)
@click.option("--dry-run", is_flag=True, help="Check the file and say what is in it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(file: Path, config: tuple[Path, ...], here: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Bring the exported backlog of a dead gateway home: send FILE's events under the names they have.

    They keep id, source, outbox, epoch, stream and sequence, so nothing is counted twice and their gaps close. Sent in
    batches on the backfill topic of the gateway that recorded them; the daemon here may run, its outbox is not touched.
    Exit status 0 once the broker has acknowledged every one.
    """
    configuration = load(config)
    from gateway.consumer.republishing import republish

    counts: dict[str, int] = {}
    for source, _ in _envelopes(file):
        counts[source] = counts.get(source, 0) + 1
    for source, count in counts.items():
        click.echo(f"{source}: {count} events", err=True)
    if dry_run or not counts:
        if as_json:
            say_json({"sent": 0, "sources": counts})
        return EXIT_GOOD
    if configuration.broker.url is None:
        raise ConfigurationError("broker.url is missing; there is nobody to send to")
    total = sum(counts.values())
    if not yes and not click.confirm(f"send {total} events to {configuration.broker.url}?", default=False, err=True):
        click.echo("nothing was sent", err=True)
        return 1
    prefix, site = configuration.broker.topic_prefix, configuration.site

    def topic_of(source: str) -> str:
        named = _SOURCE.fullmatch(source)
        assert named is not None
        store, gateway = (site.store, site.gateway) if here else (named[1], named[2])
        return f"{prefix}/v1/{store}/{gateway}/backfill"

    with progress_bar() as progress:
        task = progress.add_task("events", total=total)
        events = ((topic_of(source), line) for source, line in _envelopes(file))
        sent = republish(configuration.broker, events, lambda count: progress.advance(task, count))
    if as_json:
        say_json({"sent": sent, "sources": counts})
    else:
        click.echo(f"{sent} events acknowledged by the broker")
    return EXIT_GOOD


def _envelopes(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield source and bytes of each event, checked; raises NoExport with the line's number."""
    try:
        with open(open_regular(file), "rb") as lines:
            number = 0
            while line := lines.readline(LINE_BYTES_MAX + 1):
                number += 1
                content = line.strip()
                if content:
                    yield _checked(content, f"{file}:{number}"), content
    except OSError as error:
        raise NoExport(f"{file} cannot be read: {error.strerror}") from None


def _checked(line: bytes, where: str) -> str:
    advice = "give the file that `gateway outbox export` wrote"
    try:
        event = json_object(line)
        place = (event["outbox"], str(event["epoch"]), event["stream"], event["sequence"])
        source = str(event["source"])
        is_whole = event["specversion"] == "1.0" and event["id"] == "-".join(place) and event["stream"] in STREAMS
    except (ValueError, KeyError, TypeError):
        raise NoExport(f"{where} is no event", advice) from None
    if not is_whole or len(line) > LINE_BYTES_MAX or not _SOURCE.fullmatch(source):
        raise NoExport(f"{where}: the id does not say what outbox, epoch, stream and sequence say", advice)
    return source
