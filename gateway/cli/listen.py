"""`gateway listen`: subscribe as a consumer and prove completeness."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.verb import Verb, configured, load, printing
from gateway.errors import EXIT_FAILED, EXIT_GOOD
from gateway.units import duration_s

if TYPE_CHECKING:
    from gateway.consumer.ledger import Report


def _length(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text) if text.replace(".", "", 1).isdigit() else duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    cls=Verb,
    example="""
    gateway listen --config /etc/gateway/gateway.toml --for 10min
    gateway listen --config shop.toml --until-complete
    gateway listen --config shop.toml --json | jq -r .type
    """,
)
@configured
@click.option("--all", "everyone", is_flag=True, help="Every gateway under the topic prefix, not only this one.")
@click.option("--for", "for_s", callback=_length, metavar="DURATION", help="How long; else until Ctrl-C.")
@click.option("--until-complete", is_flag=True, help="End when nothing is missing and nothing comes any more.")
@click.option("--from-start", is_flag=True, help="Expect every event since the outbox was made, not only new ones.")
@click.option("--as-it-comes", is_flag=True, help="Do not hold events back until their predecessors have come.")
@printing
def listen(
    config: tuple[Path, ...],
    everyone: bool,
    for_s: float | None,
    until_complete: bool,
    from_start: bool,
    as_it_comes: bool,
    as_json: bool,
) -> int:
    """Subscribe as a careful consumer: drops duplicates, restores order, proves completeness, reports gaps.

    Prints each event once; the report at the end says what was delivered, named as lost, and missing. With --json
    each event is a line as it was sent, and the last line is {"report": ...}. Exit status 0 where nothing is missing,
    1 where there are gaps, 69 without a broker.
    """
    configuration = load(config)
    from gateway.consumer.ledger import Ledger
    from gateway.consumer.listening import Listening, Until
    from gateway.consumer.messages import Delivery
    from gateway.consumer.subscription import Subscription, topics_of
    from gateway.consumer.words import line_of, printable
    from gateway.machine.clock import SystemClock

    site, prefix = configuration.site, configuration.broker.topic_prefix
    topics = topics_of(prefix) if everyone else topics_of(prefix, site.store, site.gateway)

    def say(delivery: Delivery) -> None:
        if as_json:
            _out(json.dumps(dict(delivery.envelope), ensure_ascii=False, separators=(",", ":")))
        else:
            where = f"{delivery.source[8:].replace('/gateways/', '.'):<16} " if everyone else ""
            _out(f"{where}{line_of(delivery)}")

    def told(source: str, state: str) -> None:
        if not as_json:
            _out(f"-- {printable(source)} is {state}")

    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: stopping.set())
    with Subscription(configuration.broker, topics) as subscription:
        if not as_json:
            _out(f"-- listening to {', '.join(topics)} at {configuration.broker.url} (MQTT {subscription.protocol})")
        listening = Listening(Ledger(from_start), say, told, in_order=not as_it_comes)
        report = listening.run(subscription, Until(for_s, until_complete), SystemClock(), stopping)
    if as_json:
        _out(json.dumps({"report": report.as_json()}))
    else:
        for line in lines_of(report):
            _out(line)
    return EXIT_FAILED if report.verdict in ("conflict", "gaps") else EXIT_GOOD


def lines_of(report: Report) -> list[str]:
    """Write the report for people: a line a stream, the gaps, the verdict."""
    from gateway.consumer.ledger import GAPS_SHOWN

    lines = [""]
    for stream in report.streams:
        if stream.begins is None:
            continue  # nothing of it came, and nobody said that something should
        lost = f", {stream.lost} named as lost" if stream.lost else ""
        again = f", {stream.duplicates} duplicates dropped" if stream.duplicates else ""
        where = f"{stream.source} {stream.outbox} {stream.stream}"
        lines.append(f"{where:<48} {stream.delivered} delivered{again}{lost}")
        for first, last in stream.gaps:
            lines.append(f"    missing {first}" + (f" to {last}" if last > first else ""))
        if len(stream.gaps) == GAPS_SHOWN:
            lines.append(f"    ... {stream.missing} missing in all")
    if report.invalid:
        lines.append(f"{report.invalid} messages or events do not keep the contract: {'; '.join(report.why_invalid)}")
    if report.uncounted:
        lines.append(f"{report.uncounted} events more than could be accounted for")
    if report.unchecked:
        lines.append(f"{report.unchecked} duplicates came too late to compare their content")
    verdict: dict[Any, str] = {
        "complete": f"complete: all of {report.recorded} recorded events are accounted for",
        "gaps": f"NOT complete: {report.missing} of {report.recorded} recorded events are missing",
        "conflict": (
            f"NOT complete: {report.reissued} times a number was given out again, {report.conflicts} times an id with "
            "another content. A card was put back to an older image, or two gateways run from one: let only one run, "
            "then listen anew"
        ),
        "nothing": "nothing was recorded while this listened, so there is nothing to prove",
    }
    return [*lines, verdict[report.verdict]]


def _out(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()
