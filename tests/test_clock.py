"""Whether the wall clock is trusted: by the kernel, else by the time service's mark; never by nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.machine.clock import SYNCED_MARKS, SystemClock, is_synced, kernel_says_synced, monotonic_usec


@pytest.mark.parametrize(
    ("kernel", "marked", "trusted"),
    [
        (True, False, True),
        (False, False, False),
        (False, True, False),
        (None, True, True),
        (None, False, False),
    ],
    ids=["kernel", "kernel-denies", "kernel-over-mark", "refused-and-marked", "refused-and-unmarked"],
)
def test_trust(tmp_path: Path, kernel: bool | None, marked: bool, trusted: bool) -> None:
    mark = tmp_path / "synchronized"
    if marked:
        mark.touch()
    assert is_synced(kernel, [mark]) is trusted


def test_mark_is_the_one_of_timesyncd() -> None:
    assert [str(mark) for mark in SYNCED_MARKS] == ["/run/systemd/timesync/synchronized"]


def test_kernel_answers_here_and_the_clock_follows_it() -> None:
    clock = SystemClock()
    answer = kernel_says_synced()
    if answer is None:
        pytest.skip("this kernel refuses to be asked")
    assert clock.now().clock == ("synced" if answer else "unsynced")
    assert re.fullmatch("[0-9a-f]{8}", clock.bootid)


def test_a_refused_question_is_told_from_a_clock_that_is_not_set() -> None:
    """Where no such call is to be had the answer is None, in a process of its own."""
    code = """
import ctypes
from gateway.machine import clock
class Refusing:
    def __init__(self, *name, **rest): pass
    def adjtimex(self, timex): return -1  # EPERM under ProtectClock=
clock.ctypes.CDLL = Refusing
assert clock.kernel_says_synced() is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_systemd_s_clock_goes_on() -> None:
    first = monotonic_usec()
    assert 0 < first <= monotonic_usec()
