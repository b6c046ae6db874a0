"""A card that is full, and a card that the kernel has made read-only."""

from __future__ import annotations

import pytest

from tests.lab.shop import Shop

pytestmark = pytest.mark.lab

FILL = "fallocate -l $(($(stat -f -c '%a * %S' / | sed 's/*/\\*/' | xargs expr) - 65536)) /var/fill 2>/dev/null"


def all_told(front: Shop, people: int) -> bool:
    """Say whether all these were heard, or some and that readings were discarded, after the last had been through."""
    ways = front.doors()
    return len(ways) == people or (ways[-1] == "out" and bool(front.consumer.of("store.gateway.readings_discarded")))


@pytest.mark.core
def test_full_disk_is_named_and_ends(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.machine.sh(f"{FILL}; dd if=/dev/zero of=/var/fill2 bs=4k 2>/dev/null; df / | tail -n 1")
    front.walk("in", "out", "in")
    front.machine.sh("rm /var/fill /var/fill2")
    front.walk("out")
    front.wait(lambda: all_told(front, 5), "the passages, or word of their loss", 120)
    front.complete()
    assert front.is_active()


def test_card_gone_read_only_publishes_nothing_and_starts_again(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.complete()
    front.machine.sh("mount -o remount,errors=remount-ro / && echo lab > /sys/fs/ext4/vda/trigger_fs_error")
    front.wait(lambda: " / ext4 ro" in front.machine.sh("cat /proc/mounts"), "the card to be read-only")
    front.walk("in", "out")
    front.wait(lambda: front.status().get("outbox", {}).get("degraded"), "the outbox to say so", 120)
    assert len(front.doors()) == 1, "what is not on the card was published"
    front.machine.cut_power()
    front.machine.start()
    front.listen_at_the_door()
    front.walk("out")
    front.expect("door.passed", 2, within_s=120)
    front.complete()
