"""A process short of files, threads or memory says that, and blames no file for it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import tell
from gateway.errors import EXIT_FAILED, EXIT_UNAVAILABLE

WITHOUT_THREADS = """
import os, resource, sys, tempfile
from zoneinfo import ZoneInfo
from gateway.cli import tell
from gateway.config import loads
from gateway.control.serving import ControlServer
from gateway.daemon.scheduler import Scheduler
from gateway.daemon.service import close_all
from gateway.machine.clock import SystemClock
from gateway.machine.network import NetworkWatch
from gateway.model import Connect, Message
from gateway.mqtt.link import PahoLink
from gateway.sensors.drivers import Supervised
from gateway.technician.checks import Examination, examined

os.chmod(sys.argv[1], 0o777)
tempfile.tempdir = sys.argv[1]
named = 'site = {store = "1"}\\nbroker = {url = "mqtt://127.0.0.1:1"}\\noutbox = {directory = "%s"}' % sys.argv[1]
configuration = loads(named)
said = []
scheduler = Scheduler(said.append, ZoneInfo("UTC"))
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65_533)
    os.setuid(65_533)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
control = ControlServer(configuration, lambda question: {})
control.start()
print(f"control:{control.path}")
watch = NetworkWatch(lambda: None)
watch.start()
link = PahoLink(configuration.broker, "id", said.append)
link.obey(Connect(1, "5", Message(1, "stores/v1/1/one/state", b"")))
print(said.pop().code)
class Idle(Supervised):
    def work(self):
        pass


driver = Idle("door", SystemClock())
driver.start(said.append)
print(said.pop().reason)
close_all([control, watch, link, driver], None)
print("closed")
print(examined(Examination("machine", "one", lambda: []))[0].code)
try:
    scheduler.start()
except RuntimeError as error:
    scheduler.close()
    sys.exit(tell(error))
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/usr/lib/python3/module.py"), "no more files"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE), "/var/lib/gateway"), "this machine can open no more"),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "threads or processes"),
        (RuntimeError("can't start new thread"), "threads or processes"),
        (MemoryError(), "no memory"),
    ],
)
def test_a_shortage_is_told_as_one(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(error) == EXIT_UNAVAILABLE
    told = capsys.readouterr().err
    assert said in told
    assert "what to do" in told
    assert "module.py" not in told


def test_any_other_error_of_the_system_names_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/var/lib/x")) == EXIT_FAILED
    assert "/var/lib/x" in capsys.readouterr().err


def test_a_real_process_without_descriptors_says_so() -> None:
    code = (
        "import resource\nfrom gateway.cli import tell\nresource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "try:\n    open('/etc/passwd'), open('/etc/passwd'), open('/etc/hosts'), open('/etc/hosts')\n"
        "    held = [open('/etc/passwd') for _ in range(9)]\n"
        "except OSError as error:\n    raise SystemExit(tell(error))\n"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == EXIT_UNAVAILABLE, ended.stderr
    assert "may open no more files" in ended.stderr


def test_what_needs_no_thread_of_its_own_runs_on_without(tmp_path: Path) -> None:
    """RLIMIT_NPROC does not bind root: where root runs the tests, the process becomes a user that has no other."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_THREADS, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == EXIT_UNAVAILABLE, ended.stderr
    assert ended.stdout.split() == ["control:None", "connect.refused_here", "driver_died", "closed", "doctor.short"]
    assert ended.stderr.count("goes on without one thread=") == 9  # four of them to close side by side
    assert ended.stderr.splitlines()[-2] == "gateway: no more threads or processes may be started"
