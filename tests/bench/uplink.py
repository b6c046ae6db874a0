"""What sending costs: `python -m tests.bench.uplink`. Client CPU an event on mosquitto over loopback, all in one run.

Bare paho (`loop_start`, a window of 100) is the measure; the gateway's events include the policy, the envelope and the
acknowledgement of an outbox in memory. Ratios count, not the absolute figures.
"""

from __future__ import annotations

import resource
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
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
WINDOW = 100
EXTRA = ("max_inflight_messages 65535",)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(name: str, events: int, work: Callable[[], None]) -> float:
    """Run the work; print and return microseconds of CPU an event."""
    cpu, wall = cpu_s(), time.perf_counter()
    work()
    cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
    print(f"{name:34} {events / wall:10,.0f} events/s {cpu / events * 1e6:8.2f} us CPU an event")
    return cpu / events * 1e6


def bare_paho(broker: Mosquitto, typed: bool) -> float:
    """A loop over `publish`. `typed` says the content type of each message, as the contract wants it."""
    slots = threading.Semaphore(WINDOW)
    client = Client(CallbackAPIVersion.VERSION2, "bare", protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(0)
    client.on_publish = lambda client, userdata, mid, reason, properties: slots.release()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    payload = b"x" * 420

    def work() -> None:
        for _ in range(SINGLES):
            slots.acquire()
            properties = None
            if typed:
                properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                properties.ContentType = EVENT_CONTENT_TYPE
            client.publish("stores/v1/0042/front/event/door/entrance", payload, qos=1, properties=properties)
        for _ in range(WINDOW):
            slots.acquire()

    took = measured(f"bare paho, {'content type' if typed else 'no properties'}", SINGLES, work)
    client.disconnect()
    client.loop_stop()
    return took


def gateway(broker: Mosquitto, name: str, events: int, resync: str, compression: str = "none") -> float:
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


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, mosquitto(Path(directory), extra=EXTRA) as broker:
        bare = bare_paho(broker, typed=False)
        typed = bare_paho(broker, typed=True)
        single = gateway(broker, "gateway, single events", SINGLES, "in-order")
        gateway(broker, "gateway, batches", BATCHED, "live-first")
        gateway(broker, "gateway, batches, gzip", BATCHED, "live-first", "gzip")
        print(f"single events / bare paho: {single / bare:.2f}; with its content type: {single / typed:.2f}")


if __name__ == "__main__":
    main()
