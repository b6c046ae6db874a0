"""One file of the model disk: what the program sees, what the card holds, and where it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class File:
    """One inode: `seen` by the program, `held` by the card, `waiting` writes (offset, bytes) and sizes (size, None)."""

    seen: bytearray = field(default_factory=bytearray)
    held: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)
    bad: list[tuple[int, int]] = field(default_factory=list)  # from, to: reads of these bytes fail with EIO
    bad_for_ever: list[tuple[int, int]] = field(default_factory=list)  # likewise, whatever is mended
    denied: int = 0  # the errno of each opening, 0: none


def put(image: bytearray, offset: int, content: bytes) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(content)] = content


def resize(image: bytearray, size: int) -> None:
    if size < len(image):
        del image[size:]
    else:
        image.extend(bytes(size - len(image)))
