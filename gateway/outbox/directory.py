"""The directory of the outbox: taking it for one daemon alone, and what lies in it beside the segments."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping

from gateway.disk import Disk
from gateway.errors import OutboxUnusable
from gateway.model import STREAMS, Stream
from gateway.outbox.stream import BLOCK_BYTES, StreamLog

BALLAST_NAME = "ballast"
# A disk that takes no writes can still be drained, without a lock where there is none yet.
_TAKES_NO_WRITES = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOENT)


def take_directory(disk: Disk, directory: str) -> int | None:
    """Make the directory where it is missing and lock it; return the lock, None where the disk takes no writes.

    Raises OutboxUnusable where it cannot be made or read, or another daemon holds it.
    """
    with contextlib.suppress(OSError):
        disk.make_directory(directory)
    try:
        return disk.lock(directory)
    except BlockingIOError:
        raise OutboxUnusable(
            f"another gateway is running on the outbox {directory}", "stop it first: systemctl stop gateway"
        ) from None
    except OSError as error:
        if error.errno not in _TAKES_NO_WRITES or not _readable(disk, directory):
            raise OutboxUnusable(
                f"the outbox directory {directory} cannot be used: {error.strerror}",
                "make it writable for the gateway's user, or set [outbox] directory",
            ) from None
    return None


def _readable(disk: Disk, directory: str) -> bool:
    try:
        disk.names(directory)
    except OSError:
        return False
    return True


def foreign_files(disk: Disk, directory: str, logs: Mapping[Stream, StreamLog]) -> Iterable[tuple[str, int]]:
    """Yield path and size, in whole blocks, of every file that is no segment in use."""
    known = {segment.path for log in logs.values() for segment in log.segments}
    for place in (directory, *(log.directory for log in logs.values())):
        with contextlib.suppress(OSError):
            for name in disk.names(place):
                path = os.path.join(place, name)
                if path not in known and name not in STREAMS:
                    with contextlib.suppress(OSError):
                        yield path, -(-disk.size(path) // BLOCK_BYTES) * BLOCK_BYTES
