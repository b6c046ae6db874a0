"""An emulated memory card: a real ext4 on a loop device on a file in memory that logs what it is told, or is slow.

The latencies of `SD` are a guess at a card of class A1 (at least 500 random writes of 4 KiB a second): no card was
measured. Reads cost nothing. Everything lives in a mount namespace of this thread and goes with it, see `mounts`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.blocks.mounts import Missing, loop_device, mounted, private_mounts, tool

ROOT = Path(__file__).resolve().parents[2]
SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device has
DAEMON_ENDS_S = 10
FORMAT = ("-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard")


@dataclass(frozen=True, slots=True)
class Latency:
    """What a card takes for a write, for its bytes, and to flush."""

    write_us: int
    bytes_per_s: int
    flush_us: int

    def __str__(self) -> str:
        write_ms, flush_ms, speed = self.write_us / 1000, self.flush_us / 1000, self.bytes_per_s / 1e6
        return f"{write_ms:g} ms a write and {speed:g} MB/s, {flush_ms:g} ms a flush"


SD = Latency(1000, 20_000_000, 4000)
FAST = Latency(0, 0, 0)


class Card:
    """The mounted card. Made by `card`."""

    def __init__(self, path: Path, device: str, server: subprocess.Popen[str]) -> None:
        self.path, self.device, self._server = path, device, server

    def _ask(self, command: str) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(command + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the card's server ended: {self._server.wait(DAEMON_ENDS_S)}")
        return answer

    def position(self) -> int:
        """Return how many writes and flushes the device was asked for since `record`."""
        return int(self._ask("position"))

    def record(self) -> None:
        """Sync, and log from here."""
        self.sync()
        self._ask("record")

    def dump(self, path: Path) -> None:
        """Write what was recorded for `replay.Recording.read`."""
        self._ask(f"dump {path}")

    def slow(self, latency: Latency) -> None:
        """Let it be so slow from here."""
        self._ask(f"slow {latency.write_us} {latency.bytes_per_s} {latency.flush_us}")

    def counts(self) -> tuple[int, int, int]:
        """Return the writes, bytes and flushes the file below was asked for."""
        writes, count, flushes = self._ask("counts").split()
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
    backing, place = folder / "memory", folder / "card"
    with private_mounts():
        backing.touch()
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.blocks.fuse", str(backing), str(size_bytes)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
            try:
                assert server.stdout is not None
                if server.stdout.readline() != "mounted\n":
                    raise Missing("a file cannot be shown through FUSE here")
                done = subprocess.run([tool("mkfs.ext4"), *FORMAT, str(backing)], capture_output=True, text=True)
                if done.returncode != 0:
                    raise Missing(f"mkfs.ext4 does not work here: {done.stderr.strip()}")
                with loop_device(str(backing)) as device, mounted(device, str(place), "ext4"):
                    made = Card(place, device.rpartition("/")[2], server)
                    made.slow(latency)
                    yield made
                    made.slow(FAST)
            finally:
                assert server.stdin is not None
                server.stdin.close()
