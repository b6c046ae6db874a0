"""A copy of a card in one file (`dd`), mounted while it is looked at.

Mounted writable, so that the kernel replays the journal of a card whose plug was pulled: without it the newest entries
could be missing. Needs root. The system of a Pi is the largest Linux partition of an MBR (offset 446, four entries of
16 bytes: type at 4, first sector at 8, sectors at 12, little-endian), or the whole file where there is no table.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import GatewayError
from gateway.machine.bounded import open_regular

SECTOR_BYTES = 512
LINUX = 0x83
MBR_END = b"\x55\xaa"
EXT_MAGIC, EXT_MAGIC_AT = b"\x53\xef", 1024 + 56
WITHIN_S = 120.0


class ImageUnusable(GatewayError):
    """A card's image cannot be mounted."""


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mount the system of the card in `image`; give where, and unmount it at the end. Raises ImageUnusable."""
    start, size = system_in(image)
    with tempfile.TemporaryDirectory(prefix="gateway-card-") as directory:
        options = f"loop,offset={start},sizelimit={size},nodev,nosuid,noexec"
        _run(["mount", "-t", "ext4", "-o", options, str(image), directory])
        try:
            yield Path(directory)
        finally:
            _run(["umount", directory])


def system_in(image: Path) -> tuple[int, int]:
    """Return where the system's file system begins in the image, and its length, in bytes. Raises ImageUnusable."""
    try:
        with open(open_regular(image), "rb") as file:
            head = file.read(2048)
            total = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ImageUnusable(f"{image} cannot be read: {error.strerror}") from None
    if head[EXT_MAGIC_AT : EXT_MAGIC_AT + 2] == EXT_MAGIC:
        return 0, total
    found = []
    if head[510:512] == MBR_END:
        for at in range(446, 510, 16):
            first, count = (int.from_bytes(head[at + 8 + part : at + 12 + part], "little") for part in (0, 4))
            if head[at + 4] == LINUX and count:
                found.append((count * SECTOR_BYTES, first * SECTOR_BYTES))
    if not found:
        raise ImageUnusable(f"{image} has no Linux partition", "is it the whole card? dd if=/dev/mmcblk0 of=card.img")
    size, start = max(found)
    if start + size > total:
        raise ImageUnusable(f"{image} is cut short: {total} bytes of {start + size}", "copy the card again")
    return start, size


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageUnusable(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        raise ImageUnusable(
            f"{command[0]}: {done.stderr.strip()}", "run it as root: sudo gateway adopt --from-image FILE"
        )
