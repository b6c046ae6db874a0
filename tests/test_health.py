"""The machine's health from the files of boards laid out in a folder, and what the doctor says to each."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from gateway import wire
from gateway.config import loads
from gateway.daemon.status import health_of
from gateway.engine.assembly import World, assemble
from gateway.engine.engine import Engine
from gateway.machine.disk import RealDisk
from gateway.machine.health import Machine, Shutdown, is_read_only, last_reboot, look
from gateway.model import Instant, Order
from gateway.outbox.writing import InlineWriter
from gateway.technician.checks import Check, board, examined

FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
CARD = "sys/block/mmcblk0/device"
MOUNTS = """\
/dev/mmcblk0p2 / ext4 rw,noatime 0 0
tmpfs /run tmpfs rw,nosuid 0 0
/dev/sda1 /srv/my\\040outbox ext4 ro,relatime 0 0
/dev/sda2 /srv/mounted ext4 ro,relatime 0 0
/dev/sda3 /srv/mounted ext4 rw,relatime 0 0
"""


class Board:
    """A kernel's files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def says(self, path: str, text: str) -> Board:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def look(self) -> Machine:
        return look(self.root, self.root)

    def checks(self, shutdown: Shutdown | None = None) -> dict[str, Check]:
        return {check.name: check for check in board.checks(self.look(), shutdown)}


