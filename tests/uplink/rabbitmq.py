"""RabbitMQ with its MQTT plugin on free loopback ports: MQTT 3.1.1 only, and 5 is refused by closing.

`with rabbitmq(directory) as broker:` starts a node of its own (some 6 s) with its own epmd, and ends both by their own
process ids. A test that needs it is skipped, by name, where the program is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.uplink.brokers import free_port

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # the one on the PATH changes the user
CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
READY_S = 40.0
CONFIG = """\
listeners.tcp = none
mqtt.listeners.tcp.default = 127.0.0.1:{port}
mqtt.allow_anonymous = true
loopback_users = none
log.console = false
"""


@dataclass(frozen=True, slots=True)
class Rabbit:
    """A running node. `url` is how to reach it."""

    port: int
    url: str
    environment: Mapping[str, str]

    def allow(self, topics: str) -> None:
        """Let everybody publish on what this pattern (dots for slashes) has; at other topics the node closes."""
        words = [
            "-n",
            self.environment["RABBITMQ_NODENAME"],
            "set_topic_permissions",
            "guest",
            "amq.topic",
            topics,
            ".*",
        ]
        subprocess.run([CONTROL, *words], env=dict(self.environment), check=True, capture_output=True, timeout=60)


@contextmanager
def rabbitmq(directory: Path) -> Iterator[Rabbit]:
    """Run a node in `directory`."""
    epmd = shutil.which("epmd")
    if not Path(SERVER).exists() or epmd is None:
        pytest.skip("RabbitMQ is not installed")
    port, names, distribution = free_port(), free_port(), free_port()
    config = directory / "rabbitmq.conf"
    config.write_text(CONFIG.format(port=port))
    plugins = directory / "plugins"
    plugins.write_text("[rabbitmq_mqtt].\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
    }
    output = (directory / "rabbitmq.out").open("wb")
    children = [
        subprocess.Popen([epmd, "-port", str(names), "-address", "127.0.0.1"], env=environment, stdout=output),
        subprocess.Popen([SERVER], env=environment, stdout=output, stderr=output, start_new_session=True),
    ]
    output.close()
    try:
        _wait(port, children[1], directory / "rabbitmq.out")
        yield Rabbit(port, f"mqtt://127.0.0.1:{port}", environment)
    finally:
        os.killpg(children[1].pid, signal.SIGKILL)
        children[0].kill()
        for child in children:
            child.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, output.read_text(errors="replace")
        time.sleep(0.1)
    raise AssertionError(f"RabbitMQ did not start: {output.read_text(errors='replace')}")
