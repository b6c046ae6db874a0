"""Two lanes over one outbox: what goes next on each (contract section 5). Pure.

Law: in each lane the first sendings of each stream are in ascending sequence. Live is what was recorded after the link
came up or in the last second before; backfill is what was recorded while offline or by an earlier run, in batches.
Nothing is sent that `outbox.read` did not hand out. What is read ahead is bounded and forgotten when the link ends; the
next connection starts from what is unacknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

from gateway.model import NS_PER_S, STREAMS, Entry, Instant, Stream
from gateway.outbox.intervals import Intervals
from gateway.wire import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE, Wire, compress, join

BATCH_EVENTS_MAX = 100
BATCH_BYTES_MAX = 32 * 1024
LIVE_SINCE_NS = NS_PER_S
"""What was recorded in this last while before the link came up is still live: the start itself, above all."""
SAMPLE_NS = NS_PER_S // 10
READ_ENTRIES = 100
READ_BYTES = 64 * 1024
RESENDS_MAX = 64
PACKET_SPARE = 160  # fixed header 5, topic length 2, packet id 2, content type, user property: at most this

Lane = Literal["control", "live", "backfill", "resend"]


class Positions(Protocol):
    @property
    def recorded_through(self) -> int: ...
    @property
    def acknowledged_through(self) -> int: ...
    @property
    def backlog(self) -> int: ...


class Backlog(Protocol):
    """What the uplink needs of the outbox."""

    @property
    def id(self) -> str: ...
    @property
    def epoch(self) -> int: ...

    not_kept: str | None

    @property
    def trouble(self) -> str | None: ...
    def positions(self, stream: Stream) -> Positions: ...
    def next_sequence(self, stream: Stream) -> int: ...
    def read(
        self, stream: Stream, after: int, limit: int, bytes_max: int, through: int | None = None
    ) -> list[Entry]: ...
    @property
    def stopped_short(self) -> bool: ...
    def take_recovered(self) -> list[tuple[Stream, int, int]]: ...
    def acknowledge(self, stream: Stream, first: int, last: int) -> None: ...
    def refuse(self, entry: Entry, why: str) -> None: ...
    def kept(self, stream: Stream, first: int, last: int) -> list[tuple[int, int]]: ...
    def read_kept(self, stream: Stream, first: int, last: int, limit: int, bytes_max: int) -> list[Entry]: ...
    def save_soon(self) -> None: ...


@dataclass(slots=True)
class Parcel:
    """One message to be: its lane, its entries, its bytes. `is_batch`: on the backfill topic, a JSON array.

    `size` is that of its packet, never fewer bytes than it will have. Nobody changes one; that the class does not
    forbid it halves the cost of making one, and there is one a message.
    """

    lane: Lane
    topic: str
    payload: bytes
    content_type: str
    entries: tuple[Entry, ...] = ()
    is_batch: bool = False
    properties: tuple[tuple[str, str], ...] = ()
    retain: bool = False
    correlation: bytes | None = None
    size: int = 0

    def __post_init__(self) -> None:
        self.size = len(self.payload) + len(self.topic) + PACKET_SPARE + len(self.correlation or b"")

    def exact_size(self) -> int:
        """Return the bytes of its PUBLISH in MQTT 5 (sections 2.1.4, 3.3): for the few where `size` is too careful."""
        properties = 3 + len(self.content_type.encode())
        properties += sum(5 + len(name.encode()) + len(value.encode()) for name, value in self.properties)
        if self.correlation:
            properties += 3 + len(self.correlation)
        rest = 2 + len(self.topic.encode()) + 2 + _varint_bytes(properties) + properties + len(self.payload)
        return 1 + _varint_bytes(rest) + rest


def _varint_bytes(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


@dataclass(slots=True)
class _Track:
    """One stream's way through one lane: entries after `after`, through `through`."""

    after: int = 0
    through: int | None = None
    ahead: deque[Entry] | None = None


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
        self._late: deque[tuple[Stream, int, int]] = deque()  # passed over by these lanes, and readable since
        # At the start everything there is comes from an earlier run, also what the outbox counts as recorded only
        # later, because a failed sync may have left it in memory alone.
        self._found = {stream: outbox.next_sequence(stream) - 1 for stream in STREAMS}
        # While down: (moment, recorded through per stream), oldest first; the first is never later than the horizon.
        self._samples: deque[tuple[int, dict[Stream, int]]] = deque([(-LIVE_SINCE_NS, self._recorded())])

    def observe(self, now: Instant) -> None:
        """Note how far each stream is recorded, so that `open` can tell what is a moment old; call while down."""
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

    def find_taken(self) -> Entry | None:
        """Return an entry that was acknowledged and is still kept; None: there is none."""
        for stream in STREAMS:
            last = self._outbox.positions(stream).acknowledged_through
            if last and self._outbox.kept(stream, last, last):
                return next(iter(self._outbox.read_kept(stream, last, last, 1, BATCH_BYTES_MAX)), None)
        return None

    def resend_lost(self, parcel: Parcel) -> None:
        """A resent parcel was under way when the link ended: it goes again, but for what is now sent alone."""
        again = tuple(entry for entry in parcel.entries if (entry.stream, entry.sequence) not in self._held_back)
        if again:
            self._resends.extendleft(reversed(runs(again)))

    def live(self) -> Parcel | None:
        """Return the next parcel of the live lane without taking it; None: there is nothing."""
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
                self._late.append((stream, first, last))
        return self._has_back or bool(self._resends) or bool(self._late) or self._next_back is not None

    def _has_passed(self, stream: Stream, number: int) -> bool:
        """Tell whether this connection's lanes have gone on behind the number."""
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

    def _joined(self, entries: list[Entry], envelopes: list[bytes], lane: Lane) -> Parcel:
        if len(entries) == 1 and (self._in_order or len(envelopes[0]) + 2 > BATCH_BYTES_MAX):
            return self.single(entries[0], lane)
        payload = join(envelopes)
        properties: tuple[tuple[str, str], ...] = ()
        if self._gzip:
            payload = compress(payload)
            properties = (("content-encoding", "gzip"),)
        return Parcel(lane, self._wire.backfill_topic, payload, BATCH_CONTENT_TYPE, tuple(entries), True, properties)

    def _pop(self, stream: Stream, track: _Track) -> Entry | None:
        while True:
            if track.ahead:
                entry = track.ahead.popleft()
                if self._held_back and (stream, entry.sequence) in self._held_back:
                    continue
                return entry
            if not self._read_ahead(stream, track):
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
        envelope_of, anchors, held_back = self._wire.envelope, self._anchors, self._held_back
        for _ in range(len(self._back)):
            stream = STREAMS[self._back_turn % len(STREAMS)]
            track = self._back[stream]
            while len(entries) < BATCH_EVENTS_MAX and (track.ahead or self._read_ahead(stream, track)):
                assert track.ahead is not None
                taken = 0
                for entry in islice(track.ahead, BATCH_EVENTS_MAX - len(entries)):
                    if not (held_back and (stream, entry.sequence) in held_back):
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
            stream, first, last = self._late.popleft()
            found = self._outbox.read(stream, first - 1, self._batch_events_max, READ_BYTES, last)
            alone = {entry.sequence for entry in found if (stream, entry.sequence) in self._held_back}
            entries, envelopes, behind = self._gathered(found, alone, bytes_max)
            if found and behind <= last:
                self._late.appendleft((stream, behind, last))
            if entries:
                return self._joined(entries, envelopes, "backfill")
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


def runs(entries: tuple[Entry, ...]) -> list[tuple[Stream, int, int]]:
    """Return the entries (one at least) as (stream, first, last) of unbroken sequences: all between is among them."""
    found: list[tuple[Stream, int, int]] = []
    stream, first, last = entries[0].stream, entries[0].sequence, entries[0].sequence - 1
    for entry in entries:
        sequence = entry.sequence
        if sequence != last + 1 or entry.stream != stream:
            found.append((stream, first, last))
            stream, first = entry.stream, sequence
        last = sequence
    found.append((stream, first, last))
    return found
