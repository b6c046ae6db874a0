"""A small real ext4 on a loop device: to fill it to the last block, to turn it read-only, to count what it writes.

Needs root, loop devices, mkfs.ext4 and mount; where one is missing `Missing` says which. Unmounted in any case, see
`tests.blocks.mounts`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.blocks.mounts import Missing, loop_device, make_ext4, mounted, private_mounts

__all__ = ["Missing", "SmallDisk", "card_or_skip", "small_ext4"]

SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device has


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
        """Remount it, `ro` or `rw`, or with another option."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True, capture_output=True)

    def give_up(self) -> None:
        """Let ext4 find itself damaged, as after an error of the card: it takes no more writes until it was checked."""
        self.turn("errors=remount-ro")
        Path(f"/sys/fs/ext4/{self.device}/trigger_fs_error").write_text("a test\n")

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Let nothing that is written or synced come back as long as this lasts: the file system is frozen."""
        subprocess.run(["fsfreeze", "--freeze", str(self.path)], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self.path)], check=True, capture_output=True)

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


@contextmanager
def card_or_skip(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Give such a disk to a test; it is skipped in a sentence where there can be none."""
    try:
        with small_ext4(folder, size_bytes) as disk:
            yield disk
    except Missing as error:
        pytest.skip(str(error))


@contextmanager
def small_ext4(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Make, mount and in the end unmount an ext4 of `size_bytes` whose image lies in `folder`. Raises Missing."""
    image, place = folder / "card.img", folder / "card"
    with private_mounts():
        with image.open("wb") as file:
            file.truncate(size_bytes)
        make_ext4(str(image))
        place.mkdir()
        try:
            with loop_device(str(image)) as device, mounted(device, str(place), "ext4"):
                yield SmallDisk(place, os.path.basename(device))
        finally:
            image.unlink()
