"""A card that is full, and one whose file system gave up and is read-only until it was checked."""

from __future__ import annotations

import json

import pytest

from tests.lab.shop import Shop

pytestmark = pytest.mark.lab

FILL = "fallocate -l $(($(stat -f -c '%a * %S' / | sed 's/*/\\*/' | xargs expr) - 65536)) /var/fill 2>/dev/null"
STATE = "/var/lib/gateway"
CARD = "/root/card.img"
MOUNT = f"mount -o loop,errors=remount-ro {CARD} {STATE}"
MADE = f"""
truncate -s 64M {CARD}
mkfs.ext4 -q {CARD}
mkdir -p {STATE}
{MOUNT}
chown gateway:gateway {STATE}
"""
GIVES_UP = "echo 1 > /sys/fs/ext4/loop0/trigger_fs_error"
"""What the kernel does where ext4 finds itself damaged: https://docs.kernel.org/admin-guide/abi-testing.html"""
CHECKED = f"umount -l {STATE}; sleep 1; fsck.ext4 -y {CARD}; {MOUNT}"


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


def failed(front: Shop) -> dict[str, str]:
    """Return what the doctor finds wrong, as a technician asks."""
    checks = json.loads(front.machine.try_run("runuser -u gateway -- gateway doctor --json", 180).out)["checks"]
    return {f"{check['group']}/{check['name']}": check["found"] for check in checks if check["result"] == "failed"}


def test_card_that_gave_up_is_named_and_goes_on_after_its_check(front: Shop) -> None:
    """Nothing can be recorded on it: what happens then ends with the stop, and is said; nothing recorded does."""
    front.machine.sh(MADE, 120)
    front.open()
    front.walk("in", "in")
    front.expect("door.passed", 2)
    front.machine.sh(GIVES_UP)
    assert front.machine.try_run(f"touch {STATE}/x").status != 0
    front.walk("out")
    front.wait(lambda: front.status()["outbox"]["degraded"], "the trouble")
    found = failed(front)
    assert "takes no files" in found["outbox/directory"]
    assert "read-only" in found["machine/disk"]
    assert front.is_active()
    front.machine.sh("systemctl stop gateway", 60)
    said = front.journal()
    assert "waits in memory" in said
    assert "events of stream door could not be recorded, and are lost" in said
    front.machine.sh(f"{CHECKED}; systemctl start gateway", 120)
    front.listen_at_the_door()
    front.walk("out")
    front.wait(lambda: front.doors() == ["in", "in", "out"], "the passage after the check")
    front.complete()
    assert not front.consumer.ledger.report().reissued
