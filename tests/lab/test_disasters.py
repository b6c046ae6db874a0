"""What breaks around the service, or in it, one at a time; it is seen outside, and it ends by itself."""

from __future__ import annotations

from functools import partial

import pytest

from tests.lab.shop import SHELF, Shop, ibeacon

pytestmark = pytest.mark.lab

RESTARTS_WITHIN_S = 180.0
OTHER = "c0:00:00:00:00:02"


def starts(shop: Shop) -> int:
    """Return how often the daemon was heard to have started."""
    return len(shop.consumer.of("store.gateway.started"))


def more_starts(shop: Shop, than: int) -> bool:
    return starts(shop) > than


def more_doors(shop: Shop, than: int) -> bool:
    return len(shop.doors()) > than


def still_counts(shop: Shop) -> None:
    """Somebody walks in, and it is heard."""
    before = len(shop.doors())
    shop.walk("in")
    shop.wait(lambda: len(shop.doors()) > before, "the next passage")


@pytest.mark.core
def test_hung_daemon_is_restarted_by_the_watchdog(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.machine.sh(f"kill -STOP {front.main_pid()}")
    front.wait(lambda: starts(front) == 2, "the restart", RESTARTS_WITHIN_S)
    front.listen_at_the_door()
    said = front.machine.sh("journalctl -u gateway --no-pager -o cat")
    assert "Watchdog timeout" in said
    assert front.consumer.of("store.gateway.started")[-1]["data"]["clean"] is False
    still_counts(front)
    front.complete()


def test_killed_daemon_starts_again(front: Shop) -> None:
    front.open()
    for _ in range(2):
        before = starts(front)
        heard = len(front.doors())
        front.walk("in", "out")
        front.wait(partial(more_doors, front, heard + 1), "the passages")
        front.walk("in")  # whether this one was recorded in time only the ledger knows
        front.machine.sh(f"kill -KILL {front.main_pid()}")
        front.wait(partial(more_starts, front, before), "the restart", RESTARTS_WITHIN_S)
        front.listen_at_the_door()
    still_counts(front)
    front.complete()
    assert 5 <= len(front.doors()) <= 7


def test_killed_scanning_program_is_started_again(front: Shop) -> None:
    front.open()
    front.carry()
    front.expect("beacon.arrived")
    for _ in range(3):
        front.machine.sh("pkill -KILL bluepy-helper")
        front.wait(lambda: front.machine.try_run("pgrep bluepy-helper").status == 0, "the scanning program")
    front.carry_away()
    front.expect("beacon.left")
    front.carry(OTHER, data=ibeacon(1, 3))
    front.expect("beacon.arrived", 2)
    assert starts(front) == 1


def test_killed_bluetoothd_stops_no_scan_for_good(front: Shop) -> None:
    front.open()
    front.carry()
    front.expect("beacon.arrived")
    front.machine.sh("pkill -KILL bluetoothd")
    front.carry(OTHER, data=ibeacon(1, 3))
    front.expect("beacon.arrived", 2, within_s=180)
    still_counts(front)
    assert starts(front) == 1


def test_radio_that_refuses_is_told_and_comes_back(front: Shop) -> None:
    front.radio(op="fault", fault="refuses")
    front.open()
    sentence = front.expect_failure("ble", "scan_refused", "adapter_off")
    assert "hci0" in sentence
    still_counts(front)
    front.radio(op="fault", fault="none")
    front.carry()
    front.expect("beacon.arrived", within_s=180)
    front.expect("sensor.recovered")


def test_radio_that_answers_nothing_is_told_and_comes_back(front: Shop) -> None:
    front.open()
    front.carry()
    front.expect("beacon.arrived")
    front.radio(op="fault", fault="silent")
    front.machine.sh("pkill -KILL bluepy-helper")
    front.expect_failure("ble", "driver_hung", "driver_died", "scan_refused", "adapter_off", within_s=240)
    still_counts(front)
    front.radio(op="fault", fault="none")
    front.carry(OTHER, data=ibeacon(1, 3))
    front.expect("beacon.arrived", 2, within_s=400)
    assert starts(front) == 1


def test_radio_that_is_taken_away_is_told_and_comes_back(front: Shop) -> None:
    front.open()
    front.carry()
    front.expect("beacon.arrived")
    front.machine.sh("systemctl stop lab-radio")
    front.expect_failure("ble", "adapter_missing", "driver_died", "driver_hung", "scan_refused", within_s=240)
    still_counts(front)
    front.machine.sh("systemctl start lab-radio; sleep 2")
    front.carry(OTHER, data=ibeacon(1, 3))
    front.expect("beacon.arrived", 2, within_s=400)


def test_gpio_chip_that_goes_away_is_told_and_stops_no_other(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.machine.sh("echo 0 > /sys/kernel/config/gpio-sim/pi/live", 120)
    front.expect_failure("entrance", "pin_unavailable", "driver_died", within_s=120)
    front.carry()
    front.expect("beacon.arrived", within_s=120)
    front.complete()


def test_scale_that_is_not_there_is_told(front: Shop) -> None:
    front.sensors += SHELF
    front.machine.put("/sys/module/gpio_sim/parameters/hx_dt", "-1")
    front.open()
    front.expect_failure("aisle-3", "silent", "unplugged")
    still_counts(front)
