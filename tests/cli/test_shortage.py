"""A process short of files, threads or memory says that, and blames no file for it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest

from gateway.cli import tell
from gateway.errors import EXIT_FAILED, EXIT_UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/usr/lib/python3/module.py"), "no more files"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE), "/var/lib/gateway"), "this machine can open no more"),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "threads or processes"),
        (RuntimeError("can't start new thread"), "threads or processes"),
        (MemoryError(), "no memory"),
    ],
)
def test_a_shortage_is_told_as_one(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(error) == EXIT_UNAVAILABLE
    told = capsys.readouterr().err
    assert said in told
    assert "what to do" in told
    assert "module.py" not in told


def test_any_other_error_of_the_system_names_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/lib/x")) == EXIT_FAILED
    assert "/var/lib/x" in capsys.readouterr().err


def test_a_real_process_without_descriptors_says_so() -> None:
    code = (
        "import resource\nfrom gateway.cli import tell\nresource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "try:\n    open('/etc/passwd'), open('/etc/passwd'), open('/etc/hosts'), open('/etc/hosts')\n"
        "    held = [open('/etc/passwd') for _ in range(9)]\n"
        "except OSError as error:\n    raise SystemExit(tell(error))\n"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == EXIT_UNAVAILABLE, ended.stderr
    assert "may open no more files" in ended.stderr
