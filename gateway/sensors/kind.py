"""What a kind of sensor is: its settings, its readings, its facts, its interpreter and its driver.

Law: an interpreter opens no file, socket or thread and reads no clock; a driver interprets nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from zoneinfo import ZoneInfo

from gateway.facts import SensorFailed, SensorRecovered
from gateway.machine.clock import Clock
from gateway.model import NS_PER_MS, Event, Fact, Instant, Reading, Stream
from gateway.sensors.check import Checked
from gateway.sensors.description import Description
from gateway.sensors.diagnosis import Evidence, Finding, judge_readings
from gateway.sensors.gauge import Gauge
from gateway.sensors.simulation import Part
from gateway.sensors.trial import AnyReading, Tools, Trial
from gateway.shown import Shown


class Settings(Protocol):
    """What every sensor's table has: an `id` unique in the gateway."""

    @property
    def id(self) -> str: ...


S = TypeVar("S", bound=Settings)


class Interpreter(Protocol):
    """Turns readings into events. Same readings at the same instants: same events, whenever it is ticked besides.

    Instants never run backwards on `boot_ns`. Durations are `boot_ns` differences; `wall_ns` serves for intervals.
    """

    def read(self, reading: Reading) -> Iterator[Event]:
        """Take one reading of this sensor."""
        ...

    def tick(self, now: Instant) -> Iterator[Event]:
        """Decide what the passing of time alone decides, up to and including `now`."""
        ...

    def due_ns(self) -> int | None:
        """`boot_ns` at which `tick` will next have something to decide by a duration, or None."""
        ...

    def clock_set(self, before: Instant, after: Instant) -> Iterator[Event]:
        """The wall clock was set: one moment, as the old and as the new clock tell it. Cuts a begun interval."""
        ...

    def finish(self, now: Instant) -> Iterator[Event]:
        """Decide what is pending and close a begun interval: nothing more will come."""
        ...


class Driver(Protocol):
    """Reads one piece of hardware in its own thread or the library's.

    `emit` takes a Reading, never blocks and never raises. Failures are told as `DriverFailed` and, after the next good
    sign, `DriverRecovered`; they never leave the driver as exceptions.
    """

    def start(self, emit: Callable[[Reading], None]) -> None:
        """Begin. Imports the library it needs. Returns at once, also where the hardware is missing."""
        ...

    def close(self) -> None:
        """End within 2 s, leaving no thread, process or pin behind."""
        ...

    def is_settled(self) -> bool:
        """Whether it reads, or has told why it does not: False only until its first attempt has come to something."""
        ...

    def progress_ns(self) -> int | None:
        """`boot_ns` of the last sign of life of the driver's thread; None where there is no thread to hang."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Lifetime counts for `gateway sensors`, e.g. `{"frames_spoiled": 3}`."""
        ...


class Faults:
    """The faults of one sensor: each reason is told once when it begins and once when it ends."""

    def __init__(self, sensor: str) -> None:
        self.sensor = sensor
        self.active: dict[str, Instant] = {}
        self.details: dict[str, str] = {}

    def fail(self, at: Instant, reason: str, detail: str) -> Iterator[Event]:
        """Tell that `reason` began at `at`, unless it is active already."""
        if reason not in self.active:
            self.active[reason] = at
            self.details[reason] = detail
            yield Event(self.sensor, at, SensorFailed(reason, detail))

    def recover(self, at: Instant, *reasons: str, detail: str = "reads again") -> Iterator[Event]:
        """Tell that the active ones among `reasons` (all, where none is named) are over since `at`."""
        for reason in reasons or tuple(self.active):
            self.details.pop(reason, None)
            if (began := self.active.pop(reason, None)) is not None:
                failed_ms = (at.boot_ns - began.boot_ns) // NS_PER_MS
                yield Event(self.sensor, at, SensorRecovered(reason, detail, failed_ms))


def plain_identity(identity: str, at: Instant) -> str | None:
    """`identity = "plain"`: the string itself."""
    return identity


@dataclass(frozen=True, slots=True)
class Context:
    """What an interpreter may know beside its own settings.

    `identify` maps what a tag's rule identified (contract section 7) to what may leave the store at that moment;
    `remembered` is what the last run knew of this sensor (a door's totals), empty in a new outbox.
    """

    faults: Faults
    timezone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    anonymous_min: int = 5
    identify: Callable[[str, Instant], str | None] = plain_identity
    remembered: Mapping[str, Any] = field(default_factory=dict)


def nothing_to_check(settings: Any) -> Iterator[Checked]:
    """Yield nothing: a sensor that hangs on its pins alone."""
    yield from ()


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind of sensor.

    `table` is its name in the configuration (`[[door]]`); `reading_of` builds a reading from a recording's line and
    raises ValueError with a sentence where a key is missing or of the wrong form; `line_of` is its inverse;
    `remember` folds a recorded event's `type` and `data` into what a later run must know of the sensor, a JSON object
    of at most `remembered_bytes_max` bytes written without spaces (0: nothing is kept).

    What a technician asks has a generic answer where a kind gives none: `judge` some seconds of readings, `trial` a
    deed, `gauge` what is seen live, `check` what the hardware hangs on, `describe` what is told of people, `discovery`
    what a home automation is shown, `simulate` what it is in a simulated shop (None: it says nothing there).

    `ranges` are the least and the most of a fact's value, by its key, for the schemas.

    `example` is its part of what `gateway config example` writes.

    `changeable` are the keys that the cloud may change, `on_demand` those that it may change where `[commands]
    config_keys` names them; it changes no others. A kind that `calibrates` has settings with a `calibration`, which
    `gateway calibrate` and `gateway tare` store.
    """

    table: str
    stream: Stream
    settings: type[S]
    facts: tuple[type[Fact], ...]
    interpreter: Callable[[S, Context], Interpreter]
    driver: Callable[[S, Clock], Driver]
    reading_of: Callable[[str, Instant, Mapping[str, Any]], Reading]
    line_of: Callable[[Any], dict[str, Any]]
    pins: Callable[[S], Mapping[str, int]] = lambda settings: {}
    interval_s: Callable[[S], float | None] = lambda settings: None
    remember: Callable[[Mapping[str, Any], str, Mapping[str, Any]], Mapping[str, Any]] = lambda known, kind, data: known
    remembered_bytes_max: int = 0
    judge: Callable[[S, Evidence], list[Finding]] = judge_readings
    trial: Callable[[S, Tools], Trial] = AnyReading
    gauge: Callable[[S], Gauge] = Gauge
    check: Callable[[S], Iterator[Checked]] = nothing_to_check
    describe: Callable[[S], Description] = lambda settings: Description()
    discovery: Callable[[S], Iterator[Shown]] = lambda settings: iter(())
    simulate: Callable[[S], Part | None] = lambda settings: None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    example: str = ""
    changeable: str = ""
    on_demand: str = ""
    calibrates: bool = False


@dataclass(frozen=True, slots=True)
class Sensor(Generic[S]):
    """A configured sensor: its kind, and its own settings."""

    kind: Kind[S]
    settings: S

    @property
    def id(self) -> str:
        """The name that it has in the configuration and in every event."""
        return self.settings.id
