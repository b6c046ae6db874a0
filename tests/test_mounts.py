"""Where an outbox may lie: tables of mounts as real machines show them, and one real folder in memory."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.machine.mounts import why_not_kept
from tests.daemon import Shop, stop, wait_for
from tests.uplink.brokers import free_port

PLAIN_PI = """\
23 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
24 28 0:22 / /proc rw,relatime shared:14 - proc proc rw
25 28 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=1675136k,nr_inodes=104696,mode=755
27 28 0:24 / /run rw,nosuid,nodev,noexec,relatime shared:6 - tmpfs tmpfs rw,size=387764k,mode=755
28 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
29 25 0:25 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw
99 28 179:1 / /boot/firmware rw,relatime shared:46 - vfat /dev/mmcblk0p1 rw,fmask=0022,dmask=0022
"""
OVERLAYROOT = """\
26 31 0:23 / /run rw,nosuid,nodev,noexec,relatime shared:6 - tmpfs tmpfs rw,size=387764k,mode=755
31 1 0:27 / / rw,relatime shared:1 - overlay overlayroot rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/media/root-rw/overlay-workdir/_
32 31 179:2 / /media/root-ro ro,relatime shared:2 - ext4 /dev/mmcblk0p2 ro
33 31 0:26 / /media/root-rw rw,relatime shared:3 - tmpfs tmpfs-root rw
90 31 179:3 / /srv/kept rw,noatime shared:48 - ext4 /dev/mmcblk0p3 rw
"""  # noqa: E501
RASPI_CONFIG = """\
26 31 0:23 / /run rw,nosuid,nodev,noexec,relatime shared:6 - tmpfs tmpfs rw,size=387764k,mode=755
31 1 0:27 / / rw,noatime shared:1 - overlay overlay rw,lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work
"""
READ_ONLY_ROOT = """\
28 1 179:2 / / ro,noatime shared:1 - ext4 /dev/mmcblk0p2 ro
40 28 0:31 / /var/lib/gateway rw,relatime shared:20 - tmpfs tmpfs rw,size=51200k
41 28 179:3 / /data rw,noatime shared:21 - ext4 /dev/mmcblk0p3 rw
42 40 179:3 /outbox /var/lib/gateway/outbox rw,noatime shared:21 - ext4 /dev/mmcblk0p3 rw
"""
DOCKER = """\
1046 857 0:121 / / rw,relatime master:400 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/XQ:/var/lib/docker/overlay2/l/Z7,upperdir=/var/lib/docker/overlay2/5d9/diff,workdir=/var/lib/docker/overlay2/5d9/work
1049 1047 0:125 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
1050 1046 8:1 /var/lib/docker/volumes/outbox/_data /var/lib/gateway rw,relatime master:1 - ext4 /dev/sda1 rw
1051 1046 0:130 / /run/gateway rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw
"""  # noqa: E501
BTRFS = """\
28 1 0:26 /@rootfs / rw,noatime shared:1 - btrfs /dev/nvme0n1p2 rw,ssd,subvolid=256,subvol=/@rootfs
50 28 0:26 /@var /var rw,noatime shared:30 - btrfs /dev/nvme0n1p2 rw,ssd,subvolid=257,subvol=/@var
"""
BOUND = """\
28 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
60 28 0:24 /outbox /var/lib/gateway/outbox rw,relatime shared:6 - tmpfs tmpfs rw,size=387764k
61 28 0:24 /odd /var/lib/odd\\040place rw,relatime shared:6 - ramfs none rw
62 28 254:0 / /var/log rw,relatime shared:9 - ext4 /dev/zram0 rw
63 28 179:2 /was /covered rw,relatime shared:1 - tmpfs tmpfs rw
64 63 179:2 /is /covered rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
"""
OVERLAID_TWICE = """\
28 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw
30 28 0:40 / /mem rw - tmpfs tmpfs rw
31 28 0:41 / /middle rw - overlay overlay rw,lowerdir=/a,upperdir=/mem/up,workdir=/mem/work
32 28 0:42 / /top rw - overlay overlay rw,lowerdir=/b,upperdir=/middle/up,workdir=/middle/work
33 28 0:43 / /good rw - overlay overlay rw,lowerdir=/b,upperdir=/srv/up,workdir=/srv/work
"""
HERE = "/var/lib/gateway/outbox"


@pytest.mark.parametrize(
    ("table", "path", "command_line", "said"),
    [
        (PLAIN_PI, HERE, "", None),
        (PLAIN_PI, "/run/gateway", "", "tmpfs on /run"),
        (PLAIN_PI, "/runner", "", None),
        (PLAIN_PI, "/dev/shm/outbox", "", "tmpfs on /dev/shm"),
        (OVERLAYROOT, HERE, "", "upper layer in tmpfs"),
        (OVERLAYROOT, "/srv/kept/outbox", "overlayroot=tmpfs", None),
        (RASPI_CONFIG, HERE, "console=tty1 root=PARTUUID=1-02 overlayroot=tmpfs rootwait", "overlayroot=tmpfs"),
        (RASPI_CONFIG, HERE, "boot=overlay console=tty1", "boot=overlay"),
        (READ_ONLY_ROOT, HERE, "", None),
        (READ_ONLY_ROOT, "/var/lib/gateway/other", "", "tmpfs on /var/lib/gateway"),
        (DOCKER, HERE, "", None),
        (DOCKER, "/srv/outbox", "", None),
        (DOCKER, "/run/gateway", "", "tmpfs"),
        (BTRFS, HERE, "", None),
        (BOUND, HERE, "", "tmpfs on /var/lib/gateway/outbox"),
        (BOUND, "/var/lib/odd place/outbox", "", "ramfs"),
        (BOUND, "/var/log/outbox", "", "/dev/zram0"),
        (BOUND, "/covered/outbox", "", None),
        (OVERLAID_TWICE, "/top/outbox", "", "upper layer in tmpfs"),
        (OVERLAID_TWICE, "/good/outbox", "", None),
        ("", HERE, "", None),
        ("nonsense\n1 2 - 3\n", HERE, "overlayroot=tmpfs", None),
    ],
)
def test_what_a_power_cut_would_take_is_known_by_the_mounts(
    table: str, path: str, command_line: str, said: str | None
) -> None:
    found = why_not_kept(table, command_line, path)
    assert (found is None) == (said is None), found
    assert (said or "") in (found or "")


@pytest.fixture
def memory() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    except OSError as error:
        pytest.skip(f"no /dev/shm: {error}")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_an_outbox_in_memory_is_told_by_doctor_log_and_status(memory: Path) -> None:
    shop = Shop(memory, f"mqtt://127.0.0.1:{free_port()}")
    process = shop.run("--simulated")
    status = wait_for(lambda: (told := shop.status()).get("running") and told, what="the daemon")
    assert "tmpfs" in status["outbox"]["not_kept"]
    assert "does not outlast a power cut" in " ".join(shop.ask("status").stdout.split())
    checks = json.loads(shop.ask("doctor", "--json").stdout)["checks"]
    [kept] = [check for check in checks if check["name"] == "kept"]
    assert (kept["result"], kept["code"]) == ("failed", "outbox.not_kept")
    assert "partition" in kept["advice"]
    _, said, _ = stop(process)
    assert said.count("does not outlast a power cut") == 1, said
