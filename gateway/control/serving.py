"""The daemon's end of its socket: it hears a few questions at once and answers each.

Law: no client can hold the daemon up. A question has a size and a time limit, only a few are heard at once, and what is
not understood is answered with an error or not at all.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.config import Configuration
from gateway.control.asking import POINTER, noted_path, socket_paths
from gateway.machine.bounded import json_object
from gateway.machine.clock import Clock, SystemClock
from gateway.machine.owner import put
from gateway.machine.threads import joined, started
from gateway.model import NS_PER_S

log = logging.getLogger(__name__)

Answer = Callable[[str, Mapping[str, Any]], dict[str, Any]]

SOCKET_MODE = 0o660  # the technicians' group may ask, strangers may not
QUESTION_BYTES_MAX = 64 * 1024
QUESTION_WITHIN_S = 2.0
HEARD_AT_ONCE = 8
ROOM_WITHIN_S = 0.5
WAITING_MAX = 128
BUSY = b'{"error": "it answers too many questions at once; ask again"}\n'
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
        if self.path is None or self._listener is None:
            log.warning("no control socket could be made; `gateway status` cannot ask this daemon")
            return
        if not started(self._thread):
            self._listener.close()
            self.path.unlink(missing_ok=True)
            self._listener = self.path = None
            return
        try:
            put(self._directory / POINTER, os.fsencode(self.path) + b"\n")
        except OSError as error:
            log.warning("the control socket's path could not be noted directory=%s error=%s", self._directory, error)

    def close(self) -> None:
        """End within 2 s; the socket and the note of its path are gone."""
        self._closing.set()
        if self._listener is None or self.path is None:
            return
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        joined(self._thread, CLOSE_WITHIN_S)
        self._listener.close()
        with suppress(OSError):
            self.path.unlink()
        with suppress(OSError, UnicodeDecodeError):
            if noted_path(self._directory) == self.path:
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
                if started(threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True)):
                    continue
                self._idle.pop(client, None)
                self._room.release()
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
