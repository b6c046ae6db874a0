"""Root works as the user whose folder it works in: what it makes is theirs, and what they planted gains them nothing.

Law: from the root of the file system downwards, the first folder or link on a path that is not root's says whose place
it is; below that point root acts with that user's rights alone. A symbolic link that this user planted then leads only
to where the user could have gone without root, and no file is left behind that the service cannot read. Who is not
root, and root in a place of its own, is not changed. The effective user is one of the whole process: verbs only, never
the daemon.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = 0
LINKS_MAX = 40


def owner_of(path: Path | str) -> tuple[int, int] | None:
    """Return user and group whose place `path` is, None where it is root's; what does not exist yet is its folder's.

    Raises OSError where links lead in circles.
    """
    rest = list(reversed(Path(os.path.abspath(path)).parts[1:]))
    here, links = Path("/"), 0
    while rest:
        part = rest.pop()
        there = here / part
        try:
            found = os.lstat(there)
        except OSError:
            return None
        if found.st_uid != ROOT:
            return found.st_uid, found.st_gid
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > LINKS_MAX:
                raise OSError(None, "its links lead in circles", str(path))
            to = Path(os.path.normpath(here / os.readlink(there)))
            rest += reversed(to.parts[1:])
            here = Path("/")
        else:
            here = there
    return None


@contextmanager
def acting_as_owner_of(path: Path | str) -> Iterator[None]:
    """Act with the rights of the user whose place `path` is, while entered, where the process is root's."""
    owner = owner_of(path) if os.geteuid() == ROOT else None
    if owner is None:
        yield
        return
    user, group = owner
    before, groups = os.getegid(), os.getgroups()
    try:
        wanted = os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:
        wanted = [group]
    os.setgroups(wanted)
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(ROOT)
        os.setegid(before)
        os.setgroups(groups)
