"""The outbox's folder is moved away while the daemon runs: it writes on, and says where that is now and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import load
from gateway.control.serving import ControlServer
from gateway.machine.disk import RealDisk
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from gateway.technician.checks import examined
from gateway.technician.checks.machine import examinations
from tests.daemon import Shop, stop, wait_for
from tests.outbox.conftest import event
from tests.outbox.histories import WALL_NS, describe_loss
from tests.uplink.brokers import free_port

NOW = Instant(0, WALL_NS)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    disk = RealDisk()
    outbox = Outbox.open(str(tmp_path / "outbox"), OutboxSettings(), disk, InlineWriter(disk), NOW, describe_loss)
    yield outbox
    outbox.close(NOW)


def test_a_folder_that_was_moved_away_is_named_until_it_is_back(outbox: Outbox, tmp_path: Path) -> None:
    assert outbox.moved() is None
    here, away = tmp_path / "outbox", tmp_path / "away"
    here.rename(away)
    assert f"{here} is now {away}" in str(outbox.moved())
    outbox.append("door", event(1), NOW)
    outbox.commit(NOW)
    assert outbox.positions("door").recorded_through == 1, "it is written where it is now"
    here.mkdir()  # another folder in its place is not the one that is written
    assert f"{here} is now {away}" in str(outbox.moved())
    here.rmdir()
    away.rename(here)
    assert outbox.moved() is None


def test_the_doctor_does_not_promise_that_the_daemon_makes_a_folder_that_it_holds(tmp_path: Path) -> None:
    (text := tmp_path / "gateway.toml").write_text(f'[site]\nstore = "1"\n[outbox]\ndirectory = "{tmp_path}/outbox"\n')
    configuration = load([text])

    def directory() -> tuple[str, str, str]:
        (found,) = (check for one in examinations(configuration) if one.name == "directory" for check in examined(one))
        return found.result, found.code, found.found

    assert directory()[:2] == ("ok", "outbox.not_made")
    (tmp_path / "outbox").mkdir()
    server = ControlServer(
        configuration, lambda verb, arguments: {"outbox": {"not_kept": "the folder is now /srv/away"}}
    )
    server.start()
    try:
        (tmp_path / "outbox").rename(tmp_path / "away")
        result, code, found = directory()
    finally:
        server.close()
    assert (result, code) == ("failed", "outbox.moved")
    assert "/srv/away" in found


@pytest.mark.slow
def test_a_daemon_says_where_its_outbox_is_and_when_it_is_back(tmp_path: Path) -> None:
    shop = Shop(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
    process = shop.run("--simulated")
    wait_for(lambda: shop.status().get("running"), what="the daemon")
    away = tmp_path / "away"
    shop.outbox.rename(away)
    told = wait_for(lambda: shop.status()["outbox"].get("not_kept"), what="the word that it was moved")
    assert str(away) in told
    checks = {check["code"]: check for check in json.loads(shop.ask("doctor", "--json").stdout)["checks"]}
    assert str(away) in checks["outbox.moved"]["found"]
    assert str(away) in checks["outbox.not_kept"]["found"]
    away.rename(shop.outbox)
    wait_for(lambda: shop.status()["outbox"].get("not_kept", "") is None, what="the word that it is back")
    _, said, _ = stop(process)
    assert "is in its place again" in said
