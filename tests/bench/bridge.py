"""What a store would have instead: a local mosquitto whose bridge catches up. `python -m tests.bench.bridge [--quick]`.

A broker in the shop queues while the far one is frozen, then its bridge (QoS 1, MQTT 5) drains the queue over the same
lines as `tests.bench.resync`, one event a message. Window: `max_inflight_messages` of the far broker; mosquitto 2.0's
bridge was not seen to keep to it, so a round trip costs it nothing, and live events wait behind all that is queued.
`--write` keeps the table in results/uplink.md.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.resync import MBIT, RESULTS
from tests.uplink.brokers import mosquitto
from tests.uplink.slow_line import slow_line

LINES: tuple[tuple[str, float, float | None, int], ...] = (
    ("0 ms", 0.0, None, 50_000),
    ("50 ms, 1 Mbit/s", 0.05, MBIT, 5_000),
)
WINDOWS = (20, 100)
PAYLOAD = b"x" * 420
MILLION = 1_000_000


def bridged(round_trip_s: float, bytes_per_s: float | None, window: int, events: int) -> float:
    """Return the seconds in which the bridge drains so many events."""
    publish, subscribe = shutil.which("mosquitto_pub"), shutil.which("mosquitto_sub")
    assert publish, "mosquitto-clients is not installed"
    assert subscribe, "mosquitto-clients is not installed"
    with (
        tempfile.TemporaryDirectory() as place,
        mosquitto(Path(place), extra=(f"max_inflight_messages {window}", "max_queued_messages 0")) as far,
        slow_line(far.port, round_trip_s, bytes_per_s) as port,
    ):
        bridge = (
            "max_queued_messages 0",
            "connection cloud",
            f"address 127.0.0.1:{port}",
            "topic stores/# out 1",
            "cleansession false",
            "notifications false",
            "bridge_protocol_version mqttv50",
        )
        (Path(place) / "near").mkdir()
        with mosquitto(Path(place) / "near", extra=bridge) as near:
            time.sleep(1.5 + 4 * round_trip_s)  # the bridge's own handshake
            counts = [subscribe, "-p", str(far.port), "-t", "stores/#", "-C", str(events), "-q", "0"]
            with subprocess.Popen(counts, stdout=subprocess.DEVNULL) as counting:
                time.sleep(0.3)
                far.freeze()
                command = [publish, "-p", str(near.port), "-q", "1", "-l", "-t", "stores/v1/0042/front/event/door/a"]
                subprocess.run(command, input=(PAYLOAD + b"\n") * events, check=True)
                began = time.perf_counter()
                far.thaw()
                counting.wait(600)
                return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="What a local mosquitto with a bridge needs to catch up.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    lines = [
        f"## {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: a local mosquitto's bridge catching up",
        "",
        "| line | window | events | wall s | events/s | a million would take s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    for name, round_trip_s, bytes_per_s, full in LINES:
        for window in WINDOWS:
            events = full // 10 if asked.quick else full
            wall_s = bridged(round_trip_s, bytes_per_s, window, events)
            rate = events / wall_s
            lines.append(f"| {name} | {window} | {events:,} | {wall_s:.1f} | {rate:,.0f} | {MILLION / rate:,.0f} |")
            print(lines[-1], flush=True)
    if asked.write:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
