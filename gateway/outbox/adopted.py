"""Whose an outbox is: one that goes on elsewhere bears a mark, and one of another name is not gone on with."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import ConfigurationError, OutboxUnusable
from gateway.machine.disk import Disk
from gateway.outbox.directory import unusable

MARK = "adopted"
"""The file of the outbox directory that says so."""


def refuse_adopted(disk: Disk, directory: str) -> None:
    """Raise OutboxUnusable where this outbox goes on elsewhere: here it must never run again.

    Also where the disk does not answer; what else may be wrong with the directory is reported by who opens it.
    """
    names: list[str] = []
    try:
        names = disk.names(directory)
    except TimeoutError as error:
        raise unusable(directory, error) from None
    except OSError:
        pass
    if MARK in names:
        raise OutboxUnusable(
            f"the outbox {directory} was adopted by another gateway and goes on there",
            "give this card a new outbox: move the directory away, or write the card anew",
        )


def of_another(directory: str | Path, recorded_as: str, here: str) -> tuple[str, str]:
    """Return what is wrong with an outbox that was recorded under another name, and what to do.

    The numbers count within a source: under a new one every consumer would miss what went out under the old one.
    """
    return (
        f"the outbox {directory} has the events of {recorded_as}, and this configuration is {here}",
        "set [site] store and gateway as they were until all is sent; then, for a new name, move the directory away",
    )


def refuse_another(directory: str, recorded_as: str, here: str) -> None:
    """Raise ConfigurationError where an outbox was recorded under another name; an empty one says nothing."""
    if recorded_as not in ("", here):
        raise ConfigurationError(*of_another(directory, recorded_as, here))
