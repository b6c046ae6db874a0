"""One beam of a door: raw level changes into blockages, stuck beams and flicker. Pure.

Law: every decision falls at a moment that the changes alone determine (`due_ns`); more ticks change nothing. The
numbers come from people: a torso is 0.22-0.35 m deep and moves at 0.3-2.5 m/s, so it blocks for 88 ms and more; a
swinging arm blocks for 40-60 ms; clothes and edges chatter for some milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.model import NS_PER_MS, NS_PER_S, Instant

MERGED_GAP_NS = 70 * NS_PER_MS
"""A shorter gap lies within one person (arm and torso, a bag); behind each other, people leave more."""
BLOCKAGE_MIN_NS = 40 * NS_PER_MS
"""A shorter blockage is nobody by itself: insects, a thrown coin, interference; a hand at its fastest."""
SPIKE_NS = 20 * NS_PER_MS
"""A shorter piece, as far again from the blockage beside it, is interference: it must not move that one's ends."""
SPIKES_NS = 500 * NS_PER_MS
ARM_NS = 65 * NS_PER_MS
"""A piece below, apart from the rest of its blockage, may be a hand: the ends of the trunk are taken without it."""

SLOT_NS = 100 * NS_PER_MS
FLICKER_SLOTS, FLICKER_CHANGES, FLICKER_BUSY_SLOTS = 30, 60, 27
"""20 changes a second for 3 s: a wire trolley makes 40, but is through in one."""
FAST_SLOTS, FAST_CHANGES, FAST_BUSY_SLOTS = 10, 300, 8
"""More than a mesh of 2 cm at a run."""
SLOW_SLOTS, SLOW_CHANGES, SLOW_BUSY_SLOTS = 55, 55, 50
"""5 cycles a second for 5.5 s, with hardly a pause: people follow each other at 0.25 s at the densest."""
LIMITS = (
    (FAST_SLOTS, FAST_CHANGES, FAST_BUSY_SLOTS),
    (FLICKER_SLOTS, FLICKER_CHANGES, FLICKER_BUSY_SLOTS),
    (SLOW_SLOTS, SLOW_CHANGES, SLOW_BUSY_SLOTS),
)
HOT_CHANGES = 9
CALM_NS = 3 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Contact:
    """How what stands in a doorway opens and closes: gaps below `merged_ns` and pieces below `least_ns` are nothing.

    `spike_ns` is the longest interference; below `arm_ns` a piece may be somebody's arm (0: there are no arms).
    """

    merged_ns: int
    least_ns: int
    spike_ns: int
    arm_ns: int


BEAM = Contact(MERGED_GAP_NS, BLOCKAGE_MIN_NS, SPIKE_NS, ARM_NS)
REED = Contact(150 * NS_PER_MS, 200 * NS_PER_MS, SPIKE_NS, 0)
"""A door's reed switch: a leaf that slams springs back for some 100 ms; nobody goes through in less than 200."""
TURNSTILE = Contact(20 * NS_PER_MS, 5 * NS_PER_MS, 0, 0)
"""A contact a turn: pulses of 10 ms and more, debounced by 20 ms; turns follow each other at half a second."""
MAT = Contact(180 * NS_PER_MS, 60 * NS_PER_MS, SPIKE_NS, 0)
"""Feet: in a walk the next one is down before the last is up, on a mat shorter than a stride within 0.18 s."""


@dataclass(frozen=True, slots=True)
class Blockage:
    """A beam was interrupted from `broke` to `cleared`; the torso within it from `begin_ns` to `end_ns` (boot).

    A hand that swings ahead of or behind the torso belongs to the blockage where the gap between them is short, but the
    two beams see it at another phase of its swing: its ends and the torso's are compared each for itself. `is_flit`:
    so short that it is nobody, but perhaps somebody's hand.
    """

    beam: str
    broke: Instant
    cleared: Instant
    begin_ns: int
    end_ns: int
    is_flit: bool = False
    solid_ns: int = 0
    """The longest part without a gap of 20 ms (0: not known)."""
    spikes: int = 0
    """Pieces too short to be anything by themselves, in the half second before: several are the wires of a trolley."""

    @property
    def ns(self) -> int:
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, slots=True)
class Stuck:
    """The beam has been broken for as long as counts as blocked."""

    beam: str
    broke: Instant


