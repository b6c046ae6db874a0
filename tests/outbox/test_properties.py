"""The outbox against a plain list, under any interleaving of what can be done to it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbox.intervals import Intervals
from tests.outbox.conftest import Bench

ACTS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("acknowledge"), st.integers(1, 30), st.integers(0, 6)),
    st.tuples(st.just("read"), st.integers(0, 30), st.integers(1, 5)),
    st.tuples(st.sampled_from(["commit", "save", "kill", "stop"])),
    st.tuples(st.just("wait"), st.integers(1, 12)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTS, max_size=40))
def test_the_outbox_is_a_list_that_survives(acts: list[tuple[object, ...]]) -> None:
    bench = Bench()
    appended: list[bytes] = []
    durable, acknowledged, saved = 0, set[int](), set[int]()
    for act in acts:
        match act:
            case ("append", int(count)):
                for _ in range(count):
                    content = b'{"n":%d}' % (len(appended) + 1)
                    assert bench.outbox.append("door", content, bench.now) == len(appended) + 1
                    appended.append(content)
            case ("acknowledge", int(first), int(more)):
                last = min(first + more, durable)
                bench.outbox.acknowledge("door", first, last)
                acknowledged |= set(range(first, last + 1))
            case ("read", int(after), int(limit)):
                expected = [n for n in range(after + 1, durable + 1) if n not in acknowledged][:limit]
                found = bench.outbox.read("door", after, limit, 1 << 20)
                assert [(entry.sequence, entry.payload) for entry in found] == [(n, appended[n - 1]) for n in expected]
            case ("commit",):
                bench.outbox.commit(bench.now)
            case ("save",):
                bench.outbox.save_soon()
                bench.pass_time(0.001)
                saved = set(acknowledged)
            case ("wait", int(seconds)):
                bench.pass_time(seconds)
            case ("stop",):
                bench.outbox.close(bench.now)
                bench.open()
                saved = set(acknowledged)
            case ("kill",):
                bench.open()
                found_again = set(bench.sequences("door"))
                acknowledged = set(range(1, bench.outbox.positions("door").recorded_through + 1)) - found_again
                assert saved <= acknowledged
                assert bench.outbox.positions("door").recorded_through == durable
                del appended[durable:]
        durable = bench.outbox.positions("door").recorded_through
        assert bench.outbox.positions("door").backlog == durable - len(acknowledged)


RUNS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=30)


@given(RUNS, st.integers(1, 70), st.integers(0, 20))
def test_intervals_are_a_set(runs: list[tuple[int, int]], first: int, length: int) -> None:
    intervals, numbers = Intervals(), set[int]()
    for start, more in runs:
        intervals.add(start, start + more)
        numbers |= set(range(start, start + more + 1))
        lasts = [0, *(last for _, last in intervals.runs)]
        assert all(low < high for low, high in intervals.runs) or all(low <= high for low, high in intervals.runs)
        assert all(run[0] > before + 1 for run, before in zip(intervals.runs, lasts[:-1], strict=True) if before)
    asked = set(range(first, first + length))
    assert intervals.count(first, first + length - 1) == len(asked & numbers)
    assert intervals.covers(first, first + length - 1) == (asked <= numbers)
    assert {n for a, b in intervals.open_within(first, first + length - 1) for n in range(a, b + 1)} == asked - numbers
    assert intervals.next_open(first) == next(n for n in range(first, 200) if n not in numbers)
