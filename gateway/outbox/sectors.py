"""Reading a card on which some sectors cannot be read: short before a bad one, and a step over it.

Law: an error says something about the moment or the rights (`is_of_the_card` is false), or about one place of the card.
No error is damage by itself: only what stays unreadable there, after patience, is given up (see `patience`).
"""

from __future__ import annotations

import errno

from gateway.machine.disk import Disk

SECTOR_BYTES = 4096  # of a page of memory: what the system reads at once at least
_OF_THE_CARD = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EREMOTEIO, errno.ENODATA, errno.EILSEQ})


def is_of_the_card(error: OSError) -> bool:
    """Return whether the error is of one place of the card; all others are of the moment, the rights or the name."""
    return error.errno in _OF_THE_CARD


def read_before(disk: Disk, fd: int, count: int, offset: int) -> bytes:
    """Read as `Disk.read_at`, short before a sector that cannot be read; OSError where it is the first.

    All is tried a second time before anything is believed to be unreadable.
    """
    try:
        return disk.read_at(fd, count, offset)
    except OSError as error:
        if not is_of_the_card(error):
            raise
    got = b""
    while len(got) < count:
        at = offset + len(got)
        try:
            piece = disk.read_at(fd, min(rest_of_sector(at), count - len(got)), at)
        except OSError as error:
            if got and is_of_the_card(error):
                break
            raise
        if not piece:
            break
        got += piece
    return got


def read_over(disk: Disk, fd: int, count: int, offset: int) -> bytes:
    """Read as `Disk.read_at`, with zeros in the place of a sector that cannot be read."""
    try:
        return read_before(disk, fd, count, offset)
    except OSError as error:
        if not is_of_the_card(error):
            raise
    return bytes(min(rest_of_sector(offset), count))


def rest_of_sector(offset: int) -> int:
    """Return how many bytes there are from `offset` to the end of its sector."""
    return SECTOR_BYTES - offset % SECTOR_BYTES
