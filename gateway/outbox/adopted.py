"""The mark on an outbox that goes on elsewhere: another gateway adopted it, and here it never runs again."""

from __future__ import annotations

from gateway.errors import OutboxUnusable
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
