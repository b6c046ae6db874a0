"""The mark on an outbox that goes on elsewhere: another gateway adopted it, and here it never runs again."""

from __future__ import annotations

from contextlib import suppress

from gateway.errors import OutboxUnusable
from gateway.machine.disk import Disk

MARK = "adopted"
"""The file of the outbox directory that says so."""


def refuse_adopted(disk: Disk, directory: str) -> None:
    """Raise OutboxUnusable where this outbox goes on elsewhere: here it must never run again."""
    with suppress(OSError):
        if MARK in disk.names(directory):
            raise OutboxUnusable(
                f"the outbox {directory} was adopted by another gateway and goes on there",
                "give this card a new outbox: move the directory away, or write the card anew",
            )
