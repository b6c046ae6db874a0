"""The stage of a demonstration: broker, line, the daemon as on a Pi, a consumer with its ledger, and what is known.

The daemon is a process of its own (`python -m gateway run --simulated --config ...`), its outbox real, in a temporary
folder that is gone afterwards. Law: `pump` is called from one thread only; only `status` is filled from another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gateway.config import Configuration, load
from gateway.consumer.ledger import Ledger, Report
from gateway.consumer.messages import Delivery
from gateway.consumer.subscription import Subscription, topics_of
from gateway.control.asking import ask
from gateway.demo.broker import BrokerName, EmbeddedBroker, open_broker
from gateway.demo.child import spawn, stop
from gateway.demo.relay import Relay
from gateway.errors import ConfigurationError, GatewayError, Unavailable
from gateway.machine.clock import SystemClock
from gateway.model import NS_PER_S
from gateway.simulated import SEED_VARIABLE, configuration_text

STATUS_EVERY_S = 0.25
STOP_WITHIN_S = 8.0
"""The daemon promises 5 s; what is above is for a slow machine."""
MESSAGES_PER_PUMP = 500
RECONNECT_MAX_S = 2.0
"""So that one sees the catching up soon; a Pi waits up to 5 minutes."""
DRAIN_WITHIN_S = 15.0
LAST_MESSAGES_WITHIN_S = 3.0
LOG_LINES_TOLD = 12


@dataclass(frozen=True, slots=True)
class Summary:
    """How a demonstration ended. `recorded` and `delivered` count events."""

    broker: str
    protocol: str
    recorded: int
    delivered: int
    duplicates: int
    gaps: int
    lost: int
    out_of_order: int
    backlog_max: int
    cuts: int
    clean: bool
    complete: bool

    @classmethod
    def of(cls, report: Report, stage: Stage) -> Summary:
        return cls(
            broker=stage.broker.name,
            protocol=stage.protocol,
            recorded=report.recorded,
            delivered=report.delivered,
            duplicates=report.duplicates,
            gaps=report.missing,
            lost=report.lost,
            out_of_order=report.out_of_order,
            backlog_max=stage.backlog_max,
            cuts=stage.cuts,
            clean=stage.is_clean,
            complete=report.is_complete and stage.is_clean,
        )


class Stage:
    """Everything that plays; a context manager. Entering takes a second, and raises GatewayError where it cannot."""

    def __init__(self, broker: BrokerName = "auto", seed: str = "1", config: Sequence[Path] = ()) -> None:
        self.ledger = Ledger(from_one=True)
        self.status: Mapping[str, Any] = {}
        self.backlog_max = 0
        self.cuts = 0
        self.is_clean = False
        self.broker: EmbeddedBroker
        self.line: Relay
        self._broker_name: BrokerName = broker
        self._seed = seed
        self._config = tuple(config)
        self._clock = SystemClock()
        self._ended = threading.Event()
        self._asker: threading.Thread | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._subscription: Subscription | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Stage:
        self._folder = tempfile.TemporaryDirectory(prefix="gateway-demo-", ignore_cleanup_errors=True)
        try:
            self._build(Path(self._folder.name))
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clear()

    def _build(self, folder: Path) -> None:
        self.broker = open_broker(self._broker_name, folder)
        self.line = Relay(self.broker.port)
        own = folder / "gateway.toml"
        own.write_text(
            configuration_text(
                f"mqtt://127.0.0.1:{self.line.port}",
                str(folder / "outbox"),
                protocol=self.broker.protocol,
                reconnect_max_s=RECONNECT_MAX_S,
                with_store=not self._config,
            ),
            encoding="utf-8",
        )
        self._files = (*self._config, own)
        self.configuration: Configuration = load(self._files)
        if not self.configuration.sensors:
            raise ConfigurationError("no sensor is configured, so there is nothing to show")
        straight = folder / "consumer.toml"
        straight.write_text(f'[broker]\nurl = "mqtt://127.0.0.1:{self.broker.port}"\n', encoding="utf-8")
        consumer = load([*self._files, straight])
        site = consumer.site
        self._subscription = Subscription(
            consumer.broker, topics_of(consumer.broker.topic_prefix, site.store, site.gateway)
        )
        self._subscription.open()
        self._log_path = folder / "daemon.log"
        self._start_daemon(folder)
        self._asker = threading.Thread(target=self._ask, name="demo-status", daemon=True)
        self._asker.start()

    def _start_daemon(self, folder: Path) -> None:
        environment = {
            **os.environ,
            SEED_VARIABLE: self._seed,
            "RUNTIME_DIRECTORY": str(folder),
            "PYTHONUNBUFFERED": "1",
        }
        environment.pop("NOTIFY_SOCKET", None)
        command = [
            sys.executable,
            "-P",
            "-m",
            "gateway",
            "run",
            "--simulated",
            *(part for file in self._files for part in ("--config", str(file))),
        ]
        self._daemon = spawn(command, self._log_path, environment)

    def _ask(self) -> None:
        while not self._ended.wait(STATUS_EVERY_S):
            try:
                self.status = ask(self.configuration, "status")
            except GatewayError:
                self.status = {}
            self.backlog_max = max(self.backlog_max, self.backlog)

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        site = self.configuration.site
        return f"gateway demo   store {site.store}   {self.broker.name}, MQTT {self.protocol}"

    @property
    def is_cut(self) -> bool:
        return self.line.is_cut

    @property
    def protocol(self) -> str:
        return (self._subscription.protocol if self._subscription else None) or "-"

    @property
    def backlog(self) -> int:
        """How many recorded events are not acknowledged, as the daemon says."""
        streams: Mapping[str, Mapping[str, int]] = self.status.get("streams", {})
        return sum(stream["backlog"] for stream in streams.values())

    @property
    def recorded(self) -> int:
        """How many events are recorded, by the later word of the daemon and of what was delivered."""
        streams: Mapping[str, Mapping[str, int]] = self.status.get("streams", {})
        return max(sum(stream["recorded_through"] for stream in streams.values()), self.ledger.report().recorded)

    @property
    def is_up(self) -> bool:
        """Has the daemon a link to the broker?"""
        return bool(self.status.get("link", {}).get("up"))

    @property
    def is_all_delivered(self) -> bool:
        """Does the daemon hold nothing back, and miss the consumer nothing?"""
        return self.is_up and self.backlog == 0 and self.ledger.report().is_complete

    def check(self) -> None:
        """Raise Unavailable where the daemon has ended by itself."""
        if self._daemon is not None and self._daemon.poll() is not None:
            lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
            said = "\n".join(f"  {line}" for line in lines[-LOG_LINES_TOLD:])
            raise Unavailable(f"the daemon ended with status {self._daemon.returncode}:\n{said}")

    def now_s(self) -> float:
        """Return seconds of a clock that only goes forward."""
        return self._clock.now().boot_ns / NS_PER_S

    def pump(self, wait_s: float = 0.0) -> list[Delivery]:
        """Take in what has arrived at the consumer, waiting up to `wait_s` for the first; return what is new."""
        assert self._subscription is not None
        new: list[Delivery] = []
        for _ in range(MESSAGES_PER_PUMP):
            arrived = self._subscription.next(wait_s)
            if arrived is None:
                break
            new += self.ledger.take(arrived.topic, arrived.payload, arrived.retained)
            wait_s = 0.0
        return new

    # -- what can be done ----------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut the line between gateway and broker."""
        if not self.line.is_cut:
            self.cuts += 1
            self.line.cut()

    def mend(self) -> None:
        self.line.mend()

    def stop_daemon(self) -> None:
        """Ask the daemon to stop and wait until it has; `is_clean` says whether it stopped in order and in time."""
        self._ended.set()
        if self._daemon is None or not self._is_running():
            return
        self.is_clean = stop(self._daemon, STOP_WITHIN_S) == 0

    def finish(self) -> tuple[Summary, list[Delivery]]:
        """Mend the line, let the backlog drain, stop the daemon, take in its last words, and sum up."""
        self.mend()
        last = self._drain()
        self.stop_daemon()
        until_s = self.now_s() + LAST_MESSAGES_WITHIN_S
        while self.now_s() < until_s and "stopped" not in self.ledger.states.values():
            last += self.pump(wait_s=0.1)
        last += self.pump(wait_s=0.2)
        return Summary.of(self.ledger.report(), self), last

    def _drain(self) -> list[Delivery]:
        until_s = self.now_s() + DRAIN_WITHIN_S
        came: list[Delivery] = []
        while not self.is_all_delivered and self.now_s() < until_s and self._is_running():
            came += self.pump(wait_s=0.1)
        return came

    def _is_running(self) -> bool:
        return self._daemon is not None and self._daemon.poll() is None

    def _clear(self) -> None:
        self.stop_daemon()
        if self._asker is not None:
            self._asker.join(1.0)
        if self._subscription is not None:
            self._subscription.close()
        for name in ("line", "broker"):
            if (part := getattr(self, name, None)) is not None:
                part.close()
        if self._folder is not None:
            self._folder.cleanup()
