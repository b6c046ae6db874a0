"""The engine's loop in one process, on the real disk and a clock of the test's own: every kind of item, every count."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import loads
from gateway.engine.assembly import World, assemble
from gateway.engine.engine import (
    DRAIN_MAX,
    READINGS_MAX,
    READINGS_PATIENT_MAX,
    WAIT_MAX_S,
    Due,
    Engine,
    Passing,
    Question,
    Say,
    Wake,
    fold,
)
from gateway.errors import ConfigurationError
from gateway.facts import ConfigChanged
from gateway.machine.disk import RealDisk
from gateway.model import NS_PER_MS, NS_PER_S, CommandReceived, DriverFailed, Event, Instant, Order
from gateway.outbox.memory import ANCHORS_MAX
from gateway.outbox.upkeep import PENDING_BYTES_MAX, PENDING_PATIENT_BYTES
from gateway.outbox.writing import InlineWriter
from gateway.sensors.shelf.facts import ShelfChanged

BOOT_NS, WALL_NS = 50 * NS_PER_S, 1_795_000_000 * NS_PER_S


class Hand:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.at = Instant(BOOT_NS, WALL_NS, "unsynced")
        self.bootid = "aaaaaaaa"

    def now(self) -> Instant:
        return self.at

    def pass_time(self, seconds: float, wall_s: float = 0.0, clock: Any = None) -> None:
        boot_ns, step_ns = int(seconds * NS_PER_S), int(wall_s * NS_PER_S)
        self.at = Instant(self.at.boot_ns + boot_ns, self.at.wall_ns + boot_ns + step_ns, clock or self.at.clock)


class Silent:
    """A link that goes nowhere."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def obey(self, order: Order) -> None:
        self.orders.append(order)

    def close(self) -> None: ...


