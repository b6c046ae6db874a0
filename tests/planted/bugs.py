"""The list of planted bugs: what is changed where, and which everyday tests must catch it.

They are chosen by kind (what is promised and what would break it), not by what a test happens to see. `old` stands once
in its file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug: `old` becomes `new` in `file`; `tests` (of them `only`, as pytest's -k) must fail."""

    room: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    only: str = ""


DISK = ("tests/shipped/test_disk_calls.py",)

BUGS: tuple[Bug, ...] = (
    Bug("disk", "a sync does not sync", "gateway/disk.py", "        os.fdatasync(fd)\n", "", DISK),
    Bug("disk", "a folder is not synced", "gateway/disk.py", "            os.fsync(fd)\n", "            pass\n", DISK),
    Bug(
        "disk",
        "a first failed sync is believed",
        "gateway/disk.py",
        "        os.fdatasync(fd)\n",
        "        try:\n            os.fdatasync(fd)\n        except OSError:\n            os.fdatasync(fd)\n",
        DISK,
    ),
    Bug("disk", "files for everybody", "gateway/owner.py", "FILE_MODE = 0o640", "FILE_MODE = 0o644", DISK),
    Bug("disk", "only a part is written", "gateway/disk.py", "        while rest:\n", "        if rest:\n", DISK),
    Bug("disk", "a cache is not dropped", "gateway/disk.py", "POSIX_FADV_DONTNEED", "POSIX_FADV_NORMAL", DISK),
    Bug("disk", "a file is made over another", "gateway/disk.py", "os.O_CREAT | os.O_EXCL", "os.O_CREAT", DISK),
    Bug("disk", "a lock that is shared", "gateway/disk.py", "LOCK_EX | fcntl.LOCK_NB", "LOCK_SH | fcntl.LOCK_NB", DISK),
    Bug(
        "outbox",
        "a descriptor too few is damage",
        "gateway/outbox/reading.py",
        "if error.errno not in _OF_THE_FILE:",
        "if False:",
        DISK,
    ),
    Bug(
        "outbox",
        "a new file's name is not synced",
        "gateway/outbox/writing.py",
        "                disk.sync_directory(os.path.dirname(self.create.path))\n        except",
        "                pass\n        except",
        DISK,
    ),
    Bug(
        "outbox",
        "a saved state is not synced",
        "gateway/outbox/writing.py",
        "            if self.synced:\n                disk.sync(fd)\n",
        "",
        DISK,
    ),
    Bug(
        "outbox",
        "expiry takes all at once",
        "gateway/outbox/retention.py",
        "EXPIRE_EVERY_NS = 60 * NS_PER_S",
        "EXPIRE_EVERY_NS = 0 * NS_PER_S",
        DISK,
    ),
)
