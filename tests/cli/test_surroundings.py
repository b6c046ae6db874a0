"""Terminals, pipes, encodings and rights as people have them: a sentence and the right status, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gateway.cli import gateway

COMMAND = [sys.executable, "-m", "gateway"]
BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def call(*words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    given = {"capture_output": True, "text": True, "timeout": 30, "stdin": subprocess.DEVNULL, **more}
    return subprocess.run([*COMMAND, *map(str, words)], check=False, **given)


def test_an_encoding_without_the_sign_shows_a_question_mark(write_configuration: Any) -> None:
    path = write_configuration(
        '[[shelf]]\nid = "a"\ndata_pin = 5\nclock_pin = 6\nproducts = [{sku = "Müsli", unit_grams = 500}]\n'
    )
    shown = call("config", "show", "--config", path, env={**os.environ, **BARE})
    assert (shown.returncode, "unexpected" in shown.stderr, "M?sli" in shown.stdout) == (0, False, True)


def test_a_reader_that_goes_away_leaves_the_status_alone(write_configuration: Any) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = call("privacy", "report", "--config", write_configuration(), capture_output=False, stdout=writing)
    os.close(writing)
    assert told.returncode == 0


def test_a_question_to_nobody_is_told_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, write_configuration: Any
) -> None:
    monkeypatch.setattr("gateway.daemon.service.run", lambda *given, **more: int(click.confirm("Shall it?")))
    path = write_configuration('[broker]\nurl = "mqtt://h"\n')
    asked = CliRunner().invoke(gateway, ["run", "--config", str(path)], input="")
    assert (asked.exit_code, "nobody answered" in asked.stderr) == (1, True)


def test_a_full_output_is_named(write_configuration: Any) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        told = call("config", "example", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert told.returncode == 1
    assert "No space left" in told.stderr
    assert "unexpected" not in told.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_configuration_that_may_not_be_read_is_78(write_configuration: Any) -> None:
    path: Path = write_configuration()
    path.chmod(0)
    assert call("config", "check", "--config", path).returncode == 78


def test_a_speed_without_a_recording_is_a_mistake_of_use(write_configuration: Any) -> None:
    assert call("run", "--speed", "max", "--config", write_configuration()).returncode == 2


def test_a_start_that_is_refused_leaves_no_clock_behind_that_would_end_the_process(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    assert CliRunner().invoke(gateway, ["run", "--config", str(tmp_path / "none.toml")]).exit_code == 78
    left = [one for one in set(threading.enumerate()) - before if isinstance(one, threading.Timer)]
    assert all(one.finished.is_set() for one in left)
