"""`systemctl reload` on the real manager: a good configuration is taken over, a bad one refused, nothing is lost."""

from __future__ import annotations

import pytest

from tests.lab.shop import Shop

pytestmark = pytest.mark.lab


def reload(front: Shop, sensors: str) -> None:
    """Write the configuration anew and let systemd tell the daemon."""
    front.sensors = sensors
    front.configure()
    front.machine.sh("systemctl reload gateway", 60)


def test_reload_takes_over_a_good_configuration_and_refuses_a_bad_one(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    good, process = front.sensors, front.main_pid()
    reload(front, good.replace("left_after_s = 5", "left_after_s = 6"))
    front.expect("gateway.config_changed", outcome="applied")
    front.expect("gateway.started", 2)
    front.listen_at_the_door()
    front.walk("out")
    front.expect("door.passed", 2)
    reload(front, good.replace("left_after_s = 5", "left_after_s = -5"))
    front.expect("gateway.config_changed", outcome="rejected")
    assert "left_after_s" in front.journal()
    front.walk("in")
    front.expect("door.passed", 3)
    front.complete()
    assert front.doors() == ["in", "out", "in"]
    assert front.main_pid() == process
    assert front.machine.sh("systemctl show -P NRestarts gateway").strip() == "0"
    totals = front.consumer.of("store.door.passed")[-1]["data"]
    assert (totals["in_total"], totals["out_total"]) == (2, 1)
