"""A small real ext4 on a loop device: to fill it to the last block, to turn it read-only, to count what it writes.

Needs root, loop devices, mkfs.ext4 and mount; where one is missing `Missing` says which. Unmounted in any case.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device has


class Missing(Exception):
    """What this machine lacks for a real file system of one's own."""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted ext4 and its loop device (`loop3`)."""

    path: Path
    device: str

    def written_bytes(self) -> int:
        """Return what the block device has written so far, journal and metadata included; syncs first."""
        subprocess.run(["sync", "-f", str(self.path)], check=True)
        return int(Path(f"/sys/block/{self.device}/stat").read_text().split()[6]) * SECTOR_BYTES

    def turn(self, how: str) -> None:
        """Remount it, `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True, capture_output=True)

    def fill(self, name: str = "filler") -> Path:
        """Write a file until not a block is left."""
        path = self.path / name
        with path.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 512, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
            os.fsync(file.fileno())
        return path


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"{command[0]} does not work here: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


@contextmanager
def small_ext4(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Make, mount and in the end unmount an ext4 of `size_bytes` whose image lies in `folder`."""
    if os.geteuid() != 0:
        raise Missing("not root: an ext4 cannot be mounted")
    for tool in ("mkfs.ext4", "losetup", "mount", "umount"):
        if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            raise Missing(f"no {tool}")
    image, mounted = folder / "card.img", folder / "card"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    options = "lazy_itable_init=0,lazy_journal_init=0"
    _run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", options, str(image))
    device = _run("losetup", "--find", "--show", str(image))
    try:
        mounted.mkdir()
        _run("mount", "-o", "noatime", device, str(mounted))
        try:
            yield SmallDisk(mounted, os.path.basename(device))
        finally:
            subprocess.run(["umount", "-l", str(mounted)], capture_output=True)
    finally:
        subprocess.run(["losetup", "-d", device], capture_output=True)
        image.unlink(missing_ok=True)
