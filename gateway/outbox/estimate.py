"""How long the outbox lasts: until it is full while the broker is away, and until the card is worn out.

Law: arithmetic over what the files say; every assumption is a named number in the result. The rate is that of what is
still on the disk: from the oldest file whose clock could be trusted until now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.model import SHED_ORDER, Stream
from gateway.outbox.retention import FLOOR_PART
from gateway.outbox.settings import OutboxSettings

PAGE_BYTES = 4096  # the least that a commit writes
ZEROS = 2.0  # each byte of a record is written once as a zero ahead and once as itself
STATE_EVERY_S = 10.0  # a synced save of the state while events come
CYCLES = 1000  # erase cycles of a cell: cheap TLC; industrial cards have 3,000 to 100,000
AMPLIFICATION = 10.0  # what a card's controller erases for small writes, in bytes a byte
RATE_S_MIN = 60.0  # a shorter time says nothing


@dataclass(frozen=True, slots=True)
class StreamRate:
    """What a stream records: entries and bytes on the disk a second, over the `seconds` that were looked at."""

    entries_per_s: float
    bytes_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """See the module. What must be reckoned from a rate is None where nothing is recorded, or for too short a time."""

    hours_left: float | None
    shed_first: Stream | None
    free_bytes: int
    bytes_per_day: float
    card_bytes_per_day: float
    card_years: float | None
    card_bytes: int
    rates: Mapping[Stream, StreamRate]


def estimate(
    settings: OutboxSettings,
    used: Mapping[Stream, int],
    other_bytes: int,
    disk_free_bytes: int,
    card_bytes: int,
    rates: Mapping[Stream, StreamRate],
) -> Estimate:
    """Estimate from what each stream uses (bytes), what else lies there, and the rates.

    `hours_left` is the time until the first event that was not delivered must be shed: until `bytes_max` or the disk is
    reached. `card_years` is `card_bytes` x CYCLES / AMPLIFICATION over what is written a day, which counts a page a
    commit, since that is what a slow stream costs.
    """
    bytes_per_s = sum(rate.bytes_per_s for rate in rates.values())
    free = max(0, min(settings.bytes_max - sum(used.values()) - other_bytes, disk_free_bytes))
    written_per_s = 0.0
    for stream, rate in rates.items():
        interval_s = settings.interval_ns(stream) / 1e9
        commits_per_s = min(rate.entries_per_s, 1 / interval_s if interval_s else rate.entries_per_s)
        written_per_s += max(ZEROS * rate.bytes_per_s, rate.bytes_per_s + commits_per_s * PAGE_BYTES)
    if bytes_per_s:
        written_per_s += PAGE_BYTES / STATE_EVERY_S
    floor = settings.bytes_max // FLOOR_PART
    grown = {stream: used.get(stream, 0) + _share(rates, stream, bytes_per_s) * free for stream in SHED_ORDER}
    first = next((stream for stream in SHED_ORDER if grown[stream] > floor), SHED_ORDER[-1] if bytes_per_s else None)
    return Estimate(
        hours_left=free / bytes_per_s / 3600 if bytes_per_s else None,
        shed_first=first,
        free_bytes=free,
        bytes_per_day=bytes_per_s * 86_400,
        card_bytes_per_day=written_per_s * 86_400,
        card_years=card_bytes * CYCLES / AMPLIFICATION / (written_per_s * 86_400 * 365) if written_per_s else None,
        card_bytes=card_bytes,
        rates=rates,
    )


def _share(rates: Mapping[Stream, StreamRate], stream: Stream, bytes_per_s: float) -> float:
    rate = rates.get(stream)
    return rate.bytes_per_s / bytes_per_s if rate is not None and bytes_per_s else 0.0
