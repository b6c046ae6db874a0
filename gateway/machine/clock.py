"""The only file that reads a clock.

`boot_ns` is CLOCK_BOOTTIME: it counts through suspend and never steps. The wall clock is trusted ("synced") where the
kernel says that it is synchronised (adjtimex without STA_UNSYNC, which chrony, ntpd and systemd-timesyncd all drive).
A hardened unit (ProtectClock=) refuses that question: then the mark that systemd-timesyncd leaves at its first
synchronisation of this boot is believed instead. A kernel that answers is believed over the mark.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from gateway.model import NS_PER_S, ClockTrust, Instant

STA_UNSYNC = 0x0040  # <sys/timex.h>
TIME_ERROR = 5
TRUST_ASKED_EVERY_NS = NS_PER_S
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
SYNCED_MARKS = (Path("/run/systemd/timesync/synchronized"),)
"""Made by systemd-timesyncd (systemd-timesyncd.service(8)); /run is empty at boot, so a mark is of this boot."""


class Clock(Protocol):
    """Tells the moment. `bootid` is the first 8 hex digits of the kernel's boot id."""

    bootid: str

    def now(self) -> Instant: ...


class _Timex(ctypes.Structure):
    # struct timex of <sys/timex.h>; only `modes` and `status` are used, the rest is room for what the kernel writes.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_long * 40),
    )


def kernel_says_synced() -> bool | None:
    """Ask the kernel whether the wall clock is synchronised; None where it refuses to be asked."""
    try:
        timex = _Timex()
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return bool(state < TIME_ERROR and not timex.status & STA_UNSYNC)


def monotonic_usec() -> int:
    """Return CLOCK_MONOTONIC in microseconds, by which systemd dates a reload (sd_notify(3), MONOTONIC_USEC)."""
    return time.monotonic_ns() // 1000


def is_synced(kernel: bool | None, marks: Iterable[Path] = SYNCED_MARKS) -> bool:
    """Judge the wall clock by the kernel's answer or, where it gave none, by the time service's mark."""
    return any(mark.exists() for mark in marks) if kernel is None else kernel


class SystemClock:
    """The machine's clocks. Safe to call from any thread; trust is asked for once a second."""

    def __init__(self) -> None:
        try:
            self.bootid = BOOT_ID_FILE.read_text().strip()[:8]
        except OSError:
            self.bootid = "00000000"
        self._trust: ClockTrust = "unsynced"
        self._asked_ns = -TRUST_ASKED_EVERY_NS

    def now(self) -> Instant:
        """Return this moment; the two clocks are read within microseconds of each other."""
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if boot_ns - self._asked_ns >= TRUST_ASKED_EVERY_NS:
            self._asked_ns = boot_ns
            self._trust = "synced" if is_synced(kernel_says_synced()) else "unsynced"
        return Instant(boot_ns, time.time_ns(), self._trust)
