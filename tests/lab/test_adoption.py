"""A gateway died with events unsent; its card goes into the reader of another machine, which goes on in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.prepared import installed
from tests.lab.shop import Shop, shop

pytestmark = pytest.mark.lab

CARD = "/root/dead.img"
LEFT = f"""
truncate -s 64M {CARD}
mkfs.ext4 -q {CARD}
mount -o loop {CARD} /mnt
mkdir -p /mnt/var/lib
cp -a /var/lib/gateway /mnt/var/lib/
umount /mnt
gzip -1 -c {CARD} | base64 -w0
"""


def test_backlog_of_a_dead_gateways_card_comes_home_under_its_ids(front: Shop, tmp_path: Path) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.broker.freeze()
    front.walk("in", "out")
    front.wait(lambda: front.status()["streams"]["door"]["backlog"] >= 2, "two that wait")
    front.machine.sh(f"kill -KILL {front.main_pid()}; systemctl stop gateway")
    image = front.machine.sh(LEFT, 180)
    front.machine.cut_power()
    front.broker.thaw()
    assert len(front.doors()) == 1
    with shop(tmp_path / "next", installed()) as heir:
        heir.broker, consumer = front.broker, front.consumer
        heir.configure()
        heir.machine.put("/root/dead.b64", image)
        heir.machine.sh(f"base64 -d /root/dead.b64 | gunzip > {CARD}; mount -o loop {CARD} /mnt", 120)
        said = heir.machine.sh("gateway adopt /mnt", 120)
        heir.machine.sh("systemctl enable -q gateway; systemctl start gateway", 120)
        heir.listen_at_the_door()
        heir.walk("out")
        heir.wait(lambda: len(front.doors()) == 4, "what was unsent, and what came after")
        assert front.doors() == ["in", "in", "out", "out"], said
        last = consumer.of("store.door.passed")[-1]["data"]
        assert (last["in_total"], last["out_total"]) == (2, 2)
        front.complete()
        again = heir.machine.try_run("gateway adopt /mnt", 120)
        assert again.status != 0
        assert "adopted" in again.out + again.err
