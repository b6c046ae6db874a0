"""What a power cut may leave of a recorded card, at any moment: built as an image, mounted, and looked at.

Law: everything written before the last flush is there; of what was written behind it, nothing, all, the first part, or
each sector of 512 bytes by chance. ext4 replays its journal when it is mounted, as after a real power cut.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from tests.blocks.fuse import FLUSH, Written
from tests.blocks.mounts import loop_device, mount, mounted, private_mounts, umount

SECTOR_BYTES = 512
SECTOR_CHANCE = 0.5
Left = Literal["none", "all", "prefix", "sectors"]
LEFT: tuple[Left, ...] = ("none", "all", "prefix", "sectors")


@dataclass(frozen=True, slots=True)
class Cut:
    """A power cut behind `position` writes and flushes, and what it left of what was not flushed."""

    position: int
    left: Left
    seed: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A card as it was at first, and what it was told since."""

    beginning: bytes
    log: tuple[Written, ...]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read what `Card.dump` wrote."""
        beginning, log = pickle.loads(path.read_bytes())  # written by this program
        return cls(beginning, tuple(Written(*written) for written in log))

    def cuts(self, count: int, seed: int) -> list[Cut]:
        """Return cuts at random moments, in the order of time."""
        chance = Random(seed)
        found = [
            Cut(chance.randrange(len(self.log) + 1), LEFT[index % len(LEFT)], seed + index) for index in range(count)
        ]
        return sorted(found, key=lambda cut: cut.position)

    def states(self, cuts: Sequence[Cut]) -> Iterator[tuple[Cut, bytearray, list[Written]]]:
        """Yield each cut with what was flushed before it and what survived behind that; cuts must ascend."""
        flushed = bytearray(self.beginning)
        applied = 0
        for cut in cuts:
            last_flush = max((index for index in range(applied, cut.position) if self.log[index] == FLUSH), default=-1)
            for offset, content in self.log[applied : last_flush + 1]:
                if offset >= 0:
                    flushed[offset : offset + len(content)] = content
            applied = max(applied, last_flush + 1)
            yield cut, flushed, list(_survivors(self.log[applied : cut.position], cut))


def _survivors(unflushed: Sequence[Written], cut: Cut) -> Iterator[Written]:
    chance = Random(cut.seed)
    match cut.left:
        case "all":
            yield from unflushed
        case "prefix":
            yield from unflushed[: chance.randrange(len(unflushed) + 1)]
        case "sectors":
            for offset, content in unflushed:
                for start in range(0, len(content), SECTOR_BYTES):
                    if chance.random() < SECTOR_CHANCE:
                        yield Written(offset + start, content[start : start + SECTOR_BYTES])


Show = Callable[[bytearray, list[Written], Callable[[Path], None]], None]


@contextmanager
def stage(folder: Path) -> Iterator[Show]:
    """Give a function that mounts a card and lets somebody look at it. Raises Missing, and what the looking raises."""
    images, place = folder / "images", folder / "after"
    images.mkdir(exist_ok=True)
    place.mkdir(exist_ok=True)
    image = images / "card"

    def show(flushed: bytearray, survivors: list[Written], look: Callable[[Path], None]) -> None:
        with image.open("r+b" if image.exists() else "w+b", buffering=0) as file:
            file.write(flushed)
            for offset, content in survivors:
                os.pwrite(file.fileno(), content, offset)
        with loop_device(str(image)) as device, mounted(device, str(place), "ext4"):
            look(place)

    with private_mounts():
        mount("none", str(images), "tmpfs")
        try:
            yield show
        finally:
            umount(str(images), detach=True)
