"""Mounts of one's own: a private mount namespace, loop devices that detach themselves, mount and umount as calls.

Law: whatever dies, by an exception or by SIGKILL, the kernel takes the mounts away with the last process that saw
them, and a loop device with its last user. Nobody else on the machine ever sees them. Needs root on Linux; what is
missing is told by `Missing`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_MS_NOATIME, _MS_REC, _MS_PRIVATE = 0x400, 0x4000, 0x40000
_MNT_DETACH = 2
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LOOP_CLR_FD = 0x4C82, 0x4C0A, 0x4C01
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_CONFIG = struct.Struct("<II40xIIII160x16x64x")  # linux/loop.h: struct loop_config, with its loop_info64
_FORMAT = ("-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard")
_TRIES = 20  # another process may take the free device first

_libc = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """What this machine lacks for a file system of one's own."""


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, options: str = "", flags: int = _MS_NOATIME) -> None:
    """Mount `source` on `target`; raises OSError."""
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None),
        f"mount {kind} on {target}",
    )


def umount(target: str, detach: bool = False) -> None:
    """Unmount; with `detach` whatever still uses it. Raises OSError."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH if detach else 0), f"umount {target}")


def require(*devices: str) -> None:
    """Raise Missing where an ext4 cannot be mounted, or one of `devices` (`/dev/fuse`) is not there."""
    if os.geteuid() != 0:
        raise Missing("not root: an ext4 cannot be mounted")
    for device in ("/dev/loop-control", *devices):
        if not os.path.exists(device):
            raise Missing(f"no {device}")
    kinds = Path("/proc/filesystems").read_text(encoding="ascii").split()
    for kind in ("ext4", "tmpfs"):
        if kind not in kinds:
            raise Missing(f"this kernel has no {kind} loaded")


def make_ext4(path: str) -> None:
    """Make an ext4 in a file, nothing of it left for later. Raises Missing."""
    program = shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise Missing("no mkfs.ext4")
    done = subprocess.run([program, *_FORMAT, path], capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"mkfs.ext4 does not work here: {done.stderr.strip()}")


@contextmanager
def private_mounts() -> Iterator[None]:
    """Let this thread and its children see mounts that nobody else does, until the end of the block.

    All that was mounted inside and is not in use any more is gone afterwards. Raises Missing where it may not be done.
    """
    require()
    where = os.getcwd()
    outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _check(_libc.unshare(_CLONE_NEWNS), "a mount namespace")
        except OSError as error:
            raise Missing(f"no mount namespace of one's own: {error.strerror}") from None
        try:
            mount("none", "/", "none", flags=_MS_REC | _MS_PRIVATE)
            yield
        finally:
            _check(_libc.unshare(_CLONE_FS), "leaving a mount namespace")  # threads made inside share it
            _check(_libc.setns(outside, _CLONE_NEWNS), "leaving a mount namespace")
            os.chdir(where)
    finally:
        os.close(outside)


@contextmanager
def loop_device(path: str) -> Iterator[str]:
    """Attach the file to a free loop device, `/dev/loop3`; it detaches when nobody uses it any more."""
    with open(path, "r+b", buffering=0) as backing:
        device, fd = _attach(backing.fileno())
    try:
        yield device
    finally:
        with contextlib.suppress(OSError):  # still in use: then it detaches with the last user
            fcntl.ioctl(fd, _LOOP_CLR_FD)
        os.close(fd)


def _attach(backing: int) -> tuple[str, int]:
    config = _LOOP_CONFIG.pack(backing, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR)
    for _ in range(_TRIES):
        with open("/dev/loop-control", "rb", buffering=0) as control:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
        device = f"/dev/loop{number}"
        if not os.path.exists(device):
            raise Missing(f"no free loop device: {device} is not there")
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EBUSY:
                raise Missing(f"{device} cannot be used: {error.strerror}") from None
            time.sleep(0.01)
        else:
            return device, fd
    raise Missing("no free loop device")


@contextmanager
def mounted(source: str, target: str, kind: str, options: str = "") -> Iterator[None]:
    """Mount for the block; what keeps it busy in the end does not keep it from going."""
    mount(source, target, kind, options)
    try:
        yield
    finally:
        try:
            umount(target)
        except OSError:
            umount(target, detach=True)