@pytest.fixture
def pi(tmp_path: Path) -> Board:
    """A Pi 4 where all is well."""
    return (
        Board(tmp_path)
        .says("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        .says("proc/device-tree/serial-number", "10000000abcdef01\0")
        .says("proc/self/statm", "9000 7000 0 0 0 0 0\n")
        .says("proc/self/mounts", MOUNTS)
        .says("sys/class/thermal/thermal_zone0/temp", "48312\n")
        .says("sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
        .says("sys/class/hwmon/hwmon1/name", "rpi_volt\n")
        .says("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
        .says(FIRMWARE, "0\n")
        .says(f"{CARD}/life_time", "0x01 0x02\n")
        .says(f"{CARD}/pre_eol_info", "0x01\n")
        .says("sys/class/watchdog/watchdog0/bootstatus", "0\n")
    )


def assert_helps(check: Check) -> None:
    assert check.found
    assert check.why
    assert check.advice
    assert check.code


def test_a_good_board_is_told_in_full(pi: Board) -> None:
    machine = pi.look()
    assert (machine.board, machine.serial) == ("Raspberry Pi 4 Model B Rev 1.4", "10000000abcdef01")
    assert machine.cpu_celsius == 48.3
    assert (machine.throttled, machine.throttling) == (False, ())
    assert (machine.card_worn_percent, machine.card_spare) == (20, "normal")
    assert machine.disk_read_only is False
    assert machine.trace is None
    assert machine.memory_rss_bytes > 0
    assert {check.result for check in pi.checks("ordered").values()} == {"ok"}


def test_a_machine_that_tells_nothing_has_nothing_wrong(tmp_path: Path) -> None:
    machine = Board(tmp_path).look()
    told = (machine.cpu_celsius, machine.throttled, machine.throttling, machine.disk_read_only, machine.board)
    assert told == (None,) * 5
    assert (machine.card_worn_percent, machine.card_spare, machine.serial, machine.trace) == (None,) * 4
    assert {check.result for check in Board(tmp_path).checks().values()} == {"skipped"}


@pytest.mark.parametrize(
    ("said", "words", "check", "result", "code"),
    [
        ("10005", ("under_voltage", "throttled", "under_voltage_since_boot"), "supply", "failed", "supply.low"),
        ("50000", ("under_voltage_since_boot", "throttled_since_boot"), "supply", "warning", "supply.was_low"),
        ("80008", ("soft_temperature_limit", "soft_temperature_limit_since_boot"), "heat", "warning", "heat.high"),
        ("60000", ("frequency_capped_since_boot", "throttled_since_boot"), "heat", "warning", "heat.was_high"),
    ],
)
def test_firmware_s_bits(pi: Board, said: str, words: tuple[str, ...], check: str, result: str, code: str) -> None:
    pi.says(FIRMWARE, f"{said}\n")
    assert pi.look().throttled is True
    assert pi.look().throttling == words
    found = pi.checks()[check]
    assert (found.result, found.code) == (result, code)
    assert_helps(found)


def test_voltage_alarm_without_the_firmware_s_word(pi: Board) -> None:
    (pi.root / FIRMWARE).unlink()
    assert (pi.look().throttled, pi.look().throttling) == (False, None)
    pi.says("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    assert pi.look().throttled is True
    assert pi.checks()["supply"].code == "supply.low"


@pytest.mark.parametrize("nonsense", ["", "unknown", "\0\0", "99999999999"])
def test_nonsense_is_unknown(pi: Board, nonsense: str) -> None:
    pi.says("sys/class/thermal/thermal_zone0/temp", nonsense).says(f"{CARD}/life_time", nonsense)
    pi.says(f"{CARD}/pre_eol_info", nonsense).says("sys/class/watchdog/watchdog0/bootstatus", nonsense[:8])
    assert pi.look().cpu_celsius is None
    assert (pi.look().card_worn_percent, pi.look().card_spare) == (None, None)


def test_heat_is_judged_without_the_firmware_too(pi: Board) -> None:
    (pi.root / FIRMWARE).unlink()
    pi.says("sys/class/thermal/thermal_zone0/temp", "81000\n")
    assert_helps(pi.checks()["heat"])
    assert "81 °C" in pi.checks()["heat"].found


@pytest.mark.parametrize(
    ("path", "read_only"),
    [
        ("/var/lib/gateway/outbox", False),
        ("/srv/my outbox/deep", True),
        ("/srv/my outbox", True),
        ("/srv/my outboxes", False),
        ("/srv/mounted", False),
    ],
    ids=["root", "below", "itself", "a name that begins alike", "one mount over another"],
)
def test_read_only_is_that_of_the_nearest_mount(pi: Board, path: str, read_only: bool) -> None:
    assert is_read_only(Path(path), pi.root) is read_only


def test_a_remount_after_an_error_fails_the_doctor(pi: Board) -> None:
    pi.says("proc/self/mounts", MOUNTS.replace("/ ext4 rw,", "/ ext4 ro,"))
    found = pi.checks()["disk"]
    assert (found.result, found.code) == ("failed", "disk.read_only")
    assert_helps(found)


@pytest.mark.parametrize(
    ("life_time", "spare", "worn", "code"),
    [
        ("0x08 0x01", "0x01", 80, "card.good"),
        ("0x01 0x09", "0x01", 90, "card.worn"),
        ("0x01 0x01", "0x02", 10, "card.worn"),
        ("0x0a 0x01", "0x01", 100, "card.worn"),
        ("0x0b 0x01", "0x01", 110, "card.worn_out"),
        ("0x01 0x01", "0x03", 10, "card.worn_out"),
        ("0x00 0x00", "0x00", None, "card.unknown"),
    ],
)
def test_wear(pi: Board, life_time: str, spare: str, worn: int | None, code: str) -> None:
    pi.says(f"{CARD}/life_time", life_time).says(f"{CARD}/pre_eol_info", spare)
    assert pi.look().card_worn_percent == worn
    assert pi.checks()["card"].code == code


def test_reasons_of_the_last_reboot(pi: Board) -> None:
    assert last_reboot(None, None) is None
    assert last_reboot("watchdog", "ordered") == "ordered", "a Pi restarts itself by its watchdog"
    assert last_reboot(None, "unclean") == "unclean"
    pi.says("sys/class/watchdog/watchdog0/bootstatus", "32\n")
    assert last_reboot(pi.look().trace, "unclean") == "watchdog"
    pi.says("sys/fs/pstore/dmesg-ramoops-0", "Oops")
    assert last_reboot(pi.look().trace, "unclean") == "panic"
    assert_helps(pi.checks("unclean")["last start"])


class Booted:
    """A clock of one boot."""

    def __init__(self, bootid: str) -> None:
        self.bootid = bootid

    def now(self) -> Instant:
        return Instant(10**9, 1_795_000_000 * 10**9)


class NoLink:
    def obey(self, order: Order) -> None: ...

    def close(self) -> None: ...


def started(outbox: Path, bootid: str, machine: Machine) -> tuple[Engine, str | None]:
    """Start an engine in a boot; return it, and the last reboot as its health event tells it."""
    configuration = loads(f'[site]\nstore = "0042"\ngateway = "front"\n[outbox]\ndirectory = "{outbox}"\n')
    disk, clock = RealDisk(), Booted(bootid)
    world = World(clock, disk, lambda wake: InlineWriter(disk), lambda *rest: NoLink(), random.Random(1))
    engine = assemble(configuration, world, lambda identity, now: None)
    data = json.loads(wire.record(health_of(engine, machine, clock.now()), bootid))["data"]
    return engine, data.get("last_reboot")


def test_health_event_tells_how_the_machine_was_left(pi: Board, tmp_path: Path) -> None:
    machine = pi.look()
    first, reboot = started(tmp_path / "outbox", "aaaaaaaa", machine)
    assert reboot is None, "a first start has nothing before it"
    first.outbox.close(first.clock.now())
    second, reboot = started(tmp_path / "outbox", "bbbbbbbb", machine)
    assert reboot == "ordered"
    shutil.copytree(tmp_path / "outbox", tmp_path / "cut")  # what a card holds when the plug is pulled now
    second.outbox.close(second.clock.now())
    third, reboot = started(tmp_path / "cut", "cccccccc", machine)
    assert reboot == "unclean"
    third.outbox.close(third.clock.now())
    again, reboot = started(tmp_path / "cut", "cccccccc", machine)
    assert reboot == "unclean", "a restart of the daemon is not one of the machine"
    again.outbox.close(again.clock.now())
    assert board.shutdown_of(tmp_path / "cut") == "unclean"


def test_the_doctor_looks_at_this_machine_in_any_case(tmp_path: Path) -> None:
    names = [check.name for one in board.examinations(tmp_path) for check in examined(one)]
    assert names == ["board", "supply", "heat", "disk", "card", "last start"]
