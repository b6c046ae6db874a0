"""What the running daemon says of itself: `gateway status`, the command `status`, and the health event. Pure."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Mapping
from typing import Any

from gateway import __version__
from gateway.config import Configuration
from gateway.engine.engine import Engine
from gateway.engine.interpretation import Interpreted
from gateway.facts import GatewayHealth
from gateway.machine.health import Machine, last_reboot
from gateway.model import NS_PER_MS, STREAMS, Event, Instant, rfc3339
from gateway.sensors.fault import Fault, faults_to_json
from gateway.uplink.status import UplinkStatus


def status_of(engine: Engine, configuration: Configuration, now: Instant) -> dict[str, Any]:
    """Return the document of `gateway status --json` (contract section 9)."""
    uplink = engine.uplink.status(now)
    link = link_of(uplink)
    outbox = engine.outbox.status()
    return {
        "running": True,
        "state": "online" if link["up"] else "offline",
        "version": __version__,
        "config_sha256": configuration.sha256,
        "store": configuration.site.store,
        "gateway": configuration.site.gateway,
        "link": link,
        "streams": {stream: positions_of(engine, stream) for stream in STREAMS},
        "outbox": {
            "outbox": engine.outbox.id,
            "epoch": str(engine.outbox.epoch),
            "entries": outbox.entries,
            "bytes": outbox.bytes,
            "bytes_max": configuration.outbox.bytes_max,
            "oldest_entry_ms": outbox.oldest_entry_ms,
            "degraded": outbox.degraded,
            "trouble": outbox.trouble,
            "not_kept": engine.outbox.not_kept,
            "unreadable": outbox.unreadable,
        },
        "sensors": {
            sensor.id: {"kind": sensor.kind.table, **sensor_of(engine.interpretation.by_sensor[sensor.id], engine, now)}
            for sensor in configuration.sensors
        },
        "counters": {**engine.counters, "events_recorded": engine.outbox.recorded, **uplink.counters},
        "clock": now.clock,
        "time": rfc3339(now.wall_ns),
        "bootid": engine.clock.bootid,
        "uptime_ms": now.boot_ns // NS_PER_MS,
    }


def link_of(link: UplinkStatus) -> dict[str, Any]:
    """Return the link as the status has it; `reason` is why it is not up, None where nothing is wrong."""
    known = {field.name: getattr(link, field.name) for field in dataclasses.fields(link) if field.name != "counters"}
    return {
        **known,
        "since": None if link.since_ms is None else rfc3339(link.since_ms * NS_PER_MS),
        "reason": None if link.reason is None else link.reason.detail,
        "code": None if link.reason is None else link.reason.code,
        "advice": None if link.reason is None else link.reason.advice,
        "held_since": None if link.held_since_ms is None else rfc3339(link.held_since_ms * NS_PER_MS),
        "notes": [dataclasses.asdict(note) for note in link.notes],
    }


def positions_of(engine: Engine, stream: Any) -> dict[str, int]:
    """Return a stream's positions as the state document has them."""
    positions = engine.outbox.positions(stream)
    return {
        "recorded_through": positions.recorded_through,
        "acknowledged_through": positions.acknowledged_through,
        "backlog": positions.backlog,
    }


def sensor_of(one: Interpreted, engine: Engine, now: Instant) -> dict[str, Any]:
    """Return what is known of one sensor: counts, the age of its last reading, its faults since when."""
    faults = (
        Fault(reason, one.faults.details.get(reason, ""), rfc3339(engine.sensor_time.stamp(began, now).wall_ns))
        for reason, began in one.faults.active.items()
    )
    return {**counts_of(one, engine, now), "faults": faults_to_json(faults)}


def counts_of(one: Interpreted, engine: Engine, now: Instant) -> Mapping[str, int]:
    counts = {"readings": one.readings, "discarded": one.discarded + one.spoiled}
    if one.last is not None:
        seen = engine.sensor_time.stamp(one.last.at, now)
        counts["age_ms"] = max(0, (now.boot_ns - seen.boot_ns) // NS_PER_MS)
    return counts


def health_of(engine: Engine, machine: Machine, now: Instant, certificate_days: int | None = None) -> Event:
    """Return the health event; `certificate_days`: until the own certificate ends."""
    outbox = engine.outbox.status()
    return Event(
        "gateway",
        now,
        GatewayHealth(
            memory_rss_bytes=machine.memory_rss_bytes,
            outbox_entries=outbox.entries,
            outbox_bytes=outbox.bytes,
            sensors={one.id: counts_of(one, engine, now) for one in engine.interpretation.by_sensor.values()},
            disk_free_bytes=engine.outbox.free_bytes(),
            oldest_entry_ms=outbox.oldest_entry_ms,
            cpu_celsius=machine.cpu_celsius,
            throttled=machine.throttled,
            throttling=machine.throttling,
            disk_read_only=True if outbox.trouble_errno == errno.EROFS else machine.disk_read_only,
            card_worn_percent=machine.card_worn_percent,
            card_spare=machine.card_spare,
            board=machine.board,
            board_serial=machine.serial,
            last_reboot=last_reboot(machine.trace, engine.outbox.memory.shutdown),
            certificate_days=certificate_days,
            not_kept=engine.outbox.not_kept,
            unreadable=outbox.unreadable,
        ),
    )
