"""Switching a Bluetooth adapter off and on, the last but one rung of the ladder of `silence`: rfkill and hciconfig."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading

TOOL_S = 5.0
TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def cycle_power(adapter: str, stopping: threading.Event) -> bool:
    """Unblock the adapter and switch it off and on; return whether the tools were there and permitted."""
    _tool(("rfkill", "unblock", "bluetooth"), stopping)
    return all(_tool(("hciconfig", adapter, word), stopping) for word in ("down", "up"))


def _tool(command: tuple[str, ...], stopping: threading.Event) -> bool:
    program = shutil.which(command[0], path=TOOL_PATH)
    if program is None:
        return False
    try:
        process = subprocess.Popen(
            (program, *command[1:]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except OSError:
        return False
    for _ in range(int(TOOL_S / 0.1)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.1) == 0
        if stopping.is_set():
            break
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    return False
