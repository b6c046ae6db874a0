"""What sending costs: `python -m tests.bench.uplink [--quick] [--json] [--write]`.

Client CPU an event on mosquitto over loopback, all in one run. Bare paho (`loop_start`, a window of 100) is the
measure, with and without the content type that the contract wants; mosquitto_pub shows what C needs. The gateway's
events include the policy, the envelope and the acknowledgement of an outbox in memory. Ratios count, not the absolute
figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.uplink import BrokerSettings
from gateway.wire import EVENT_CONTENT_TYPE
from tests.uplink.brokers import Mosquitto, mosquitto
from tests.uplink.memory_outbox import MemoryOutbox
from tests.uplink.shop import Shop

SINGLES = 20_000
BATCHED = 300_000
QUICKER = 5
WINDOW = 100
EXTRA = ("max_inflight_messages 65535",)
RESULTS = Path(__file__).parent / "results" / "uplink.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One publisher: events a second, microseconds of CPU an event."""

    publisher: str
    per_s: float
    cpu_us: float


def cpu_s(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def measured(name: str, events: int, work: Callable[[], None], whose: int = resource.RUSAGE_SELF) -> Row:
    """Run the work and time it."""
    cpu, wall = cpu_s(whose), time.perf_counter()
    work()
    cpu, wall = cpu_s(whose) - cpu, time.perf_counter() - wall
    return Row(name, events / wall, cpu / events * 1e6)


def mosquitto_pub(broker: Mosquitto, events: int) -> Row:
    """The C client, one line a message."""
    program = shutil.which("mosquitto_pub")
    assert program is not None
    command = [program, "-p", str(broker.port), "-V", "5", "-q", "1", "-l", "-t", "stores/v1/0042/front/event/door/a"]
    lines = (b"x" * 420 + b"\n") * events
    return measured(
        "mosquitto_pub -l",
        events,
        lambda: void(subprocess.run(command, input=lines, check=True)),
        resource.RUSAGE_CHILDREN,
    )


def void(value: object) -> None:
    """Take a value and return nothing."""


def bare_paho(broker: Mosquitto, events: int, typed: bool) -> Row:
    """A loop over `publish`. `typed` says the content type of each message, as the contract wants it."""
    slots = threading.Semaphore(WINDOW)
    client = Client(CallbackAPIVersion.VERSION2, "bare", protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(0)
    client.on_publish = lambda client, userdata, mid, reason, properties: slots.release()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    payload = b"x" * 420

    def work() -> None:
        for _ in range(events):
            slots.acquire()
            properties = None
            if typed:
                properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                properties.ContentType = EVENT_CONTENT_TYPE
            client.publish("stores/v1/0042/front/event/door/entrance", payload, qos=1, properties=properties)
        for _ in range(WINDOW):
            slots.acquire()

    took = measured(f"bare paho, {'content type' if typed else 'no properties'}", events, work)
    client.disconnect()
    client.loop_stop()
    return took


def gateway(broker: Mosquitto, name: str, events: int, resync: str, compression: str = "none") -> Row:
    settings = BrokerSettings(
        url=broker.url,
        inflight_max=WINDOW,
        resync=resync,  # type: ignore[arg-type]
        backfill_compression=compression,  # type: ignore[arg-type]
        inflight_bytes_max=256 * 1024,
    )
    outbox = MemoryOutbox()
    shop = Shop(settings, outbox)
    now = replace(shop.clock.now(), clock="synced")
    for _ in range(events):
        outbox.passed(now)
    shop.uplink._traffic.lanes.observe(shop.clock.now())
    time.sleep(1.1)
    took = measured(name, events, lambda: shop.drain(120))
    shop.close()
    return took


def rows(quicker: int) -> list[Row]:
    """Measure all."""
    singles, batched = SINGLES // quicker, BATCHED // quicker
    with tempfile.TemporaryDirectory() as directory, mosquitto(Path(directory), extra=EXTRA) as broker:
        return [
            bare_paho(broker, singles, typed=False),
            bare_paho(broker, singles, typed=True),
            gateway(broker, "gateway, single events", singles, "in-order"),
            gateway(broker, "gateway, batches", batched, "live-first"),
            gateway(broker, "gateway, batches, gzip", batched, "live-first", "gzip"),
            *([mosquitto_pub(broker, singles)] if shutil.which("mosquitto_pub") else []),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What sending costs the client.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the table in results/uplink.md")
    asked = parser.parse_args()
    found = rows(QUICKER if asked.quick else 1)
    if asked.json:
        print(json.dumps([asdict(row) for row in found]))
        return
    bare, typed, single = (row.cpu_us for row in found[:3])
    lines = [
        f"## {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: what sending costs the client",
        "",
        "| publisher | events/s | CPU us/event |",
        "| --- | ---: | ---: |",
        *(f"| {row.publisher} | {row.per_s:,.0f} | {row.cpu_us:.1f} |" for row in found),
        "",
        f"Single events against bare paho: {single / bare:.2f}; with the content type: {single / typed:.2f}.",
    ]
    print("\n".join(lines))
    if asked.write:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
