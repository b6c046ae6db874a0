"""Installing and upgrading on the real machine, without internet, and going back by itself from a bad release."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.cache import folder
from tests.lab.prepared import INSTALL_WITHIN_S, bare, unpack
from tests.lab.shop import Shop, shop

pytestmark = pytest.mark.lab


def version(front: Shop) -> str:
    """Return the version of the daemon that was last heard to start."""
    return str(front.consumer.of("store.gateway.started")[-1]["data"]["version"])


@pytest.mark.core
def test_installer_left_a_user_a_unit_and_a_closed_configuration(front: Shop) -> None:
    said = (folder() / "install.log").read_text()
    assert "The bundle is whole" in said
    assert "Done." in said
    machine = front.machine
    assert machine.sh("ip route show default").strip() == "", "there is a way to the internet"
    assert machine.sh("stat -c '%U %G %a' /etc/gateway/gateway.toml").split() == ["root", "gateway", "640"]
    assert "gpio" in machine.sh("id -nG gateway").split()
    assert machine.sh("readlink /opt/gateway/current").startswith("releases/")
    assert machine.sh("stat -c '%G %a' /dev/gpiochip0").split() == ["gpio", "660"]
    assert machine.sh("systemd-analyze --man=no verify /etc/systemd/system/gateway.service 2>&1").strip() == ""


@pytest.mark.core
def test_bad_release_is_taken_back_and_nothing_is_lost(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    good = version(front)
    front.machine.sh(unpack("broken"), 180)
    done = front.machine.try_run("/root/bundle/*/install --within 90 2>&1", INSTALL_WITHIN_S)
    assert done.status == 1, done.out
    assert "does not come up" in done.out
    assert f"The old version {good} runs again" in done.out
    front.walk("out")
    front.expect("door.passed", 2)
    assert version(front) == good
    front.complete()


def test_upgrade_in_place_loses_nothing(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    old = version(front)
    front.machine.sh(unpack("newer"), 180)
    said = front.machine.sh("/root/bundle/*/install --within 120 2>&1", INSTALL_WITHIN_S)
    assert "Done." in said
    front.walk("out")
    front.expect("door.passed", 2)
    assert version(front) != old
    assert len(front.machine.sh("ls /opt/gateway/releases").split()) == 2
    front.complete()


def test_damaged_bundle_is_refused_before_anything_is_touched(front: Shop) -> None:
    front.open()
    before = front.machine.sh("ls -R /opt/gateway | md5sum; readlink /opt/gateway/current")
    front.machine.sh(unpack("newer"), 180)
    front.machine.sh("echo x >> $(ls /root/bundle/*/wheels/tinydb*.whl)")
    done = front.machine.try_run("/root/bundle/*/install 2>&1", 300)
    assert done.status == 1
    assert "is damaged" in done.out
    assert front.machine.sh("ls -R /opt/gateway | md5sum; readlink /opt/gateway/current") == before
    assert front.is_active()


def test_missing_package_is_missed_in_a_sentence(lab: None, tmp_path: Path) -> None:
    with shop(tmp_path, bare()) as front:
        front.machine.sh("dpkg --purge --force-depends bluez 2>&1", 120)
        front.machine.sh(unpack("current"), 180)
        said = front.machine.sh("/root/bundle/*/install 2>&1", INSTALL_WITHIN_S)
        assert "Installing packages: bluez." in said
        assert "Going on without bluez" in said
        assert "Done." in said


def test_uninstalling_keeps_what_was_recorded(front: Shop) -> None:
    front.open()
    front.walk("in")
    front.expect("door.passed")
    front.machine.sh(unpack("current"), 180)
    front.machine.sh("/root/bundle/*/uninstall 2>&1", 120)
    assert front.consumer.of("store.gateway.stopped")
    front.complete()
    done = front.machine.try_run("systemctl cat gateway; ls /opt/gateway /usr/local/bin/gateway")
    assert "No such file" in done.err
    assert front.machine.sh("ls /var/lib/gateway/outbox").strip()
    front.machine.sh("/root/bundle/*/uninstall --purge 2>&1", 120)
    assert front.machine.try_run("ls /var/lib/gateway /etc/gateway || id gateway").status != 0
