"""What the service's user may not enter or write: each verb says what it is, whose, and the line that mends it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.config import Configuration, load
from gateway.control.asking import ask
from gateway.engine.assembly import World, assemble
from gateway.errors import OutboxUnusable, Unavailable
from gateway.machine.clock import SystemClock
from gateway.machine.disk import RealDisk
from gateway.machine.owner import mending, refused, whose
from gateway.model import Instant
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from gateway.technician.checks import daemon, examined
from gateway.technician.checks.machine import examinations
from tests.outbox.conftest import event
from tests.outbox.histories import WALL_NS, describe_loss
from tests.test_health import NoLink

NOBODY = 65534
NOW = Instant(0, WALL_NS)


@contextmanager
def service() -> Iterator[None]:
    """Be an ordinary user, as the daemon is; who is one already stays it."""
    if os.geteuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@pytest.fixture
def outbox() -> Iterator[Path]:
    """An outbox with 5 events that belongs to the service's user, where he may pass."""
    above = Path(tempfile.mkdtemp())
    above.chmod(0o755)
    state = above / "state"
    state.mkdir()
    if os.geteuid() == 0:
        os.chown(state, NOBODY, NOBODY)
    try:
        with service():
            opened(state / "outbox").close(NOW)
        yield state / "outbox"
    finally:
        for folder in (state, state / "outbox", state / "outbox" / "door"):
            folder.chmod(0o700)
        shutil.rmtree(above)


def opened(directory: Path) -> Outbox:
    disk = RealDisk()
    outbox = Outbox.open(str(directory), OutboxSettings(), disk, InlineWriter(disk), NOW, describe_loss)
    for number in range(5):
        outbox.append("door", event(number), NOW)
    outbox.commit(NOW)
    return outbox


def configured(outbox: Path) -> Configuration:
    (text := outbox.parent.parent / "gateway.toml").write_text(
        f'[site]\nstore = "0042"\ngateway = "front"\n[outbox]\ndirectory = "{outbox}"\n'
    )
    return load([text])


def type_in(line: str) -> None:
    subprocess.run(["sh", "-ec", line.replace("sudo ", "")], check=True)


def in_the_way(outbox: Path, name: str) -> Path:
    return {"above": outbox.parent, "itself": outbox, "stream": outbox / "door", "file": outbox / "state.ack"}[name]


@pytest.mark.parametrize("name", ["above", "itself", "stream", "file"])
def test_what_may_not_be_entered_is_named_with_its_owner_and_the_line_that_mends_it(outbox: Path, name: str) -> None:
    place = in_the_way(outbox, name)
    place.chmod(0)
    for use in (opened, lambda directory: OutboxReader(str(directory))):
        with service(), pytest.raises(OutboxUnusable, match="with mode 0000, and this is user") as refused:
            use(outbox)
        assert refused.value.exit_code == 73
        assert f"{place}" in str(refused.value)
    line, _, then = refused.value.advice.partition(", then")
    assert then == " start it again"
    if name in ("itself", "stream") and os.geteuid():
        pytest.skip("chown cannot go through a closed folder without sudo")
    type_in(line)
    with service():
        opened(outbox).close(NOW)
        assert [entry.sequence for entry in OutboxReader(str(outbox)).entries("door")] == list(range(1, 11))


@pytest.mark.parametrize("name", ["above", "itself"])
def test_the_doctor_of_that_user_says_it_and_breaks_nowhere(outbox: Path, name: str) -> None:
    configuration = configured(outbox)
    in_the_way(outbox, name).chmod(0)
    with service():
        checks = [check for one in examinations(configuration) if one.group == "outbox" for check in examined(one)]
        line = mending(outbox)
        with pytest.raises(Unavailable, match="whether a daemon runs cannot be seen") as unseen:
            ask(configuration, "status")
    assert not [check for check in checks if check.code in ("doctor.broken", "doctor.hung")]
    found = {check.name: check for check in checks}
    assert (found["directory"].result, found["directory"].advice) == ("failed", line)
    assert "with mode 0000" in found["directory"].found
    assert found["content"].result == "failed"
    assert unseen.value.advice == line


def test_the_doctor_of_that_user_says_that_nothing_can_be_written(outbox: Path) -> None:
    configuration = configured(outbox)
    outbox.chmod(0o500)
    with service():
        (found,) = (check for one in examinations(configuration) if one.name == "directory" for check in examined(one))
        assert (found.result, found.advice) == ("failed", mending(outbox))


