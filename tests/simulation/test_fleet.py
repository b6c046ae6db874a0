"""A small fleet: nobody returns in one second, everybody soon, and live events stay live on a broker that is full."""

from __future__ import annotations

import pytest

from tests.simulation.fleet import paho_return_of, return_of, traffic_of


@pytest.mark.parametrize("outage_s", [30.0, 600.0])
def test_a_fleet_is_back_within_minutes_and_never_in_one_second(outage_s: float) -> None:
    came = return_of(300, outage_s, admits_per_s=15)
    assert came.all_s < 330
    assert came.peak_per_s < 30, "a tenth of them, where paho sends all in the same second"
    assert paho_return_of(300, outage_s, admits_per_s=15).peak_per_s == 300


def test_live_events_stay_live_while_a_fleet_catches_up_on_a_full_broker() -> None:
    drained = traffic_of(10, 10_000, 300.0, 300.0)
    assert drained.live_p50_ms < 1000
    assert drained.live_p99_ms < 5000
    assert drained.breaches == 0
