"""Processes of the demonstration: their words go to a file, and they end when it ends, however it ends."""

from __future__ import annotations

import ctypes
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def spawn(
    command: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own: Ctrl-C is for the demonstration, which then stops it in order.

    Where the calling thread dies without doing so (killed, crashed), Linux sends the process SIGTERM.
    """
    with log_path.open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            preexec_fn=_tied_to_us(),
        )


def stop(process: subprocess.Popen[bytes], within_s: float) -> int | None:
    """Ask a process to end and wait; None where it had to be killed, else its exit status."""
    process.terminate()
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def _tied_to_us() -> Callable[[], None] | None:
    """Return what the child does between fork and exec: one system call, looked up before the fork."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None  # not Linux
    return lambda: prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
