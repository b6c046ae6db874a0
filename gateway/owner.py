"""Whose files the gateway's are: what root makes in a folder belongs to the folder's owner, as if he had made it.

Law: always by descriptor, never by a name that somebody may have changed meanwhile; a process that is not root gives
nothing away. The mode is the one asked for, whatever the umask. (Whole verbs act as that user: `gateway.acting`.)
"""

from __future__ import annotations

import os

FILE_MODE = 0o640  # the technician's group reads beside the daemon
DIRECTORY_MODE = 0o750


def settle(fd: int, mode: int, folder: str | os.PathLike[str], at: int | None = None) -> None:
    """Give what was just made (`fd`) the mode, and where root made it the owner and group of `folder`.

    `folder` is relative to the directory descriptor `at` where that is given. Raises OSError.
    """
    os.fchmod(fd, mode)
    if os.geteuid() == 0:
        owner = os.stat(folder or ".", dir_fd=at)
        made = os.fstat(fd)
        if (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
            os.fchown(fd, owner.st_uid, owner.st_gid)