@dataclass(frozen=True, slots=True)
class Freed:
    """A stuck beam is clear again."""

    beam: str
    broke: Instant
    cleared: Instant


@dataclass(frozen=True, slots=True)
class FlickerBegan:
    """The beam changes faster than people can make it; nothing it says counts until `FlickerEnded`."""

    beam: str
    at: Instant


@dataclass(frozen=True, slots=True)
class FlickerEnded:
    """The beam is calm since `at`."""

    beam: str
    at: Instant


Finding = Blockage | Stuck | Freed | FlickerBegan | FlickerEnded


class Flicker:
    """Counts level changes in slots of 100 ms; bounded, however fast they come."""

    def __init__(self) -> None:
        self.slots: deque[tuple[int, Instant, int]] = deque(maxlen=SLOW_SLOTS)  # slot number, first change, changes
        self.hot: Instant | None = None

    def change(self, at: Instant) -> Instant | None:
        """Note a change; return the beginning of the flicker where there is one."""
        number = at.boot_ns // SLOT_NS
        if self.slots and self.slots[-1][0] == number:
            _, first, changes = self.slots.pop()
            self.slots.append((number, first, changes + 1))
        else:
            self.slots.append((number, at, 1))
        if sum(slot[2] for slot in self.slots if slot[0] > number - FAST_SLOTS) >= HOT_CHANGES:
            self.hot = at
        for slots, changes, busy in LIMITS:
            recent = [slot for slot in self.slots if slot[0] > number - slots]
            if len(recent) >= busy and sum(slot[2] for slot in recent) >= changes:
                return recent[0][1]
        return None


