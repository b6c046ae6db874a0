"""An emulated memory card: a real ext4 on a loop device on a file in memory that logs what it is told, or is slow.

The latencies of `SD` are a guess at a card of class A1 (at least 500 random writes of 4 KiB a second): no card was
measured. Reads cost nothing. Everything lives in a mount namespace of this thread and goes with it, see `mounts`.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.blocks.mounts import Missing, loop_device, make_ext4, mount, mounted, private_mounts, require, umount

ROOT = Path(__file__).resolve().parents[2]
SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device has
SERVER_ENDS_S = 10


@dataclass(frozen=True, slots=True)
class Latency:
    """What a card takes for a write, for its bytes, and to flush."""

    write_us: int
    bytes_per_s: int
    flush_us: int

    def __str__(self) -> str:
        write_ms, flush_ms, speed = self.write_us / 1000, self.flush_us / 1000, self.bytes_per_s / 1e6
        return f"{write_ms:g} ms a write and {speed:g} MB/s, {flush_ms:g} ms a flush"


@dataclass(frozen=True, slots=True)
class Stalls:
    """What a card takes now and then, busy with itself: some flushes, and `long_ms` once an hour."""

    per_million: int
    least_ms: int
    most_ms: int
    long_ms: int

    def __str__(self) -> str:
        share = self.per_million / 10_000
        return f"{share:g} % of the flushes stall {self.least_ms} to {self.most_ms} ms, one {self.long_ms / 1000:g} s"


SD = Latency(1000, 20_000_000, 4000)
SD_STALLS = Stalls(1000, 250, 500, 2000)
FAST = Latency(0, 0, 0)


class Card:
    """The mounted card. Made by `card`."""

    def __init__(self, path: Path, server: subprocess.Popen[str]) -> None:
        self.path, self._server = path, server
        self.device = ""  # `loop3`

    def ask(self, command: str) -> str:
        """Let the server do what a line says (see `fuse`), and return its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(command + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the card's server ended: {self._server.wait(SERVER_ENDS_S)}")
        return answer

    def position(self) -> int:
        """Return how many writes and flushes the device was asked for since `record`."""
        return int(self.ask("position"))

    def record(self) -> None:
        """Sync, and log from here."""
        self.sync()
        self.ask("record")

    def dump(self, path: Path) -> None:
        """Write what was recorded for `replay.Recording.read`."""
        self.ask(f"dump {path}")

    def slow(self, latency: Latency) -> None:
        """Let it be so slow from here."""
        self.ask(f"slow {latency.write_us} {latency.bytes_per_s} {latency.flush_us}")

    def stall(self, stalls: Stalls) -> None:
        """Let flushes stall from here; the long one comes by `stall_once`."""
        self.ask(f"stall {stalls.per_million} {stalls.least_ms} {stalls.most_ms}")

    def stall_once(self, milliseconds: int) -> None:
        """Let the next flush take so long."""
        self.ask(f"stall_once {milliseconds}")

    def stalled(self) -> int:
        """Return how many flushes stalled since `stall`."""
        return int(self.ask("stalled"))

    def counts(self) -> tuple[int, int, int]:
        """Return the writes, bytes and flushes the file below was asked for."""
        writes, count, flushes = self.ask("counts").split()
        return int(writes), int(count), int(flushes)

    def sync(self) -> None:
        """Write everything of this file system."""
        subprocess.run(["sync", "-f", str(self.path)], check=True)

    def written_bytes(self) -> int:
        """Return what the block device has written so far, journal and metadata included; syncs first."""
        self.sync()
        return int(Path(f"/sys/block/{self.device}/stat").read_text(encoding="ascii").split()[6]) * SECTOR_BYTES


@contextmanager
def card(folder: Path, size_bytes: int, latency: Latency = FAST) -> Iterator[Card]:
    """Make a card in memory and mount it below `folder` for the block. Raises Missing, which says what is lacking."""
    require("/dev/fuse")
    backing, place = folder / "memory", folder / "card"
    backing.touch()
    place.mkdir(exist_ok=True)
    with _server(size_bytes) as (server, fuse):
        made = Card(place, server)
        with private_mounts():
            try:
                options = f"fd={fuse.fileno()},rootmode=100600,user_id=0,group_id=0"
                mount("memory", str(backing), "fuse", options)
            except OSError as error:
                raise Missing(f"a file cannot be shown through FUSE here: {error}") from None
            fuse.close()  # the server's is the only one, so that with it the card goes
            made.ask("begin")
            try:
                make_ext4(str(backing))
                with loop_device(str(backing)) as device, mounted(device, str(place), "ext4"):
                    made.device = device.rpartition("/")[2]
                    made.slow(latency)
                    yield made
                    made.slow(FAST)
            finally:
                umount(str(backing), detach=True)


@contextmanager
def _server(size_bytes: int) -> Iterator[tuple[subprocess.Popen[str], io.FileIO]]:
    """Start what serves the file, outside of the mounts to come; give it and what is to be mounted."""
    try:
        opened = open("/dev/fuse", "r+b", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise Missing(f"/dev/fuse cannot be used: {error.strerror}") from None
    with opened as fuse:
        command = [sys.executable, "-m", "tests.blocks.fuse", str(fuse.fileno()), str(size_bytes)]
        pipe, fds = subprocess.PIPE, (fuse.fileno(),)
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, pass_fds=fds) as server:
            try:
                yield server, fuse
            finally:
                assert server.stdin is not None
                server.stdin.close()
