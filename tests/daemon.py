"""The daemon as its own process, and a consumer of the broker's messages: what the end-to-end tests hold in hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.consumer.ledger import Ledger

PREFIX = "stores/v1/0042/front"
SENSORS = """
[[door]]
id = "entrance"
outer_pin = 17
inner_pin = 27
[[scanner]]
id = "ble"
tags = [{ tag = "loyalty", ibeacon = { uuid = "f7826da6-4fa2-4e98-8024-bc5b71e0893e" } }]
"""


def wait_for(done: Callable[[], Any], within_s: float = 15, what: str = "it") -> Any:
    """Wait until `done()` is true and return it."""
    until = time.monotonic() + within_s
    while not (result := done()):
        assert time.monotonic() < until, f"waited {within_s} s in vain for {what}"
        time.sleep(0.02)
    return result


def passages(count: int, every_s: float = 3.0) -> str:
    """Return a recording of people who come in one after the other."""
    lines = ['{"recording": 1, "started": "2026-11-22T09:00:00.000Z", "gateway": "front", "note": ""}']
    for number in range(count):
        for after_s, beam, broken in (
            (1.0, "outer", True),
            (1.1, "inner", True),
            (1.3, "outer", False),
            (1.4, "inner", False),
        ):
            line = {"t": round(number * every_s + after_s, 3), "sensor": "entrance", "beam": beam, "broken": broken}
            lines.append(json.dumps(line))
    return "\n".join(lines) + "\n"


@dataclass
class Shop:
    """A configuration and its outbox in a folder of the test's own."""

    folder: Path
    url: str
    more: str = ""

    def __post_init__(self) -> None:
        self.config = self.folder / "gateway.toml"
        self.outbox = self.folder / "outbox"
        self.config.write_text(
            f'[site]\nstore = "0042"\ngateway = "front"\ntimezone = "UTC"\n[broker]\nurl = "{self.url}"\n'
            f'reconnect_max_s = 2\n[outbox]\ndirectory = "{self.outbox}"\n{self.more}\n{SENSORS}'
        )

    def recording(self, text: str) -> Path:
        path = self.folder / "recording.jsonl"
        path.write_text(text)
        return path

    def command(self, verb: str, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "gateway", *verb.split(), "--config", str(self.config), *map(str, arguments)]

    def run(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start `gateway run`."""
        return subprocess.Popen(self.command("run", *arguments), stderr=subprocess.PIPE, text=True)

    def ask(self, verb: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run another verb to its end."""
        return subprocess.run(self.command(verb, *arguments), capture_output=True, text=True, timeout=30, check=False)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.ask("status", "--json").stdout)
        return answer

    def backlog(self, stream: str = "door") -> int:
        """Return what waits in the outbox; 0 where there is none yet."""
        return int(self.status()["streams"].get(stream, {}).get("backlog", 0))


def ended(process: subprocess.Popen[str], within_s: float = 20) -> tuple[int, str]:
    """Wait for a process; return its exit status and what it said."""
    _, said = process.communicate(timeout=within_s)
    return process.returncode, said


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, float]:
    """Signal a process; return its exit status, what it said, and the seconds it took to end."""
    began = time.monotonic()
    process.send_signal(number)
    status, said = ended(process)
    return status, said, time.monotonic() - began


@dataclass
class Consumer:
    """Subscribes to everything of one gateway and keeps a ledger."""

    port: int
    ledger: Ledger = field(default_factory=lambda: Ledger(from_one=True))
    messages: list[MQTTMessage] = field(default_factory=list)

    def __enter__(self) -> Consumer:
        self.client = Client(
            CallbackAPIVersion.VERSION2, f"consumer-{os.getpid()}", protocol=MQTTProtocolVersion.MQTTv5
        )
        subscribed: list[int] = []
        self.client.on_connect = lambda client, *rest: client.subscribe(f"{PREFIX}/#", qos=1)
        self.client.on_subscribe = lambda *rest: subscribed.append(1)
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        wait_for(lambda: subscribed, what="the subscription")
        return self

    def __exit__(self, *exception: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self.messages.append(message)
        self.ledger.take(message.topic, bytes(message.payload), message.retain)

    def events(self) -> list[dict[str, Any]]:
        """Return all events in the order in which they came, whichever lane they took."""
        found: list[dict[str, Any]] = []
        for message in list(self.messages):
            if message.topic == f"{PREFIX}/backfill":
                found += json.loads(message.payload)
            elif message.topic.startswith(f"{PREFIX}/event/"):
                found.append(json.loads(message.payload))
        return found

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["type"] == kind]

    def states(self) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in list(self.messages) if message.topic == f"{PREFIX}/state"]

    def order(self, verb: str, payload: bytes, correlation: bytes = b"7", retain: bool = False) -> dict[str, Any]:
        """Send a command with a response topic of its own and return the answer."""
        topic = f"{PREFIX}/answers/{time.monotonic_ns()}"
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = topic
        properties.CorrelationData = correlation
        self.client.publish(f"{PREFIX}/command/{verb}", payload, qos=1, retain=retain, properties=properties)
        answers = wait_for(lambda: [m for m in list(self.messages) if m.topic == topic], what=f"the answer to {verb}")
        assert answers[0].properties.CorrelationData == correlation
        answer: dict[str, Any] = json.loads(answers[0].payload)
        return answer


def data(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["data"] for event in events]