class Beam:
    """The level of one beam, without chatter.

    `broke` is when the present blockage began (None: clear), `stuck` whether it was told; `out_of_service` since when
    what the beam says cannot count (stuck or flickering).
    """

    def __init__(self, name: str, blocked_after_ns: int, contact: Contact = BEAM) -> None:
        self.name = name
        self.contact = contact
        self.blocked_after_ns = blocked_after_ns
        self.broken = False
        self.broke: Instant | None = None
        self.stuck = False
        self.flickering = False
        self.out_of_service: int | None = None
        self._piece: Instant | None = None  # when the present piece of the blockage began
        self._cleared: Instant | None = None  # when the last piece ended; the blockage ends there if none follows
        self._solid_from: Instant | None = None  # when the present part without gaps of SPIKE_NS began
        self._torso_begin: int | None = None  # the first part that is longer than an arm
        self._torso_end: int | None = None  # the last one
        self._solid_ns = 0  # the longest part
        self._before: Instant | None = None  # the end before the present piece, where the blockage has several
        self._flicker = Flicker()
        self._spikes: deque[int] = deque(maxlen=8)  # when the last ones were that are passed over

    def change(self, broken: bool, at: Instant) -> Iterator[Finding]:
        """Take the level at `at` (not before what was advanced to); a repeated level changes nothing."""
        if broken == self.broken:
            return
        self.broken = broken
        began = self._flicker.change(at)
        if self.flickering:
            return
        if began is not None:
            self.flickering = True
            self.out_of_service = began.boot_ns
            if not self.stuck:
                self._forget()
            yield FlickerBegan(self.name, began)
        elif broken:
            self._begin(at)
        else:
            self._end(at)

    def due_ns(self) -> int | None:
        """Return when `advance` next has something to decide."""
        if self.flickering:
            assert self._flicker.hot is not None
            return self._flicker.hot.boot_ns + CALM_NS
        if self._cleared is not None:
            return self._cleared.boot_ns + self.contact.merged_ns
        if self.broke is not None and not self.stuck:
            return self._stuck_ns(self.broke)
        return None

    def undecided_ns(self) -> int | None:
        """Return the clearing that is not yet told as a blockage."""
        return None if self._cleared is None else self._cleared.boot_ns

    def advance(self, now_ns: int) -> Iterator[Finding]:
        """Decide what is due at `now_ns`, a moment given by `due_ns` or earlier."""
        if self.flickering:
            hot = self._flicker.hot
            if hot is not None and now_ns >= hot.boot_ns + CALM_NS:
                yield from self._calm(hot)
            return
        if self._cleared is not None and now_ns >= self._cleared.boot_ns + self.contact.merged_ns:
            yield from self._complete(self._cleared)
        elif self.broken and self.broke is not None and not self.stuck and now_ns >= self._stuck_ns(self.broke):
            self.stuck = True
            self.out_of_service = now_ns
            yield Stuck(self.name, self.broke)

    def finish(self) -> Iterator[Finding]:
        """Decide what is clear already: nothing more will come."""
        if self._cleared is not None and not self.flickering:
            yield from self._complete(self._cleared)

    def _stuck_ns(self, broke: Instant) -> int:
        return broke.boot_ns + self.blocked_after_ns

    def _begin(self, at: Instant) -> None:
        first, ended = self.broke, self._cleared
        self._piece = at
        if first is None:
            self.broke = self._solid_from = at
        elif ended is not None and not self.stuck:
            lasted_ns, gap_ns = ended.boot_ns - first.boot_ns, at.boot_ns - ended.boot_ns
            if lasted_ns < self.contact.spike_ns <= gap_ns:
                self._spikes.append(first.boot_ns)
                self.broke = self._solid_from = at
                ended = None
            elif gap_ns >= self.contact.spike_ns:
                self._note_torso(ended)
                self._solid_from = at
        self._cleared = None
        self._before = ended

    def _note_torso(self, ended: Instant) -> None:
        began = self._solid_from
        if began is not None:
            self._solid_ns = max(self._solid_ns, ended.boot_ns - began.boot_ns)
        if began is not None and ended.boot_ns - began.boot_ns >= self.contact.arm_ns:
            self._torso_begin = began.boot_ns if self._torso_begin is None else self._torso_begin
            self._torso_end = ended.boot_ns

    def _forget(self) -> None:
        self.broke = self._piece = self._cleared = self._before = None
        self._solid_from = self._torso_begin = self._torso_end = None
        self._solid_ns = 0

    def _end(self, at: Instant) -> None:
        if self.broke is None or self._piece is None:
            return
        before = self._before
        spike_ns = self.contact.spike_ns
        is_spike = at.boot_ns - self._piece.boot_ns < spike_ns
        if before is not None and is_spike and self._piece.boot_ns - before.boot_ns >= spike_ns:
            self._spikes.append(self._piece.boot_ns)
            self._cleared = before
        else:
            self._cleared = at

    def _complete(self, cleared: Instant) -> Iterator[Finding]:
        assert self.broke is not None
        broke, was_stuck = self.broke, self.stuck
        self._note_torso(cleared)
        begin_ns = broke.boot_ns if self._torso_begin is None else self._torso_begin
        end_ns = cleared.boot_ns if self._torso_end is None else self._torso_end
        solid_ns = self._solid_ns
        self._forget()
        self.stuck = False
        if was_stuck:
            self.out_of_service = None
            yield Freed(self.name, broke, cleared)
            return
        lasted_ns = end_ns - begin_ns
        is_flit = lasted_ns < self.contact.least_ns
        if not is_flit or (self.contact.arm_ns and lasted_ns >= self.contact.spike_ns):
            spikes = sum(broke.boot_ns - SPIKES_NS <= spike_ns < broke.boot_ns for spike_ns in self._spikes)
            yield Blockage(self.name, broke, cleared, begin_ns, end_ns, is_flit, solid_ns, spikes)
        else:
            self._spikes.append(broke.boot_ns)

    def _calm(self, at: Instant) -> Iterator[Finding]:
        self.flickering = False
        self._flicker = Flicker()
        self.out_of_service = None
        yield FlickerEnded(self.name, at)
        if self.stuck and self.broke is not None:
            if self.broken:
                self.out_of_service = at.boot_ns
                self._piece, self._cleared = at, None
            else:
                yield from self._complete(at)
        elif self.broken:
            self._begin(at)
