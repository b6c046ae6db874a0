"""One run of bluepy's helper program: commands and their answers, advertisements, and an end in bounded time.

bluepy 1.3.0 starts the helper and parses its lines; everything that waits is ours, for bluepy's own waits have no limit
or follow the wall clock, its buffered reader holds bursts back, its `Scanner.scanned` never shrinks, and it takes a
refused scan for a started one. Here every wait has a limit, every answer is looked at, and a line that cannot be read
is counted.

The protocol (bluepy/bluepy-helper.c): a command a line; answers of `tag=value` separated by 0x1e. `rsp=$mgmt` answers a
command, `rsp=$stat` tells the state (`disc`: the scan has ended), `rsp=$scan` is an advertisement, `rsp=$err` an error.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, Instant
from gateway.sensors.drivers import DriverError
from gateway.sensors.scanner.reading import AddressType, Advertisement, sane_rssi_dbm

LINE_BYTES_MAX = 8192
"""An advertisement is some 150 bytes as a line, 3.4 KB at the very most; what is longer is no line."""
READ_BYTES = 65_536
SLICE_S = 0.2
"""How long a wait lasts before `stopping` is looked at."""
BAD_LINES_MAX = 1000
"""In a row, without a good one between: the helper babbles."""

ADAPTERS = Path("/sys/class/bluetooth")
ADDRESS_TYPES: dict[int, AddressType] = {1: "public", 2: "random"}

# Status bytes of the kernel's management interface (BlueZ doc/mgmt-api.txt) and what they are to us.
MGMT_REASONS = {
    0x0F: ("adapter_off", "the Bluetooth adapter {adapter} is switched off (try: rfkill unblock bluetooth)"),
    0x11: ("adapter_missing", "there is no Bluetooth adapter {adapter}"),
    0x12: ("adapter_off", "the Bluetooth adapter {adapter} is blocked by rfkill (try: rfkill unblock bluetooth)"),
    0x14: ("no_permission", "no permission to use the adapter {adapter} (needs CAP_NET_ADMIN and CAP_NET_RAW)"),
}


class Stopped(Exception):
    """The driver is to end while the helper was waited for."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the helper may take. The last three together stay below the 2 s in which a driver closes."""

    answer_s: float = 5.0
    quit_s: float = 1.0
    terminate_s: float = 0.3
    kill_s: float = 0.3


@dataclass(slots=True)
class HelperCounts:
    """What happened over all runs of the helper."""

    advertisements: int = 0
    lines_bad: int = 0
    scans_renewed: int = 0
    helpers_started: int = 0
    helpers_terminated: int = 0
    helpers_killed: int = 0
    helpers_stuck: int = 0


