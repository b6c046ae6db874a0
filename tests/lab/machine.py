"""One virtual machine: starts, is asked, is saved and woken; plug and cable are in the test's hand.

Law: it ends with its test, whatever happens to that (the kernel kills it with its parent). Its disk is an overlay or a
copy, so nothing it does outlives it but by `disk`. Times out in the host's seconds, whatever the clock inside does.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.cache import Missing, own_folder, remove

BOOT_WITHIN_S = 240.0
ANSWER_WITHIN_S = 120.0
MEMORY = "1024"
APPEND = "root=/dev/vda rw console=ttyS0 mitigations=off nokaslr net.ifnames=0 quiet panic=-1 systemd.show_status=0"


class MachineDied(Exception):
    """The emulator ended, or does not answer; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the machine's time goes, and with it how it is emulated."""

    name: str
    options: tuple[str, ...]
    patience: float = 1.0
    """How many seconds of the host's a second of the machine's may take, while it is busy."""


REAL = Mode("real", ("-accel", "tcg,thread=multi", "-smp", "2", "-rtc", "base=utc,clock=host"))
"""Time is the host's."""


def counted(shift: int = 0) -> Mode:
    """Time is the count of instructions, 2^shift ns each; idle time is waited for. The host's load does not show."""
    options = ("-accel", "tcg,thread=single", "-smp", "1", "-icount", f"shift={shift},align=off,sleep=on")
    return Mode(f"counted{shift}", (*options, "-rtc", "base=utc,clock=vm"), 10.0)


def warped(shift: int = 1, starts: str = "2026-11-22T12:00:00") -> Mode:
    """As counted, and idle time is skipped. Nothing inside may wait for the host, whose seconds are its hours."""
    options = ("-accel", "tcg,thread=single", "-smp", "1", "-icount", f"shift={shift},align=off,sleep=off")
    return Mode(f"warped{shift}", (*options, "-rtc", f"base={starts},clock=vm"))


@dataclass(frozen=True, slots=True)
class Done:
    """What a command in the machine came to."""

    status: int
    out: str
    err: str


@dataclass(slots=True)
class Conversation:
    """JSON lines over a unix socket of QEMU's."""

    path: Path
    link: socket.socket = field(init=False)
    rest: bytes = b""

    def __post_init__(self) -> None:
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(str(self.path))

    def send(self, wish: dict[str, Any]) -> None:
        self.link.settimeout(ANSWER_WITHIN_S)
        self.link.sendall(json.dumps(wish).encode() + b"\n")

    def receive(self, until_s: float) -> dict[str, Any]:
        """Return the next object; TimeoutError when `until_s` (monotonic) has passed, EOFError where it is closed."""
        while b"\n" not in self.rest:
            self.link.settimeout(max(until_s - time.monotonic(), 0.01))
            chunk = self.link.recv(65536)
            if not chunk:
                raise EOFError
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


