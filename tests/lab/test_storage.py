"""A card that is full, and a card that the kernel has made read-only."""

from __future__ import annotations

import pytest

from tests.lab.shop import Shop

pytestmark = pytest.mark.lab

FILL = "fallocate -l $(($(stat -f -c '%a * %S' / | sed 's/*/\\*/' | xargs expr) - 65536)) /var/fill 2>/dev/null"


@pytest.mark.core
def test_full_disk_is_named_and_ends(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.machine.sh(f"{FILL}; dd if=/dev/zero of=/var/fill2 bs=4k 2>/dev/null; df / | tail -n 1")
    front.walk("in", "out", "in")
    front.machine.sh("rm /var/fill /var/fill2")
    front.walk("out")
    front.expect("door.passed", 2, within_s=120)
    front.complete()
    discarded = sum(event["data"]["count"] for event in front.consumer.of("store.gateway.readings_discarded"))
    assert len(front.doors()) == 5 or discarded, "what was lost is not named"
    assert front.is_active()


@pytest.mark.core
def test_card_gone_read_only_is_named_and_ends(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.complete()
    front.machine.sh(
        "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald 2>/dev/null; true"
    )
    front.machine.sh("echo u > /proc/sysrq-trigger; sleep 3; grep ' / ' /proc/mounts")
    front.walk("in", "out")
    degraded = front.wait(lambda: front.status().get("outbox", {}).get("degraded"), "the outbox to say so", 120)
    assert degraded
    front.machine.sh("mount -o remount,rw /", 60)
    front.walk("out")
    front.expect("door.passed", 2, within_s=120)
    front.complete()
    assert front.is_active()