class Bench:
    def __init__(self, folder: Path) -> None:
        self.clock, self.link, disk = Hand(), Silent(), RealDisk()
        configuration = loads(
            f'[site]\nstore = "1"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n[outbox]\ndirectory = "{folder}/outbox"\n'
            '[[door]]\nid = "entrance"\nbeam_pin = 4\n'
        )
        clock: Any = self.clock
        world = World(clock, disk, lambda wake: InlineWriter(disk), lambda *rest: self.link, random.Random(1))
        self.engine: Engine = assemble(configuration, world, lambda identity, now: None)
        self.step(2)

    def step(self, seconds: float = 0.0) -> None:
        self.clock.pass_time(seconds)
        self.engine.step()

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of the recorded events of a type, in order."""
        self.step(2)
        entries = self.engine.outbox.read("gateway", 0, 1000, 1 << 20)
        found = [json.loads(entry.payload) for entry in entries]
        return [event["data"] for event in found if event["type"] == f"store.{kind}"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    found.engine.outbox.close(found.clock.now())


@pytest.mark.parametrize(("step_s", "told"), [(0.9, []), (1.0, []), (1.25, [1250]), (-5, [-5000]), (1e8, [10**11])])
def test_a_step_of_the_wall_clock_of_more_than_a_second_is_an_event(
    bench: Bench, step_s: float, told: list[int]
) -> None:
    stepped: list[int] = []
    bench.engine.clock_stepped = lambda: stepped.append(1)
    bench.clock.pass_time(1, step_s)
    bench.step()
    bench.step(1)
    assert [data["by_ms"] for data in bench.told("gateway.clock_set")] == told
    assert len(stepped) == len(told)


def test_the_wall_clock_of_a_boot_is_remembered_once_and_used_once_durable(bench: Bench) -> None:
    assert bench.engine.anchors == {}
    bench.engine.outbox.memory.anchors = {f"{number:08}": number for number in range(ANCHORS_MAX)}
    bench.clock.pass_time(1, clock="synced")
    bench.step()
    bench.step(1)
    wanted = (bench.clock.at.wall_ns - bench.clock.at.boot_ns) // NS_PER_MS
    assert bench.engine.anchors["aaaaaaaa"] == wanted
    kept = bench.engine.outbox.memory.anchors
    assert (len(kept), kept["aaaaaaaa"], "00000000" in kept) == (ANCHORS_MAX, wanted, False)
    bench.clock.pass_time(1, 0.5)
    bench.step()
    assert bench.engine.outbox.memory.anchors["aaaaaaaa"] == wanted, "the first one counts"


def test_what_was_never_recorded_is_told_in_full_and_every_ten_seconds_at_most(bench: Bench) -> None:
    engine = bench.engine
    for _ in range(READINGS_MAX + 7):
        engine.offer(DriverFailed("entrance", bench.clock.now(), "driver_missing", "it is not there"))
    for _ in range(READINGS_MAX // DRAIN_MAX):
        bench.step()
    assert engine.is_idle(), "what waits is taken two thousand at a time"
    (told,) = bench.told("gateway.readings_discarded")
    assert told == {"sensor": "entrance", "count": 7, "reason": "inbox_full"}
    assert engine.counters["readings_discarded"] == 7
    assert engine.interpretation.by_sensor["entrance"].discarded == 7
    engine._discard("entrance", "disk_full", 2)
    engine._discard("entrance", "disk_full")
    bench.step(5)
    assert len(bench.told("gateway.readings_discarded")) == 1
    bench.step(5)
    assert bench.told("gateway.readings_discarded")[1:] == [{"sensor": "entrance", "count": 3, "reason": "disk_full"}]
    assert engine.counters["readings_discarded"] == 10


def test_one_step_takes_two_thousand_items(bench: Bench) -> None:
    for _ in range(DRAIN_MAX + 1):
        bench.engine.offer(Wake())
    bench.step()
    assert not bench.engine.is_idle()
    bench.step()
    assert bench.engine.is_idle()


def test_a_source_that_can_wait_waits_for_the_inbox(bench: Bench) -> None:
    for _ in range(READINGS_PATIENT_MAX - 1):
        bench.engine.emit(Wake())
    assert bench.engine.has_room()
    bench.engine.emit(Wake())
    assert not bench.engine.has_room()


LARGE = b'{"x":"%b"}' % (b"y" * 60_000)


def test_a_source_that_can_wait_waits_for_the_disk(bench: Bench) -> None:
    engine = bench.engine
    while engine.outbox.status().pending_bytes < PENDING_PATIENT_BYTES:
        assert engine.has_room()
        assert engine.outbox.append("beacon", LARGE, bench.clock.now())
    assert not engine.has_room()
    bench.step()
    assert engine.has_room()
    assert engine.outbox.status().lost == 0


def test_a_burst_in_one_moment_is_recorded_whole_where_the_disk_takes_it(bench: Bench) -> None:
    now = bench.clock.now()
    told = ConfigChanged("0" * 60_000, "sighup", "applied")
    bench.engine.record((Event("gateway", now, told) for _ in range(2 * PENDING_BYTES_MAX // 60_000)), now)
    assert bench.engine.outbox.status().lost == 0
    assert bench.engine._discarded == {}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(None, "memory_full"), (errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EIO, "disk_failed")],
)
@pytest.mark.parametrize("tries", [1, 3])
def test_what_the_outbox_does_not_take_is_told_with_its_true_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: int | None, reason: str, tries: int
) -> None:
    def refuse(self: RealDisk, fd: int, content: bytes, offset: int) -> None:
        assert failure is not None
        raise OSError(failure, os.strerror(failure))

    engine = bench.engine
    with monkeypatch.context() as patch:
        if failure is None:  # a card that neither takes a write nor refuses it
            patch.setattr(InlineWriter, "submit", lambda self, job: None)
        else:
            patch.setattr(RealDisk, "write_at", refuse)
        for _ in range(PENDING_BYTES_MAX // 60_000):
            engine.outbox.append("door", LARGE, bench.clock.now())
        for _ in range(tries):
            bench.step(5)
        for content in (LARGE, b'{"x":1}'):
            while engine.outbox.append("door", content, bench.clock.now()):
                pass
        engine.record([Event("aisle", bench.clock.now(), ShelfChanged(-1.0, 2.0))], bench.clock.now())
        assert engine._discarded == {("aisle", reason): 1}
    if failure is None:
        return
    bench.step(60)
    (told,) = bench.told("gateway.readings_discarded")
    assert told == {"sensor": "aisle", "count": 1, "reason": reason}


def test_questions_routines_commands_and_answers_reach_whom_they_are_for(bench: Bench) -> None:
    engine, said, done = bench.engine, [], []  # type: ignore[var-annotated]
    engine.offer(Question("status", {"a": 1}, said.append))
    bench.step()
    assert said == [{"error": "not answered here"}]
    engine.answer = lambda verb, arguments, now: {"verb": verb, **arguments, "at": now.boot_ns}
    engine.offer(Question("status", {"a": 1}, said.append))
    bench.step()
    assert said[1] == {"verb": "status", "a": 1, "at": bench.clock.now().boot_ns}
    command = CommandReceived(1, "ping", b"{}")
    engine.offer(command)
    bench.step()
    engine.command = lambda received, now: done.append((received, now))
    engine.offer(command)
    bench.step()
    assert done == [(command, bench.clock.now())]
    engine.routines["told"] = lambda now: [Event("gateway", now, ConfigChanged("0" * 64, "sighup", "applied"))]
    engine.offer(Due("told"))
    engine.offer(Due("unknown"))
    engine.offer(Passing(bench.clock.now()))
    bench.step()
    assert [data["outcome"] for data in bench.told("gateway.config_changed")] == ["applied"]
    before = engine.uplink.counters.answers_dropped
    engine.offer(Say("topic", b"{}", b"7"))
    bench.step()
    assert engine.uplink.counters.answers_dropped == before + 1, "without a link it is dropped, and counted"


def test_a_reading_reaches_its_interpreter_and_who_listens(bench: Bench) -> None:
    heard: list[Any] = []
    bench.engine.listeners.append(heard.append)
    reading = DriverFailed("entrance", bench.clock.now(), "driver_missing", "it is not there")
    assert bench.engine.offer(reading)
    bench.step()
    assert heard == [reading]
    assert [data["reason"] for data in bench.told("sensor.failed")] == ["driver_missing"]


def test_an_event_that_cannot_be_written_is_counted_and_stops_nothing(bench: Bench) -> None:
    recorded = bench.engine.outbox.recorded
    odd: Any = ConfigChanged("0" * 64, float("nan"), "applied")  # type: ignore[arg-type]
    good = ConfigChanged("1" * 64, "sighup", "applied")
    now = bench.clock.now()
    bench.engine.record([Event("gateway", now, odd), Event("gateway", now, good)], now)
    assert bench.engine.counters["events_unwritable"] == 1
    bench.engine.outbox.commit(now)
    assert bench.engine.outbox.recorded == recorded + 1


def test_it_sleeps_a_second_at_most_and_not_past_what_is_due(bench: Bench) -> None:
    now = bench.clock.now()
    assert 0 <= bench.engine.due_in_s(now) <= WAIT_MAX_S == 1.0
    bench.engine.record([Event("gateway", now, ConfigChanged("1" * 64, "sighup", "applied"))], now)
    bench.engine.outbox.step(now)
    wait_s = bench.engine.due_in_s(now)
    bench.clock.pass_time(0.999)
    assert bench.engine.due_in_s(bench.clock.now()) <= max(0.0, wait_s - 0.998)


def test_a_clock_step_is_told_to_the_sensors_with_both_times(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Instant, Instant]] = []

    def clock_set(self: Any, before: Instant, after: Instant) -> tuple[Event, ...]:
        told.append((before, after))
        return ()

    kind = type(bench.engine.interpretation)
    monkeypatch.setattr(kind, "clock_set", clock_set)
    bench.clock.pass_time(1, 60, clock="synced")
    bench.step()
    ((before, after),) = told
    now = bench.clock.now()
    assert after == now
    assert before == Instant(now.boot_ns, now.wall_ns - 60 * NS_PER_S, "unsynced")


class Recorded:
    """A recording's time: only readings let it pass."""

    def now(self, now: Instant) -> Instant | None:
        return None

    def stamp(self, at: Instant, now: Instant) -> Instant:
        return now


