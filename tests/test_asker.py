"""A disk that does not answer what the loop asks: the loop goes on, it is said, and nothing is lost by it."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gateway.machine.asker as asker_module
from gateway.commands.verbs import CommandRefused
from gateway.config import Configuration, loads
from gateway.config.overlay import Ordered, Probation, read_ordered, write_ordered
from gateway.daemon import service
from gateway.engine.assembly import World, assemble
from gateway.errors import OutboxUnusable
from gateway.machine.asker import AskedDisk, Asker
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk, Space
from gateway.outbox.writing import InlineWriter
from gateway.privacy import DayKeys, Period
from tests.daemon import wait_for
from tests.outbox.conftest import event

WITHIN_S = 0.1
LONG_S = 10.0


class Hanging(RealDisk):
    """The real disk, but what reads waits while it hangs."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.asked = 0
        self.waits: tuple[str, ...] = ("names", "open_reading", "read_at", "space")

    def wait(self, call: str = "space") -> None:
        self.asked += 1
        if call in self.waits:
            assert self.goes_on.wait(LONG_S)

    def open_reading(self, path: str) -> int:
        self.wait("open_reading")
        return super().open_reading(path)

    def read_at(self, fd: int, count: int, offset: int) -> bytes:
        self.wait("read_at")
        return super().read_at(fd, count, offset)

    def space(self, path: str) -> Space:
        self.wait()
        return super().space(path)

    def names(self, directory: str) -> list[str]:
        self.wait("names")
        return super().names(directory)


@pytest.fixture
def asker() -> Iterator[Asker]:
    asker = Asker()
    asker.limit(WITHIN_S)
    yield asker
    asker.close()


@pytest.fixture
def disk() -> Iterator[Hanging]:
    disk = Hanging()
    yield disk
    disk.goes_on.set()


def test_what_is_answered_in_time_is_as_if_asked_directly(asker: Asker, tmp_path: Path) -> None:
    disk = AskedDisk(RealDisk(), asker)
    fd = disk.open(str(tmp_path / "file"), create=True)
    disk.write_at(fd, b"content", 0)
    disk.sync(fd)
    assert disk.read_at(fd, 99, 3) == b"tent"
    disk.close(fd)
    with pytest.raises(FileNotFoundError):
        disk.open_reading(str(tmp_path / "absent"))
    assert disk.answers


def test_a_question_without_an_answer_costs_a_moment_and_those_behind_it_none(asker: Asker, disk: Hanging) -> None:
    asked = AskedDisk(disk, asker)
    disk.goes_on.clear()
    for _ in range(1000):  # each for itself would take 100 s
        with pytest.raises(TimeoutError, match="does not answer"):
            asked.space("/")
    assert disk.asked == 1
    assert not asked.answers
    disk.goes_on.set()
    wait_for(lambda: asked.answers, what="the late answer")
    assert asked.space("/").total_bytes > 0


