"""The outbox as the disk has it, for every verb that reads it: beside a running daemon, or without one."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from gateway.model import NS_PER_MS, STREAMS, Entry

if TYPE_CHECKING:
    from gateway.config import Configuration
    from gateway.outbox.reader import OutboxReader
    from gateway.outbox.sealing import Sealing
    from gateway.outbox.table import EntryDatabase


def reader_of(configuration: Configuration) -> OutboxReader:
    """Open the outbox for reading, beside a daemon or without one; raises OutboxUnusable where there is none,
    OutboxSealed where its key is not given.
    """
    from gateway.config import outbox_key

    return outbox_key.reader_of(configuration.outbox)


def outbox_at_rest(
    configuration: Configuration, sealing: Sealing | None = None
) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """Return what the disk says of the outbox, and of each stream; raises as `reader_of`.

    `sealing` are the keys where they are read already, for one who may not read them any more.
    """
    from gateway.outbox.reader import OutboxReader

    directory = configuration.outbox.directory
    reader = reader_of(configuration) if sealing is None else OutboxReader(directory, sealing=sealing)
    found = {
        "outbox": reader.id,
        "epoch": str(reader.epoch),
        "entries": sum(reader.backlog(stream) for stream in STREAMS),
        "bytes": reader.used_bytes(),
        "bytes_max": configuration.outbox.bytes_max,
        "oldest_entry_ms": _oldest_ms(reader),
        "degraded": False,
        "damaged": len(reader.set_aside()),
        "refused": reader.counters.get("refused", 0),
    }
    return found, {stream: dataclasses.asdict(reader.positions(stream)) for stream in STREAMS}


def _oldest_ms(reader: OutboxReader) -> int | None:
    """The age of the oldest waiting entry: of this boot by its uptime, else as far as the wall clock tells."""
    from gateway.machine.clock import SystemClock

    clock = SystemClock()
    now = clock.now()
    ages = []
    for stream in STREAMS:
        for entry in islice(reader.entries(stream), 1):
            event = json.loads(entry.payload)
            if event["bootid"] == clock.bootid:
                ages.append(now.boot_ns // NS_PER_MS - int(event["uptimems"]))
            else:
                recorded = datetime.fromisoformat(event["time"])
                ages.append(now.wall_ns // NS_PER_MS - int(recorded.timestamp() * 1000))
    return max(0, *ages) if ages else None


def envelope(configuration: Configuration, reader: OutboxReader, entry: Entry) -> bytes:
    """Return an entry as it leaves the store (a time that is still unsynced stays so here)."""
    from gateway.wire import Wire

    site = configuration.site
    return Wire(site.store, site.gateway, reader.id, configuration.broker.topic_prefix).envelope(entry, {})


def database_of(configuration: Configuration, reader: OutboxReader, *, acknowledged: bool = False) -> EntryDatabase:
    """Return the outbox as a TinyDB database of events as they leave the store.

    With `acknowledged` it has also those events that are acknowledged and still kept.
    """
    return reader.database(lambda entry: json.loads(envelope(configuration, reader, entry)), acknowledged)