def test_in_a_recordings_time_the_last_reading_says_how_far_it_is(bench: Bench) -> None:
    bench.engine.sensor_time = Recorded()
    now = bench.clock.now()
    assert bench.engine.sensed(now) == now
    bench.engine.offer(Passing(Instant(7, 8)))
    bench.step()
    assert bench.engine.sensed(now) == Instant(7, now.wall_ns, now.clock)


def test_what_is_known_of_a_sensor_is_replaced_only_where_it_changed() -> None:
    memory: dict[str, Any] = {}
    same, fresh = {"a": 1}, {"a": 2}
    fold(memory, lambda *about: same, "door", "entrance", "kind", {})
    assert memory == {"door": {"entrance": {"a": 1}}}
    kept = memory["door"]
    fold(memory, lambda subject, known, kind, data: known, "door", "entrance", "kind", {})
    assert memory["door"] is kept
    fold(memory, lambda *about: fresh, "door", "side", "kind", {})
    assert memory == {"door": {"entrance": {"a": 1}, "side": {"a": 2}}}
    assert kept == {"entrance": {"a": 1}}, "what the outbox holds is never changed where it stands"


def test_an_answer_goes_out_as_it_was_worked_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(type(bench.engine.uplink), "answer", lambda self, *about: said.append(about))
    bench.engine.offer(Say("topic", b"payload", b"7"))
    bench.step()
    assert said == [("topic", b"payload", b"7")]