def test_the_doctor_of_that_user_finds_the_state_that_keeps_the_daemon_from_starting(outbox: Path) -> None:
    configuration = configured(outbox)
    (outbox / "state.ack").chmod(0o440)
    with service():
        with pytest.raises(OutboxUnusable, match=r"state\.ack belongs to .* with mode 0440") as not_started:
            opened(outbox)
        (found,) = (check for one in examinations(configuration) if one.name == "content" for check in examined(one))
    assert (found.result, found.found, found.advice) == ("failed", str(not_started.value), not_started.value.advice)


def test_a_file_in_a_folder_that_may_not_be_entered_is_the_folders_matter(outbox: Path) -> None:
    (outbox / "door").chmod(0)
    with service():
        assert whose(outbox / "door" / "1.json").startswith(f"lies in {outbox / 'door'}, which belongs to ")
        assert whose(outbox / "door" / "1.json").endswith(" with mode 0000")
        assert whose(outbox / "nothing") == ""


@pytest.mark.parametrize(("name", "of"), [("file", "state cannot be saved"), ("stream", "events cannot be recorded")])
def test_while_running_what_may_not_be_written_is_named_with_its_owner(outbox: Path, name: str, of: str) -> None:
    with service():
        running = opened(outbox)
        in_the_way(outbox, name).chmod(0)
        if name == "stream":  # a file of its own would be needed next
            running._logs["door"].active = None
        for number in range(20):
            running.append("door", event(number), NOW)
            running.commit(NOW.later(number * 60 * 10**9))
            running.step(NOW.later(number * 60 * 10**9))
        trouble = running.status().trouble
    assert trouble is not None
    assert of in trouble
    assert f"{in_the_way(outbox, name)}" in trouble
    assert "with mode 0000, and this is user" in trouble
    assert trouble.endswith("Permission denied")
    in_the_way(outbox, name).chmod(0o700)
    assert not list(outbox.rglob("*.bad"))


def test_an_immutable_file_is_made_mutable_before_it_is_given_back(outbox: Path) -> None:
    with service():
        assert mending(outbox, errno.EPERM).startswith(f"sudo chattr -R -i {outbox} && sudo chown -R ")
        assert "chattr" not in mending(outbox, errno.EACCES)
        denied = PermissionError(errno.EACCES, "Permission denied", "door/new.json")
        assert refused(denied, outbox).startswith(f"{outbox / 'door'} belongs to ")  # one that was to be made there
        forbidden = refused(PermissionError(errno.EPERM, os.strerror(errno.EPERM), "door/new.json"), outbox)
        assert f"an attribute of {outbox / 'door'} forbids it (see lsattr -d {outbox / 'door'})" in forbidden
        assert "belongs to" not in forbidden, "its owner does not forbid it, and root may not either"
        assert forbidden.endswith(os.strerror(errno.EPERM)), "by its end the doctor finds the line that mends it"
        assert refused(OSError(errno.ENOSPC, "No space left on device"), outbox) == "No space left on device"


def test_the_doctor_does_not_blame_the_card_for_rights(outbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = configured(outbox)
    outbox_says: dict[str, object] = {}
    monkeypatch.setattr("gateway.technician.checks.daemon.ask", lambda *_: {"outbox": outbox_says})

    def advice(name: str, **said: object) -> str:
        outbox_says.clear()
        outbox_says.update(said)
        found = {check.name: check for one in daemon.examinations(configuration) for check in examined(one)}
        return found[name].advice

    assert advice("outbox", degraded=True, trouble="x: Permission denied") == mending(outbox)
    assert advice("reading", unreadable="x: Operation not permitted") == mending(outbox, errno.EPERM)
    assert advice("reading", unreadable="x: No such file or directory").startswith("put back what was moved away")
    assert "dmesg" in advice("outbox", degraded=True, trouble="x: Input/output error")
    assert "dmesg" in advice("reading", unreadable="x: Input/output error")


@pytest.mark.parametrize("stands_there", ["folder", "link", "pipe", "nothing"])
def test_a_loss_for_good_stands_in_the_log(outbox: Path, stands_there: str, caplog: pytest.LogCaptureFixture) -> None:
    configuration = configured(outbox)
    (segment,) = (outbox / "door").iterdir()
    away = segment.rename(outbox.parent / "away.json")
    if stands_there == "folder":
        segment.mkdir()
    elif stands_there == "link":
        segment.symlink_to(away)
    elif stands_there == "pipe":
        os.mkfifo(segment)
    disk = RealDisk()
    world = World(SystemClock(), disk, lambda wake: InlineWriter(disk), lambda *rest: NoLink(), random.Random(1))
    with service():
        engine = assemble(configuration, world, lambda identity, now: None)
        engine.outbox.commit(engine.clock.now())
        engine.outbox.close(engine.clock.now())
    assert "recorded events are lost, and named to the cloud (gateway outbox verify): stream=door 1..5" in caplog.text
    assert away.exists()
