"""The demonstration: a broker, a line that is cut and mended, the real daemon, a ledger that says complete."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from gateway.consumer.ledger import Ledger
from gateway.consumer.messages import Delivery
from gateway.demo.broker import mosquitto_program, open_broker
from gateway.demo.relay import Relay
from gateway.demo.script import lines_of
from gateway.demo.stage import Stage, Summary
from gateway.demo.view import DemoView
from gateway.errors import Unavailable
from gateway.model import rfc3339

SIZE = (130, 38)


def needs(broker: str) -> None:
    if broker == "mosquitto" and mosquitto_program() is None:
        pytest.skip("mosquitto is not on the PATH")


@pytest.mark.parametrize("broker", ["mosquitto", pytest.param("amqtt", marks=pytest.mark.slow)])
def test_script_cuts_the_line_and_ends_complete(broker: str, tmp_path: Path) -> None:
    needs(broker)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "gateway", "demo", "--broker", broker, "--for", "5s", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=55, env=environment)
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert summary["broker"] == broker
    assert summary["protocol"] == ("5" if broker == "mosquitto" else "3.1.1")
    assert summary["complete"]
    assert summary["clean"]
    assert summary["recorded"] == summary["delivered"] >= 5
    assert (summary["gaps"], summary["lost"], summary["cuts"]) == (0, 0, 1)
    assert "the line to the broker is cut" in run.stderr
    assert "somebody came in" in run.stderr
    assert "Traceback" not in run.stderr
    assert "amqtt." not in run.stderr
    assert not [left for left in tmp_path.iterdir() if left.name.startswith("gateway-demo")]


def processes_of(tmp_path: Path) -> list[str]:
    listed = subprocess.run(["ps", "-ww", "-eo", "stat,args"], capture_output=True, text=True).stdout.splitlines()
    return [line for line in listed if str(tmp_path) in line and not line.startswith("Z")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_demo_that_ends_leaves_no_process_behind(number: int, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", "--for", "60s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert demo.stdout is not None
    assert "the daemon" in demo.stdout.readline()
    assert processes_of(tmp_path)
    demo.send_signal(number)
    _, complaints = demo.communicate(timeout=30)
    assert "Traceback" not in complaints
    for _ in range(100):  # a killed one cannot wait for its children
        if not processes_of(tmp_path):
            break
        threading.Event().wait(0.1)
    assert not processes_of(tmp_path)
    if number == signal.SIGTERM:
        assert not list(tmp_path.glob("gateway-demo*"))


def test_usage_is_2() -> None:
    for wrong in (["--for", "soon"], ["--for", "1s"], ["--broker", "kafka"]):
        run = subprocess.run([sys.executable, "-m", "gateway", "demo", *wrong], capture_output=True, timeout=30)
        assert run.returncode == 2


def test_cut_line_resets_and_refuses_and_mended_it_carries_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Relay(server.getsockname()[1])
        try:
            near = socket.create_connection(("127.0.0.1", line.port), timeout=5)
            far, _ = server.accept()
            near.sendall(b"there")
            assert far.recv(10) == b"there"
            far.sendall(b"back")
            assert near.recv(10) == b"back"
            line.cut()
            for end in (near, far):
                end.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    end.recv(10)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", line.port), timeout=5)
            line.mend()
            again = socket.create_connection(("127.0.0.1", line.port), timeout=5)
            again.sendall(b"again")
            anew, _ = server.accept()
            assert anew.recv(10) == b"again"
            for end in (near, far, again, anew):
                end.close()
        finally:
            line.close()


def test_farewell_of_one_end_reaches_the_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Relay(server.getsockname()[1])
        try:
            near = socket.create_connection(("127.0.0.1", line.port), timeout=5)
            far, _ = server.accept()
            near.close()
            far.settimeout(5)
            assert far.recv(10) == b""
            far.close()
        finally:
            line.close()


def test_broker_that_cannot_be_had_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("gateway.demo.broker.SYSTEM_PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="not on the PATH"):
        open_broker("mosquitto", tmp_path)
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(Unavailable, match="it is broken"):
        open_broker("auto", tmp_path)
    program.unlink()
    monkeypatch.setitem(sys.modules, "amqtt", None)  # a Pi has neither
    with pytest.raises(Unavailable, match="no broker is installed"):
        open_broker("auto", tmp_path)


def test_daemon_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    with Stage("auto") as stage:
        assert stage._daemon is not None
        stage._daemon.kill()
        stage._daemon.wait()
        with pytest.raises(Unavailable, match="ended with status -9"):
            stage.check()


def test_summary_for_people() -> None:
    summary = Summary("mosquitto", "5", 20, 20, 1, 0, 0, 0, 7, 1, clean=True, complete=True)
    text = "\n".join(lines_of(summary))
    assert "recorded 20, delivered 20, duplicates 1, gaps 0, lost 0" in text
    assert "ledger is complete: 1 cut of the line, up to 7 events waited" in text


# -- the view ----------------------------------------------------------------------------------------------------------


class Rehearsal:
    """A stage whose daemon records an event at each word of the test; the line holds them back while it is cut."""

    title = "gateway demo   store 0042   rehearsal"

    def __init__(self) -> None:
        self.ledger = Ledger(from_one=True)
        self.recorded = 0
        self.acknowledged = 0
        self.is_cut = False
        self.dead = False
        self.seconds = 0.0
        self._live_from = 0

    @property
    def status(self) -> Mapping[str, Any]:
        return {
            "link": {"up": self.is_up, "since": rfc3339(0), "reason": None},
            "sensors": {
                "entrance": {"kind": "door", "readings": self.recorded, "faults": {}},
                "aisle-3": {"kind": "shelf", "readings": 0, "faults": {"silent": {"since": rfc3339(0)}}},
            },
        }

    @property
    def backlog(self) -> int:
        return self.recorded - self.acknowledged

    @property
    def is_up(self) -> bool:
        return not self.is_cut

    def now_s(self) -> float:
        return self.seconds

    def check(self) -> None:
        if self.dead:
            raise Unavailable("the daemon ended with status 1")

    def cut(self) -> None:
        self.is_cut = True

    def mend(self) -> None:
        self.is_cut = False

    def pump(self, wait_s: float = 0.0) -> list[Delivery]:
        new: list[Delivery] = []
        while not self.is_cut and self.acknowledged < self.recorded:
            self.acknowledged += 1
            lane = "event/door/entrance" if self.recorded - self.acknowledged < 1 else "backfill"
            number = f"{self.acknowledged:016d}"
            event = {
                "specversion": "1.0",
                "id": f"0a1b2c3d-1-door-{number}",
                "source": "/stores/0042/gateways/demo",
                "type": "store.door.passed",
                "subject": "entrance",
                "time": rfc3339(self.acknowledged * 10**9),
                "outbox": "0a1b2c3d",
                "epoch": "1",
                "stream": "door",
                "sequence": number,
                "data": {"direction": "in", "in_total": self.acknowledged, "out_total": 0},
            }
            payload = json.dumps(event if lane != "backfill" else [event]).encode()
            new += self.ledger.take(f"stores/v1/0042/demo/{lane}", payload)
        return new


def screen(app: DemoView) -> str:
    """Return what is on the screen as text, its blanks run together."""
    words = html.unescape(re.sub(r"<[^>]+>", " ", app.export_screenshot().partition("</style>")[2]))
    return " ".join(words.split())


def viewed(stage: Any, play: Callable[[DemoView, Pilot[None]], Any], length_s: float | None = None) -> DemoView:
    app = DemoView(stage, length_s)

    async def run() -> None:
        async with app.run_test(size=SIZE) as pilot:
            await play(app, pilot)

    asyncio.run(run())
    return app


def test_view_shows_the_backlog_grow_and_drain_and_the_ledger_complete() -> None:
    stage = Rehearsal()

    async def play(app: DemoView, pilot: Pilot[None]) -> None:
        assert "nothing yet" in screen(app)
        stage.recorded = 3
        app.refresh_view()
        await pilot.pause()
        assert "complete" in screen(app)
        await pilot.press("b")
        assert stage.is_cut
        stage.recorded = 12
        app.refresh_view()
        await pilot.pause()
        shown = screen(app)
        assert "not yet complete" in shown
        assert "9 waiting" in shown
        assert "cut: recording goes on" in shown
        await pilot.press("b")
        app.refresh_view()
        await pilot.pause()
        shown = screen(app)
        assert "0 waiting at most 9" in shown
        assert "late" in shown
        assert "not yet complete" not in shown
        assert "somebody came in" in shown
        assert "silent" in shown

    viewed(stage, play)


def test_view_ends_by_key_by_time_and_when_the_daemon_dies() -> None:
    async def quit_(app: DemoView, pilot: Pilot[None]) -> None:
        await pilot.press("q")

    assert viewed(Rehearsal(), quit_).error is None
    timed = Rehearsal()

    async def pass_time(app: DemoView, pilot: Pilot[None]) -> None:
        assert "10 s left" in screen(app)
        timed.seconds = 11.0
        app.refresh_view()

    assert viewed(timed, pass_time, length_s=10.0).error is None
    dying = Rehearsal()

    async def die(app: DemoView, pilot: Pilot[None]) -> None:
        dying.dead = True
        app.refresh_view()

    assert isinstance(viewed(dying, die).error, Unavailable)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage("amqtt", "54") as playing:
        yield playing


def test_view_on_the_real_stage(stage: Stage) -> None:
    async def until(done: Callable[[], bool], pilot: Pilot[None]) -> None:
        for _ in range(150):
            if done():
                return
            await pilot.pause(0.1)
        raise AssertionError("it did not come to that")

    async def play(app: DemoView, pilot: Pilot[None]) -> None:
        await until(lambda: stage.is_all_delivered, pilot)
        await pilot.press("b")
        await until(lambda: stage.backlog >= 1, pilot)
        await pilot.press("b")
        await until(lambda: stage.is_all_delivered, pilot)

    viewed(stage, play)
    summary, _ = stage.finish()
    assert summary.complete
    assert summary.backlog_max >= 1
