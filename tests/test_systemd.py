"""The unit and what stands beside it: what the daemon needs is allowed, what it does not need is not, and all agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gateway.errors import EXIT_CONFIGURATION

ROOT = Path(__file__).resolve().parent.parent
SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "gateway.service"
EXPOSURE_MAX = 2.0
SECCOMP = "libseccomp.so.2"

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on the PATH")


def directives(path: Path) -> dict[str, list[str]]:
    """Return `Section.Key` to its values, in order: unlike an INI file, a unit may name a key more than once."""
    found: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, f"{path.name}: not a directive: {line}"
            found[f"{section}.{key}"].append(value)
    return found


def words(path: Path) -> list[list[str]]:
    """Return the fields of each line of a sysusers or tmpfiles file."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [re.findall(r'"[^"]*"|\S+', line) for line in lines]


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    return directives(UNIT)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("Restart", "always"),
        ("RestartPreventExitStatus", str(EXIT_CONFIGURATION)),
        ("User", "gateway"),
        ("AmbientCapabilities", "CAP_NET_ADMIN CAP_NET_RAW"),
        ("CapabilityBoundingSet", "CAP_NET_ADMIN CAP_NET_RAW"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("DevicePolicy", "closed"),
        ("StateDirectory", "gateway gateway/outbox"),
        ("ConfigurationDirectory", "gateway gateway/secrets"),
        ("LoadCredential", "secrets:/etc/gateway/secrets"),
        ("ExecStart", "/opt/gateway/current/bin/gateway run"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("KillMode", "mixed"),
        ("LimitCORE", "0"),
        ("MemorySwapMax", "0"),
        ("MemoryMax", "256M"),
        ("UMask", "0027"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateMounts", "yes"),
        ("ProtectProc", "invisible"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("LockPersonality", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RemoveIPC", "yes"),
        ("KeyringMode", "private"),
        ("SystemCallArchitectures", "native"),
        ("ConfigurationDirectoryMode", "0750"),
        ("StateDirectoryMode", "0750"),
        ("RuntimeDirectoryMode", "0750"),
    ],
)
def test_unit_says(unit: dict[str, list[str]], key: str, value: str) -> None:
    assert unit[f"Service.{key}"] == [value]


def test_nothing_is_waited_for(unit: dict[str, list[str]]) -> None:
    for key in ("After", "Wants", "Requires", "BindsTo", "Requisite"):
        assert f"Unit.{key}" not in unit
    assert unit["Unit.StartLimitIntervalSec"] == ["0"]
    assert unit["Install.WantedBy"] == ["multi-user.target"]


def test_watchdog_is_faster_than_a_manager_gives_up_and_slower_than_a_stop(unit: dict[str, list[str]]) -> None:
    assert 5 < int(unit["Service.TimeoutStopSec"][0]) < int(unit["Service.WatchdogSec"][0]) <= 60


def test_pins_radio_and_interfaces_are_within_reach(unit: dict[str, list[str]]) -> None:
    assert unit["Service.DeviceAllow"] == ["char-gpiochip rw", "char-spi rw"]
    assert "Service.PrivateDevices" not in unit
    families = set(unit["Service.RestrictAddressFamilies"][0].split())
    assert families == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_BLUETOOTH", "AF_NETLINK"}


def test_lgpio_finds_a_writable_folder(unit: dict[str, list[str]]) -> None:
    environment = dict(pair.split("=", 1) for line in unit["Service.Environment"] for pair in line.split())
    assert environment == {"LG_WD": "%t/gateway", "GPIOZERO_PIN_FACTORY": "lgpio"}
    assert unit["Service.RuntimeDirectory"] == ["gateway"]
    assert unit["Service.WorkingDirectory"] == ["%t/gateway"]


def test_clock_is_out_of_reach_and_chrony_s_drop_in_lets_it_be_asked(unit: dict[str, list[str]]) -> None:
    assert unit["Service.ProtectClock"] == ["yes"]
    asked = directives(SYSTEMD / "kernel-clock.conf")
    assert asked["Service.ProtectClock"] == ["no"]
    assert asked["Service.SystemCallFilter"] == ["adjtimex clock_adjtime clock_adjtime64"]
    assert "CAP_SYS_TIME" not in unit["Service.CapabilityBoundingSet"][0]


def test_hardware_watchdog_fits_the_chip() -> None:
    assert directives(SYSTEMD / "hardware-watchdog.conf")["Manager.RuntimeWatchdogSec"] == ["14"]


def test_user_groups_and_devices_agree(unit: dict[str, list[str]]) -> None:
    lines = words(SYSTEMD / "gateway.sysusers")
    groups = {line[1] for line in lines if line[0] == "g"}
    member_of = {line[2] for line in lines if line[0] == "m" and line[1] == unit["Service.User"][0]}
    assert [line[1] for line in lines if line[0] == "u"] == unit["Service.User"]
    rules = (SYSTEMD / "gateway.rules").read_text()
    assert groups == member_of == set(re.findall(r'GROUP="(\w+)"', rules)) == {"gpio", "spi"}
    assert re.findall(r'MODE="(\d+)"', rules) == ["0660", "0660"]


def test_configuration_is_read_by_the_daemon_and_written_by_root(unit: dict[str, list[str]]) -> None:
    lines = {
        path: (kind, mode, user, group) for kind, path, mode, user, group, *_ in words(SYSTEMD / "gateway.tmpfiles")
    }
    mode = unit["Service.ConfigurationDirectoryMode"][0]
    assert lines.pop("/etc/gateway") == ("d", mode, "root", "gateway")
    assert lines.pop("/etc/gateway/secrets") == ("d", mode, "root", "root")
    assert lines.pop("/etc/gateway/secrets/*") == ("z", "0600", "root", "root")
    for folder in unit["Service.StateDirectory"][0].split():
        assert lines.pop(f"/var/lib/{folder}") == ("d", unit["Service.StateDirectoryMode"][0], "gateway", "gateway")
    assert "/etc/gateway/broker.password" in lines
    assert set(lines.values()) == {("z", "0640", "root", "gateway")}


@needs_analyze
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    installed = tmp_path / "gateway.service"
    installed.write_text(UNIT.read_text().replace("/opt/gateway/current/bin/gateway run", "/bin/true"))
    outcome = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True)
    told = [line for line in outcome.stderr.splitlines() if "gateway.service" in line]
    assert not told, "\n".join(told)


@needs_analyze
def test_exposure_stays_low() -> None:
    outcome = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT], capture_output=True, text=True
    )
    found = re.search(r"Overall exposure level for gateway.service: ([0-9.]+)", outcome.stdout)
    if found is None:
        pytest.skip(f"this systemd cannot judge a file: {outcome.stderr.strip()[:200]}")
    assert float(found[1]) <= EXPOSURE_MAX


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not on the PATH")
def test_systemd_makes_the_user(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "gateway.sysusers"], check=True, capture_output=True
    )
    groups = {line.split(":")[0]: line.split(":")[3] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert groups["gpio"] == groups["spi"] == "gateway"
    assert re.search(r"^gateway:.*:/var/lib/gateway:.*nologin$", (tmp_path / "etc/passwd").read_text(), re.M)


@pytest.mark.skipif(
    shutil.which("systemd-tmpfiles") is None or os.geteuid() != 0, reason="needs systemd-tmpfiles and root"
)
def test_systemd_closes_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "etc/gateway").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\ngateway:x:990:990::/:/bin/false\n")
    (tmp_path / "etc/group").write_text("root:x:0:\ngateway:x:990:\n")
    secret = tmp_path / "etc/gateway/broker.password"
    secret.write_text("open sesame")
    handed = tmp_path / "etc/gateway/secrets/broker.password"
    handed.parent.mkdir()
    handed.write_text("open sesame")
    subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", SYSTEMD / "gateway.tmpfiles"],
        check=True,
        capture_output=True,
    )
    assert (secret.stat().st_mode & 0o777, secret.stat().st_uid, secret.stat().st_gid) == (0o640, 0, 990)
    assert (handed.stat().st_mode & 0o777, handed.stat().st_uid, handed.stat().st_gid) == (0o600, 0, 0)
    assert (tmp_path / "etc/gateway").stat().st_mode & 0o777 == 0o750


