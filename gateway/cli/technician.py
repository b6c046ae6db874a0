"""What a technician's verbs share: a sensor with its calibration, who is asking, questions, sentences of a scale."""

from __future__ import annotations

import getpass
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.verb import console
from gateway.units import duration_s

if TYPE_CHECKING:
    from gateway.config import Configuration
    from gateway.sensors.kind import Sensor
    from gateway.sensors.shelf.settings import ShelfSettings
    from gateway.technician.scales import ShelfCalibration


def seconds(text: str, option: str = "--for") -> float:
    """Read the option's length of time; a usage error where it is none."""
    try:
        return duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def shelf_named(configuration: Configuration, shelf: str) -> ShelfSettings:
    """Return the shelf's settings; a usage error where the configuration has none of this id."""
    from gateway.sensors.shelf.calibration import CalibrationRefused
    from gateway.technician.scales import shelf_of

    try:
        return shelf_of(configuration, shelf)
    except CalibrationRefused as error:
        raise click.BadParameter(str(error), param_hint="SHELF") from None


def as_calibrated(configuration: Configuration, sensor: Sensor[Any]) -> Sensor[Any]:
    """Return the sensor with the calibration in force; one of a kind that is not calibrated as it is."""
    from gateway.errors import GatewayError
    from gateway.technician.scales import desk_of

    if not sensor.kind.calibrates:
        return sensor
    try:
        held = desk_of(configuration).held(sensor.id)
    except GatewayError:
        return sensor
    return replace(sensor, settings=replace(sensor.settings, calibration=held.calibration))


def whoever() -> str:
    """Return the name of the user, for what is written down."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def say(text: str) -> None:
    """Say something to the person at the shelf; standard output is for results."""
    click.echo(text, err=True)


def ready(text: str, yes: bool) -> None:
    """Ask for a deed and wait for Enter; with `--yes` the deed itself is waited for."""
    if yes:
        say(text)
    else:
        click.prompt(f"{text}, then press Enter", default="", show_default=False, prompt_suffix=" ", err=True)


def confirmed(question: str, yes: bool) -> bool:
    """Ask whether to go on."""
    return yes or click.confirm(question, default=False, err=True)


def show(heading: str, held: ShelfCalibration) -> None:
    """Print what is in force for a shelf."""
    calibration = held.calibration
    if calibration is None:
        words = f"not usable: {held.damaged}" if held.damaged else "none"
    else:
        words = f"offset_counts {calibration.offset_counts:.10g}, counts_per_gram {calibration.counts_per_gram:.10g}"
        stored: Any = held.stored
        if stored is not None and stored.calibration == calibration:
            words += f" ({stored.kind}d {stored.when[:10]} by {stored.who})"
    console().print(f"{heading}: {words}", markup=False)
