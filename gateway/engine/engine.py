"""The engine: one loop that drains, interprets, records and sends. The only mutator of outbox and uplink.

Law: everything happens in `step`, in the caller's thread. Foreign threads only call `offer`, which never blocks and
never raises: beyond `READINGS_MAX` waiting readings are discarded and counted, signals and questions never are.
Nothing is published that the outbox did not hand out as durable; nothing is lost without being named.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gateway import wire
from gateway.engine.interpretation import Interpretation
from gateway.facts import ClockSet, ReadingsDiscarded, SensorFailed, SensorRecovered
from gateway.machine.clock import Clock
from gateway.model import (
    NS_PER_MS,
    NS_PER_S,
    Acknowledged,
    Acknowledgements,
    CommandReceived,
    Event,
    Instant,
    LinkDown,
    LinkUp,
    Order,
    Reading,
    Stream,
    Subscribed,
    data_of,
)
from gateway.outbox.outbox import Outbox
from gateway.uplink.policy import Uplink

log = logging.getLogger(__name__)

READINGS_MAX = 20_000
"""Readings waiting at most: some seconds of the busiest shop (5,000 advertisements a second), some 10 MB."""
READINGS_PATIENT_MAX = 1_000
"""Readings waiting at most of a source that can wait: even at some events each they fit the outbox's memory."""
DRAIN_MAX = 2_000
"""Items of one step at most, so that recording and sending get their turn in a flood."""
WAIT_MAX_S = 1.0
"""A step sleeps no longer: the watchdog and the watch over the wall clock want a turn each second."""
CLOCK_STEP_NS = NS_PER_S
"""A step of the wall clock worth an event (contract section 4)."""
DISCARDS_TOLD_EVERY_NS = 10 * NS_PER_S


class Link(Protocol):
    """One way to the broker; tells LinkUp, LinkDown, Acknowledged and CommandReceived through the engine's `offer`."""

    def obey(self, order: Order) -> None:
        """Carry out an order later, in the link's own thread. Never blocks."""
        ...

    def close(self) -> None:
        """End the link's thread in bounded time."""
        ...


class SensorTime(Protocol):
    """The time in which readings are interpreted: the machine's own, or a recording's."""

    def now(self, now: Instant) -> Instant | None:
        """Return the moment up to which time has passed for the sensors; None where only readings let it pass."""
        ...

    def stamp(self, at: Instant, now: Instant) -> Instant:
        """Return when, on the machine's clocks, that happened which the sensors saw at `at`."""
        ...


class LiveSensorTime:
    """Sensors live in the machine's own time."""

    def now(self, now: Instant) -> Instant | None:
        return now

    def stamp(self, at: Instant, now: Instant) -> Instant:
        return at


@dataclass(frozen=True, slots=True)
class Passing:
    """Time passed for the sensors up to `at` and nothing was said (a recording's silence)."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Due:
    """Something that belongs to the wall clock is due: `what` names a routine of the engine's owner."""

    what: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a person or program beside the daemon; `reply` is called once, from the engine's thread."""

    verb: str
    arguments: Mapping[str, Any]
    reply: Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Say:
    """An answer for the broker that was worked out in another thread; no entry of the outbox, sent once."""

    topic: str
    payload: bytes
    correlation: bytes | None


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing but a reason to take a step: the outbox's writer has finished something."""


DiscardReason = Literal["inbox_full", "memory_full", "disk_full", "disk_failed"]
Item = (
    Reading
    | Passing
    | LinkUp
    | LinkDown
    | Acknowledged
    | Acknowledgements
    | CommandReceived
    | Subscribed
    | Due
    | Question
    | Say
    | Wake
)


Remember = Callable[[str, Mapping[str, Any], str, Mapping[str, Any]], Mapping[str, Any]]
"""From a sensor, what is known of it, and a recorded event's type and data to what is known then."""


def fold(
    streams: dict[Stream, Any], remember: Remember, stream: Stream, subject: str, kind: str, data: Mapping[str, Any]
) -> None:
    """Fold an event into what is remembered of its stream (`Memory.streams`)."""
    sensors: Mapping[str, Any] = streams.get(stream, {})
    known = sensors.get(subject, {})
    if (knows := remember(subject, known, kind, data)) is not known:
        streams[stream] = {**sensors, subject: dict(knows)}


