"""`gateway status`: what the running daemon does; and, where none runs, what the outbox on the disk says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli import say_error
from gateway.cli.verb import Verb, ago, configured, console, load, printing, say_json, size, table
from gateway.errors import EXIT_GOOD, EXIT_UNAVAILABLE, GatewayError, NoDaemon, Unavailable

if TYPE_CHECKING:
    from gateway.config import Configuration


@click.command(cls=Verb, example="gateway status --json | jq .streams")
@configured
@printing
def status(config: tuple[Path, ...], as_json: bool) -> int:
    """What the running daemon is doing. Exit status 69 where none runs; then what lies in the outbox is told."""
    configuration = load(config)
    from gateway.control.asking import ask

    try:
        found = ask(configuration, "status")
    except Unavailable as error:
        found = at_rest(configuration, "not running" if isinstance(error, NoDaemon) else "unknown")
        if as_json:
            say_json({**found, "why": str(error), "advice": error.advice})
        else:
            _say(found)
            say_error(error)
        return EXIT_UNAVAILABLE
    if as_json:
        say_json(found)
    else:
        _say(found)
    return EXIT_GOOD


def at_rest(configuration: Configuration, state: str) -> dict[str, Any]:
    """Return the status of a gateway whose daemon does not answer: what the outbox on the disk says, else `state`."""
    from gateway.cli.outbox_at_rest import outbox_at_rest

    try:
        outbox, streams = outbox_at_rest(configuration)
    except GatewayError as error:
        unknown = dict.fromkeys(("entries", "bytes", "oldest_entry_ms", "degraded"))
        outbox, streams = {**unknown, "error": str(error)}, {}
    return {
        "running": False,
        "state": state,
        "link": {"up": False, "since": None, "reason": state},
        "streams": streams,
        "outbox": outbox,
        "sensors": {sensor.id: {"kind": sensor.kind.table} for sensor in configuration.sensors},
        "counters": {},
        "clock": None,
    }


def _say(found: dict[str, Any]) -> None:
    from gateway.technician.checks.daemon import trouble_lines

    out = console()
    link = found["link"]
    name = "/".join(part for part in (found.get("store"), found.get("gateway")) if part)
    out.print(f"[bold]{found['state']}[/]  {name}".rstrip())
    if found["running"]:
        words = "up" if link.get("up") else "down"
        since = f" since {link['since']}" if link.get("since") else ""
        out.print(f"link     {words}{since}", markup=False)
        for line in trouble_lines(link):
            out.print(f"         {line}", markup=False)
        if limits := link.get("limits"):
            out.print(f"broker   {'; '.join(limits)}", markup=False)
        for note in link.get("notes", ()):
            out.print(f"         {note['detail']}", markup=False)
            out.print(f"         what to do: {note['advice']}", markup=False)
        out.print(f"clock    {found['clock']}", markup=False)
    out.print(f"outbox   {outbox_words(found['outbox'])}", markup=False)
    if found["streams"]:
        rows = [
            (stream, *(streams[key] for key in ("recorded_through", "acknowledged_through", "backlog")))
            for stream, streams in found["streams"].items()
        ]
        out.print(table(("stream", "recorded", "acknowledged", "backlog"), rows))
    if found["running"] and found["sensors"]:
        out.print()
        say_sensors(found["sensors"])


def outbox_words(outbox: dict[str, Any]) -> str:
    """Say in a line how much lies in the outbox."""
    if "error" in outbox:
        return str(outbox["error"])
    oldest = outbox.get("oldest_entry_ms")
    words = f"{outbox.get('entries', 0)} not acknowledged, {size(outbox.get('bytes'))}"
    words += f", oldest {ago(oldest)}" if oldest is not None else ""
    trouble = f"; the disk does not take events: {outbox.get('trouble') or 'gateway doctor'}"
    not_kept = f"; it does not outlast a power cut: {lost}" if (lost := outbox.get("not_kept")) else ""
    unreadable = f"; {why}" if (why := outbox.get("unreadable")) else ""
    return words + (trouble if outbox.get("degraded") else "") + not_kept + unreadable


def say_sensors(sensors: dict[str, dict[str, Any]]) -> None:
    """Print the sensors as a table, one line each, and below it what is wrong with each."""
    from gateway.sensors.fault import known_of

    out = console()
    rows, sentences = [], []
    for sensor, known in sensors.items():
        active = known_of(known).faults
        faults = "; ".join(f"{one.reason} since {one.since}" if one.since else one.reason for one in active)
        sentences += [f"{sensor}: {fault.detail}" for fault in active if fault.detail]
        age = f"{ago(known['age_ms'])} ago" if known.get("age_ms") is not None else "never"
        counts = (known.get("kind", ""), age, known.get("readings", "-"), known.get("discarded", "-"))
        rows.append((sensor, *counts, faults or "none"))
    out.print(table(("sensor", "kind", "last reading", "readings", "discarded", "faults"), rows))
    for sentence in sentences:
        out.print(sentence, markup=False)
