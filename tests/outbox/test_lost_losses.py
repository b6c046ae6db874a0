"""A record of a loss that is itself lost before anybody received it: what it named is named again."""

from __future__ import annotations

import json

import pytest

from tests.outbox.conftest import Bench, event


def named(bench: Bench) -> dict[str, set[int]]:
    """Return, by stream, the numbers that the loss records still to be delivered name."""
    bench.outbox.commit(bench.now)
    found: dict[str, set[int]] = {}
    entries = bench.outbox.read("gateway", 0, 10_000, 1 << 24)
    for entry in entries:
        if b"events_dropped" in entry.payload:
            data = json.loads(entry.payload)["data"]
            found.setdefault(data["stream"], set()).update(range(data["first_sequence"], data["last_sequence"] + 1))
    return found


def large(number: int) -> bytes:
    return b'{"x":"%b","n":%d}' % (b"y" * 2000, number)


def test_what_an_expired_loss_record_named_is_named_again(bench: Bench) -> None:
    bench.open(age_max=3600.0)
    bench.record("shelf", 60, large)
    shelf = set(range(1, 61))
    for _ in range(12):
        bench.pass_time(1800.0)
        bench.record("gateway", 30, large)
        bench.record("shelf", 1, event)
    for _ in range(200):
        bench.pass_time(70.0)
        bench.record("gateway", 1, large)
    still = set(bench.sequences("shelf"))
    told = named(bench).get("shelf", set())
    assert shelf <= told | still, f"neither delivered nor named: {sorted(shelf - told - still)[:5]} ..."


@pytest.mark.parametrize("saved", [True, False])
def test_what_a_damaged_loss_record_named_is_named_again(bench: Bench, saved: bool) -> None:
    bench.open(age_max=3600.0)
    bench.record("shelf", 60, large)
    for _ in range(8):
        bench.pass_time(1800.0)
        bench.record("shelf", 1, event)
    before = named(bench)["shelf"]
    assert before
    if saved:
        bench.outbox.save_soon()
        bench.outbox.step(bench.now)
    for path in bench.files("gateway"):
        bench.disk.damage(path, lambda content: content.__setitem__(slice(300, None), bytes(len(content) - 300)))
    bench.open()
    assert named(bench).get("shelf", set()) >= before
