"""A start whose configuration lies on a disk that does not answer ends in a sentence."""

from __future__ import annotations

import subprocess
import sys

HANGING = """
import importlib, time
from gateway.cli import gateway
run = importlib.import_module("gateway.cli.run")
run.READ_WITHIN_S = 0.1
run.load = lambda config: time.sleep(20)
gateway(["run", "--config", "gateway.toml"])
"""


def test_a_configuration_that_is_not_read_ends_the_start_in_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 73, done.stderr
    assert "a disk does not answer" in done.stderr
    assert "what to do: look at dmesg" in done.stderr
