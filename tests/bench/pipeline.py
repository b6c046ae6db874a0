"""What an event costs, from reading to recorded to acknowledged, and what the daemon costs while nothing happens.

    python tests/bench/pipeline.py [--quick] [--json]

`recorded`: four beam edges become `door.passed`, interpreted, encoded and committed to a real file in groups of 100 by
the engine; peer: SQLite (WAL, synchronous=FULL) given the finished bytes in transactions of 100.
`acknowledged`: a backlog in the real outbox, read, sent in batches of 100 through paho to a real mosquitto and
acknowledged; peer: bare paho (`loop_start`), one event a message. CPU of the whole process, broker not included.
`idle`: the daemon as a process with a door, a shelf and a scanner.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.config import Configuration, loads
from gateway.engine.assembly import World, assemble
from gateway.engine.engine import Engine
from gateway.machine.disk import RealDisk
from gateway.model import NS_PER_MS, NS_PER_S, STREAMS, Instant, Order
from gateway.mqtt.link import PahoLink
from gateway.outbox.writing import InlineWriter
from gateway.sensors.door.reading import BeamChanged

CONFIGURATION = """
[site]
store = "0042"
gateway = "bench"
timezone = "UTC"
[broker]
url = "mqtt://127.0.0.1:{port}"
[outbox]
directory = "{directory}"
[[door]]
id = "entrance"
outer_pin = 17
inner_pin = 27
[[shelf]]
id = "aisle-3"
data_pin = 5
clock_pin = 6
products = [{{ sku = "4006381333931", unit_grams = 330.0, capacity = 24, low_below = 6 }}]
calibration = {{ offset_counts = 84213, counts_per_gram = 21.5 }}
[[scanner]]
id = "ble"
tags = [{{ tag = "loyalty", ibeacon = {{ uuid = "f7826da6-4fa2-4e98-8024-bc5b71e0893e" }} }}]
"""
GROUP = 100
PASSAGE_MS = 3000


class BenchClock:
    """Virtual time, moved by the benchmark."""

    bootid = "00000000"

    def __init__(self) -> None:
        self.boot_ns = 0

    def now(self) -> Instant:
        return Instant(self.boot_ns, 1_795_000_000 * NS_PER_S + self.boot_ns)


class NoLink:
    def obey(self, order: Order) -> None:
        pass

    def close(self) -> None:
        pass


def world(clock: BenchClock) -> World:
    disk = RealDisk()
    return World(
        clock=clock,
        disk=disk,
        open_writer=lambda wake: InlineWriter(disk),
        open_link=lambda configuration, emit: NoLink(),
        random=random.Random(1),
    )


def configuration(directory: Path, port: int = 1) -> Configuration:
    return loads(CONFIGURATION.format(port=port, directory=directory))


def identify(identity: str, at: Instant) -> str | None:
    return identity


def passage(clock: BenchClock) -> Iterator[BeamChanged]:
    edges: tuple[tuple[int, Literal["outer", "inner"], bool], ...] = (
        (0, "outer", True),
        (90, "inner", True),
        (260, "outer", False),
        (350, "inner", False),
    )
    for at_ms, beam, broken in edges:
        at_ns = clock.boot_ns + at_ms * NS_PER_MS
        yield BeamChanged("entrance", Instant(at_ns, 1_795_000_000 * NS_PER_S + at_ns), beam, broken)
    clock.boot_ns += PASSAGE_MS * NS_PER_MS


def recorded_us(directory: Path, count: int) -> tuple[float, Engine]:
    """CPU of one event from its four readings to recorded, in groups of 100."""
    clock = BenchClock()
    engine = assemble(configuration(directory), world(clock), identify)
    engine.step()
    before = engine.outbox.positions("door").recorded_through
    began = time.process_time()
    for _ in range(count // GROUP):
        for _ in range(GROUP):
            for reading in passage(clock):
                engine.offer(reading)
        while engine.outbox.positions("door").recorded_through < before + GROUP - 1:
            engine.step()
            engine.outbox.commit(clock.now())
        before = engine.outbox.positions("door").recorded_through
    spent = time.process_time() - began
    assert before >= count - GROUP
    return spent / count * 1e6, engine


def sqlite_us(directory: Path, payload: bytes, count: int) -> float:
    database = sqlite3.connect(directory / "peer.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE entry (sequence INTEGER PRIMARY KEY, payload BLOB)")
    began = time.process_time()
    for _ in range(count // GROUP):
        database.execute("BEGIN")
        for _ in range(GROUP):
            database.execute("INSERT INTO entry (payload) VALUES (?)", (payload,))
        database.execute("COMMIT")
    spent = time.process_time() - began
    database.close()
    return spent / count * 1e6


@contextmanager
def mosquitto(directory: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = directory / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n"
        + ("user root\n" if os.getuid() == 0 else "")
    )
    broker = subprocess.Popen(["mosquitto", "-c", str(settings)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: _listens(port), 5)
        yield port
    finally:
        broker.terminate()
        broker.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(done: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark waited in vain")
        time.sleep(0.01)


def acknowledged_us(engine: Engine, directory: Path, port: int) -> tuple[float, int]:
    """CPU of one event from the outbox to its acknowledgement, in batches of 100, by paho to mosquitto."""
    from gateway.machine.clock import SystemClock

    settings = configuration(directory, port)
    clock = SystemClock()
    engine.outbox.close(engine.clock.now())
    disk = RealDisk()
    real = World(
        clock=clock,
        disk=disk,
        open_writer=lambda wake: InlineWriter(disk),
        open_link=lambda configured, emit: PahoLink(configured.broker, "bench", emit),
        random=random.Random(1),
    )
    drained = assemble(settings, real, identify)
    backlog = sum(drained.outbox.positions(stream).backlog for stream in STREAMS)
    began = time.process_time()
    deadline = time.monotonic() + 120
    while not drained.uplink.drained():
        drained.step(0.05)
        if time.monotonic() > deadline:
            raise TimeoutError("the backlog did not drain")
    spent = time.process_time() - began
    drained.link.close()
    drained.outbox.close(clock.now())
    return spent / backlog * 1e6, backlog


def paho_us(port: int, payload: bytes, count: int) -> float:
    client = Client(CallbackAPIVersion.VERSION2, "peer", protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(100)
    done = threading.Semaphore(0)
    client.on_publish = lambda *arguments: done.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_for(client.is_connected, 5)
    began = time.process_time()
    waiting = 0
    for _ in range(count):
        client.publish("stores/v1/0042/bench/event/door/entrance", payload, qos=1)
        waiting += 1
        if waiting >= 100:
            done.acquire()
            waiting -= 1
    for _ in range(waiting):
        done.acquire()
    spent = time.process_time() - began
    client.disconnect()
    client.loop_stop()
    return spent / count * 1e6


def idle(directory: Path, port: int, seconds: float) -> dict[str, float]:
    """The daemon as a process: resident memory, start to its first recorded event, CPU while nothing happens."""
    file = directory / "gateway.toml"
    file.write_text(CONFIGURATION.format(port=port, directory=directory / "idle"))
    began = time.monotonic()
    environment = {**os.environ, "GPIOZERO_PIN_FACTORY": "mock"}
    command = [sys.executable, "-m", "gateway", "run", "--config", str(file), "--log-level", "ERROR"]
    daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        segments = directory / "idle" / "gateway"
        wait_for(lambda: any(b'"type"' in segment.read_bytes() for segment in segments.glob("*.json")), 20)
        started_s = time.monotonic() - began
        time.sleep(5)
        before = cpu_s(daemon.pid)
        time.sleep(seconds)
        share = (cpu_s(daemon.pid) - before) / seconds
        rss = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(10)
    return {"start_s": started_s, "cpu_percent": share * 100, "rss_mb": rss / 1e6}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    count = 10_000 if options.quick else 100_000
    directory = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    try:
        results = measure(directory, count, 10 if options.quick else 60)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{'figure':34} {'value':>10} {'aim':>10} {'peer':>10}")
    for name, row in results.items():
        cells = (f"{row[key]:10.2f}" if row[key] is not None else " " * 10 for key in ("value", "aim", "peer"))
        print(f"{name:34} {' '.join(cells)}")


def measure(directory: Path, count: int, idle_s: float) -> dict[str, dict[str, float | None]]:
    recorded, engine = recorded_us(directory / "outbox", count)
    entry = engine.outbox.read("door", 0, 1, 10_000)[0]
    results: dict[str, dict[str, float | None]] = {
        "recorded_cpu_us_per_event": {
            "value": recorded,
            "aim": None,
            "peer": sqlite_us(directory, entry.payload, count),
        }
    }
    if shutil.which("mosquitto") is None:
        print("mosquitto is not on the PATH: what needs a broker is left out", file=sys.stderr)
        engine.outbox.close(engine.clock.now())
        return results
    with mosquitto(directory) as port:
        acknowledged, _ = acknowledged_us(engine, directory / "outbox", port)
        peer = paho_us(port, entry.payload, count // 4)
        results["acknowledged_cpu_us_per_event"] = {"value": acknowledged, "aim": None, "peer": peer}
        costs = idle(directory, port, idle_s)
    results["idle_rss_mb"] = {"value": costs["rss_mb"], "aim": 60, "peer": None}
    results["start_to_first_recorded_s"] = {"value": costs["start_s"], "aim": 1.5, "peer": None}
    results["idle_cpu_percent_of_a_core"] = {"value": costs["cpu_percent"], "aim": 1, "peer": None}
    return results


if __name__ == "__main__":
    main()
