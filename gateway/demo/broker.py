"""A broker of one's own on the loopback interface: mosquitto where it is on the PATH, else amqtt in this process.

Nothing is configured or left behind. amqtt speaks MQTT 3.1.1 only, and at a CONNECT of version 5 with a will it waits
for bytes that never come: a time-out, which teaches `protocol = "auto"` nothing. So a broker says what it speaks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any, Literal, Protocol

from gateway.demo.child import spawn, stop
from gateway.demo.loop import LoopThread
from gateway.errors import Unavailable

HOST = "127.0.0.1"
START_WITHIN_S = 15.0
STOP_WITHIN_S = 3.0
LOOKED_EVERY_S = 0.05
PORTS_TRIED = 5
BrokerName = Literal["auto", "mosquitto", "amqtt"]
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Debian puts mosquitto where a user's PATH does not look."""

MOSQUITTO_CONF = """\
listener {port} {host}
allow_anonymous true
persistence false
log_dest stderr
log_type error
max_inflight_messages 100
max_queued_messages 0
set_tcp_nodelay true
{user}
"""


class EmbeddedBroker(Protocol):
    """A running broker."""

    name: str
    port: int
    protocol: Literal["auto", "3.1.1"]

    def close(self) -> None:
        """Stop it."""
        ...


def open_broker(name: BrokerName, directory: Path) -> EmbeddedBroker:
    """Start a broker and return it when it takes connections; `directory` holds what it writes.

    Raises Unavailable where it cannot be had.
    """
    if name != "amqtt" and (program := mosquitto_program()) is not None:
        return _on_a_free_port(lambda port: Mosquitto(program, port, directory))
    if name == "mosquitto":
        raise Unavailable("mosquitto is not on the PATH", "apt install mosquitto, or take --broker amqtt")
    if find_spec("amqtt") is None:
        raise Unavailable("no broker is installed here", 'apt install mosquitto, or: pip install "store-gateway[demo]"')
    return _on_a_free_port(Amqtt)


def mosquitto_program() -> str | None:
    """Return where mosquitto is, or None."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def _on_a_free_port(start: Callable[[int], EmbeddedBroker]) -> EmbeddedBroker:
    """Start on a free port; another program may take it in the same moment, then on the next."""
    for attempt in range(PORTS_TRIED):
        with socket.create_server((HOST, 0)) as asked:
            port = asked.getsockname()[1]
        try:
            return start(port)
        except Unavailable:
            if attempt == PORTS_TRIED - 1:
                raise
    raise AssertionError("unreachable")


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False


class Mosquitto:
    """mosquitto as a child process."""

    name = "mosquitto"
    protocol: Literal["auto", "3.1.1"] = "auto"

    def __init__(self, program: str, port: int, directory: Path) -> None:
        self.port = port
        configuration = directory / "mosquitto.conf"
        user = "user root" if os.geteuid() == 0 else ""  # else it gives up its rights to a user who may not read this
        configuration.write_text(MOSQUITTO_CONF.format(port=port, host=HOST, user=user), encoding="utf-8")
        self._process = spawn([program, "-c", str(configuration)], directory / "mosquitto.log")
        pause = Event()
        for _ in range(int(START_WITHIN_S / LOOKED_EVERY_S)):
            if _answers(port) or self._process.poll() is not None:
                break
            pause.wait(LOOKED_EVERY_S)
        if self._process.poll() is not None or not _answers(port):
            self.close()
            why = (directory / "mosquitto.log").read_text(encoding="utf-8", errors="replace").strip()
            raise Unavailable(f"mosquitto did not start: {why or 'it says nothing'}", "try --broker amqtt")

    def close(self) -> None:
        stop(self._process, STOP_WITHIN_S)


class Amqtt:
    """amqtt in this process, in a thread of its own."""

    name = "amqtt"
    protocol: Literal["auto", "3.1.1"] = "3.1.1"

    def __init__(self, port: int) -> None:
        self.port = port
        self._thread = LoopThread("demo-amqtt")
        try:
            self._broker = self._thread.call(self._start(), START_WITHIN_S)
        except Exception as error:  # whatever amqtt ends with: it is told as one sentence
            self._thread.close()
            raise Unavailable(f"amqtt did not start: {error}", "apt install mosquitto") from error

    async def _start(self) -> Any:
        from amqtt.broker import Broker

        for name in ("amqtt", "transitions"):
            quiet = logging.getLogger(name)
            quiet.addHandler(logging.NullHandler())
            quiet.propagate = False  # it logs each lost client as an error, over the view
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            },
            loop=asyncio.get_running_loop(),
        )
        await broker.start()
        return broker

    def close(self) -> None:
        self._thread.attempt(self._broker.shutdown(), STOP_WITHIN_S)  # it stumbles over clients that are just leaving
        self._thread.close()
