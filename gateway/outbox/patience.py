"""What cannot be read now: for how long it is tried again, and when it is given up.

Law: what is of the moment or of rights (no descriptors, no memory, another's file, a folder that is away) holds its
stream and is tried again for as long as it lasts: nothing is lost by it. What is of one place of the card is passed
over, and tried again `TRIES` times over minutes, after a restart anew; only then is it named as lost. Nothing is tried
before its time, so that no error is met in a hot loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.machine.owner import whose
from gateway.model import NS_PER_S, Instant, Stream
from gateway.outbox.intervals import Run
from gateway.outbox.stream import Segment, StreamLog

WAITS_S = (1, 2, 5, 15, 60)  # before each try; then what a card's own corrections may bring back has had its time
TRIES = len(WAITS_S)
HOLDS_S_MAX = 30
SPOTS_MAX = 256  # runs of unread numbers; more are not waited for


@dataclass(frozen=True, slots=True)
class ReadHold:
    """A file that cannot be read now: why, how often running, and when it is tried again (`boot_ns`)."""

    why: str
    failures: int
    retry_ns: int


@dataclass(slots=True)
class Spot:
    """Numbers of one file that stand where the card cannot be read; tried `tries` times beside the first."""

    log: StreamLog
    segment: Segment
    run: Run
    tries: int
    retry_ns: int


@dataclass(slots=True)
class Patience:
    """See the module."""

    holds: dict[str, ReadHold] = field(default_factory=dict)  # by the file's path
    spots: list[Spot] = field(default_factory=list)  # the next one due is first

    def hold(self, stream: Stream, path: str, error: OSError, now: Instant) -> None:
        """Let what stands in this file of the stream, and behind it, wait: opening or reading it says `error`."""
        failures = self.holds[path].failures + 1 if path in self.holds else 1
        wait_s = min(HOLDS_S_MAX, 1 << min(failures - 1, 5))
        owned = f" ({whose(path)})" if isinstance(error, PermissionError) else ""
        why = f"recorded events of {stream} cannot be read and wait: {path}{owned}: {error.strerror or error}"
        self.holds[path] = ReadHold(why, failures, now.boot_ns + wait_s * NS_PER_S)

    def waiting(self, now: Instant) -> set[str]:
        """Return the files that are not to be tried yet."""
        return {path for path, hold in self.holds.items() if now.boot_ns < hold.retry_ns}

    def release(self, opened: set[str]) -> None:
        """Take note that these files can be opened (again)."""
        for path in opened:
            self.holds.pop(path, None)

    def keep(self, paths: set[str]) -> None:
        """Forget all files but these."""
        self.holds = {path: hold for path, hold in self.holds.items() if path in paths}

    def pass_over(self, log: StreamLog, segment: Segment, run: Run, now: Instant) -> bool:
        """Leave numbers unread for now; False where too many are waited for already."""
        if len(self.spots) >= SPOTS_MAX:
            return False
        self._await(log, segment, run, 0, now)
        return True

    def take_due(self, now: Instant, all_of_them: bool = False) -> list[Spot]:
        """Return the spots that are to be tried now; they are not waited for any more unless they are put back."""
        due = [spot for spot in self.spots if all_of_them or spot.retry_ns <= now.boot_ns]
        if due:
            self.spots = [spot for spot in self.spots if all(spot is not other for other in due)]
            for log in {spot.log.name: spot.log for spot in due}.values():
                log.unread = type(log.unread)()
                for spot in self.spots:
                    if spot.log is log:
                        log.unread.add(*spot.run)
        return due

    def put_back(self, spot: Spot, run: Run, now: Instant, is_try: bool = True) -> bool:
        """Wait for another try of what is still unread of a spot; False where it has had its tries."""
        tries = spot.tries + is_try
        if tries >= TRIES:
            return False
        self._await(spot.log, spot.segment, run, tries, now)
        return True

    def _await(self, log: StreamLog, segment: Segment, run: Run, tries: int, now: Instant) -> None:
        log.unread.add(*run)
        self.spots.append(Spot(log, segment, run, tries, now.boot_ns + WAITS_S[tries] * NS_PER_S))
        self.spots.sort(key=lambda spot: spot.retry_ns)

    def due_ns(self, now: Instant) -> int | None:
        """Return when something is tried again by the clock alone."""
        times = [self.spots[0].retry_ns] if self.spots else []
        times += [hold.retry_ns for hold in self.holds.values() if hold.retry_ns > now.boot_ns]
        return min(times, default=None)

    @property
    def trouble(self) -> str | None:
        """What has been held for longest, in words; None while all can be read, or was not only once."""
        longest = max(self.holds.values(), key=lambda hold: hold.failures, default=None)
        return longest.why if longest is not None and longest.failures > 1 else None
