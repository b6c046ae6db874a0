"""A Pi without a battery: it starts in 2000, counts from the first second, learns the time later; or is set wrong."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from tests.lab.shop import Shop

pytestmark = pytest.mark.lab

YEAR_2000_S = 946_684_800.0
NEAR_S = 30.0
STEP_S = 2 * 86_400.0


def true_time(shop: Shop) -> None:
    """Let the time server inside tell the host's time from now on."""
    boot_s = shop.machine.sh("cut -d' ' -f1 /proc/uptime").strip()
    shop.machine.put("/run/lab/true-time", f"{time.time()} {boot_s}")
    shop.machine.sh("systemctl start lab-time; systemctl restart systemd-timesyncd")


@pytest.mark.core
def test_events_of_the_year_2000_get_their_true_time(front: Shop) -> None:
    front.machine.sh("systemctl stop systemd-timesyncd")
    front.machine.ask("clock", unix_s=YEAR_2000_S)
    front.broker.freeze()  # with the cable out systemd-timesyncd would not even ask
    front.configure()
    front.machine.sh("systemctl enable -q gateway; systemctl start gateway", 120)
    front.listen_at_the_door()
    front.walk("in")
    walked_s = time.time()
    time.sleep(5)
    true_time(front)
    # Not the date: systemd-timesyncd takes the last one it knew before anybody has told it, and that is no sync.
    front.wait(lambda: front.machine.sh("ls /run/systemd/timesync").strip(), "a synchronised clock", 120)
    time.sleep(3)
    front.broker.thaw()
    front.expect("door.passed", within_s=120)
    event = front.consumer.of("store.door.passed")[0]
    assert event["clock"] == "estimated"
    assert abs(datetime.fromisoformat(event["time"]).timestamp() - walked_s) < NEAR_S
    front.expect("gateway.clock_set")
    front.walk("out")
    front.expect("door.passed", 2)
    late = front.consumer.of("store.door.passed")[-1]
    assert late["clock"] == "synced"
    assert abs(datetime.fromisoformat(late["time"]).timestamp() - time.time()) < NEAR_S
    front.complete()


def test_clock_that_is_set_forth_and_back_is_named_and_keeps_the_order(front: Shop) -> None:
    front.machine.sh("systemctl stop systemd-timesyncd")
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.machine.ask("clock", unix_s=time.time() + STEP_S)
    front.expect("gateway.clock_set")
    front.walk("out")
    front.expect("door.passed", 2)
    front.machine.ask("clock", unix_s=time.time())
    steps = [step["by_ms"] / 1000 for step in front.expect("gateway.clock_set", 2)]
    assert abs(steps[0] - STEP_S) < NEAR_S
    assert abs(steps[1] + STEP_S) < NEAR_S
    front.walk("in")
    front.expect("door.passed", 3)
    front.complete()
    assert front.doors() == ["in", "out", "in"]
    passed = front.consumer.of("store.door.passed")
    assert [event["uptimems"] for event in passed] == sorted(event["uptimems"] for event in passed)
    walked = [datetime.fromisoformat(event["time"]).timestamp() for event in passed]
    assert abs(walked[1] - walked[0] - STEP_S) < NEAR_S
    assert abs(walked[2] - walked[0]) < 2 * NEAR_S
