"""The composition root: a configuration and a world become an engine. The only place where the rooms meet.

A `World` is everything that is not a value: clock, disk, writer, drivers, link, chance. The real one is made by
`gateway.service`; the simulator's by the tests: one production and one test call to `assemble`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import __version__, wire
from gateway.config import Configuration
from gateway.engine.engine import Engine, Item, Link, LiveSensorTime, Remember, SensorTime, Wake, fold
from gateway.engine.interpretation import Interpretation, Interpreted
from gateway.facts import EventsDropped, GatewayStarted, GatewayStopped, OutboxCreated
from gateway.machine.asker import AskedDisk, Asker
from gateway.machine.clock import Clock
from gateway.machine.disk import Disk
from gateway.model import STREAMS, Event, Instant, Loss, Stream
from gateway.mqtt import certificates
from gateway.outbox.adopted import refuse_adopted
from gateway.outbox.memory import SENSORS_BYTES_MAX, known_bytes, sensors_bytes
from gateway.outbox.outbox import Outbox
from gateway.outbox.sealing import PLAIN, Sealing
from gateway.outbox.writing import Writer
from gateway.sensors.kind import Context, Faults, Kind
from gateway.uplink.discovery import Announcement, announced
from gateway.uplink.policy import Uplink
from gateway.uplink.status import Reason
from gateway.uplink.subscriptions import commands
from gateway.wire import Wire

log = logging.getLogger(__name__)

SENSED: tuple[Stream, ...] = tuple(stream for stream in STREAMS if stream != "gateway")
CREATION_TOLD = "creation_told"
"""Key of what is remembered of stream `gateway`: `outbox_created` is recorded."""
BOOTID = "bootid"
"""Key of the same: the boot that `started` was last recorded in."""

Identify = Callable[[str, Instant], str | None]
Emit = Callable[[Item], None]


@dataclass(frozen=True)
class World:
    """What differs between a Pi and a simulator."""

    clock: Clock
    disk: Disk
    open_writer: Callable[[Callable[[], None]], Writer]
    open_link: Callable[[Configuration, Emit], Link]
    random: random.Random
    sealing: Sealing = PLAIN
    asker: Asker = field(default_factory=Asker)
    """Asks the disk for the loop, which must go on; the writer waits for the disk itself."""
    withdrawing: Callable[[Sequence[Announcement], Instant], Sequence[Announcement]] = lambda wanted, now: wanted
    """Adds to what is to be announced what was announced before and is to be taken back."""


def interpretation_of(
    configuration: Configuration, identify: Identify, remembered: Mapping[str, Mapping[str, Any]]
) -> Interpretation:
    """Build every configured sensor's interpreter, knowing what the last run remembered of it."""
    interpretations = []
    for sensor in configuration.sensors:
        faults = Faults(sensor.id)
        context = context_of(configuration, identify, remembered.get(sensor.id, {}), faults)
        interpretations.append(Interpreted(sensor.id, sensor.kind.interpreter(sensor.settings, context), faults))
    return Interpretation(interpretations)


def context_of(
    configuration: Configuration, identify: Identify, remembered: Mapping[str, Any], faults: Faults
) -> Context:
    """Return what one sensor's interpreter may know of the site."""
    return Context(
        faults=faults,
        timezone=configuration.site.zone,
        anonymous_min=configuration.privacy.anonymous_min,
        identify=identify,
        remembered=remembered,
    )


def kinds_of(configuration: Configuration) -> dict[str, Kind[Any]]:
    """Return each configured sensor's kind, by the sensor's id."""
    return {sensor.id: sensor.kind for sensor in configuration.sensors}


def intervals_of(configuration: Configuration) -> list[float]:
    """Return the distinct lengths, in seconds, of the intervals by which the configured sensors count."""
    lengths = {sensor.kind.interval_s(sensor.settings) for sensor in configuration.sensors}
    return sorted(length for length in lengths if length is not None)


