"""`gateway doctor`: the checks on the terminal, or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.verb import Verb, configured, console, load, printing, say_json
from gateway.errors import EXIT_FAILED, EXIT_GOOD, ConfigurationError

if TYPE_CHECKING:
    from gateway.technician.checks import Check

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("-", "dim")}


@click.command(
    cls=Verb,
    example="""
    gateway doctor
    gateway doctor --json | jq -r '.checks[] | select(.result == "failed") | .advice'
    """,
)
@configured
@printing
@click.option("--verbose", is_flag=True, help="Say why each check matters, also where all is well.")
def doctor(config: tuple[Path, ...], as_json: bool, verbose: bool) -> int:
    """Every check: configuration, outbox and disk, clock, sensors, broker, daemon.

    Nothing is changed; a running daemon is not disturbed. Exit status 1 where a check failed, 78 where the
    configuration is wrong.
    """
    try:
        configuration = load(config)
    except ConfigurationError as error:
        if as_json:
            from gateway.technician.checks import Check
            from gateway.technician.doctor import document

            why = "nothing can be checked, and nothing runs, without it"
            wrong = Check("configuration", "file", "failed", str(error), why, error.advice, "configuration.wrong")
            say_json(document((wrong,)))
            return error.exit_code
        raise
    from gateway.technician.doctor import checks, document

    found: list[Check] = []
    group = ""
    for check in checks(configuration):
        found.append(check)
        if as_json:
            continue
        if check.group != group:
            group = check.group
            console().print(f"\n[bold]{group}[/]")
        _say(check, verbose)
    result = document(tuple(found))
    if as_json:
        say_json(result)
    else:
        _summarize(found)
    return EXIT_FAILED if result["result"] == "failed" else EXIT_GOOD


def _say(check: Check, verbose: bool) -> None:
    from rich.text import Text

    out = console()
    mark, colour = MARKS[check.result]
    out.print(Text.assemble("  ", (mark, colour), f" {check.name}: {check.found}"))
    if check.why and (verbose or check.result in ("warning", "failed")):
        out.print(Text(f"      why it matters: {check.why}"))
    if check.advice and check.result != "ok":
        out.print(Text(f"      what to do:     {check.advice}"))


def _summarize(found: list[Check]) -> None:
    counts = {result: sum(check.result == result for check in found) for result in MARKS}
    words = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    console().print(f"\n{len(found)} checks: {words}")
