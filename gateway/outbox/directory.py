"""The directory of the outbox: taking it for one daemon alone, and what lies in it beside the segments."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterable, Mapping

from gateway.errors import OutboxUnusable
from gateway.machine.disk import HUNG_ADVICE, Disk, NotAFile
from gateway.machine.owner import mending, refused
from gateway.model import STREAMS, Stream
from gateway.outbox.sectors import is_of_the_card
from gateway.outbox.state import STATE_NAME
from gateway.outbox.stream import BLOCK_BYTES, StreamLog

BALLAST_NAME = "ballast"
DESCRIPTORS = 64  # files, sockets, pipes and chips of a whole gateway, and room
# A disk that takes no writes can still be drained, without a lock where there is none yet.
_TAKES_NO_WRITES = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOENT)


def unusable(directory: str, error: OSError) -> OutboxUnusable:
    """Say why the outbox cannot be used: whose file it is and the line that mends it, or what there is too little of.

    Nothing of what is recorded is in question: nothing has been changed.
    """
    path = error.filename if isinstance(error.filename, str) else directory
    why = error.strerror or str(error)
    if isinstance(error, PermissionError):
        line = mending(directory, error.errno)
        return OutboxUnusable(f"the outbox is not touched: {refused(error, directory)}", f"{line}, then start it again")
    if isinstance(error, TimeoutError):
        return OutboxUnusable(f"the disk of the outbox {directory} does not answer; nothing was changed", HUNG_ADVICE)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        said = f"too many open files; this process may have {limit} (RLIMIT_NOFILE)"
        return OutboxUnusable(
            f"{path} cannot be opened: {said}", f"raise the limit: ulimit -n {DESCRIPTORS}, or LimitNOFILE= in the unit"
        )
    if isinstance(error, NotAFile):
        return OutboxUnusable(
            f"{path} is no file of the outbox: a link, a pipe, a socket or a folder has its name",
            f"look at it (ls -l {path}) and move it away",
        )
    return OutboxUnusable(f"{path} cannot be read: {why}", "nothing was changed; see dmesg, then start it again")


def require_state(disk: Disk, directory: str) -> None:
    """Raise OSError where the state may not be written: before anything is believed or changed.

    What the card refuses is another matter, and so is a disk that takes no writes.
    """
    path = os.path.join(directory, STATE_NAME)
    try:
        disk.close(disk.open(path))
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EROFS and not is_of_the_card(error):
            raise OSError(error.errno, error.strerror, path) from None


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
        if isinstance(error, PermissionError | TimeoutError) or error.errno in (errno.EMFILE, errno.ENFILE):
            raise unusable(directory, error) from None
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