def assemble(
    configuration: Configuration,
    world: World,
    identify: Identify,
    sensor_time: SensorTime | None = None,
    leap: int | None = None,
) -> Engine:
    """Open the outbox and put the engine together. Nothing runs yet; the first step does the first work.

    Raises OutboxUnusable where the outbox directory cannot be used, OutboxSealed where its key is not given, and
    ConfigurationError where its events were recorded as another gateway's. On return
    the opening is recorded (`outbox_created` where a new one was made, then `started`), to be durable with the first
    commit. `leap`: see `Outbox.open`.
    """
    clock = world.clock
    now = clock.now()
    engine: Engine | None = None

    def emit(item: Item) -> None:
        if engine is not None:
            engine.offer(item)

    def describe_loss(outbox_id: str, loss: Loss, at: Instant) -> bytes:
        if loss.reason == "corrupt":  # of what else is lost the disk's trouble, or the broker's, has been told
            said = "recorded events are lost, and named to the cloud (gateway outbox verify): stream=%s %d..%d count=%d"
            log.error(said, loss.stream, loss.first, loss.last, loss.count)
        dropped = EventsDropped(outbox_id, loss.stream, loss.reason, loss.first, loss.last, loss.count)
        return wire.record(Event("gateway", at, dropped), clock.bootid)

    site = configuration.site
    asked = AskedDisk(world.disk, world.asker)
    refuse_adopted(asked, str(configuration.outbox.directory))
    outbox = Outbox.open(
        str(configuration.outbox.directory),
        configuration.outbox,
        asked,
        world.open_writer(lambda: emit(Wake())),
        now,
        describe_loss,
        leap,
        world.sealing,
        wire.source_of(site.store, site.gateway),
    )
    wire_ = Wire(site.store, site.gateway, outbox.id, configuration.broker.topic_prefix)
    for path in outbox.strangers:
        log.warning("no file of the outbox, passed over: look at it and move it away path=%s", path)
    remember = rememberer(configuration)
    remembered = recall(outbox, remember)
    forget_strangers(outbox, configuration)
    anchors: dict[str, int] = dict(outbox.memory.anchors)
    wanted = announced(
        configuration.broker,
        site.store,
        site.gateway,
        __version__,
        [sensor.kind.discovery(sensor.settings) for sensor in configuration.sensors],
    )
    engine = Engine(
        clock=clock,
        outbox=outbox,
        uplink=Uplink(
            configuration.broker,
            outbox,
            wire_,
            world.random,
            describe_state=lambda: {
                "version": __version__,
                "config_sha256": configuration.sha256,
                "sensors": [sensor.id for sensor in configuration.sensors],
            },
            memory=outbox.memory,
            anchors=anchors,
            announced=world.withdrawing(wanted, now),
            subscriptions=[commands(wire_, configuration.commands.allow)],
            concerns=lambda now: tuple(
                Reason(cause.code, cause.detail, cause.advice)
                for cause in certificates.concerns(configuration.broker, now)
            ),
        ),
        link=world.open_link(configuration, emit),
        interpretation=interpretation_of(configuration, identify, remembered),
        remember=remember,
        anchors=anchors,
        sensor_time=sensor_time or LiveSensorTime(),
    )
    engine.record(_opening(configuration, outbox, clock, now), now)
    return engine


def _opening(configuration: Configuration, outbox: Outbox, clock: Clock, now: Instant) -> Iterable[Event]:
    if outbox.created is not None:
        yield Event("gateway", now, OutboxCreated(outbox.created.reason, outbox.created.previous))
    elif not outbox.memory.streams.get("gateway", {}).get(CREATION_TOLD):
        # The plug was pulled after this outbox was made and before it could be told.
        yield Event("gateway", now, OutboxCreated("new"))
    if outbox.created is not None and outbox.created.previous is None:
        reason = "first_start"
    else:
        reason = "restart" if outbox.memory.streams.get("gateway", {}).get(BOOTID) == clock.bootid else "boot"
    if reason == "boot":
        outbox.memory.shutdown = "ordered" if outbox.clean else "unclean"
    clean = outbox.clean or reason == "first_start"
    yield Event("gateway", now, GatewayStarted(__version__, configuration.sha256, reason, clean))
    outbox.memory.streams["gateway"] = {CREATION_TOLD: True, BOOTID: clock.bootid}


def stopping(configuration: Configuration, reason: str, now: Instant) -> Event:
    """Return the last event of a clean stop."""
    return Event("gateway", now, GatewayStopped(__version__, configuration.sha256, reason))


def rememberer(configuration: Configuration) -> Remember:
    """Return what folds a recorded event of a sensor into what must be known of it after a restart."""
    kinds = kinds_of(configuration)

    def remember(sensor: str, known: Mapping[str, Any], kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        if sensor not in kinds:
            return known
        knows = kinds[sensor].remember(known, kind, data)
        if knows is not known and known_bytes(knows) > kinds[sensor].remembered_bytes_max:
            log.error("a kind remembers more than it may, and that is left out kind=%s", kinds[sensor].table)
            return known
        return knows

    return remember


def forget_strangers(outbox: Outbox, configuration: Configuration) -> None:
    """Forget sensors that were renamed or taken out over the years, oldest first, where no room is left for them."""
    configured = kinds_of(configuration)
    wanted = [(kind.stream, sensor, kind.remembered_bytes_max) for sensor, kind in configured.items()]
    streams = outbox.memory.streams
    strangers = [
        (stream, sensor, known_bytes(known))
        for stream in SENSED
        for sensor, known in streams.get(stream, {}).items()
        if sensor not in configured
    ]
    while strangers and sensors_bytes([*wanted, *strangers]) > SENSORS_BYTES_MAX:
        stream, leaving, _ = strangers.pop(0)
        streams[stream] = {sensor: known for sensor, known in streams[stream].items() if sensor != leaving}


def recall(outbox: Outbox, remember: Remember) -> Mapping[str, Mapping[str, Any]]:
    """Bring the outbox's memory of the sensors up to its last recorded entry (a power cut left it behind)."""
    streams = outbox.memory.streams
    for entry in outbox.recorded_since_memory():
        recorded = wire.recorded(entry.payload)
        if recorded["type"] == OutboxCreated.type:
            streams[entry.stream] = {**streams.get(entry.stream, {}), CREATION_TOLD: True}
        else:
            fold(streams, remember, entry.stream, recorded["subject"], recorded["type"], recorded["data"])
    return {sensor: known for stream in SENSED for sensor, known in streams.get(stream, {}).items()}
