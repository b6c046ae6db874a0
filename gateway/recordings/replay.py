"""`gateway replay`: a recording's readings into events, without hardware, network or outbox.

Law: pure; equal input and configuration give equal bytes. Clock lines are read first, so what happened before the clock
was set has its true time. Time passes only as the recording says: before each line every interpreter has been ticked
at each of its due moments, and intervals have closed at their boundaries on the recording's wall clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.config import Configuration
from gateway.engine.assembly import interpretation_of, intervals_of, kinds_of
from gateway.engine.interpretation import Interpretation
from gateway.model import Entry, Event, Instant, Reading, Stream
from gateway.privacy import Pseudonyms, ReplayKeys
from gateway.recordings.recording import BadLine, ClockLine, ReadingLine, Recording
from gateway.sensors.counting import next_boundary_ns
from gateway.sensors.kind import Kind
from gateway.wire import Wire, record

REPLAY_BOOTID = "00000000"
REPLAY_OUTBOX = "00000000"
REPLAY_EPOCH = 1


def replay(path: Path, configuration: Configuration, write: Callable[[bytes], object]) -> Replayed:
    """Write each event of the recording as one envelope (JSON, no line end) in the order decided.

    Returns what was done; raises RecordingError where the file is no recording.
    """
    site = configuration.site
    pseudonyms = Pseudonyms(configuration.privacy, site.zone, ReplayKeys())
    return Replay(
        recording=Recording(path),
        kinds=kinds_of(configuration),
        interpretation=interpretation_of(configuration, pseudonyms.identify, {}),
        boundaries=Boundaries(intervals_of(configuration), site.zone),
        wire=Wire(site.store, site.gateway, REPLAY_OUTBOX, configuration.broker.topic_prefix),
        write=write,
    ).run()


class Timeline:
    """The recording's two clocks: `boot_ns` is `t`; the wall clock is true, also before it was set.

    Worked example: started 1970-01-01T00:00:10Z, set by 1.7e9 s at t = 2: a reading at t = 1 happened at
    1.7e9 + 10 + 1 s ("estimated"), one at t = 3 at 1.7e9 + 10 + 3 s ("synced").
    """

    def __init__(self, started_ns: int, clock_lines: Sequence[ClockLine]) -> None:
        offsets = [started_ns]
        for line in clock_lines:
            offsets.append(offsets[-1] + line.by_ns)
        self._offsets_ns = offsets
        self._passed = 0

    def passed(self) -> None:
        """The next clock line has been passed."""
        self._passed += 1

    def at(self, t_ns: int) -> Instant:
        """Return the instant `t_ns` since the start, before the clock lines that have not been passed."""
        last = len(self._offsets_ns) - 1
        if self._passed < last:
            return Instant(t_ns, t_ns + self._offsets_ns[self._passed + 1], "estimated")
        return Instant(t_ns, t_ns + self._offsets_ns[last], "synced")


class Boundaries:
    """When intervals end on the wall clock, for the sensors that count by intervals."""

    def __init__(self, intervals_s: Sequence[float], timezone: ZoneInfo) -> None:
        self._intervals_s = intervals_s
        self._timezone = timezone

    def next_ns(self, now: Instant) -> int | None:
        """Return `boot_ns` of the first boundary after `now`, None where nothing counts by intervals."""
        ends = [next_boundary_ns(now.wall_ns, every_s, self._timezone) for every_s in self._intervals_s]
        return min(ends) - now.offset_ns if ends else None


@dataclass(slots=True)
class Replayed:
    """What a replay did: events written, readings of sensors that the configuration does not name, bad lines.

    Of the bad ones the first are kept; `bad_count` counts all.
    """

    events: int = 0
    readings: int = 0
    unknown_sensors: dict[str, int] = field(default_factory=dict)
    bad_lines: list[BadLine] = field(default_factory=list)
    bad_count: int = 0

    def note_bad(self, line: BadLine) -> None:
        """Take note of a line that could not be understood."""
        self.bad_count += 1
        if len(self.bad_lines) < BAD_LINES_KEPT:
            self.bad_lines.append(line)


BAD_LINES_KEPT = 100


@dataclass(frozen=True)
class Replay:
    """One pass of a recording through an interpretation; `write` takes each event's envelope, one line."""

    recording: Recording
    kinds: Mapping[str, Kind[Any]]
    interpretation: Interpretation
    boundaries: Boundaries
    wire: Wire
    write: Callable[[bytes], object]

    def run(self) -> Replayed:
        """Replay from the first line to the last, then decide what is pending."""
        done = Replayed()
        sequences: dict[Stream, int] = {}
        timeline = Timeline(self.recording.started_ns, self.recording.clock_lines)
        now = timeline.at(0)

        def publish(events: Iterator[Event]) -> None:
            for event in events:
                sequence = sequences[event.fact.stream] = sequences.get(event.fact.stream, 0) + 1
                entry = Entry(event.fact.stream, sequence, REPLAY_EPOCH, record(event, REPLAY_BOOTID))
                self.write(self.wire.envelope(entry, {}))
                done.events += 1

        publish(self.interpretation.tick(now))
        for line in self.recording.lines():
            if isinstance(line, BadLine):
                done.note_bad(line)
                continue
            publish(self._pass(now, until := timeline.at(line.t_ns)))
            now = until
            if isinstance(line, ClockLine):
                timeline.passed()
                before, now = now, timeline.at(line.t_ns)
                publish(self.interpretation.clock_set(before, now))
            elif (reading := self._reading(line, now, done)) is not None:
                done.readings += 1
                publish(self.interpretation.read(reading))
        publish(self.interpretation.finish(now))
        return done

    def _pass(self, now: Instant, until: Instant) -> Iterator[Event]:
        """Let time pass from `now` up to `until`: intervals close at their boundaries, durations fall due."""
        while (boundary_ns := self.boundaries.next_ns(now)) is not None and boundary_ns <= until.boot_ns:
            now = now.later(boundary_ns - now.boot_ns)
            yield from self.interpretation.tick(now)
        yield from self.interpretation.advance(until)

    def _reading(self, line: ReadingLine, at: Instant, done: Replayed) -> Reading | None:
        kind = self.kinds.get(line.sensor)
        if kind is None:
            done.unknown_sensors[line.sensor] = done.unknown_sensors.get(line.sensor, 0) + 1
            return None
        try:
            return kind.reading_of(line.sensor, at, line.values)
        except ValueError as error:
            done.note_bad(BadLine(line.number, str(error)))
            return None