UNDER_THE_FILTER = """
import ctypes, errno, subprocess, sys

ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(REFUSE)))
for name in sys.argv[1].split(","):
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        seccomp.seccomp_rule_add(context, ctypes.c_uint32(ALLOW), ctypes.c_int(number), ctypes.c_uint(0))
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # MemoryDenyWriteExecute: PR_SET_MDWE, kernel 6.3; refused before
assert seccomp.seccomp_load(context) == 0
subprocess.run([sys.executable, "-c", *sys.argv[2:]], check=True)
"""

WHAT_THE_DAEMON_DOES = """
import ctypes, os, socket, ssl, subprocess, sys, tempfile, threading
import orjson, paho.mqtt.client, pydantic, tinydb, apscheduler.schedulers.background, gpiozero

from gateway.machine.clock import SystemClock, kernel_says_synced

assert (kernel_says_synced() is None) is (sys.argv[1] == "refused"), "whether the kernel may be asked"
assert SystemClock().now().wall_ns > 0
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except PermissionError:
    pass
else:
    raise AssertionError("the filter does not filter")

with tempfile.TemporaryDirectory() as folder:
    with open(f"{folder}/part", "w") as part:
        part.write("x")
        part.flush()
        os.fsync(part.fileno())
    os.rename(f"{folder}/part", f"{folder}/whole")
    os.truncate(f"{folder}/whole", 0)
    there = os.open(folder, os.O_RDONLY)
    os.fsync(there)
    os.close(there)
    os.mkfifo(f"{folder}/fifo")
    status = socket.socket(socket.AF_UNIX)
    status.bind(f"{folder}/socket")
    os.chmod(f"{folder}/socket", 0o660)
    os.statvfs(folder)

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: server.accept()[0].close()).start()
socket.create_connection(server.getsockname()).close()
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
ssl.create_default_context()
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
child.terminate()
child.wait()
ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3)()
"""


