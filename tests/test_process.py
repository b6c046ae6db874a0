"""What systemd hears, on a real socket: ready, alive, reloading since when, stopping; and nothing for a hung driver."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.machine.process import (
    DRIVER_HUNG_AFTER_S,
    READY_WITHIN_S,
    WRITER_HUNG_AFTER_S,
    Notify,
    Readiness,
    Watchdog,
)
from gateway.model import NS_PER_S, Instant
from tests.daemon import Shop, stop
from tests.uplink.brokers import free_port


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self, within_s: float = 0.0) -> list[str] | None:
        """Return the words of the next message, None where none comes in time."""
        self.socket.settimeout(within_s or 0.001)
        try:
            return self.socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return None

    def waits_for(self, word: str, within_s: float = 15.0) -> list[str]:
        """Pass over what comes before `word`; return its message."""
        until = time.monotonic() + within_s
        while (left_s := until - time.monotonic()) > 0:
            if (words := self.heard(left_s)) is not None and word in words:
                return words
        raise AssertionError(f"{word} did not come within {within_s} s")


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@gateway-test-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def manager(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    found = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    yield found
    found.socket.close()


@dataclass
class Loop:
    """A driver's thread as the watchdog sees it: the moment of its last turn."""

    turned_ns: int | None

    def progress_ns(self) -> int | None:
        return self.turned_ns


IDLE = Loop(None)


def at(second: float) -> Instant:
    return Instant(int(second * NS_PER_S), int(second * NS_PER_S))


def test_words_arrive(manager: Manager) -> None:
    Notify().say("READY=1")
    assert manager.heard() == ["READY=1"]


def test_a_reload_says_since_when(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    Notify().reloading()
    words = manager.heard()
    assert words is not None
    assert words[0] == "RELOADING=1"
    key, _, usec = words[1].partition("=")
    assert key == "MONOTONIC_USEC"
    assert before <= int(usec) <= time.monotonic_ns() // 1000


def test_a_manager_that_went_away_or_is_deaf_stops_nothing(manager: Manager) -> None:
    notify = Notify()
    for _ in range(5000):  # more than its socket holds
        notify.say("WATCHDOG=1")
    manager.socket.close()
    notify.say("WATCHDOG=1")


@dataclass
class Opening:
    """A driver as readiness sees it."""

    settled: bool = False

    def is_settled(self) -> bool:
        return self.settled


def test_it_is_ready_when_every_driver_reads_or_has_told_why_not(manager: Manager) -> None:
    door, radio = Opening(settled=True), Opening()
    readiness = Readiness(Notify())
    readiness.tell({"entrance": door, "ble": radio}, at(100))
    readiness.tell({"entrance": door, "ble": radio}, at(100 + READY_WITHIN_S - 0.1))
    assert manager.heard() is None
    radio.settled = True
    for second in (104, 105, 200):
        readiness.tell({"entrance": door, "ble": radio}, at(second))
    assert [manager.heard() for _ in range(2)] == [["READY=1"], None]


def test_a_driver_without_a_word_holds_nobody_up(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    readiness = Readiness(Notify())
    for second in (0.0, READY_WITHIN_S):
        readiness.tell({"ble": Opening()}, at(100 + second))
    assert manager.heard() == ["READY=1"]
    assert "sensors=ble" in caplog.text


def test_without_sensors_it_is_ready_at_once(manager: Manager) -> None:
    Readiness(Notify()).tell({}, at(100))
    assert manager.heard() == ["READY=1"]


def test_the_watchdog_is_fed_once_a_second_however_busy_the_loop(manager: Manager) -> None:
    watchdog = Watchdog(Notify())
    for turn in range(1000):
        watchdog.feed({}, IDLE, at(100 + turn / 400))
    assert [manager.heard() for _ in range(4)] == [["WATCHDOG=1"]] * 3 + [None]


def test_a_hung_driver_stops_the_feeding_until_it_goes_on(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    radio, door = Loop(int(100 * NS_PER_S)), Loop(None)
    watchdog = Watchdog(Notify())
    with caplog.at_level(logging.ERROR):
        watchdog.feed({"ble": radio, "entrance": door}, IDLE, at(100 + DRIVER_HUNG_AFTER_S))
        assert manager.heard() == ["WATCHDOG=1"]
        for second in range(1, 61):
            watchdog.feed({"ble": radio, "entrance": door}, IDLE, at(100 + DRIVER_HUNG_AFTER_S + second))
        assert manager.heard() is None
        radio.turned_ns = int(190 * NS_PER_S)
        watchdog.feed({"ble": radio, "entrance": door}, IDLE, at(191))
        assert manager.heard() == ["WATCHDOG=1"]
    assert [record.getMessage() for record in caplog.records] == ["a driver's thread makes no progress sensors=ble"], (
        "told once, not at each turn"
    )


def test_a_card_that_stalls_or_hangs_is_fed_for_and_only_a_dead_one_is_not(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Loop(int(100 * NS_PER_S))
    watchdog = Watchdog(Notify())
    for second in (2, 5, 120, WRITER_HUNG_AFTER_S):
        watchdog.feed({}, writer, at(100 + second))
        assert manager.heard() == ["WATCHDOG=1"], f"a restart would lose what waits, {second} s into the hang"
    for second in (1, 2, 3):
        watchdog.feed({}, writer, at(100 + WRITER_HUNG_AFTER_S + second))
    assert manager.heard() is None
    assert len(caplog.records) == 1
    writer.turned_ns = int((104 + WRITER_HUNG_AFTER_S) * NS_PER_S)
    watchdog.feed({}, writer, at(105 + WRITER_HUNG_AFTER_S))
    assert manager.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize("address", ["path"], indirect=True)
def test_the_daemon_tells_of_its_whole_life(tmp_path: Path, manager: Manager) -> None:
    shop = Shop(tmp_path, f"mqtt://127.0.0.1:{free_port()}")
    daemon = shop.run("--simulated")
    try:
        manager.waits_for("READY=1")
        manager.waits_for("WATCHDOG=1")
        shop.config.write_text(shop.config.read_text() + "\n[health]\nevery = 60\n")
        daemon.send_signal(signal.SIGHUP)
        words = manager.waits_for("RELOADING=1")
        assert words[1].startswith("MONOTONIC_USEC=")
        manager.waits_for("READY=1")
        manager.waits_for("WATCHDOG=1")
    finally:
        status, said, took_s = stop(daemon)
    assert (status, took_s < 6) == (0, True), said
    manager.waits_for("STOPPING=1")