class Machine:
    """A machine on a disk. `disk` is kept when it ends; who gave it removes it."""

    def __init__(self, kernel: Path, tools: Path, disk: Path | str, mode: Mode = REAL) -> None:
        """`kernel` is a root folder with /boot, `tools` is the image on /lab, `disk` a qcow2 image, or a URL."""
        self.kernel = kernel
        self.tools = tools
        self.disk = disk
        self.mode = mode
        self.run = own_folder("vm")
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        self._numbers = itertools.count()
        self._agent: Conversation | None = None
        self._monitor: Conversation | None = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut_power()
        remove(self.run)

    # --- the plug -----------------------------------------------------------------------------------------------------

    def start(self, snapshot: str = "", append: str = "", within_s: float = BOOT_WITHIN_S) -> float:
        """Switch on, or wake from a snapshot on the disk; returns the seconds until the agent answered.

        `append` is put behind the kernel's own words.
        """
        assert self.process is None, "it is on"
        boot = self.kernel / "boot"
        newest = sorted(path.name.removeprefix("vmlinuz-") for path in boot.glob("vmlinuz-*"))[-1]
        sockets = {name: self.run / f"{name}.sock" for name in ("agent", "monitor")}
        for path in sockets.values():
            path.unlink(missing_ok=True)
        command = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", "5", "qemu-system-x86_64", "-name", self.run.name]
        command += [
            "-M",
            "q35",
            "-cpu",
            "max,la57=off",
            "-m",
            MEMORY,
            *self.mode.options,
            "-display",
            "none",
            "-nodefaults",
        ]
        command += ["-no-user-config", "-kernel", str(boot / f"vmlinuz-{newest}"), "-append", f"{APPEND} {append}"]
        command += ["-initrd", str(boot / f"initrd.img-{newest}"), "-device", "virtio-rng-pci"]
        kind = "qcow2" if isinstance(self.disk, Path) else "raw"
        command += ["-drive", f"if=none,id=disk,file={self.disk},format={kind},cache=writeback"]
        command += ["-device", "virtio-blk-pci,drive=disk"]
        command += ["-drive", f"if=none,id=tools,file={self.tools},format=raw,readonly=on"]
        command += ["-device", "virtio-blk-pci,drive=tools"]
        command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,id=cable"]
        command += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=lab"]
        command += ["-chardev", f"socket,id=agent,path={sockets['agent']},server=on,wait=off"]
        command += ["-qmp", f"unix:{sockets['monitor']},server=on,wait=off"]
        command += ["-serial", f"file:{self.run / 'serial.log'}"]
        command += ["-loadvm", snapshot] if snapshot else []
        self.started_s = time.monotonic()
        with (self.run / "qemu.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until_s = self.started_s + within_s
        self._monitor = self._connected(sockets["monitor"], until_s)
        self._monitor.receive(until_s)
        self.order("qmp_capabilities")
        self._agent = self._connected(sockets["agent"], until_s)
        self.ask("run", until_s - time.monotonic(), text="true", within_s=60)
        return time.monotonic() - self.started_s

    def cut_power(self) -> None:
        """Pull the plug: what the machine has not given to its disk is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for conversation in (self._agent, self._monitor):
            if conversation is not None:
                conversation.link.close()
        self.process = self._agent = self._monitor = None

    def power_off(self, within_s: float = 120) -> None:
        """Shut down in order."""
        self.ask("run", text="systemctl --no-block poweroff", within_s=60)
        assert self.process is not None
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise MachineDied(self._last_words("does not power off")) from None
        self.cut_power()

    # --- what is said inside ------------------------------------------------------------------------------------------

    def ask(self, op: str, answer_within_s: float = ANSWER_WITHIN_S, /, **wish: Any) -> dict[str, Any]:
        """Let the agent do something (`guest/agent.py`).

        Raises MachineDied where it does not answer, RuntimeError where it could not.
        """
        assert self._agent is not None, "it is off"
        number = next(self._numbers)
        until_s = time.monotonic() + answer_within_s * self.mode.patience
        try:
            self._agent.send({"id": number, "op": op, **wish})
            while (told := self._agent.receive(until_s)).get("id") != number:
                pass
        except (OSError, EOFError) as error:
            raise MachineDied(self._last_words(f"did not answer {op} ({type(error).__name__})")) from None
        if "error" in told:
            raise RuntimeError(told["error"])
        return told

    def try_run(self, text: str, within_s: float = 60) -> Done:
        """Run a shell command as root."""
        told = self.ask("run", within_s + 30, text=text, within_s=within_s)
        return Done(told["status"], told["out"], told["err"])

    def sh(self, text: str, within_s: float = 60) -> str:
        """Run a shell command that must succeed; returns what it printed."""
        done = self.try_run(text, within_s)
        assert done.status == 0, f"{text!r} ended with {done.status}:\n{done.out[-2000:]}\n{done.err[-4000:]}"
        return done.out

    def put(self, path: str, text: str) -> None:
        """Write a file in the machine."""
        self.ask("put", path=path, text=text)

    # --- what is done to it from outside ------------------------------------------------------------------------------

    def order(self, command: str, **arguments: Any) -> Any:
        """Give QEMU's monitor a command and return its answer."""
        assert self._monitor is not None, "it is off"
        self._monitor.send({"execute": command, "arguments": arguments})
        while True:
            told = self._monitor.receive(time.monotonic() + ANSWER_WITHIN_S)
            if "error" in told:
                raise RuntimeError(told["error"]["desc"])
            if "return" in told:
                return told["return"]

    def cable(self, is_in: bool) -> None:
        """Plug the network cable, or pull it."""
        self.order("set_link", name="cable", up=is_in)

    def save(self, name: str) -> None:
        """Keep memory and disk as they are now, on the disk, under this name."""
        said = self.order("human-monitor-command", **{"command-line": f"savevm {name}"})
        if said:
            raise RuntimeError(said.strip())

    def _connected(self, path: Path, until_s: float) -> Conversation:
        while True:
            try:
                return Conversation(path)
            except OSError:
                if time.monotonic() > until_s or (self.process is not None and self.process.poll() is not None):
                    raise MachineDied(self._last_words("did not start")) from None
                time.sleep(0.02)

    def _last_words(self, what: str) -> str:
        logs = [(self.run / name) for name in ("qemu.log", "serial.log")]
        texts = [path.read_bytes()[-800:].decode(errors="replace").strip() for path in logs if path.exists()]
        return "\n".join((f"The machine {what}.", *texts))


def overlay(disk: Path, base: Path) -> Path:
    """Make an empty overlay of an image; returns it."""
    kind = "qcow2" if base.suffix == ".qcow2" else "raw"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", kind, str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"No disk for a machine: {done.stderr.strip()}")
    return disk


def copy(disk: Path, of: Path) -> Path:
    """Copy an image with its snapshots, sharing blocks where the file system can; returns it."""
    try:
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", of, disk], check=True)
    except subprocess.CalledProcessError:
        shutil.copyfile(of, disk)
    os.chmod(disk, 0o600)
    return disk
