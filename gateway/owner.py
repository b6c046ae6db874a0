"""Whose files the gateway's are: what root makes in a folder belongs to the folder's owner, as if he had made it.

Law: always by descriptor, never by a name that somebody may have changed meanwhile; a process that is not root gives
nothing away. The mode is the one asked for, whatever the umask. (Whole verbs act as that user: `gateway.acting`.)
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shlex
import stat

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


def whose(path: str | os.PathLike[str]) -> str:
    """Say who owns it and who may: "belongs to root:root with mode 0600"; empty where that cannot be seen."""
    try:
        found = os.lstat(path)
    except OSError:
        return ""
    return f"belongs to {_names(found.st_uid, found.st_gid)} with mode {stat.S_IMODE(found.st_mode):04o}"


def mending(folder: str | os.PathLike[str]) -> str:
    """Return the line that gives `folder` and all in it to whom they should belong, with the rights they need.

    That is the folder's owner; where that is root or cannot be seen, this process's user.
    """
    uid, gid = os.geteuid(), os.getegid()
    with contextlib.suppress(OSError):
        found = os.stat(folder)
        if found.st_uid:
            uid, gid = found.st_uid, found.st_gid
    place = shlex.quote(os.path.abspath(folder))
    return f"sudo chown -R {_names(uid, gid)} {place} && sudo chmod -R u+rwX {place}"


def user() -> str:
    """Return the name of the user whose process this is."""
    return _names(os.geteuid(), os.getegid()).partition(":")[0]


def _names(uid: int, gid: int) -> str:
    user, group = str(uid), str(gid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(gid).gr_name
    return f"{user}:{group}"
