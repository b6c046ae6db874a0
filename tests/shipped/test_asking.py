"""The control socket at its edges: what a question becomes, who may reach it, and what is said where nobody answers."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Configuration, loads
from gateway.control import asking
from gateway.control.asking import ask
from gateway.control.serving import ControlServer
from gateway.errors import NoDaemon, Unavailable


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    """An outbox and a temporary folder of the test's own, under the widest umask."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("gateway.control.asking.RUN_DIRECTORY", tmp_path / "absent")
    (tmp_path / "outbox").mkdir()
    return loads(f'[site]\nstore = "1"\n[outbox]\ndirectory = "{tmp_path}/outbox"\n')


@pytest.fixture
def heard(here: Configuration) -> Iterator[tuple[ControlServer, list[tuple[str, dict[str, Any]]]]]:
    questions: list[tuple[str, dict[str, Any]]] = []

    def answer(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        questions.append((verb, dict(arguments)))
        return {"number": len(questions), "long": "x" * 200_000 if verb == "long" else ""}

    before = os.umask(0)
    server = ControlServer(here, answer)
    server.start()
    os.umask(before)
    yield server, questions
    server.close()


Heard = tuple[ControlServer, list[tuple[str, dict[str, Any]]]]


def test_a_question_has_its_arguments_and_nothing_else(here: Configuration, heard: Heard) -> None:
    assert ask(here, "readings", after=5, shelf="a")["number"] == 1
    assert heard[1] == [("readings", {"after": 5, "shelf": "a"})]


def test_an_answer_of_any_length_comes_whole(here: Configuration, heard: Heard) -> None:
    assert len(ask(here, "long")["long"]) == 200_000


def test_one_line_is_one_question(heard: Heard) -> None:
    server, questions = heard
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(5)
        asker.connect(str(server.path))
        asker.sendall(b'{"verb": "first"}\n{"verb": "second"}\n')
        assert json.loads(asker.recv(9999))["number"] == 1
    assert questions == [("first", {})]


def test_nobody_else_reaches_the_socket_whatever_the_umask(heard: Heard) -> None:
    path = heard[0].path
    assert path is not None
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.lstat().st_mode & 0o007 == 0


def test_a_note_of_a_socket_that_is_none(here: Configuration, tmp_path: Path) -> None:
    for note in (b"", b"\n", b"/tmp/\0x\n", b"/" + b"x" * 150, b"\xff\n"):
        (tmp_path / "outbox/control").write_bytes(note)
        with pytest.raises(NoDaemon, match="no daemon runs") as nobody:
            ask(here, "status")
        assert "systemctl start gateway" in (nobody.value.advice or "")


@pytest.mark.parametrize("said", [b"", b"no json\n", b"[]\n"])
def test_a_socket_that_does_not_answer_as_the_daemon_does(here: Configuration, tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "other.sock"
    (tmp_path / "outbox/control").write_bytes(os.fsencode(path) + b"\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(999)
                client.sendall(said)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(Unavailable):
            ask(here, "status")


def test_the_longest_path_that_a_socket_can_have_is_read_whole(here: Configuration, tmp_path: Path) -> None:
    path = "/" + "x" * 99
    (tmp_path / "outbox/control").write_bytes(path.encode() + b"\n")
    assert asking.noted_path(tmp_path / "outbox") == Path(path)
    (tmp_path / "outbox/control").write_bytes(path.encode() + b"x\n")
    with pytest.raises(FileNotFoundError):
        asking.noted_path(tmp_path / "outbox")


def test_where_a_socket_may_be_best_first(here: Configuration, tmp_path: Path) -> None:
    found = [path.parent for path in asking.socket_paths(tmp_path / "outbox")]
    own = f"gateway-{os.getuid()}"
    assert found[0] == tmp_path / "absent"
    assert Path("/tmp") / own in found, "also where the temporary folder's name is too long"
