"""Two lanes over one outbox: what goes next on each (contract section 5). Pure.

Law: in each lane the first sendings of each stream are in ascending sequence. Live is what was recorded after the link
came up or in the last second before; backfill is what was recorded while offline or by an earlier run, in batches.
Nothing is sent that `outbox.read` did not hand out. What is read ahead is bounded and forgotten when the link ends; the
next connection starts from what is unacknowledged. Topics that are `held` are passed over, a bounded number at a look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice

from gateway.model import NS_PER_S, STREAMS, Entry, Instant, Stream
from gateway.outbox.intervals import Intervals
from gateway.uplink.backlog import Backlog
from gateway.uplink.held import HeldTopics
from gateway.uplink.parcel import Lane, Parcel, runs
from gateway.wire import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE, Wire, compress, join

BATCH_EVENTS_MAX = 100
BATCH_BYTES_MAX = 32 * 1024
LIVE_SINCE_NS = NS_PER_S
"""What was recorded in this last while before the link came up is still live: the start itself, above all."""
SAMPLE_NS = NS_PER_S // 10
READ_ENTRIES = 100
READ_BYTES = 64 * 1024
READS_MAX = 4  # a look, where all that is read waits elsewhere: the engine has more to do than that
RESENDS_MAX = 64


@dataclass(slots=True)
class _Track:
    """One stream's way through one lane: entries after `after`, through `through`."""

    after: int = 0
    through: int | None = None
    ahead: deque[Entry] | None = None

    @property
    def reached(self) -> int:
        """The last number that was taken from it, or passed over."""
        return self.ahead[0].sequence - 1 if self.ahead else self.after

    @property
    def is_done(self) -> bool:
        """True if nothing of it is left to be read or sent."""
        return not self.ahead and self.through is not None and self.after >= self.through


