"""The technician's end of the daemon's socket: find it, ask, and take no stranger's word."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.config import Configuration
from gateway.errors import NoDaemon, Unavailable
from gateway.machine.bounded import read_bounded
from gateway.machine.owner import barred, is_own, mending

POINTER = "control"
"""The file of the outbox directory in which the daemon notes the path of its socket."""
PATH_BYTES_MAX = 100  # sun_path has 108 on Linux, 104 elsewhere, and an ending zero
ANSWER_BYTES_MAX = 8 * 1024 * 1024
ANSWER_WITHIN_S = 15.0  # above the daemon's own limit for an answer, so that its sentence arrives
RUN_DIRECTORY = Path("/run/gateway")


def ask(configuration: Configuration, verb: str, **arguments: Any) -> dict[str, Any]:
    """Ask the running daemon and return its answer.

    Raises NoDaemon where no daemon runs with this outbox, Unavailable where it may not be asked or refuses.
    """
    directory = Path(configuration.outbox.directory)
    line = json.dumps({**arguments, "verb": verb}).encode() + b"\n"
    refused: OSError | None = None
    paths = list(socket_paths(directory))
    try:
        paths.insert(0, noted_path(directory))
    except PermissionError as error:
        refused = error  # there may well be a daemon, whose socket this user cannot find
    except (OSError, UnicodeDecodeError):
        pass  # no daemon has noted a path here
    for path in paths:
        try:
            answer = _asked(path, line, _trusted(directory))
        except (FileNotFoundError, ConnectionRefusedError):
            continue
        except OSError as error:
            refused = error
            continue
        if "error" in answer:
            raise Unavailable(f"the daemon refused: {answer['error']}")
        return answer
    if isinstance(refused, PermissionError):
        if is_own(directory) and (shut := barred(directory)):
            raise Unavailable(f"whether a daemon runs cannot be seen: {shut}", mending(directory))
        raise Unavailable(
            f"this user may not ask the daemon of {directory}",
            "join the group that owns its socket (gateway), or ask as that user: sudo -u gateway gateway status",
        )
    if isinstance(refused, TimeoutError):
        raise Unavailable(
            f"the daemon of {directory} did not answer within {ANSWER_WITHIN_S:g} s",
            "look at its log: journalctl -u gateway -n 50",
        )
    if refused is not None:
        raise Unavailable(f"the daemon of {directory} could not be asked: {refused.strerror or refused}")
    raise NoDaemon(
        f"no daemon runs with the outbox {directory}",
        "start it: systemctl start gateway, or in the foreground: gateway run",
    )


def socket_paths(directory: Path) -> Iterator[Path]:
    """Yield where the socket of the daemon with this outbox directory may be, best first.

    The name is made of the outbox's path, so that two daemons of one machine do not meet.
    """
    name = f"{hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:8]}.sock"
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    own = f"gateway-{os.getuid()}"
    temporary = [Path(tempfile.gettempdir()) / own, Path("/tmp") / own]
    for folder in ([Path(given)] if given else []) + [RUN_DIRECTORY, *temporary]:
        if len(os.fsencode(folder / name)) <= PATH_BYTES_MAX:
            yield folder / name


def noted_path(directory: Path) -> Path:
    """Return the path that the daemon noted; OSError where there is none that could be one."""
    raw = read_bounded(directory / POINTER, PATH_BYTES_MAX + 2, follow=False).strip()
    if not raw or len(raw) > PATH_BYTES_MAX or b"\0" in raw:
        raise FileNotFoundError(f"{directory / POINTER} does not name a socket")
    return Path(os.fsdecode(raw))


def _trusted(directory: Path) -> set[int]:
    """Return the users whose word about this outbox is taken: root, this user, and the owner of the outbox."""
    trusted = {0, os.getuid()}
    with suppress(OSError):
        trusted.add(directory.stat().st_uid)
    return trusted


def _peer(asker: socket.socket) -> int:
    """Return the user who made the socket that was connected to."""
    credentials = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _asked(path: Path, line: bytes, trusted: set[int]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(ANSWER_WITHIN_S)
        asker.connect(str(path))
        if _peer(asker) not in trusted:
            raise ConnectionRefusedError("somebody else listens there")
        asker.sendall(line)
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) <= ANSWER_BYTES_MAX:
            received = asker.recv(65_536)
            if not received:
                break
            answer += received
    if not answer:
        raise ConnectionResetError(errno.ECONNRESET, "it closed without an answer: it is busy or stopping")
    try:
        parsed = json.loads(answer)
    except ValueError:
        raise ConnectionRefusedError("no answer") from None
    if not isinstance(parsed, dict):
        raise ConnectionRefusedError("no answer")
    return parsed