@dataclass(slots=True)
class Engine:
    """See the module. `routines` are what `Due` names; `answer` serves questions, `command` serves the broker's."""

    clock: Clock
    outbox: Outbox
    uplink: Uplink
    link: Link
    interpretation: Interpretation
    remember: Remember
    anchors: dict[str, int] = field(default_factory=dict)
    """Wall minus boot in milliseconds, of each boot whose clock was ever set: those by which entries may be told."""
    sensor_time: SensorTime = field(default_factory=LiveSensorTime)
    routines: dict[str, Callable[[Instant], Iterable[Event]]] = field(default_factory=dict)
    answer: Callable[[str, Mapping[str, Any], Instant], dict[str, Any]] | None = None
    command: Callable[[CommandReceived, Instant], None] | None = None
    clock_stepped: Callable[[], None] = lambda: None
    listeners: list[Callable[[Reading], None]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=lambda: {"readings_discarded": 0, "events_unwritable": 0})
    _inbox: queue.SimpleQueue[Item] = field(default_factory=queue.SimpleQueue)
    _discarded: dict[tuple[str, DiscardReason], int] = field(default_factory=dict)
    _discarding: threading.Lock = field(default_factory=threading.Lock)
    _discards_told_ns: int | None = None
    _last: Instant | None = None
    _sensed_boot_ns: int | None = None

    # What foreign threads call.

    def offer(self, item: Item) -> bool:
        """Take a reading, signal or question from any thread; return False where a reading was discarded."""
        if isinstance(item, Reading) and self._inbox.qsize() >= READINGS_MAX:
            self._discard(item.sensor, "inbox_full")
            return False
        self._inbox.put(item)
        return True

    def emit(self, item: Item) -> None:
        """Take an item from any thread, as `offer`, where nobody can act on its refusal."""
        self.offer(item)

    def has_room(self) -> bool:
        """Return whether a source that can wait should offer more now: the inbox and the outbox both keep up."""
        return self._inbox.qsize() < READINGS_PATIENT_MAX and self.outbox.has_room()

    def is_idle(self) -> bool:
        """Return whether nothing waits to be taken."""
        return self._inbox.empty()

    # What the one loop calls.

    def step(self, wait_s: float = 0.0) -> None:
        """Do all work that is due now: interpret, record, then send. Sleeps up to `wait_s` while there is none."""
        items = self._drain(wait_s)
        now = self.clock.now()
        self._watch_clock(now)
        for item in items:
            self._take(item, now)
        if (sensed := self.sensor_time.now(now)) is not None:
            self.record(self.interpretation.advance(sensed), now)
        self._tell_discards(now)
        self.carry(now)

    def carry(self, now: Instant) -> None:
        """Let the outbox commit what is due and the uplink send what may be sent."""
        self.outbox.step(now)
        self._use_anchor()
        for order in self.uplink.step(now):
            self.link.obey(order)

    def record(self, events: Iterator[Event] | Iterable[Event], now: Instant) -> None:
        """Append events to the outbox, stamped on the machine's clocks; what it cannot hold is counted, to be told.

        In a burst the outbox gets its turn between events, so that a disk that takes them is given them.
        """
        for event in events:
            if not self.outbox.has_room():
                self.outbox.step(now)
            stamped = Event(event.subject, self.sensor_time.stamp(event.at, now), event.fact)
            try:
                payload = wire.record(stamped, self.clock.bootid)
            except ValueError:
                log.exception("an event cannot be written type=%s subject=%s", event.fact.type, event.subject)
                self.counters["events_unwritable"] += 1
                continue
            sequence = self.outbox.append(event.fact.stream, payload, now)
            if sequence is None:
                self._discard(event.subject, self._why_refused())
                continue
            if isinstance(event.fact, SensorFailed | SensorRecovered):
                log.warning("%s sensor=%s reason=%s", event.fact.detail, event.subject, event.fact.reason)
            fact = event.fact
            fold(self.outbox.memory.streams, self.remember, fact.stream, event.subject, fact.type, data_of(fact))

    def due_in_s(self, now: Instant) -> float:
        """Return how long nothing falls due by itself, in seconds, `WAIT_MAX_S` at most."""
        dues = [self.outbox.due_ns(), self.uplink.due_ns()]
        if self.sensor_time.now(now) is not None:
            dues.append(self.interpretation.due_ns())
        due_ns = min((due for due in dues if due is not None), default=None)
        if due_ns is None:
            return WAIT_MAX_S
        return float(min(WAIT_MAX_S, max(0.0, (due_ns - now.boot_ns) / NS_PER_S)))

    def _drain(self, wait_s: float) -> list[Item]:
        items: list[Item] = []
        try:
            if wait_s > 0 and (wait_s := min(wait_s, self.due_in_s(self.clock.now()))) > 0:
                items.append(self._inbox.get(timeout=wait_s))
            while len(items) < DRAIN_MAX:
                items.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return items

    def _take(self, item: Item, now: Instant) -> None:
        match item:
            case Reading():
                self._sensed_boot_ns = item.at.boot_ns
                for listener in self.listeners:
                    listener(item)
                self.record(self.interpretation.read(item), now)
            case Passing(at):
                self._sensed_boot_ns = at.boot_ns
                self.record(self.interpretation.advance(at), now)
            case LinkUp() | LinkDown() | Acknowledged() | Acknowledgements() | Subscribed():
                self.uplink.handle(item, now)
            case CommandReceived():
                if self.command is not None:
                    self.command(item, now)
            case Due(what):
                if (routine := self.routines.get(what)) is not None:
                    self.record(routine(now), now)
            case Question(verb, arguments, reply):
                reply(self.answer(verb, arguments, now) if self.answer is not None else {"error": "not answered here"})
            case Say(topic, payload, correlation):
                self.uplink.answer(topic, payload, correlation)
            case Wake():
                pass

    # Time.

    def sensed(self, now: Instant) -> Instant:
        """Return the moment up to which time has passed for the sensors, told on the machine's wall clock."""
        if (sensed := self.sensor_time.now(now)) is not None:
            return sensed
        boot_ns = now.boot_ns if self._sensed_boot_ns is None else self._sensed_boot_ns
        return Instant(boot_ns, now.wall_ns, now.clock)

    def _watch_clock(self, now: Instant) -> None:
        last, self._last = self._last, now
        if last is not None and abs(step_ns := now.offset_ns - last.offset_ns) > CLOCK_STEP_NS:
            log.warning("the wall clock was set by_ms=%d", step_ns // NS_PER_MS)
            after = self.sensed(now)
            before = Instant(after.boot_ns, after.wall_ns - step_ns, last.clock)
            self.record([Event("gateway", now, ClockSet(step_ns // NS_PER_MS))], now)
            self.record(self.interpretation.clock_set(before, after), now)
            self.clock_stepped()
        if now.clock == "synced":
            self._anchor(now)

    def _anchor(self, now: Instant) -> None:
        """Remember, once a boot, what to add to its boot time: entries recorded before get their true time by it."""
        if self.clock.bootid in self.outbox.memory.anchors:
            return
        self.outbox.memory.anchor(self.clock.bootid, now.offset_ns // NS_PER_MS)
        self.outbox.save_soon()

    def _use_anchor(self) -> None:
        """Let this boot's anchor be used once it is durable: else a power cut could take back what was told by it."""
        bootid = self.clock.bootid
        if bootid in self.anchors or bootid not in self.outbox.memory.anchors:
            return
        saved = self.outbox.saved_memory().anchors
        if bootid in saved:
            self.anchors[bootid] = saved[bootid]

    # What must be known after a restart, and what was never recorded.

    def _why_refused(self) -> DiscardReason:
        """Return why the outbox takes no event: what the disk said, else only that it does not keep up."""
        match self.outbox.status().trouble_errno:
            case None:
                return "memory_full"
            case errno.ENOSPC | errno.EDQUOT:
                return "disk_full"
            case _:
                return "disk_failed"

    def _discard(self, sensor: str, reason: DiscardReason, count: int = 1) -> None:
        with self._discarding:
            self._discarded[sensor, reason] = self._discarded.get((sensor, reason), 0) + count

    def _tell_discards(self, now: Instant) -> None:
        """Record how much of each sensor was never recorded, as soon as the outbox takes it, every 10 s at most."""
        if not self._discarded:
            return
        if self._discards_told_ns is not None and now.boot_ns - self._discards_told_ns < DISCARDS_TOLD_EVERY_NS:
            return
        self._discards_told_ns = now.boot_ns
        with self._discarding:
            discarded, self._discarded = self._discarded, {}
        for (sensor, reason), count in discarded.items():
            event = Event("gateway", now, ReadingsDiscarded(sensor, count, reason))
            if self.outbox.append("gateway", wire.record(event, self.clock.bootid), now) is None:
                self._discard(sensor, reason, count)
                continue
            self.counters["readings_discarded"] += count
            if reason == "inbox_full" and sensor in self.interpretation.by_sensor:
                self.interpretation.by_sensor[sensor].discarded += count
            log.warning("readings were never recorded sensor=%s count=%d reason=%s", sensor, count, reason)
