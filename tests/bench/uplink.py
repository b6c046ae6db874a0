"""What sending costs: `python -m tests.bench.uplink [--quick] [--json] [--write]`.

Client CPU an event on mosquitto over loopback, all in one run. Bare paho (`loop_start`, a window of 100) is the
measure, with and without the content type that the contract wants; aiomqtt, where it is installed, and mosquitto_pub
stand beside it. The gateway's events include the policy, the envelope and the acknowledgement of an outbox in memory;
"the link alone" is paho as the gateway uses it, on messages ready-made. Medians of three rounds; ratios count, not the
absolute figures.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import importlib.util
import json
import queue
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.model import Acknowledgements, Connect, LinkUp, Message, Signal
from gateway.mqtt.link import PahoLink
from gateway.uplink.settings import BrokerSettings
from gateway.wire import EVENT_CONTENT_TYPE
from tests.uplink.brokers import Mosquitto, mosquitto
from tests.uplink.memory_outbox import MemoryOutbox
from tests.uplink.shop import Shop

SINGLES = 20_000
BATCHED = 300_000
QUICKER = 5
WINDOW = 100
ROUNDS = 3
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


def aiomqtt(broker: Mosquitto, events: int) -> Row:
    """The asyncio wrapper of paho, as many publishes at once as the window."""
    library: Any = importlib.import_module("aiomqtt")

    async def publish() -> None:
        async with library.Client(
            "127.0.0.1", broker.port, protocol=library.ProtocolVersion.V5, max_inflight_messages=0
        ) as client:
            client.pending_calls_threshold = WINDOW  # or it warns of each
            slots = asyncio.Semaphore(WINDOW)

            async def one() -> None:
                async with slots:
                    await client.publish("stores/v1/0042/front/event/door/entrance", b"x" * 420, qos=1, timeout=60)

            for start in range(0, events, 1000):
                await asyncio.gather(*(one() for _ in range(min(1000, events - start))))

    return measured("aiomqtt, no properties", events, lambda: asyncio.run(publish()))


def link_alone(broker: Mosquitto, events: int) -> Row:
    """The link on paho, with the content type, fed with ready-made messages; no policy, no outbox."""
    heard: queue.SimpleQueue[Signal] = queue.SimpleQueue()
    link = PahoLink(BrokerSettings(url=broker.url), "alone", heard.put)
    topic, payload = "stores/v1/0042/front/event/door/entrance", b"x" * 420
    link.obey(Connect(1, "5", Message(0, "stores/v1/0042/front/state", b"{}", True, "application/json")))
    assert isinstance(heard.get(timeout=10), LinkUp)

    def work() -> None:
        sent = acknowledged = 0
        while acknowledged < events:
            while sent < events and sent - acknowledged < WINDOW:
                sent += 1
                link.obey(Message(sent, topic, payload, False, EVENT_CONTENT_TYPE))
            said = heard.get(timeout=10)
            assert isinstance(said, Acknowledgements)
            acknowledged += len(said.words)

    took = measured("gateway, the link alone", events, work)
    link.close()
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
            link_alone(broker, singles),
            gateway(broker, "gateway, batches", batched, "live-first"),
            gateway(broker, "gateway, batches, gzip", batched, "live-first", "gzip"),
            *([aiomqtt(broker, singles)] if importlib.util.find_spec("aiomqtt") else []),
            *([mosquitto_pub(broker, singles)] if shutil.which("mosquitto_pub") else []),
        ]


def medians(rounds: list[list[Row]]) -> list[Row]:
    """Return each publisher's median over the rounds, by CPU."""
    return [sorted(same, key=lambda row: row.cpu_us)[len(same) // 2] for same in zip(*rounds, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description="What sending costs the client.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the table in results/uplink.md")
    asked = parser.parse_args()
    found = medians([rows(QUICKER)] if asked.quick else [rows(1) for _ in range(ROUNDS)])
    if asked.json:
        print(json.dumps([asdict(row) for row in found]))
        return
    bare, typed, single, alone = (row.cpu_us for row in found[:4])
    lines = [
        f"## {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: what sending costs the client",
        "",
        "| publisher | events/s | CPU us/event |",
        "| --- | ---: | ---: |",
        *(f"| {row.publisher} | {row.per_s:,.0f} | {row.cpu_us:.1f} |" for row in found),
        "",
        f"Single events against bare paho: {single / bare:.2f}; with the content type: {single / typed:.2f}. "
        f"The link alone: {alone / bare:.2f}; {alone / typed:.2f}.",
    ]
    print("\n".join(lines))
    if asked.write:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