class Lanes:
    """What is to be sent next. `held_back` are (stream, sequence) that are sent alone by another way."""

    def __init__(
        self,
        outbox: Backlog,
        wire: Wire,
        anchors: Mapping[str, int],
        held_back: Collection[tuple[Stream, int]],
        in_order: bool = False,
        gzip: bool = False,
    ) -> None:
        self._outbox = outbox
        self._wire = wire
        self._anchors = anchors
        self._held_back = held_back
        self._in_order = in_order
        self._gzip = gzip
        self._live: dict[Stream, _Track] = {}
        self._back: dict[Stream, _Track] = {}
        self._live_turn = 0
        self._back_turn = 0
        self._has_back = False
        self._resend_turn = False
        self._next_live: Parcel | None = None
        self._next_back: Parcel | None = None
        self._resends: deque[tuple[Stream, int, int]] = deque()
        # Passed over by these lanes, and readable since; or, with a topic, its events that were held.
        self._late: deque[tuple[Stream, _Track, str | None]] = deque()
        self.held = HeldTopics(wire.event_topic)
        self.is_behind = False
        """More is to be looked at than one look allows."""
        # At the start everything there is comes from an earlier run, also what the outbox counts as recorded only
        # later, because a failed sync may have left it in memory alone.
        self._found = {stream: outbox.next_sequence(stream) - 1 for stream in STREAMS}
        # While down: (moment, recorded through per stream), oldest first; the first is never later than the horizon.
        self._samples: deque[tuple[int, dict[Stream, int]]] = deque([(-LIVE_SINCE_NS, self._recorded())])

    def observe(self, now: Instant) -> None:
        """Note how far each stream is recorded, so that `open` knows what is a moment old; call while down."""
        through = self._recorded()
        samples = self._samples
        if samples and (through == samples[-1][1] or (len(samples) > 1 and now.boot_ns - samples[-1][0] < SAMPLE_NS)):
            return
        samples.append((now.boot_ns, through))
        while len(samples) > 1 and samples[1][0] <= now.boot_ns - LIVE_SINCE_NS:
            samples.popleft()

    def _recorded(self) -> dict[Stream, int]:
        positions = self._outbox.positions
        return {stream: max(positions(stream).recorded_through, self._found[stream]) for stream in STREAMS}

    def open(self, now: Instant) -> None:
        """The link is up: what was recorded before the last moments goes into the backfill lane."""
        self.observe(now)
        boundary = self._samples[0][1]
        for _, through in (s for s in self._samples if s[0] <= now.boot_ns - LIVE_SINCE_NS):
            boundary = through
        self.close()
        self.held.restart()
        for stream in STREAMS:
            if self._in_order:
                self._live[stream] = _Track()
            else:
                self._live[stream] = _Track(boundary[stream])
                self._back[stream] = _Track(0, boundary[stream])
        self._has_back = not self._in_order
        self._samples.clear()

    def close(self) -> None:
        """The link is down: forget what was read ahead."""
        if self._next_back is not None and self._next_back.lane == "resend":
            self.resend_lost(self._next_back)
        self._live = {}
        self._back = {}
        self._late.clear()
        self._next_live = self._next_back = None

    def resend(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]:
        """Queue what is still kept of `first..last` for another delivery; return those ranges (empty: nothing).

        What waits to be delivered again already is not queued a second time.
        """
        waiting = Intervals()
        for other, start, end in self._resends:
            if other == stream:
                waiting.add(start, end)
        taken: list[tuple[int, int]] = []
        for start, end in self._outbox.kept(stream, first, last):
            fresh = list(waiting.open_within(start, end))
            if len(self._resends) + len(fresh) > RESENDS_MAX:
                break
            self._resends.extend((stream, *run) for run in fresh)
            taken.append((start, end))
        return taken

    def find_taken(self, topic: str | None = None) -> Entry | None:
        """Return an entry (of that topic) that was acknowledged and is still kept; None: none of the last is."""
        for stream in STREAMS:
            last = self._outbox.positions(stream).acknowledged_through
            first = max(1, last - (0 if topic is None else READ_ENTRIES - 1))
            for start, end in reversed(self._outbox.kept(stream, first, last) if last else []):
                for entry in reversed(self._outbox.read_kept(stream, start, end, READ_ENTRIES, READ_BYTES)):
                    if topic is None or self._wire.event_topic(entry) == topic:
                        return entry
        return None

    def release(self, topic: str) -> None:
        """The broker takes this topic again: what these lanes passed over follows on the backfill lane."""
        for stream, first, last in self.held.release(topic):
            back, live = self._back.get(stream), self._live.get(stream)
            start = first
            for track in (back, live):
                if track is not None and (end := min(last, track.reached)) >= start:
                    self._late.append((stream, _Track(start - 1, end), topic))
                if track is not None and track.through is not None:
                    start = max(first, track.through + 1)

    def next_held(self, topic: str, after: int = 0) -> Entry | None:
        """Return the next entry of a held topic that the lanes passed over, behind the sequence `after`, or else the
        first; None: there is none.
        """
        for behind in (after, 0) if after else (0,):
            for stream, (first, last) in self.held.passed[topic].items():
                for entry in self._outbox.read(stream, max(first - 1, behind), READ_ENTRIES, READ_BYTES, last):
                    if self._wire.event_topic(entry) == topic and (stream, entry.sequence) not in self._held_back:
                        return entry
        return None

    def resend_lost(self, parcel: Parcel) -> None:
        """A resent parcel was under way when the link ended: it goes again, but for what is now sent alone."""
        again = tuple(entry for entry in parcel.entries if (entry.stream, entry.sequence) not in self._held_back)
        if again:
            self._resends.extendleft(reversed(runs(again)))

    def live(self) -> Parcel | None:
        """Return the next parcel of the live lane without taking it; None: there is nothing."""
        if self._next_live is not None and self._waits(self._next_live.entries[0]):
            self._next_live = None
        if self._next_live is None:
            for _ in range(len(self._live)):
                stream = STREAMS[self._live_turn % len(STREAMS)]
                track = self._live[stream]
                entry = self._pop(stream, track)
                if not track.ahead:
                    self._live_turn += 1  # the next stream's turn, when what was read of this one is sent
                if entry is not None:
                    self._next_live = self.single(entry, "live")
                    break
        return self._next_live

    def take_live(self) -> None:
        """The parcel that `live` returned is sent."""
        self._next_live = None

    @property
    def has_backfill(self) -> bool:
        """False if nothing is left for the backfill lane of this connection."""
        for stream, first, last in self._outbox.take_recovered():
            if self._has_passed(stream, first):
                self._late.append((stream, _Track(first - 1, last), None))
        return self._has_back or bool(self._resends) or bool(self._late) or self._next_back is not None

    def _has_passed(self, stream: Stream, number: int) -> bool:
        """Return whether this connection's lanes have gone on behind the number."""
        back, live = self._back.get(stream), self._live.get(stream)
        if back is not None and back.through is not None and number <= back.through:
            return back.after >= number
        return live is not None and live.after >= number

    def backfill(self, bytes_max: int) -> Parcel | None:
        """Return the next parcel of the backfill lane (at most `bytes_max` before compression) without taking it."""
        if self._next_back is None:
            self._resend_turn = bool(self._resends) and not self._resend_turn
            self._next_back = self._resend_batch(bytes_max) if self._resend_turn else None
            if self._next_back is None and self._late:
                self._next_back = self._late_batch(bytes_max)
            if self._next_back is None and self._has_back:
                self._next_back = self._backlog_batch(bytes_max)
            if self._next_back is None and self._resends:
                self._next_back = self._resend_batch(bytes_max)
        return self._next_back

    def take_backfill(self) -> None:
        """The parcel that `backfill` returned is sent."""
        self._next_back = None

    def single(self, entry: Entry, lane: Lane) -> Parcel:
        """Return one entry as a message on its event topic."""
        envelope = self._wire.envelope(entry, self._anchors)
        return Parcel(lane, self._wire.event_topic(entry), envelope, EVENT_CONTENT_TYPE, (entry,))

    def batch(self, entries: tuple[Entry, ...], lane: Lane) -> Parcel:
        """Return entries as one backfill message; a single one too long for a batch goes on its event topic."""
        return self._joined(list(entries), [self._wire.envelope(entry, self._anchors) for entry in entries], lane)

    def again(self, parcel: Parcel) -> Parcel:
        """Return the same entries in envelopes of now: a time once estimated is never sent as unsynced again."""
        if parcel.is_batch:
            return self.batch(parcel.entries, parcel.lane)
        return self.single(parcel.entries[0], parcel.lane)

    def _joined(self, entries: list[Entry], envelopes: list[bytes], lane: Lane) -> Parcel:
        if len(entries) == 1 and (self._in_order or len(envelopes[0]) + 2 > BATCH_BYTES_MAX):
            return self.single(entries[0], lane)
        payload = join(envelopes)
        properties: tuple[tuple[str, str], ...] = ()
        if self._gzip:
            payload = compress(payload)
            properties = (("content-encoding", "gzip"),)
        return Parcel(lane, self._wire.backfill_topic, payload, BATCH_CONTENT_TYPE, tuple(entries), True, properties)

    def _waits(self, entry: Entry) -> bool:
        """Return whether the entry goes another way, or not now: alone, or with its topic."""
        if self._held_back and (entry.stream, entry.sequence) in self._held_back:
            return True
        return bool(self.held.passed) and self.held.passes_over(entry)

    def _pop(self, stream: Stream, track: _Track, topic: str | None = None) -> Entry | None:
        """Take the track's next entry (of that topic); None: there is none (yet), or (`is_behind`) not at this look."""
        for _ in range(READS_MAX):
            while track.ahead:
                entry = track.ahead.popleft()
                is_wanted = topic is None or self._wire.event_topic(entry) == topic
                if is_wanted and not self._waits(entry):
                    return entry
            if not self._read_ahead(stream, track):
                return None
        self.is_behind = True
        return None

    def _read_ahead(self, stream: Stream, track: _Track) -> bool:
        """Read the track's next entries; False: there are none (yet)."""
        if track.through is not None and track.through <= track.after:
            return False
        end = self._outbox.positions(stream).recorded_through
        if track.through is not None:
            end = min(end, track.through)
        if end <= track.after:
            return False
        found = self._outbox.read(stream, track.after, READ_ENTRIES, READ_BYTES, track.through)
        if not found:
            if not self._outbox.stopped_short:
                track.after = end
            return False
        track.after = found[-1].sequence
        track.ahead = deque(found)
        return True

    def _backlog_batch(self, bytes_max: int) -> Parcel | None:
        entries: list[Entry] = []
        envelopes: list[bytes] = []
        size = 2
        envelope_of, anchors, waits = self._wire.envelope, self._anchors, self._waits
        some_wait = bool(self._held_back) or bool(self.held.passed)
        looks = 0
        for _ in range(len(self._back)):
            stream = STREAMS[self._back_turn % len(STREAMS)]
            track = self._back[stream]
            while len(entries) < BATCH_EVENTS_MAX and (track.ahead or self._read_ahead(stream, track)):
                assert track.ahead is not None
                looks += 1
                if looks > READS_MAX and not entries:
                    self.is_behind = True
                    return None
                taken = 0
                for entry in islice(track.ahead, BATCH_EVENTS_MAX - len(entries)):
                    if not (some_wait and waits(entry)):
                        envelope = envelope_of(entry, anchors)
                        size += len(envelope) + 1
                        if size > bytes_max and entries:
                            break
                        entries.append(entry)
                        envelopes.append(envelope)
                    taken += 1
                for _ in range(taken):
                    track.ahead.popleft()
                if size > bytes_max:
                    return self._joined(entries, envelopes, "backfill")
            if len(entries) == BATCH_EVENTS_MAX:
                break
            self._back_turn += 1
        if not entries:
            self._has_back = any(track.through is None or track.after < track.through for track in self._back.values())
            return None
        return self._joined(entries, envelopes, "backfill")

    def _late_batch(self, bytes_max: int) -> Parcel | None:
        """What was passed over because the card could not be read follows as soon as it can: out of its order."""
        while self._late:
            stream, track, topic = self._late[0]
            entries: list[Entry] = []
            envelopes: list[bytes] = []
            size = 2
            while len(entries) < self._batch_events_max and (entry := self._pop(stream, track, topic)) is not None:
                envelope = self._wire.envelope(entry, self._anchors)
                size += len(envelope) + 1
                if size > bytes_max and entries:
                    assert track.ahead is not None
                    track.ahead.appendleft(entry)
                    break
                entries.append(entry)
                envelopes.append(envelope)
            if entries:
                return self._joined(entries, envelopes, "backfill")
            if not track.is_done:
                return None
            self._late.popleft()
        return None

    def _resend_batch(self, bytes_max: int) -> Parcel | None:
        while self._resends:
            stream, first, last = self._resends.popleft()
            found = self._outbox.read_kept(stream, first, last, self._batch_events_max, READ_BYTES)
            entries, envelopes, behind = self._gathered(found, self._unacknowledged(stream, first, found), bytes_max)
            if found and behind <= last:
                self._resends.appendleft((stream, behind, last))
            if entries:
                return self._joined(entries, envelopes, "resend")
        return None

    @property
    def _batch_events_max(self) -> int:
        return 1 if self._in_order else BATCH_EVENTS_MAX

    def _gathered(self, found: list[Entry], left_out: set[int], bytes_max: int) -> tuple[list[Entry], list[bytes], int]:
        """Return what fits a batch, one entry at least, without the numbers `left_out`; and where the rest begins."""
        entries: list[Entry] = []
        envelopes: list[bytes] = []
        size, behind = 2, 0
        for entry in found:
            if entry.sequence not in left_out:
                envelope = self._wire.envelope(entry, self._anchors)
                size += len(envelope) + 1
                if size > bytes_max and entries:
                    return entries, envelopes, entry.sequence
                entries.append(entry)
                envelopes.append(envelope)
            behind = entry.sequence + 1
        return entries, envelopes, behind

    def _unacknowledged(self, stream: Stream, first: int, found: list[Entry]) -> set[int]:
        """Return the numbers among these that their own lane delivers yet: they must not overtake what is before."""
        if not found or found[-1].sequence <= self._outbox.positions(stream).acknowledged_through:
            return set()
        waiting = self._outbox.read(stream, first - 1, len(found), READ_BYTES, found[-1].sequence)
        return {entry.sequence for entry in waiting}
