"""Whose files the gateway's are: what root makes in a folder belongs to the folder's owner, as if he had made it.

Law: always by descriptor, never by a name that somebody may have changed meanwhile; a process that is not root gives
nothing away. The mode is the one asked for, whatever the umask, but of files that a person named. (Whole verbs act as
that user: `machine.acting`.)
"""

from __future__ import annotations

import contextlib
import errno
import grp
import io
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path

FILE_MODE = 0o640  # the technician's group reads beside the daemon
DIRECTORY_MODE = 0o750
RIGHTS = (errno.EACCES, errno.EPERM)
"""What a system call says where owners or rights forbid it."""


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


@contextlib.contextmanager
def written(path: Path) -> Iterator[BufferedWriter]:
    """Write a file that a person named: whole in its place at the end, and as it was where that is not reached.

    Raises OSError, also where a link, a pipe or a device has the name: somebody else may have put it there for root.
    """
    with contextlib.suppress(FileNotFoundError):
        _require_file(os.lstat(path), path)
    draft = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    with draft.open("xb") as file:
        try:
            settle(file.fileno(), _as_asked(file.fileno()), path.parent)
            yield file
            file.flush()
            draft.rename(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def begun(path: Path) -> io.FileIO:
    """Open a file that a person named, emptied, to be written in its place: each line is of use, however it ends.

    Raises OSError as `written`. The caller closes it.
    """
    with contextlib.suppress(FileNotFoundError):
        _require_file(os.lstat(path), path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    try:
        _require_file(os.fstat(fd), path)
        settle(fd, _as_asked(fd), path.parent)
        os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return io.FileIO(fd, "w")


def _as_asked(fd: int) -> int:
    """Return the mode of a file that a person named: as the umask has it, and no more than others of ours have."""
    return stat.S_IMODE(os.fstat(fd).st_mode) & FILE_MODE


def _require_file(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EINVAL, "it is a link, a pipe or a device, not a file of its own", str(path))


def put(path: Path, content: bytes) -> None:
    """Put `content` in the place of a small file, whole; it survives a power cut on return. Raises OSError.

    It becomes the folder's owner's. What had the name before, a link too, is replaced and never opened.
    """
    fresh = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    with fresh.open("xb") as file:
        settle(file.fileno(), FILE_MODE, path.parent)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_folder(path.parent)


def beside(directory: Path | str, name: str) -> Path:
    """Return where a small file stands that belongs to a directory and not into it: `outbox` has `outbox.{name}`."""
    place = Path(os.path.abspath(directory))
    return place.with_name(f"{place.name}.{name}")


def sync_folder(folder: Path) -> None:
    """Let the names in `folder` survive a power cut. Raises OSError."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def whose(path: str | os.PathLike[str]) -> str:
    """Say who owns it and who may: "belongs to root:root with mode 0600".

    What lies in a folder that may not be entered cannot be seen: then that folder is named, for it stands in the way
    ("lies in /srv/x, which belongs to ..."). Empty where there is nothing.
    """
    place = _seen(path)
    try:
        found = os.lstat(place)
    except OSError:
        return ""
    within = "" if place == os.path.abspath(path) else f"lies in {place}, which "
    return f"{within}belongs to {_names(found.st_uid, found.st_gid)} with mode {stat.S_IMODE(found.st_mode):04o}"


def _seen(path: str | os.PathLike[str]) -> str:
    """Return the path, or the nearest of the folders above it whose owner can be seen."""
    place = os.path.abspath(path)
    while place != os.path.dirname(place):
        try:
            os.lstat(place)
        except PermissionError:
            place = os.path.dirname(place)
        except OSError:
            break
        else:
            break
    return place


def barred(folder: str | os.PathLike[str]) -> str | None:
    """Say what keeps this user from looking into a folder; None where nothing of owners and rights does."""
    try:
        os.listdir(folder)
    except PermissionError as error:
        return f"{os.fspath(folder)} {whose(folder)}, and this is user {user()}: {error.strerror}"
    except OSError:
        pass
    return None


def is_own(path: str | os.PathLike[str]) -> bool:
    """Return whether it is this process's user's, or what bars the way to it is."""
    try:
        return os.lstat(_seen(path)).st_uid == os.geteuid()
    except OSError:
        return False


def refused(error: OSError, directory: str | os.PathLike[str]) -> str:
    """Say what refuses a file of `directory`, in words; where rights do, also whose the file is.

    EPERM is no matter of owners: an attribute (`chattr +i`) or the file system forbids it to everybody.
    """
    why = error.strerror or str(error)
    if error.errno not in RIGHTS:
        return why
    path = os.path.normpath(os.path.join(directory, error.filename if isinstance(error.filename, str) else ""))
    for place in (path, os.path.dirname(path)):  # where a file was to be made its folder stands in the way
        if owned := whose(place):
            if error.errno == errno.EPERM:
                return f"the file system or an attribute of {place} forbids it (see lsattr -d {place}): {why}"
            return f"{place} {owned}, and this is user {user()}: {why}"
    return f"{path} cannot be used: {why}"


def mending(folder: str | os.PathLike[str], number: int | None = None) -> str:
    """Return the line that gives `folder` and all in it to whom they should belong, with the rights they need.

    That is the folder's owner; where that is root, this process's user. Where a folder above may not be entered, that
    one is opened to whoever passes, and given to nobody. With the error's `number` EPERM (a file that root made
    immutable, `chattr +i`) that is taken off before.
    """
    if (shut := _seen(folder)) != os.path.abspath(folder):
        return f"sudo chmod a+x {shlex.quote(shut)}"
    uid, gid = os.geteuid(), os.getegid()
    with contextlib.suppress(OSError):
        found = os.stat(folder)
        if found.st_uid:
            uid, gid = found.st_uid, found.st_gid
    place = shlex.quote(os.path.abspath(folder))
    before = f"sudo chattr -R -i {place} && " if number == errno.EPERM else ""
    return f"{before}sudo chown -R {_names(uid, gid)} {place} && sudo chmod -R u+rwX {place}"


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
