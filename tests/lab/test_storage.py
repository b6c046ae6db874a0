"""A card that is full."""

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