def allowed_calls(unit: dict[str, list[str]]) -> set[str]:
    """Expand the unit's SystemCallFilter as systemd does: in order, `~` takes away."""

    def expand(word: str) -> set[str]:
        if not word.startswith("@"):
            return {word}
        listed = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
        members = (line.strip() for line in listed.stdout.splitlines()[1:])
        return {call for member in members if member and not member.startswith("#") for call in expand(member)}

    calls = expand("@default")
    for line in unit["Service.SystemCallFilter"]:
        named = set[str]().union(*(expand(word) for word in line.removeprefix("~").split()))
        calls = calls - (named - expand("@default")) if line.startswith("~") else calls | named
    return calls


@needs_analyze
def test_daemon_can_do_its_work_under_the_filter_of_the_unit(unit: dict[str, list[str]], tmp_path: Path) -> None:
    probe = subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL('{SECCOMP}')"], capture_output=True)
    if probe.returncode:
        pytest.skip(f"{SECCOMP} is not here")
    calls = ",".join(sorted(allowed_calls(unit)))
    command = [sys.executable, "-c", UNDER_THE_FILTER, calls, WHAT_THE_DAEMON_DOES, "refused"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    outcome = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50)
    assert outcome.returncode == 0, outcome.stderr
    more = {
        call for line in directives(SYSTEMD / "kernel-clock.conf")["Service.SystemCallFilter"] for call in line.split()
    }
    command[3], command[5] = ",".join(sorted(allowed_calls(unit) | more)), "asked"
    outcome = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50)
    assert outcome.returncode == 0, outcome.stderr