def test_only_a_full_inbox_counts_against_a_sensor(bench: Bench) -> None:
    bench.engine._discard("entrance", "disk_failed", 5)
    bench.engine._discard("nobody", "inbox_full", 2)
    bench.step(11)
    assert bench.engine.interpretation.by_sensor["entrance"].discarded == 0
    assert bench.engine.counters["readings_discarded"] == 7
    recorded = [json.loads(entry.payload) for entry in bench.engine.outbox.read("gateway", 0, 100, 1 << 20)]
    assert {event["bootid"] for event in recorded} == {bench.clock.bootid}


def test_what_is_due_ends_the_sleep(bench: Bench) -> None:
    now = bench.clock.now()
    bench.engine.record([Event("gateway", now, ConfigChanged("1" * 64, "sighup", "applied"))], now)
    bench.clock.pass_time(5)
    began = time.monotonic()
    bench.engine.step(wait_s=30.0)
    assert time.monotonic() - began < 5, "something is due now"


def test_an_outbox_is_not_gone_on_with_under_another_name(tmp_path: Path) -> None:
    def run(gateway: str) -> None:
        text = f'[site]\nstore = "1"\ngateway = "{gateway}"\n[outbox]\ndirectory = "{tmp_path}/outbox"\n'
        disk = RealDisk()
        world = World(Hand(), disk, lambda wake: InlineWriter(disk), lambda *rest: Silent(), random.Random(1))
        engine = assemble(loads(text), world, lambda identity, now: None)
        engine.outbox.close(engine.clock.now())

    run("front")
    run("front")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match="has the events of /stores/1/gateways/front") as refused:
        run("back")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before, "nothing is changed"
    assert "as they were" in refused.value.advice
    run("front")
