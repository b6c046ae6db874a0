"""`gateway tare`: what the empty shelf reads becomes its zero; the factor stays."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.technician import confirmed, ready, say, seconds, shelf_named, show, whoever
from gateway.cli.verb import Verb, configured, load, printing, say_json
from gateway.errors import EXIT_FAILED, EXIT_GOOD


@click.command(
    cls=Verb,
    example="""
    gateway tare aisle-3
    gateway tare aisle-3 --yes --note "new shelf liner"
    """,
)
@configured
@printing
@click.argument("shelf")
@click.option("--yes", is_flag=True, help="Ask nothing: the shelf is empty.")
@click.option("--for", "for_text", default="30s", show_default=True, metavar="TIME", help="Wait so long for rest.")
@click.option("--who", default=None, help="Who tares. Default: this user.")
@click.option("--note", default="", help="A word for those who read it later.")
def tare(
    config: tuple[Path, ...], as_json: bool, shelf: str, yes: bool, for_text: str, who: str | None, note: str
) -> int:
    """Set the zero of SHELF to what it reads now, empty and at rest. Its factor, counts per gram, stays.

    Nothing changes while the scale is unsettled or faulty, or until the new zero is confirmed; a running daemon takes
    it over at once. `gateway calibrate SHELF --undo` brings the old one back.
    """
    configuration = load(config)
    settings = shelf_named(configuration, shelf)
    within_s = seconds(for_text)
    from gateway.machine.clock import SystemClock
    from gateway.model import rfc3339
    from gateway.sensors.shelf.calibration import tared
    from gateway.technician.at_scale import weigh
    from gateway.technician.scales import desk_of
    from gateway.technician.sources import open_source

    clock, desk = SystemClock(), desk_of(configuration)
    before = desk.held(shelf)
    calibration = before.calibration
    ready(f"empty {shelf} and leave it alone", yes)
    source = open_source(configuration, clock, {shelf})
    try:
        weight = weigh(source, settings, clock, within_s, waiting=say)
    finally:
        source.close()
    stored = tared(before.configured, before.stored, weight, rfc3339(clock.now().wall_ns), who or whoever(), note)
    assert calibration is not None  # `tared` has refused a shelf without one
    moved_grams = calibration.grams(stored.offset_counts)
    say(f"the empty shelf reads {weight.counts:.0f} counts, {moved_grams:+.1f} g from its present zero")
    if not confirmed("make this the zero?", yes):
        say("nothing has changed")
        return EXIT_FAILED
    held = desk.store(shelf, stored)
    if as_json:
        say_json({**held.to_json(), "moved_grams": round(moved_grams, 2)})
    else:
        show(f"{shelf} now", held)
    return EXIT_GOOD
