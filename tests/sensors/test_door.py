"""A door's intervals, totals, blocked and flickering beams, its settings and recording lines."""

from __future__ import annotations

import pytest

from gateway.model import NS_PER_S, Event, Instant, data_of, rfc3339
from gateway.sensors.door.facts import DoorPassed
from gateway.sensors.door.interpreter import DoorInterpreter
from gateway.sensors.door.kind import KIND, remember
from gateway.sensors.door.reading import BeamChanged, line_of, reading_of
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.kind import Context, Faults
from tests.sensors.doors import NINE, Door, at, is_a, told

MINUTE_MS = 60_000


def test_totals_continue_from_what_is_remembered() -> None:
    known = remember({}, DoorPassed.type, {"direction": "in", "in_total": 41, "out_total": 7, "unknown_total": 2})
    assert remember(known, "store.door.counted", {"in": 3}) == known
    door = Door(remembered=known).walks_in(0).walks_out(5000)
    totals = [(d["in_total"], d["out_total"], d["unknown_total"]) for d in told(door.plays(), "passed")]
    assert totals == [(42, 7, 2), (42, 8, 2)]


def test_intervals_are_aligned_contiguous_and_told_when_empty() -> None:
    door = Door().walks_in(20 * MINUTE_MS).walks_in(21 * MINUTE_MS)
    spans = [(d["from"][11:19], d["to"][11:19], d["in"]) for d in told(door.plays(50 * MINUTE_MS), "counted")]
    assert spans == [
        ("09:00:00", "09:15:00", 0),
        ("09:15:00", "09:30:00", 2),
        ("09:30:00", "09:45:00", 0),
        ("09:45:00", "09:50:00", 0),
    ]


def test_an_interval_is_told_at_its_end() -> None:
    counted = [event for event in Door().plays(16 * MINUTE_MS) if is_a(event, "counted")]
    assert counted[0].at == at(15 * MINUTE_MS)


@pytest.mark.parametrize(("ends_before_ms", "interval"), [(30, 0), (0, 1), (-30, 1)])
def test_a_passage_counts_where_its_time_lies_though_decided_later(ends_before_ms: float, interval: int) -> None:
    door = Door().walks_in(15 * MINUTE_MS - 260 - ends_before_ms)
    events = door.plays(20 * MINUTE_MS, tick_every_ms=1000)
    assert [d["in"] for d in told(events, "counted")] == [int(n == interval) for n in range(2)]
    told_in_order = [event.fact.type for event in events]
    assert told_in_order.index("store.door.passed") == interval


def test_a_set_clock_cuts_the_interval_on_both_clocks() -> None:
    interpreter = DoorInterpreter(DoorSettings("d", beam_pin=4), Context(Faults("d")))
    events = list(interpreter.tick(at(0)))
    for ms, broken in ((1000, True), (1200, False)):
        events += interpreter.read(BeamChanged("d", at(ms), "only", broken))
    before = at(5 * MINUTE_MS)
    after = Instant(before.boot_ns, before.wall_ns + 3600 * NS_PER_S)
    events += interpreter.clock_set(before, after)
    events += interpreter.finish(after.later(60 * NS_PER_S))
    spans = [(d["from"], d["to"], d["unknown"]) for d in told(events, "counted")]
    assert spans == [
        (rfc3339(NINE), rfc3339(before.wall_ns), 1),
        (rfc3339(after.wall_ns), rfc3339(after.wall_ns + 60 * NS_PER_S), 0),
    ]


def test_a_passage_pending_while_the_clock_is_set_counts_before_the_cut() -> None:
    interpreter = DoorInterpreter(DoorSettings("d", beam_pin=4), Context(Faults("d")))
    events = [*interpreter.tick(at(0)), *interpreter.read(BeamChanged("d", at(1000), "only", True))]
    events += interpreter.read(BeamChanged("d", at(1200), "only", False))
    events += interpreter.clock_set(at(1230), Instant(at(1230).boot_ns, NINE - 3600 * NS_PER_S))
    assert not told(events, "counted"), "the passage that ended at 1200 is not decided yet"
    events += interpreter.finish(Instant(at(9000).boot_ns, NINE - 3592 * NS_PER_S - 230_000_000))
    assert [d["unknown"] for d in told(events, "counted")] == [1, 0]


def test_a_beam_is_told_blocked_after_ten_seconds_and_is_nobody() -> None:
    door = Door().breaks("outer", 1000, 14_000)
    events = [event for event in door.plays() if not is_a(event, "counted")]
    assert [(event.fact.type, event.at, data_of(event.fact)) for event in events] == [
        ("store.door.blocked", at(1000), {"beam": "outer"}),
        ("store.door.cleared", at(15_000), {"beam": "outer", "blocked_ms": 14_000}),
    ]


def test_blocked_is_told_when_it_has_lasted_and_not_before() -> None:
    door = Door(single=True, blocked_after_s=3)
    door.levels += [(1000, "only", True)]
    assert not told(door.plays(3999), "blocked")
    door = Door(single=True, blocked_after_s=3)
    door.levels += [(1000, "only", True)]
    assert told(door.plays(4000), "blocked") == [{"beam": "only"}]
    assert Door(single=True, blocked_after_s=3).breaks("only", 0, 2999).passages() == ["unknown"]


