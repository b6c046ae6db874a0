"""Whether a folder keeps what is written into it over a power cut, as the kernel's table of mounts tells.

Law: pure, the table comes as text (`/proc/self/mountinfo`, proc_pid_mountinfo(5)); what cannot be told is not called
lost. Memory are tmpfs and its like, and disks made of memory (zram); an overlay keeps what its upper layer keeps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MEMORY = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs", "hugetlbfs"})
MEMORY_DISK = re.compile(r"/dev/z?ram\d+")
LAYERS_MAX = 8
"""Overlays over overlays; the kernel takes two."""
OVERLAID = re.compile(r"\b(overlayroot=tmpfs\S*|boot=overlay)(?=\s|$)")
"""How Raspberry Pi OS (raspi-config) and Debian's overlayroot put the root under an overlay in memory."""
OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: where, of which kind, from what, and the options of the file system (an overlay's layers)."""

    point: str
    kind: str
    source: str
    options: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """Return the value of an option `name=value`."""
        found = (option.partition("=") for option in self.options)
        return next((value for key, _, value in found if key == name), None)


def mounts(mountinfo: str) -> list[Mount]:
    """Return the mounts of a table, in its order: of two on one point the later lies on top."""
    found = []
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < 6 or len(right) < 3:
            continue
        options = tuple(_plain(option) for option in right[2].split(","))
        found.append(Mount(_plain(left[4]), right[0], _plain(right[1]), options))
    return found


def mount_of(table: list[Mount], path: str) -> Mount | None:
    """Return the mount that an absolute path without links lies on."""
    found: Mount | None = None
    for mount in table:
        below = mount.point.rstrip("/") + "/"
        if (path + "/").startswith(below) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def why_not_kept(mountinfo: str, command_line: str, path: str) -> str | None:
    """Return, for a person, why what is written at `path` is gone after a power cut; None where it is kept.

    `command_line` is the kernel's (`/proc/cmdline`): it tells of an overlay's upper layer that no mount shows.
    """
    table = mounts(mountinfo)
    mount = mount_of(table, path)
    for _ in range(LAYERS_MAX):
        if mount is None:
            return None
        if mount.kind in MEMORY:
            return f"it lies in memory ({mount.kind} on {mount.point})"
        if MEMORY_DISK.fullmatch(mount.source):
            return f"it lies in memory ({mount.source} on {mount.point})"
        if mount.kind != "overlay" or (upper := mount.option("upperdir")) is None:
            return None
        beneath = mount_of(table, upper)
        if beneath is mount or beneath is None:  # mounted before the root was, or outside of a container
            said = OVERLAID.search(command_line)
            return f"it lies in memory (an overlay, {said[0]} in the kernel's command line)" if said else None
        if beneath.kind in MEMORY:
            return f"it lies in memory (an overlay on {mount.point}, its upper layer in {beneath.kind})"
        mount = beneath
    return None


def _plain(field: str) -> str:
    """Return a field with its octal escapes undone: space, tab, line end, backslash."""
    return OCTAL.sub(lambda code: chr(int(code[1], 8)), field)
