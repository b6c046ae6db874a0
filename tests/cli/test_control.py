"""The daemon's socket under good questions, garbage, and clients that stop in the middle."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Configuration, load
from gateway.control.asking import PATH_BYTES_MAX, POINTER, _asked, _trusted, ask, socket_paths
from gateway.control.serving import HEARD_AT_ONCE, QUESTION_BYTES_MAX, ControlServer
from gateway.errors import Unavailable
from gateway.machine.owner import mending
from tests.daemon import wait_for


@pytest.fixture
def configuration(write_configuration: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "outbox").mkdir()
    return load([write_configuration("")])


def answering(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    if verb == "break":
        raise RuntimeError("broken on purpose")
    return {"verb": verb, **arguments}


@pytest.fixture
def server(configuration: Configuration) -> Iterator[ControlServer]:
    server = ControlServer(configuration, answering)
    server.start()
    yield server
    server.close()


def say(server: ControlServer, raw: bytes, *, end: bool = True) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(server.path))
        client.sendall(raw)
        if end:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while received := client.recv(65_536):
            answer += received
        return answer


def test_a_question_is_answered(configuration: Configuration, server: ControlServer) -> None:
    assert ask(configuration, "status", deep=3) == {"verb": "status", "deep": 3}


def test_the_socket_is_for_the_owner_and_the_group(server: ControlServer) -> None:
    assert server.path is not None
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o660


def test_nobody_runs(configuration: Configuration) -> None:
    with pytest.raises(Unavailable, match="no daemon runs") as caught:
        ask(configuration, "status")
    assert "systemctl start gateway" in caught.value.advice


def test_a_killed_daemons_socket_is_not_a_daemon_and_is_replaced(configuration: Configuration) -> None:
    path = next(socket_paths(Path(configuration.outbox.directory)))
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    (Path(configuration.outbox.directory) / POINTER).write_text(str(path))
    with pytest.raises(Unavailable, match="no daemon runs"):
        ask(configuration, "status")
    second = ControlServer(configuration, answering)
    second.start()
    assert ask(configuration, "ping")["verb"] == "ping"
    assert second.path == path
    second.close()


def test_asker_and_daemon_see_different_environments(
    configuration: Configuration, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert ask(configuration, "ping") == {"verb": "ping"}


def test_a_runtime_directory_too_deep_for_a_socket(
    configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(deep))
    monkeypatch.setattr("gateway.control.asking.RUN_DIRECTORY", tmp_path / "absent")
    with pytest.raises(Unavailable, match="no daemon runs"):
        ask(configuration, "ping")
    server = ControlServer(configuration, answering)
    server.start()
    assert server.path is not None
    assert len(os.fsencode(server.path)) <= PATH_BYTES_MAX
    assert ask(configuration, "ping") == {"verb": "ping"}
    server.close()
    assert not server.path.exists()


def test_closing_leaves_nothing_behind(configuration: Configuration, server: ControlServer) -> None:
    assert server.path is not None
    server.close()
    assert not server.path.exists()
    assert not (Path(configuration.outbox.directory) / POINTER).exists()
    assert not any(thread.name == "control" for thread in threading.enumerate() if thread is server._thread)


@pytest.mark.parametrize(
    "raw",
    [
        b"\n",
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"{}\n",
        b'{"verb": 5}\n',
        b"[" * 20_000 + b"\n",
        b"x" * (QUESTION_BYTES_MAX + 10),
        b'{"verb": "ping", "x": "' + b"x" * QUESTION_BYTES_MAX + b'"}\n',
        b'{"verb": "break"}\n',
    ],
)
def test_garbage_is_answered_with_an_error(configuration: Configuration, server: ControlServer, raw: bytes) -> None:
    try:
        answer = say(server, raw)
    except ConnectionError:
        answer = b""  # closed on a client that was still talking
    assert answer == b"" or "error" in json.loads(answer)
    assert ask(configuration, "ping") == {"verb": "ping"}


def test_a_client_that_says_nothing_holds_nobody_up(
    configuration: Configuration, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control.serving.QUESTION_WITHIN_S", 0.2)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(HEARD_AT_ONCE - 1)]
    for client in silent:
        client.connect(str(server.path))
        client.sendall(b'{"verb": ')
    assert ask(configuration, "ping") == {"verb": "ping"}
    for client in silent:
        client.settimeout(5)
        assert client.recv(1) == b""
        client.close()


def test_a_question_may_come_in_pieces(server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(server.path))
        for piece in (b'{"verb"', b': "pi', b'ng", "a": 1}', b"\n"):
            client.sendall(piece)
            time.sleep(0.05)  # where the machine is slow some pieces come together: then less is tried
        with client.makefile() as answers:
            assert json.loads(answers.readline()) == {"verb": "ping", "a": 1}


def test_who_has_asked_is_no_longer_silent_and_is_not_dropped_for_a_newcomer(configuration: Configuration) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if verb == "slow":
            asked.set()
            go_on.wait(10)
        return {"verb": verb}

    server = ControlServer(configuration, slow)
    server.start()
    with socket.socket(socket.AF_UNIX) as first:
        first.settimeout(5)
        first.connect(str(server.path))
        first.sendall(b'{"verb": "slow"}\n')
        assert asked.wait(5)
        silent = [socket.socket(socket.AF_UNIX) for _ in range(2 * HEARD_AT_ONCE)]
        for client in silent:
            client.connect(str(server.path))
        assert ask(configuration, "ping") == {"verb": "ping"}
        go_on.set()
        assert json.loads(first.makefile().readline()) == {"verb": "slow"}
        for client in silent:
            client.close()
    wait_for(lambda: server._idle == {}, what="the silent ones to be forgotten")
    server.close()


def test_who_may_not_look_into_the_outbox_is_not_told_that_nothing_runs(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(directory: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gateway.control.asking.noted_path", forbidden)
    with pytest.raises(Unavailable, match="may not ask the daemon") as caught:
        ask(configuration, "status")
    assert "join the group" in caught.value.advice


def test_a_refusal_is_the_daemons_sentence(configuration: Configuration, server: ControlServer) -> None:
    with pytest.raises(Unavailable, match="broken on purpose"):
        ask(configuration, "break")


def test_a_note_that_is_garbage_is_survived(configuration: Configuration, server: ControlServer) -> None:
    (Path(configuration.outbox.directory) / POINTER).write_bytes(b"\xff\x00\n" * 500)
    assert ask(configuration, "ping") == {"verb": "ping"}


def test_where_no_socket_can_be_made_the_daemon_runs_without(
    configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    monkeypatch.setattr("gateway.control.serving.socket_paths", lambda directory: iter([absent / "x" / "y.sock"]))
    server = ControlServer(configuration, answering)
    server.start()
    assert server.path is None
    server.close()


def test_clients_that_never_ask_do_not_hold_up_one_that_does(
    configuration: Configuration, server: ControlServer
) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(3 * HEARD_AT_ONCE)]
    for client in silent:
        client.connect(str(server.path))
    assert ask(configuration, "ping") == {"verb": "ping"}
    for client in silent:
        client.close()


def test_a_daemon_that_answers_too_many_says_that_it_is_busy(configuration: Configuration) -> None:
    go_on = threading.Event()
    heard = threading.Semaphore(0)

    def slow(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        heard.release()
        go_on.wait(30)
        return {}

    server = ControlServer(configuration, slow)
    server.start()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(HEARD_AT_ONCE)]
    for client in clients:
        client.connect(str(server.path))
        client.sendall(b'{"verb": "status"}\n')
        assert heard.acquire(timeout=10)
    with pytest.raises(Unavailable, match="too many questions at once"):
        ask(configuration, "status")
    go_on.set()
    for client in clients:
        client.close()
    server.close()


def test_an_answer_of_somebody_else_is_none(configuration: Configuration, server: ControlServer) -> None:
    assert server.path is not None
    directory = Path(configuration.outbox.directory)
    assert _trusted(directory) == {0, os.getuid(), directory.stat().st_uid}
    question = b'{"verb": "ping"}\n'
    assert _asked(server.path, question, {os.getuid()}) == {"verb": "ping"}
    with pytest.raises(ConnectionRefusedError, match="somebody else"):
        _asked(server.path, question, {os.getuid() + 1})


def test_no_asker_keeps_the_daemon_from_ending(configuration: Configuration, server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(server.path))
        wait_for(lambda: len(server._idle) == 1, what="the silent one to be heard")
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("control")]
        assert {thread.name for thread in threads} == {"control", "control-client"}
        assert [thread.name for thread in threads if not thread.daemon] == []


def test_a_folder_that_its_owner_has_shut_is_told_with_the_line_that_opens_it(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(configuration.outbox.directory)

    def forbidden(directory: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("gateway.control.asking.noted_path", forbidden)
    monkeypatch.setattr("gateway.control.asking.barred", lambda path: f"{path} is shut")
    monkeypatch.setattr("gateway.control.asking.is_own", lambda path: True)
    with pytest.raises(Unavailable, match=f"cannot be seen: {directory} is shut") as caught:
        ask(configuration, "status")
    assert caught.value.advice == mending(directory)
    assert str(directory) in caught.value.advice


def test_a_daemon_that_hangs_up_is_told_with_the_reason(configuration: Configuration) -> None:
    with socket.socket(socket.AF_UNIX) as rude:
        rude.bind(str(next(socket_paths(Path(configuration.outbox.directory)))))
        rude.listen()
        hanging_up = threading.Thread(target=lambda: rude.accept()[0].close(), daemon=True)
        hanging_up.start()
        with pytest.raises(Unavailable, match="could not be asked") as caught:
            ask(configuration, "status")
        hanging_up.join(5)
    assert configuration.outbox.directory in str(caught.value)
