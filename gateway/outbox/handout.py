"""What the outbox hands out, and its patience with what cannot be read now.

Law: a number is named as lost (reason `corrupt`) where its file was read and it is not there, or where the card still
cannot be read when patience has ended; never because of an error that is of the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.machine.disk import Disk
from gateway.model import Entry, Instant, Stream
from gateway.outbox.intervals import Run
from gateway.outbox.patience import Patience, Spot
from gateway.outbox.reading import ReadPass, read_entries
from gateway.outbox.stream import Segment, StreamLog

AGAIN_ENTRIES, AGAIN_BYTES = 256, 1 << 18
RECOVERED_MAX = 1024  # runs that nobody has asked for; the next connection finds them without

Lose = Callable[[StreamLog, int, int], None]


class HandOut:
    """Reads entries of `logs`. `recovered` are numbers once passed over that can be read now."""

    def __init__(self, disk: Disk, outbox: str, logs: Mapping[Stream, StreamLog], lose: Lose) -> None:
        self._disk, self._outbox, self._logs, self._lose = disk, outbox, logs, lose
        self.patience = Patience()
        self.recovered: list[tuple[Stream, int, int]] = []
        self.stopped_short = False

    def read(self, log: StreamLog, first: int, through: int, limit: int, bytes_max: int, now: Instant) -> list[Entry]:
        """Return entries of `first..through` that nobody has acknowledged; `stopped_short` where more must wait."""
        got = self._read(log, first, through, limit, bytes_max, now)
        for run, segment in got.unread:
            if not self.patience.pass_over(log, segment, run, now):
                self._give_up(log, run, segment)
        return got.entries

    def _read(self, log: StreamLog, first: int, through: int, limit: int, bytes_max: int, now: Instant) -> ReadPass:
        patience = self.patience
        waiting = patience.waiting(now) if patience.holds else ()
        got = read_entries(self._disk, self._outbox, log, first, through, limit, bytes_max, log.open_run, waiting)
        if patience.holds:
            patience.release(got.opened)
        self.stopped_short = got.held is not None
        if got.held is not None:
            path, error = got.held
            if error is not None:
                patience.hold(log.name, path, error, now)
        for run, missing_of in got.missing:
            self._give_up(log, run, missing_of)
        return got

    def step(self, now: Instant) -> None:
        """Try again what is due."""
        if self.patience.spots and self.patience.spots[0].retry_ns <= now.boot_ns:
            self.try_again(now)
        if self.patience.holds:
            self.patience.keep({segment.path for log in self._logs.values() for segment in log.segments})

    def try_again(self, now: Instant, is_last: bool = False) -> None:
        """Try again what the card could not read, now all of it where `is_last`; then what stays unread is lost."""
        for spot in self.patience.take_due(now, is_last):
            if any(spot.segment is segment for segment in spot.log.segments):
                self._try(spot, now, is_last)

    def _try(self, spot: Spot, now: Instant, is_last: bool) -> None:
        log, (first, last) = spot.log, spot.run
        unread: list[Run] = []
        while first <= last:
            got = self._read(log, first, last, AGAIN_ENTRIES, AGAIN_BYTES, now)
            unread += [run for run, _ in got.unread]
            if got.entries and len(self.recovered) < RECOVERED_MAX:
                self.recovered.append((log.name, got.entries[0].sequence, got.entries[-1].sequence))
            if got.held is not None:
                unread.append((got.entries[-1].sequence + 1 if got.entries else first, last))
            if got.held is not None or not got.entries:
                break
            first = got.entries[-1].sequence + 1
        for run in unread:
            if is_last or not self.patience.put_back(spot, run, now, is_try=got.held is None):
                self._give_up(log, run, spot.segment)

    def _give_up(self, log: StreamLog, run: Run, segment: Segment | None) -> None:
        lost = list(log.open_within(*run))
        if lost and segment is not None:
            segment.damaged = True
        for first, last in lost:
            self._lose(log, first, last)