@dataclass(slots=True)
class HelperRun:
    """One helper process. `start` begins a scan, `listen` serves it; `close` is due after either raised."""

    sensor: str
    adapter: str
    is_active: bool
    clock: Clock
    emit: Callable[[Advertisement], None]
    stopping: threading.Event
    counts: HelperCounts
    patience: Patience = field(default_factory=Patience)
    adapters: Path = ADAPTERS
    heard_ns: int | None = None
    scan_ended: bool = False
    _btle: Any = None
    _scanner: Any = None
    _process: subprocess.Popen[str] | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    _answers: list[dict[str, list[Any]]] = field(default_factory=list)
    _bad_in_a_row: int = 0

    def start(self) -> None:
        """Start the helper and the scan. Raises DriverError where it is refused or not answered."""
        try:
            from bluepy import btle
        except ImportError as error:
            raise DriverError(
                "driver_missing",
                f"the package bluepy cannot be imported ({error}); install store-gateway[pi], which needs gcc, make, "
                "pkg-config and libglib2.0-dev",
            ) from None
        self._btle = btle
        scanner = self._scanner = self._btle.Scanner(int(self.adapter.removeprefix("hci")))
        try:
            scanner._startHelper(iface=scanner.iface)  # what Scanner.start() does first; the rest of it is ours
        except OSError as error:
            raise DriverError(
                "driver_missing", f"bluepy's helper program cannot be started: {error.strerror} ({btle.helperExe})"
            ) from None
        process: subprocess.Popen[str] = scanner._helper
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._process = process
        self.counts.helpers_started += 1
        self._require(self.command("le on"))
        self.begin_scan()

    def begin_scan(self) -> None:
        """Order the scan; where one is still going on, end that first."""
        scan = "scan" if self.is_active else "pasv"
        self.scan_ended = False
        answer = self.command(scan)
        if _code(answer) == "busy":
            self.command(scan + "end")
            answer = self.command(scan)
        if _code(answer) == "badstate" and not self.is_active:
            # The raw socket does not say why. The management interface knows whether the adapter is on.
            probe = self.command("scan")
            if _code(probe) == "success":
                self.command("scanend")
            elif _status(probe) in MGMT_REASONS:
                answer = probe
        self._require(answer)
        self.scan_ended = False

    def restart_scan(self) -> None:
        """End the scan and begin it anew; that the adapter obeys both is a sign of life."""
        self.command("scanend" if self.is_active else "pasvend")
        self.begin_scan()

    def listen(self, for_s: float) -> None:
        """Take what the helper says for a while. Raises DriverError where it has died or babbles."""
        until_ns = self.clock.now().boot_ns + int(for_s * NS_PER_S)
        while not self.stopping.is_set() and self.clock.now().boot_ns < until_ns:
            self._receive(min(SLICE_S, for_s))
            self._answers.clear()  # late ones; a command's own is taken by `command`
            if self.scan_ended:
                return

    def command(self, command: str) -> dict[str, list[Any]]:
        """Send a command and return its answer; advertisements that come before it are not lost.

        Raises DriverError where the helper is mute, dead or without its kernel, and Stopped.
        """
        self._answers.clear()
        self._write(command)
        until_ns = self.clock.now().boot_ns + int(self.patience.answer_s * NS_PER_S)
        while not self._answers:
            if self.stopping.is_set():
                raise Stopped
            if self.clock.now().boot_ns >= until_ns:
                detail = f"bluepy's helper did not answer {command!r} within {self.patience.answer_s:g} s"
                raise DriverError("driver_hung", f"{detail}; it is started again")
            self._receive(min(SLICE_S, self.patience.answer_s))
        return self._answers.pop(0)

    def close(self) -> None:
        """End the helper: politely, by SIGTERM, by SIGKILL. No process and no pipe is left. Never raises."""
        process, self._process = self._process, None
        scanner, self._scanner = self._scanner, None
        if scanner is not None and scanner._stderr is not None:
            scanner._stderr.close()
        if process is None:
            return
        # A helper that is killed while it scans leaves the controller scanning: the scan is ended first.
        with contextlib.suppress(OSError, DriverError):
            self._send(process, "scanend\nquit" if self.is_active else "pasvend\nquit")
        if not _ended(process, self.patience.quit_s):
            self.counts.helpers_terminated += 1
            process.terminate()
            if not _ended(process, self.patience.terminate_s):
                self.counts.helpers_killed += 1
                process.kill()
                if not _ended(process, self.patience.kill_s):
                    self.counts.helpers_stuck += 1  # in the kernel (state D); subprocess reaps it when it comes out
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _write(self, command: str) -> None:
        assert self._process is not None
        try:
            self._send(self._process, command)
        except OSError:
            raise self._death() from None

    @staticmethod
    def _send(process: subprocess.Popen[str], command: str) -> None:
        assert process.stdin is not None
        os.write(process.stdin.fileno(), command.encode() + b"\n")

    def _death(self) -> DriverError:
        assert self._process is not None
        status = "" if not _ended(self._process, 0.2) else f" with status {self._process.returncode}"
        return DriverError("driver_died", f"bluepy's helper ended{status}; it is started again")

    def _receive(self, wait_s: float) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        ready, _, _ = select.select([source], [], [], wait_s)
        if not ready:
            return
        try:
            chunk = os.read(source, READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            raise self._death()
        now = self.clock.now()
        *lines, rest = (bytes(self._buffer) + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            self._bad()
            rest = b""
        self._buffer = bytearray(rest)
        for line in lines:
            self._take(line, now)

    def _take(self, line: bytes, now: Instant) -> None:
        if not line or line.startswith(b"#"):
            return
        try:
            found = self._btle.BluepyHelper.parseResp(line.decode("ascii"))
            kind = found["rsp"][0]
            if kind == "scan":
                self._advertisement(found, now)
            elif kind == "mgmt":
                self._answers.append(found)
            elif kind == "stat":
                self.scan_ended = found["state"][0] == "disc"
            elif kind == "err":
                self._error(found)
            else:
                self._bad()
                return
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, self._btle.BTLEException):
            self._bad()
            return
        self._bad_in_a_row = 0

    def _advertisement(self, found: dict[str, list[Any]], now: Instant) -> None:
        address, payload = found["addr"][0], found.get("d", [b""])[0] or b""
        if len(address) != 6:
            raise ValueError
        rssi_dbm = true_rssi_dbm(-found["rssi"][0])
        kind = ADDRESS_TYPES.get(found["type"][0])
        self.counts.advertisements += 1
        self.heard_ns = now.boot_ns
        self.emit(Advertisement(self.sensor, now, address.hex(":"), kind, rssi_dbm, payload))

    def _error(self, found: dict[str, list[Any]]) -> None:
        code = found["code"][0]
        if code == "nomgmt":
            if not (self.adapters / self.adapter).exists():
                raise DriverError("adapter_missing", f"there is no Bluetooth adapter {self.adapter}")
            raise DriverError("no_permission", "the kernel's Bluetooth management refuses us (needs CAP_NET_ADMIN)")
        raise DriverError("scan_refused", f"bluepy's helper answered with the error {code}")

    def _bad(self) -> None:
        self.counts.lines_bad += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row > BAD_LINES_MAX:
            raise DriverError("driver_hung", "bluepy's helper says nothing that can be read; it is started again")

    def _require(self, answer: dict[str, list[Any]]) -> None:
        code = _code(answer)
        if code == "success":
            return
        if (known := MGMT_REASONS.get(_status(answer))) is not None:
            reason, detail = known
            raise DriverError(reason, detail.format(adapter=self.adapter))
        said = (answer.get("emsg") or [None])[0] or code
        detail = f"the adapter {self.adapter} refused to scan ({said})"
        if code == "badstate":
            detail += "; it may be down, CAP_NET_RAW may be missing, or it is a Bluetooth 5 dongle: try mode active"
        elif code == "busy" or _status(answer) in (0x0A, 0x0B):
            detail += "; another program (bluetoothctl?) is scanning with it"
        raise DriverError("scan_refused", detail)


def true_rssi_dbm(told: int) -> int | None:
    """Undo what the helper's unsigned numbers do to an RSSI; None where it is not available.

    Passive it writes 256 minus the byte, active the negative of a signed byte as 32 bits: 127 becomes -129 or
    -4294967169.
    """
    if told < -(2**31):
        told += 2**32
    elif told < -128:
        told += 256
    return sane_rssi_dbm(told)


def _code(answer: dict[str, list[Any]]) -> str:
    return str((answer.get("code") or ["nothing"])[0])


def _status(answer: dict[str, list[Any]]) -> int:
    status = (answer.get("estat") or [-1])[0]
    return status if isinstance(status, int) else -1


def _ended(process: subprocess.Popen[str], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True
