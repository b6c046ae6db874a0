"""A shop in the lab: a machine with door, scale and radio, what people do in it, and the broker and consumer outside.

Law: people act on lines, scale and air as on a Pi's outside; what came of it is read at a broker outside.
Moments inside are the machine's: an edge every `STEP_S` is slow enough for an emulated processor beside other work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.daemon import Consumer
from tests.lab.cache import HERE, Artefact
from tests.lab.machine import REAL, Machine, Mode
from tests.lab.prepared import on_disk, woken
from tests.uplink.brokers import Mosquitto, mosquitto

OUTSIDE = "10.0.2.2"
"""The host, as the machine sees it."""
GPIO = "/run/lab/gpio"
SCALE = "/sys/module/gpio_sim/parameters"
OUTER, INNER = 17, 27
STEP_S = 0.2
OFFSET_COUNTS, COUNTS_PER_GRAM = 84213, 21.5
UNIT_GRAMS = 1000.0
LOYALTY = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
STARTS_WITHIN_S = 120.0
COMES_WITHIN_S = 60.0

CONFIGURATION = """\
[site]
store = "0042"
gateway = "front"
timezone = "Europe/Berlin"
[broker]
url = "mqtt://{host}:{port}"
reconnect_max_s = 2
{more}
[[door]]
id = "entrance"
outer_pin = 17
inner_pin = 27
"""
SHELF = f"""
[[shelf]]
id = "aisle-3"
data_pin = 5
clock_pin = 6
products = [{{ sku = "4006381333931", unit_grams = {UNIT_GRAMS}, capacity = 5, low_below = 2 }}]
calibration = {{ offset_counts = {OFFSET_COUNTS}, counts_per_gram = {COUNTS_PER_GRAM} }}
level_dwell_s = 2
"""
SCANNER = f"""
[[scanner]]
id = "ble"
left_after_s = 5
tags = [{{ tag = "loyalty", ibeacon = {{ uuid = "{LOYALTY}" }} }}]
"""


def ibeacon(major: int, minor: int, uuid: str = LOYALTY) -> str:
    """Return the advertising data of an iBeacon, in hex."""
    return f"0201061aff4c000215{uuid.replace('-', '')}{major:04x}{minor:04x}c5"


def passage(direction: Literal["in", "out"], at_s: float = 0.0) -> list[tuple[float, str, str]]:
    """Return what somebody who walks through does to the two lines: a broken beam pulls its line down."""
    first, second = (OUTER, INNER) if direction == "in" else (INNER, OUTER)
    edges = ((first, "down"), (second, "down"), (first, "up"), (second, "up"))
    return [
        (at_s + number * STEP_S, f"{GPIO}/sim_gpio{line}/pull", f"pull-{level}")
        for number, (line, level) in enumerate(edges)
    ]


@dataclass
class Shop:
    """A machine that runs, the broker, and what the consumer there has heard."""

    machine: Machine
    broker: Mosquitto
    consumer: Consumer
    sensors: str = SCANNER
    more: str = ""
    host: str = OUTSIDE
    passed: dict[str, int] = field(default_factory=lambda: {"in": 0, "out": 0})

    # --- the service --------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Write the configuration, as a technician does."""
        text = CONFIGURATION.format(host=self.host, port=self.broker.port, more=self.more) + self.sensors
        self.machine.put("/etc/gateway/gateway.toml", text)
        self.machine.sh("chown root:gateway /etc/gateway/gateway.toml; chmod 0640 /etc/gateway/gateway.toml")

    def open(self) -> float:
        """Configure and start; return the seconds until systemd called the service started."""
        self.configure()
        began_s = time.monotonic()
        self.machine.sh("systemctl enable -q gateway; systemctl start gateway", STARTS_WITHIN_S)
        took_s = time.monotonic() - began_s
        self.wait(lambda: self.states("online"), "the state online")
        self.listen_at_the_door()
        return took_s

    def listen_at_the_door(self) -> None:
        """Wait until a daemon that has just started has claimed the door's pins."""
        self.wait(self.has_pins, "the door's pins to be claimed", STARTS_WITHIN_S)

    def has_pins(self) -> bool:
        """Say whether the daemon holds both lines of the door: opening a line sets its pull, whatever a test did."""
        pid = self.main_pid()
        held = self.machine.try_run(f"ls -l /proc/{pid}/fd | grep -c anon_inode:gpio").out if pid else ""
        return int(held or 0) >= 2

    def is_active(self) -> bool:
        return self.machine.try_run("systemctl is-active gateway").out.strip() == "active"

    def main_pid(self) -> int:
        return int(self.machine.sh("systemctl show -P MainPID gateway"))

    def status(self) -> dict[str, Any]:
        """Ask the daemon inside; {} where it does not run."""
        done = self.machine.try_run("gateway status --json", 90)
        found: dict[str, Any] = json.loads(done.out) if done.status == 0 else {}
        return found

    def journal(self, lines: int = 30) -> str:
        return self.machine.sh(f"journalctl -u gateway --no-pager -o short-monotonic -n {lines}")

    # --- what people do -----------------------------------------------------------------------------------------------

    def walk(self, *directions: Literal["in", "out"], every_s: float = 2.0) -> float:
        """Let people walk through the door one after the other; returns by how much the lab itself was late."""
        steps = [step for number, way in enumerate(directions) for step in passage(way, number * every_s)]
        late_s: float = self.machine.ask("play", 120 + len(directions) * every_s, steps=steps)["late_s"]
        for direction in directions:
            self.passed[direction] += 1
        return late_s

    def weigh(self, grams: float) -> None:
        """Put this weight on the scale, in the place of what lay there."""
        self.machine.put("/run/lab/counts.new", str(round(OFFSET_COUNTS + grams * COUNTS_PER_GRAM)))
        self.machine.sh("mv /run/lab/counts.new /run/lab/counts")
        if self.machine.try_run("systemctl is-active -q lab-noise").status != 0:
            self.machine.put("/run/lab/noise.py", (HERE / "guest/noise.py").read_text())
            self.machine.sh("systemd-run -q --unit=lab-noise python3 -I /run/lab/noise.py")

    def scale(self, name: str) -> int:
        """Read a counter or parameter of the simulated converter."""
        return int(self.machine.sh(f"cat {SCALE}/hx_{name}"))

    def carry(self, address: str = "c0:00:00:00:00:01", **radio: Any) -> None:
        """Bring a tag into the air."""
        wish: dict[str, Any] = {"op": "advertise", "address": address, "data": ibeacon(1, 2), "rssi_dbm": -55, **radio}
        self.machine.ask("radio", wish=wish)

    def carry_away(self, address: str = "c0:00:00:00:00:01") -> None:
        self.machine.ask("radio", wish={"op": "remove", "address": address})

    def radio(self, **wish: Any) -> dict[str, Any]:
        return self.machine.ask("radio", wish=wish)

    # --- what was heard of it -----------------------------------------------------------------------------------------

    def wait(self, done: Callable[[], Any], what: str, within_s: float = COMES_WITHIN_S) -> Any:
        """Wait until `done()` gives something and return it; fails with the journal's last lines."""
        until_s = time.monotonic() + within_s * self.machine.mode.patience
        while not (found := done()):
            if time.monotonic() > until_s:
                heard = [event["type"].removeprefix("store.") for event in self.consumer.events()]
                raise AssertionError(f"waited {within_s:g} s for {what}; heard {heard[-20:]}\n{self.journal()}")
            time.sleep(0.1)
        return found

    def expect(self, kind: str, count: int = 1, within_s: float = COMES_WITHIN_S, **data: Any) -> list[dict[str, Any]]:
        """Wait until so many events of a kind with these data were heard; return their data."""

        def found() -> list[dict[str, Any]]:
            events = [event["data"] for event in self.consumer.of(f"store.{kind}")]
            return [event for event in events if event.items() >= data.items()]

        self.wait(lambda: len(found()) >= count, f"{count} x {kind} {data}", within_s)
        return found()

    def expect_failure(self, sensor: str, *reasons: str, within_s: float = COMES_WITHIN_S) -> str:
        """Wait until a sensor is told to have failed for one of these reasons; return the sentence."""

        def found() -> list[dict[str, Any]]:
            failures = self.consumer.of("store.sensor.failed")
            return [one for one in failures if one["subject"] == sensor and one["data"]["reason"] in reasons]

        event: dict[str, Any] = self.wait(found, f"the failure of {sensor} by {reasons}", within_s)[-1]
        return str(event["data"]["detail"])

    def states(self, state: str) -> list[dict[str, Any]]:
        return [found for found in self.consumer.states() if found["state"] == state]

    def complete(self, within_s: float = COMES_WITHIN_S) -> None:
        """Wait until the consumer's ledger proves that nothing recorded is missing."""

        def is_complete() -> bool:
            report = self.consumer.ledger.report()
            return report.is_complete and not report.lost and not report.invalid

        self.wait(is_complete, f"a complete ledger ({self.consumer.ledger.report()})", within_s)

    def doors(self) -> list[str]:
        """Return the directions of all passages that were heard, each once, in the order of their numbers."""
        passed = {event["id"]: event for event in self.consumer.of("store.door.passed")}
        ordered = sorted(passed.values(), key=lambda event: (event["outbox"], event["sequence"]))
        return [event["data"]["direction"] for event in ordered]


@contextmanager
def shop(folder: Path, prepared: Artefact, mode: Mode = REAL, **more: Any) -> Iterator[Shop]:
    """Give a shop on a machine that runs on from its snapshot; its service is not started yet."""
    with woken(prepared, mode) as machine, outside(machine, folder, **more) as found:
        yield found


@contextmanager
def booted(folder: Path, prepared: Artefact, mode: Mode = REAL, **more: Any) -> Iterator[Shop]:
    """Give a shop on a machine that has just booted, so that it can be switched off and on."""
    with on_disk(prepared, mode) as machine:
        machine.start()
        with outside(machine, folder, **more) as found:
            yield found


@contextmanager
def outside(machine: Machine, folder: Path, **more: Any) -> Iterator[Shop]:
    """Give broker and consumer to a machine."""
    folder.mkdir(exist_ok=True)
    with mosquitto(folder) as broker, Consumer(broker.port) as consumer:
        yield Shop(machine, broker, consumer, **more)


def spaced(count: int, ways: Iterable[Literal["in", "out"]] = ("in", "in", "out")) -> list[Literal["in", "out"]]:
    """Return so many directions, in turn."""
    turn = tuple(ways)
    return [turn[number % len(turn)] for number in range(count)]
