"""The daemon's local socket: `gateway status` asks, the running daemon answers.

Format: a Unix stream socket, mode 0660. One JSON object and a newline in (`{"verb": "status"}` and what else the verb
takes), one JSON object and a newline out; then the daemon closes. An object with `error` is a refusal, in a sentence.
Law: no client can hold the daemon up. A question has a size and a time limit, only a few are heard at once, and what is
not understood is answered with an error or not at all.
The socket is in `$RUNTIME_DIRECTORY`, else in `/run/gateway`, else in a folder of the user's own; because daemon and
asker may see different environments, the daemon writes the path into the file `control` of the outbox directory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.bounded import json_object, read_bounded
from gateway.clock import Clock, SystemClock
from gateway.config import Configuration
from gateway.errors import NoDaemon, Unavailable
from gateway.model import NS_PER_S
from gateway.owner import FILE_MODE, barred, is_own, mending, settle

log = logging.getLogger(__name__)

Answer = Callable[[str, Mapping[str, Any]], dict[str, Any]]

POINTER = "control"
SOCKET_MODE = 0o660  # the technicians' group may ask, strangers may not
PATH_BYTES_MAX = 100  # sun_path has 108 on Linux, 104 elsewhere, and an ending zero
QUESTION_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 8 * 1024 * 1024
QUESTION_WITHIN_S = 2.0
ANSWER_WITHIN_S = 15.0  # above the daemon's own limit for an answer, so that its sentence arrives
HEARD_AT_ONCE = 8
ROOM_WITHIN_S = 0.5
WAITING_MAX = 128
BUSY = b'{"error": "it answers too many questions at once; ask again"}\n'
RUN_DIRECTORY = Path("/run/gateway")
CLOSE_WITHIN_S = 2.0


class ControlServer:
    """Answers questions in threads of its own; `answer(verb, arguments)` is called there and may take seconds."""

    def __init__(self, configuration: Configuration, answer: Answer, clock: Clock | None = None) -> None:
        self.path: Path | None = None
        self._directory = Path(configuration.outbox.directory)
        self._answer = answer
        self._clock = clock or SystemClock()
        self._listener: socket.socket | None = None
        self._closing = threading.Event()
        self._idle: dict[socket.socket, None] = {}  # those that have not asked yet, the oldest first
        self._room = threading.BoundedSemaphore(HEARD_AT_ONCE)
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)

    def start(self) -> None:
        """Begin to listen. Where no socket can be made the daemon runs without: logged, not raised."""
        for path in socket_paths(self._directory):
            try:
                self._listener = _listening(path)
            except OSError as error:
                log.info("no control socket here path=%s error=%s", path, error)
                continue
            self.path = path
            break
        if self.path is None:
            log.warning("no control socket could be made; `gateway status` cannot ask this daemon")
            return
        try:
            _write_pointer(self._directory / POINTER, self.path)
        except OSError as error:
            log.warning("the control socket's path could not be noted directory=%s error=%s", self._directory, error)
        self._thread.start()

    def close(self) -> None:
        """End within 2 s; the socket and the note of its path are gone."""
        self._closing.set()
        if self._listener is None or self.path is None:
            return
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join(CLOSE_WITHIN_S)
        self._listener.close()
        with suppress(OSError):
            self.path.unlink()
        with suppress(OSError, UnicodeDecodeError):
            if _noted(self._directory) == self.path:
                (self._directory / POINTER).unlink()

    def _listen(self) -> None:
        assert self._listener is not None
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                self._closing.wait(0.1)  # closed, or out of file descriptors for a while
                continue
            if self._has_room():
                self._idle[client] = None
                threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True).start()
            else:
                with client, suppress(OSError):
                    client.setblocking(False)
                    client.send(BUSY)

    def _has_room(self) -> bool:
        """Take a place among those heard; where all are taken, that of the one who has been silent longest."""
        if self._room.acquire(blocking=False):
            return True
        with suppress(StopIteration, OSError, RuntimeError):  # it asked, or went, in this moment
            next(iter(self._idle)).shutdown(socket.SHUT_RDWR)
        return self._room.acquire(timeout=ROOM_WITHIN_S)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                line = self._question(client)
                self._idle.pop(client, None)
                if line is not None:
                    client.settimeout(QUESTION_WITHIN_S)
                    client.sendall(json.dumps(self._answered(line), default=str).encode() + b"\n")
        except OSError as error:
            log.debug("a client of the control socket went away error=%s", error)
        finally:
            self._idle.pop(client, None)
            self._room.release()

    def _question(self, client: socket.socket) -> bytes | None:
        """Return the client's line, or None where it says none within the time."""
        deadline_ns = self._clock.now().boot_ns + int(QUESTION_WITHIN_S * NS_PER_S)
        line = bytearray()
        while b"\n" not in line and len(line) <= QUESTION_BYTES_MAX:
            left_s = (deadline_ns - self._clock.now().boot_ns) / NS_PER_S
            if left_s <= 0:
                return None
            client.settimeout(left_s)
            try:
                received = client.recv(4096)
            except TimeoutError:
                return None
            if not received:
                break
            line += received
        return bytes(line.partition(b"\n")[0]) if line else None

    def _answered(self, line: bytes) -> dict[str, Any]:
        if len(line) > QUESTION_BYTES_MAX:
            return {"error": f"a question has at most {QUESTION_BYTES_MAX} bytes"}
        try:
            question = json_object(line)
        except ValueError:
            return {"error": "a question is one line with a JSON object"}
        verb = question.get("verb")
        if not isinstance(verb, str):
            return {"error": 'a question is like {"verb": "status"}'}
        try:
            return self._answer(verb, {key: value for key, value in question.items() if key != "verb"})
        except Exception as error:  # the supervisor of answers: one bad answer must not end the socket
            log.exception("a question could not be answered verb=%r", verb[:40])
            return {"error": f"the daemon could not answer: {type(error).__name__}: {error}"}


def ask(configuration: Configuration, verb: str, **arguments: Any) -> dict[str, Any]:
    """Ask the running daemon and return its answer.

    Raises NoDaemon where no daemon runs with this outbox, Unavailable where it may not be asked or refuses.
    """
    directory = Path(configuration.outbox.directory)
    line = json.dumps({**arguments, "verb": verb}).encode() + b"\n"
    refused: OSError | None = None
    paths = list(socket_paths(directory))
    try:
        paths.insert(0, _noted(directory))
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


def _noted(directory: Path) -> Path:
    """Return the path that the daemon noted; OSError where there is none that could be one."""
    raw = read_bounded(directory / POINTER, PATH_BYTES_MAX + 2, follow=False).strip()
    if not raw or len(raw) > PATH_BYTES_MAX or b"\0" in raw:
        raise FileNotFoundError(f"{directory / POINTER} does not name a socket")
    return Path(os.fsdecode(raw))


def _listening(path: Path) -> socket.socket:
    """Bind and listen at `path`; what a killed daemon left there is taken away."""
    if path.parent.name == f"gateway-{os.getuid()}":
        path.parent.mkdir(mode=0o700, exist_ok=True)
        found = path.parent.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise PermissionError(f"{path.parent} belongs to somebody else or may be written by others")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)  # before listen(): nobody can connect yet
        listener.listen(WAITING_MAX)
    except OSError:
        listener.close()
        raise
    return listener


def _write_pointer(pointer: Path, path: Path) -> None:
    fresh = pointer.with_name(f"{POINTER}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    with fresh.open("xb") as file:
        settle(file.fileno(), FILE_MODE, pointer.parent)
        file.write(os.fsencode(path) + b"\n")
    fresh.replace(pointer)


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
