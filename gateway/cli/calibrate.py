"""`gateway calibrate`: from known masses to a calibration, guided, shown and confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.technician import confirmed, ready, say, seconds, shelf_named, show, whoever
from gateway.cli.verb import Verb, configured, console, load, printing, say_json, table
from gateway.errors import EXIT_FAILED, EXIT_GOOD

if TYPE_CHECKING:
    from gateway.machine.clock import Clock
    from gateway.sensors.shelf.calibration import Fit, Point
    from gateway.sensors.shelf.settings import ShelfSettings
    from gateway.technician.scales import Desk, RemoteDesk
    from gateway.technician.sources import Source

MASSES_MAX = 19


@click.command(
    cls=Verb,
    example="""
    gateway calibrate aisle-3
    gateway calibrate aisle-3 --mass 1000 --mass 2000
    gateway calibrate aisle-3 --undo
    """,
)
@configured
@printing
@click.argument("shelf")
@click.option("--mass", "masses", multiple=True, type=float, metavar="GRAMS", help="A known mass; several are better.")
@click.option("--yes", is_flag=True, help="Ask nothing: each load is waited for, the result is taken.")
@click.option("--undo", is_flag=True, help="Bring the calibration before the present one back.")
@click.option("--for", "for_text", default="60s", show_default=True, metavar="TIME", help="Wait so long for each load.")
@click.option("--who", default=None, help="Who calibrates. Default: this user.")
@click.option("--note", default="", help="A word for those who read it later: which masses, how warm.")
def calibrate(
    config: tuple[Path, ...],
    as_json: bool,
    shelf: str,
    masses: tuple[float, ...],
    yes: bool,
    undo: bool,
    for_text: str,
    who: str | None,
    note: str,
) -> int:
    """Calibrate SHELF: empty first, then with one known mass after the other, in grams, each alone on the shelf.

    The result is shown and must be confirmed; until then the old calibration stays. It is refused where the points do
    not lie on a line. A running daemon takes it over at once.
    """
    configuration = load(config)
    settings = shelf_named(configuration, shelf)
    within_s = seconds(for_text)
    if undo and masses:
        raise click.UsageError("--undo and --mass do not go together")
    if yes and not masses and not undo:
        raise click.UsageError("--yes needs the masses: --mass 1000")
    if any(not 0 < grams < 1e6 for grams in masses) or len(set(masses)) < len(masses) or len(masses) > MASSES_MAX:
        raise click.BadParameter(f"up to {MASSES_MAX} different masses, in grams", param_hint="--mass")
    from gateway.machine.clock import SystemClock
    from gateway.model import rfc3339
    from gateway.sensors.shelf.calibration import fit, stored_of
    from gateway.technician.scales import desk_of
    from gateway.technician.sources import open_source

    desk = desk_of(configuration)
    if undo:
        return _undo(desk, shelf, yes, as_json)
    clock = SystemClock()
    before = desk.held(shelf)
    if before.configured is not None:
        from gateway.sensors.shelf.calibration import CalibrationRefused

        raise CalibrationRefused(
            f"the configuration gives a calibration for {shelf}, which is the one that holds",
            f"take the key `calibration` of {shelf} out of the configuration, restart the daemon, then calibrate",
        )
    if not as_json:
        show(f"{shelf} until now", before)
    source = open_source(configuration, clock, {shelf})
    try:
        points = _points(source, settings, clock, within_s, masses, yes)
    finally:
        source.close()
    found = fit(points)
    if not as_json:
        _show_fit(found)
    if not confirmed("use this calibration from now on?", yes):
        say("nothing has changed; the old calibration stays")
        return EXIT_FAILED
    held = desk.store(shelf, stored_of(found, rfc3339(clock.now().wall_ns), who or whoever(), note))
    if as_json:
        say_json(held.to_json())
    else:
        show(f"{shelf} now", held)
    return EXIT_GOOD


def _points(
    source: Source, settings: ShelfSettings, clock: Clock, within_s: float, masses: tuple[float, ...], yes: bool
) -> list[Point]:
    from gateway.sensors.shelf.calibration import Point
    from gateway.technician.at_scale import weigh

    ready(f"empty {settings.id} and leave it alone", yes)
    weight = weigh(source, settings, clock, within_s, waiting=say)
    points = [Point.of(0.0, weight)]
    say(f"  empty: {weight.counts:.0f} counts, noise {weight.noise_counts:.0f}")
    waiting = list(masses)
    while True:
        if masses and not waiting:
            return points
        grams = waiting.pop(0) if masses else _asked(len(points) > 1)
        if grams is None:
            return points
        ready(f"put {grams:g} g on {settings.id}, in its middle, and nothing else", yes)
        weight = weigh(source, settings, clock, within_s, weight, waiting=say)
        points.append(Point.of(grams, weight))
        say(f"  {grams:g} g: {weight.counts:.0f} counts, noise {weight.noise_counts:.0f}")


def _asked(enough: bool) -> float | None:
    """Ask for the next mass; None when the person has no more."""
    hint = "the next known mass in grams (Enter: no more)" if enough else "a known mass in grams, for example 1000"
    while True:
        text = str(click.prompt(hint, default="", show_default=False, err=True)).strip()
        if not text and enough:
            return None
        try:
            grams = float(text.replace(",", "."))
        except ValueError:
            grams = -1.0
        if 0 < grams < 1e6:
            return grams
        say("a mass is a number of grams above 0")


def _show_fit(found: Fit) -> None:
    rows = [
        (f"{point.grams:g}", f"{point.counts:.0f}", f"{point.noise_counts:.0f}", f"{residual:+.3f}")
        for point, residual in zip(found.points, found.residuals_grams, strict=True)
    ]
    line = found.calibration
    out = console()
    out.print(table(("grams", "counts", "noise", "off the line, g"), rows))
    out.print(
        f"offset_counts {line.offset_counts:.10g}, counts_per_gram {line.counts_per_gram:.10g}, "
        f"at most {found.residual_max_grams:.3f} g off, R² {found.r2:.7f}",
        markup=False,
    )
    if len(found.points) == 2:
        out.print("one mass only: nothing checks that the scale is straight; a second one would", markup=False)


def _undo(desk: Desk | RemoteDesk, shelf: str, yes: bool, as_json: bool) -> int:
    before = desk.held(shelf)
    if not as_json:
        show(f"{shelf} until now", before)
    if not confirmed("bring the calibration before this one back?", yes):
        say("nothing has changed")
        return EXIT_FAILED
    held = desk.undo(shelf)
    if as_json:
        say_json(held.to_json())
    else:
        show(f"{shelf} now", held)
    return EXIT_GOOD
