"""Small files, read without trust: what stands in them may have been written by anybody, and be anything.

Law: only a regular file is read (never a pipe, a device or a folder, which may hang or never end), never more of it
than was asked for, and opening waits for nobody. What is wrong is an OSError or a ValueError with a sentence; JSON is
an object of numbers, texts and lists that are of this world, or a ValueError, whatever its depth.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

READ_AT_ONCE = 1 << 16
DIGITS_MAX = 30
"""No number of ours counts that far."""


def open_regular(path: Path | str, *, follow: bool = True, directory: int | None = None) -> int:
    """Open a regular file for reading and return its descriptor, which the caller closes.

    `directory` is an opened folder that `path` is relative to. Without `follow` a last part that is a symbolic link is
    refused. Raises OSError, whose `strerror` completes "it cannot be read: ...".
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, dir_fd=directory)
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed here", str(path)) from None
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it is a socket or a device, not a file", str(path)) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.ENXIO, "it is a pipe or a device, not a file", str(path))


def read_bounded(path: Path | str, bytes_max: int, *, follow: bool = True, directory: int | None = None) -> bytes:
    """Return the whole content of a regular file of `bytes_max` at most.

    Raises OSError as `open_regular`, with EFBIG where the file is larger.
    """
    return read_opened(open_regular(path, follow=follow, directory=directory), bytes_max, path)


def read_opened(descriptor: int, bytes_max: int, path: Path | str) -> bytes:
    """Return what is left in an opened file, `bytes_max` at most, and close it; `path` is for the error's sentence.

    Raises OSError, with EFBIG where there is more.
    """
    try:
        content = bytearray()
        while len(content) <= bytes_max:
            part = os.read(descriptor, min(READ_AT_ONCE, bytes_max + 1 - len(content)))
            if not part:
                return bytes(content)
            content += part
    finally:
        os.close(descriptor)
    raise OSError(errno.EFBIG, f"it is larger than {bytes_max} bytes", str(path))


def json_object(raw: bytes | str) -> dict[str, Any]:
    """Return the JSON object that `raw` is; ValueError says why it is none, whatever stands there.

    `NaN`, numbers of more than 30 digits and those beyond a float are none.
    """
    try:
        value = json.loads(
            raw if isinstance(raw, str) else raw.decode(),
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def read_object(path: Path | str, bytes_max: int, *, follow: bool = True) -> dict[str, Any]:
    """Return the JSON object in a file. Raises OSError as `read_bounded` and ValueError as `json_object`."""
    return json_object(read_bounded(path, bytes_max, follow=follow))


def read_text(path: Path | str, bytes_max: int, *, follow: bool = True) -> str:
    """Return a file's UTF-8 text. Raises OSError as `read_bounded`, ValueError where it is no such text."""
    try:
        return read_bounded(path, bytes_max, follow=follow).decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("it has a number that is too large")
    return number
