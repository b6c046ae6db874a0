"""The network cable, pulled and plugged, with a restart in between."""

from __future__ import annotations

import time

import pytest

from tests.lab.shop import Shop

pytestmark = pytest.mark.lab

BREAK_S = 25.0


@pytest.mark.core
def test_cable_out_with_a_restart_in_between_loses_nothing(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.machine.cable(False)
    front.walk("in", "out")
    time.sleep(BREAK_S)
    front.machine.sh(f"kill -KILL {front.main_pid()}; sleep 2; systemctl restart gateway", 120)
    front.listen_at_the_door()
    front.walk("in", "out", "in")
    time.sleep(3)
    assert len(front.doors()) == 1
    front.machine.cable(True)
    front.expect("door.passed", 6, within_s=120)
    front.complete()
    assert front.doors() == ["in", "in", "out", "in", "out", "in"]
    assert len(front.consumer.of("store.gateway.started")) == 2


def test_broker_frozen_and_thawed_loses_nothing(front: Shop) -> None:
    front.open()
    front.broker.freeze()
    front.walk("in", "out", "in")
    time.sleep(BREAK_S)
    front.broker.thaw()
    front.expect("door.passed", 3, within_s=120)
    front.complete()
