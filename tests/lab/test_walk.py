"""What a Pi's outside does to the installed service: people, tags, and how little the service may do beside."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.lab.cache import say
from tests.lab.shop import Shop

pytestmark = [pytest.mark.lab, pytest.mark.core]

SECURITY_MAX = 2.0
WAKES_MAX_HZ = 120.0
"""lgpio's transmitter looks up fifty times a second whatever it does; its alerts, which are not used, two thousand."""
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13


def test_people_through_both_beams_are_heard_outside(open_shop: Shop) -> None:
    before = len(open_shop.doors())
    open_shop.walk("in", "in", "out")
    open_shop.expect("door.passed", before + 3)
    assert open_shop.doors()[before:] == ["in", "in", "out"]
    totals = open_shop.consumer.of("store.door.passed")[-1]["data"]
    assert (totals["in_total"], totals["out_total"]) == (open_shop.passed["in"], open_shop.passed["out"])


def test_tag_is_carried_in_and_out(open_shop: Shop) -> None:
    open_shop.carry(noise_db=2)
    arrived = open_shop.expect("beacon.arrived", tag="loyalty")[-1]
    assert arrived["proximity"] in ("immediate", "near", "far")
    assert re.fullmatch("[0-9a-f]{8,}|[A-Za-z0-9_-]{8,}", arrived["identity"])
    open_shop.carry_away()
    left = open_shop.expect("beacon.left", tag="loyalty")[-1]
    assert left["identity"] == arrived["identity"]
    assert left["rssi_max_dbm"] >= -65


def test_everything_recorded_is_heard(open_shop: Shop) -> None:
    open_shop.walk("out")
    open_shop.complete()


def test_service_is_not_root_and_may_do_little(open_shop: Shop) -> None:
    said = open_shop.machine.sh("systemd-analyze security gateway --no-pager | tail -n 1")
    exposure = float(re.findall(r"(\d+\.\d) ", said)[-1])
    assert exposure <= SECURITY_MAX
    text = open_shop.machine.sh(f"cat /proc/{open_shop.main_pid()}/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def wakes(shop: Shop) -> int:
    """Return how often the daemon's threads have gone to sleep and been woken."""
    said = shop.machine.sh(f"cat /proc/{shop.main_pid()}/task/*/status")
    return sum(int(count) for count in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", said, re.M))


def test_idle_daemon_lets_the_processor_sleep(open_shop: Shop) -> None:
    before, began_s = wakes(open_shop), time.monotonic()
    time.sleep(10)
    each_s = (wakes(open_shop) - before) / (time.monotonic() - began_s)
    say(f"  {each_s:.0f} wakes a second")
    assert each_s < WAKES_MAX_HZ


def test_doctor_finds_the_pins_and_the_radio_well(open_shop: Shop) -> None:
    done = open_shop.machine.try_run("runuser -u gateway -- gateway doctor --json", 180)
    checks = json.loads(done.out)["checks"]
    failed = {check["name"]: check["found"] for check in checks if check["result"] == "failed"}
    assert not failed


def test_stop_is_clean_within_five_seconds_of_its_own(open_shop: Shop) -> None:
    open_shop.machine.sh("systemctl stop gateway", 60)
    open_shop.wait(lambda: open_shop.states("stopped"), "the state stopped")
    result = open_shop.machine.sh("systemctl show -P Result -P ExecMainStatus gateway").split()
    assert result == ["success", "0"]
    assert open_shop.consumer.of("store.gateway.stopped")
    open_shop.complete()