def test_who_stands_in_both_beams_too_long_is_told_when_they_go() -> None:
    events = Door().walks_in(0, torso_ms=12_000).plays()
    assert told(events, "blocked") == [{"beam": "outer"}, {"beam": "inner"}]
    assert [(data["direction"], data["duration_ms"]) for data in told(events, "passed")] == [("in", 12_060)]
    turned = Door().breaks("outer", 0, 15_000).breaks("inner", 100, 14_800).plays()
    assert not told(turned, "passed")


def test_who_stands_and_sways_is_one_body() -> None:
    door = Door().walks_in(0).walks_in(4000).breaks("outer", 10_000, 40_000)
    for n in range(14):
        door.breaks("inner", 10_100 + 2800 * n, 2100)
    assert door.breaks("inner", 49_500, 700).passages() == ["in"] * 3


@pytest.mark.parametrize("is_known", [False, True])
def test_who_stood_in_the_first_beam_too_long_and_went_on_has_passed(is_known: bool) -> None:
    door = Door()
    for n in range(3 * is_known):
        door.walks_in(n * 3000)
    events = door.breaks("outer", 20_000, 12_000).breaks("inner", 31_900, 200).plays()
    assert told(events, "blocked") == [{"beam": "outer"}]
    passed = told(events, "passed")[3 * is_known :]
    assert [(data["direction"], data["duration_ms"]) for data in passed] == [("in", 12_100)]


def test_the_other_beam_counts_alone_while_one_is_blocked() -> None:
    door = Door().breaks("outer", 0, 60_000).breaks("inner", 20_000, 250).walks_in(90_000)
    assert door.passages() == ["unknown", "in"]


def test_one_who_lingers_delays_no_one_behind_him() -> None:
    door = Door().walks_in(0).walks_in(2000).walks_in(4000)
    door.breaks("outer", 6000, 9000)
    door.plays(6500)
    assert len(told(door.events, "passed")) == 3


@pytest.mark.parametrize("cycle_ms", [10, 40, 100, 200])
def test_a_flickering_beam_is_a_fault_and_no_crowd(cycle_ms: float) -> None:
    door = Door(single=True).breaks("only", 1000, 300)
    for n in range(int(20_000 / cycle_ms)):
        door.breaks("only", 10_000 + n * cycle_ms, cycle_ms / 2)
    door.breaks("only", 60_000, 300)
    events = door.plays()
    failed = next(event for event in events if is_a(event, "failed"))
    assert data_of(failed.fact)["reason"] == "flickering"
    assert failed.at == at(10_000)
    recovered = next(event for event in events if is_a(event, "recovered"))
    assert 29_500 <= recovered.at.boot_ns / 1e6 <= 30_000
    few = 2 if cycle_ms < 150 else 30  # at five cycles a second it takes five seconds to be sure
    assert 2 <= len(told(events, "passed")) <= few


def test_a_dense_queue_with_arms_does_not_flicker() -> None:
    door = Door()
    for n in range(60):
        begin = 1000 + n * 500
        door.walks_in(begin, 180, 60).breaks("outer", begin - 100, 50).breaks("inner", begin - 40, 50)
    assert not told(door.plays(), "failed")


def test_ten_thousand_edges_a_second_are_survived_in_bounded_memory() -> None:
    interpreter = DoorInterpreter(DoorSettings("d", beam_pin=4), Context(Faults("d")))
    events: list[Event] = []
    for n in range(20_000):
        events += interpreter.read(BeamChanged("d", at(n * 0.1), "only", n % 2 == 0))
    assert [event.fact.type for event in events] == ["store.sensor.failed"]


def test_a_reading_that_overtook_another_is_taken_at_the_later_moment() -> None:
    interpreter = DoorInterpreter(DoorSettings("d", beam_pin=4), Context(Faults("d")))
    events: list[Event] = []
    for ms, broken in ((1000, True), (900, False), (1200, True), (1100, False), (800, True)):
        events += interpreter.read(BeamChanged("d", at(ms), "only", broken))
    assert not [*events, *interpreter.finish(at(1201))][:-1]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, "outer_pin and inner_pin"),
        ({"outer_pin": 4}, "outer_pin and inner_pin"),
        ({"beam_pin": 4, "inner_pin": 5}, "beam_pin"),
        ({"outer_pin": 4, "inner_pin": 4}, "inner_pin are both 4"),
        ({"beam_pin": 4, "blocked_after_s": 0}, "blocked_after_s"),
        ({"beam_pin": 4, "counted_every": 0.5}, "counted_every"),
    ],
)
def test_settings_say_which_keys_are_wrong(settings: dict[str, int], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        DoorSettings("d", **settings)  # type: ignore[arg-type]


def test_lines_of_a_recording_go_both_ways_and_say_what_is_wrong() -> None:
    reading = BeamChanged("d", at(1), "inner", True)
    assert reading_of("d", at(1), line_of(reading)) == reading
    for line in ({"beam": "left", "broken": True}, {"beam": "only"}, {"beam": "only", "broken": 1}, {}):
        with pytest.raises(ValueError, match=r"beam|broken"):
            reading_of("d", at(1), line)


def test_the_kind_names_its_pins_by_their_keys() -> None:
    assert KIND.pins(DoorSettings("d", outer_pin=17, inner_pin=27)) == {"outer_pin": 17, "inner_pin": 27}
    assert KIND.pins(DoorSettings("d", beam_pin=0)) == {"beam_pin": 0}
    assert KIND.interval_s(DoorSettings("d", beam_pin=0)) == 900