def test_a_file_that_is_opened_too_late_is_closed(asker: Asker, disk: Hanging, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    asked = AskedDisk(disk, asker)

    def held() -> int:
        found = (os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
        return sum(path == str(tmp_path / "file") for path in found)

    disk.goes_on.clear()
    with pytest.raises(TimeoutError):
        asked.open_reading(str(tmp_path / "file"))
    disk.goes_on.set()
    wait_for(lambda: asked.answers, what="the late answer")
    assert held() == 1
    asked.space("/")
    wait_for(lambda: not held(), what="the close of what nobody waits for")


def test_until_a_limit_is_set_it_waits_as_long_as_it_takes(disk: Hanging) -> None:
    asked = AskedDisk(disk, Asker())
    disk.goes_on.clear()
    threading.Timer(2 * WITHIN_S, disk.goes_on.set).start()
    assert asked.space("/").total_bytes > 0


class NoLink:
    def obey(self, order: Any) -> None: ...

    def close(self) -> None: ...


def configured(folder: Path) -> Configuration:
    return loads(
        f'[site]\nstore = "1"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n[outbox]\ndirectory = "{folder}/outbox"\n'
        '[[door]]\nid = "entrance"\nbeam_pin = 4\n'
    )


def world_on(disk: Hanging, asker: Asker) -> World:
    writer = InlineWriter(RealDisk())
    return World(SystemClock(), disk, lambda wake: writer, lambda *_: NoLink(), random.Random(1), asker=asker)


@pytest.mark.parametrize("call", ["names", "open_reading", "read_at"])
def test_an_opening_on_a_disk_that_does_not_answer_ends_in_a_sentence(
    asker: Asker, disk: Hanging, tmp_path: Path, call: str
) -> None:
    configuration, world = configured(tmp_path), world_on(disk, asker)
    outbox = assemble(configuration, world, lambda identity, now: None).outbox
    outbox.append("door", event(1), now := world.clock.now())
    outbox.close(now)
    disk.waits = (call,)
    disk.goes_on.clear()
    with pytest.raises(OutboxUnusable, match=f"the disk of the outbox {tmp_path}/outbox does not answer") as refused:
        assemble(configuration, world, lambda identity, now: None)
    assert refused.value.exit_code == 73
    assert "dmesg" in refused.value.advice
    disk.goes_on.set()
    wait_for(lambda: asker.is_answered, what="the late answer")
    outbox = assemble(configuration, world, lambda identity, now: None).outbox
    assert [entry.payload for entry in outbox.read("door", 0, 9, 9999)] == [event(1)]
    outbox.close(now)


def test_a_service_does_not_begin_on_a_disk_that_does_not_answer(
    asker: Asker, disk: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outbox").mkdir()
    monkeypatch.setattr(service, "OPENING_WITHIN_S", WITHIN_S)
    begun = service.Service(configured(tmp_path), world_on(disk, asker))
    disk.goes_on.clear()
    with pytest.raises(OutboxUnusable, match="does not answer"):
        begun._ask_at_start(disk.wait)
    with pytest.raises(OutboxUnusable, match="does not answer"):
        begun.run()


def test_files_of_the_configuration_hold_the_loop_for_no_longer_than_its_patience(
    asker: Asker, disk: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker_module, "PATIENCE_S", WITHIN_S)
    configuration, now = configured(tmp_path), SystemClock().now()
    recorded: list[Any] = []
    link = SimpleNamespace(counters=SimpleNamespace(acknowledged=1), answer=lambda *_: None)
    engine: Any = SimpleNamespace(uplink=link, record=lambda events, now: recorded.extend(events))
    trial = Probation(configuration.sha256, 60.0, "topic")
    write_ordered(configuration.outbox.directory, Ordered({"health": {"every": 60}}, trial))
    world = world_on(disk, asker)
    running = service.Service(configuration, world, reread=lambda: configuration, overlaid=lambda _: configuration)
    remote = running._remote
    remote.count_start()
    disk.goes_on.clear()
    with pytest.raises(TimeoutError):
        asker.call(disk.wait, within_s=WITHIN_S)
    remote.watch(engine, now)
    assert not recorded, "what cannot be kept is not settled"
    remote._trial, on_trial = None, remote._trial
    with pytest.raises(CommandRefused, match="does not answer") as refused:
        remote.order(engine, {"config": {"health": {"every": 61}}}, "topic", None, now)
    assert refused.value.code == "failed"
    (rejected,) = running._reload(now)
    assert rejected.fact.outcome == "rejected"  # type: ignore[attr-defined]
    remote._trial = on_trial
    disk.goes_on.set()
    wait_for(lambda: asker.is_answered, what="the late answer")
    remote.watch(engine, now)
    assert read_ordered(configuration.outbox.directory) == Ordered({"health": {"every": 60}})


def test_the_engine_goes_on_beside_a_disk_that_does_not_answer(asker: Asker, disk: Hanging, tmp_path: Path) -> None:
    configuration, world = configured(tmp_path), world_on(disk, asker)
    outbox = assemble(configuration, world, lambda identity, now: None).outbox
    outbox.append("door", event(1), now := world.clock.now())
    outbox.commit(now)
    outbox.close(now)
    outbox = assemble(configuration, world, lambda identity, now: None).outbox  # what is of this run stands in memory
    disk.goes_on.clear()
    assert outbox.read("door", 0, 9, 9999) == []
    assert outbox.stopped_short
    assert outbox.free_bytes() is None
    outbox.append("door", event(2), now := world.clock.now())
    outbox.commit(now)
    assert outbox.positions("door").recorded_through == 2, "what can be written is recorded"
    outbox.step(now.later(6 * 10**9))
    assert "does not answer" in str(outbox.unreadable)
    disk.goes_on.set()
    wait_for(lambda: AskedDisk(disk, asker).answers, what="the late answer")
    outbox.step(now := now.later(120 * 10**9))
    assert [entry.payload for entry in outbox.read("door", 0, 9, 9999)] == [event(1), event(2)]
    assert outbox.unreadable is None
    assert outbox.status().lost == 0
    outbox.close(now)


def test_the_days_key_lives_in_memory_while_the_disk_does_not_answer(
    asker: Asker, disk: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monday, tuesday = Period("2026-11-23"), Period("2026-11-24")
    path = tmp_path / "privacy.key"
    keys = DayKeys(path, ask=asker.call)
    first = keys.key_of(monday)
    disk.goes_on.clear()
    with pytest.raises(TimeoutError):
        asker.call(disk.wait)
    keys.destroy_others(monday)
    assert keys.key_of(monday) == first
    assert keys.key_of(tuesday) != first
    disk.goes_on.set()
    wait_for(lambda: asker.is_answered, what="the late answer")
    keys.destroy_others(tuesday)
    assert not path.exists() or first.hex() not in path.read_text(), "destroyed as soon as it can be"
