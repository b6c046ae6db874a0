"""The outbox at a glance: positions, and how old the oldest waiting entry is.

Law: values only; what is reported was true at one moment. An age is taken from the boot clock where the entry is of
this run, else by the wall clock as far as both moments could be trusted, else not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.machine.bounded import json_object
from gateway.model import NS_PER_MS, Entry, Instant, Stream
from gateway.outbox.stream import StreamLog


@dataclass(frozen=True, slots=True)
class Positions:
    """A stream as the state document has it; `backlog` is durable and not acknowledged."""

    recorded_through: int
    acknowledged_through: int
    backlog: int


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """The outbox at a glance. `trouble` is what the disk said; `damaged` counts files set aside or found damaged.

    `unreadable` says what keeps recorded events from being read now: they wait.
    """

    outbox: str
    epoch: int
    entries: int
    bytes: int
    bytes_max: int
    oldest_entry_ms: int | None
    degraded: bool
    trouble: str | None
    trouble_errno: int | None
    damaged: int
    refused: int
    pending_bytes: int
    lost: int
    unreadable: str | None = None


class Ages:
    """Knows the oldest waiting entry of each stream; `look` reads one entry, and is called when it is another one."""

    def __init__(self, logs: Mapping[Stream, StreamLog], look: Callable[[StreamLog, int], Entry | None]) -> None:
        self._logs, self._look = logs, look
        self._found = {name: log.durable for name, log in logs.items()}  # up to here it is of an earlier run
        self._known: dict[Stream, tuple[int, int | None, int | None]] = {}

    def oldest_ms(self, now: Instant) -> int | None:
        """Return the age of the oldest entry not acknowledged, in ms; None where there is none, or no clock."""
        ages = []
        for name, log in self._logs.items():
            first = log.next_open(log.settled.through + 1)
            if first > log.durable:
                continue
            known = self._known.get(name)
            if known is None or known[0] != first:
                entry = self._look(log, first)
                known = self._known[name] = (first, *(times_ms(entry.payload) if entry else (None, None)))
            _, wall_ms, boot_ms = known
            if boot_ms is not None and first > self._found[name]:
                ages.append(now.boot_ns // NS_PER_MS - boot_ms)
            elif wall_ms is not None and now.clock == "synced":
                ages.append(now.wall_ns // NS_PER_MS - wall_ms)
        return max(0, *ages) if ages else None


def times_ms(payload: bytes) -> tuple[int | None, int | None]:
    """Return when the event happened: wall clock, where it could be trusted, and since boot."""
    with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError):
        said = json_object(payload)
        boot_ms = int(said["uptimems"])
        wall_ms = int(datetime.fromisoformat(said["time"]).timestamp() * 1000) if said["clock"] != "unsynced" else None
        return wall_ms, boot_ms
    return None, None
