"""A card that somebody prepared, a state folder with planted links: root takes nothing and gives nothing away."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import gateway
from gateway.config import Configuration, loads
from gateway.machine.acting import acting_as_owner_of, owner_of
from gateway.machine.disk import RealDisk
from gateway.machine.safe_files import opened, shown
from gateway.outbox.adopted import MARK
from gateway.technician import card as cards
from gateway.technician.adoption import adopt
from gateway.technician.calibration_store import CalibrationNotWritten, CalibrationStore
from gateway.technician.card import AdoptionRefused
from gateway.technician.card_image import ImageUnusable, system_in
from tests.test_adoption import NOW, open_outbox, record

SECRET = b"root:$6$the host's own:19000:0:99999:7:::\n"
SERVICE = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another user's folder")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="gateway-test-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def secret(place: Path) -> Path:
    path = place / "shadow"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def card(place: Path) -> Path:
    """A card with six passages that wait, and a calibration."""
    root = place / "card"
    outbox = open_outbox(root / "var/lib/gateway/outbox")
    record(outbox, 6)
    outbox.close(NOW)
    (root / "var/lib/gateway/calibration").mkdir()
    (root / "var/lib/gateway/calibration/aisle-3.json").write_text("{}")
    (root / "etc/gateway").mkdir(parents=True)
    (root / "etc/gateway/gateway.toml").write_text('[site]\nstore = "0042"\ngateway = "front"\n')
    return root


@pytest.fixture
def here(place: Path) -> Configuration:
    return configured(place / "state/outbox")


def configured(outbox: Path) -> Configuration:
    outbox.parent.mkdir(exist_ok=True)
    return loads(f'[site]\nstore = "0042"\ngateway = "front"\n[outbox]\ndirectory = "{outbox}"\n')


def outbox_of(card: Path) -> Path:
    return card / "var/lib/gateway/outbox"


def taken(place: Path) -> bytes:
    """Everything that lies below the state folder."""
    return b"".join(path.read_bytes() for path in (place / "state").rglob("*") if path.is_file())


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def dangling(path: Path, secret: Path) -> None:
    path.symlink_to(secret.with_name("made-by-root"))


def hard_link(path: Path, secret: Path) -> None:
    os.link(secret, path)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def kernel_log(path: Path, secret: Path) -> None:
    path.symlink_to("/proc/kmsg")


def device(path: Path, secret: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("a device needs root")


def unix_socket(path: Path, secret: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def huge(path: Path, secret: Path) -> None:
    path.touch()
    os.truncate(path, 2 << 30)


TRICKS = (link, dangling, hard_link, fifo, kernel_log, device, unix_socket, huge)
Trick = Callable[[Path, Path], None]


@pytest.mark.parametrize("name", ["refused.jsonl", "door/0000000000000999-00000000.json", "state.ack.new"])
@pytest.mark.parametrize("trick", TRICKS)
def test_what_is_no_file_of_the_outbox_is_not_taken(
    card: Path, here: Configuration, place: Path, secret: Path, trick: Trick, name: str
) -> None:
    trick(outbox_of(card) / name, secret)
    is_left = trick is huge and name == "state.ack.new"  # a file, and none that an outbox makes
    if not is_left:
        with pytest.raises(AdoptionRefused, match="bound" if trick is huge else "not taken"):
            adopt(here, card)
        assert taken(place) == b"", "nothing was changed"
    if trick is not huge or is_left:
        done = adopt(here, card, damaged=True)
        assert any(name in told for told in done.damages)
        assert done.unsent["door"] == 6, "what is whole came along"
    assert SECRET not in taken(place)
    assert not secret.with_name("made-by-root").exists()
    assert secret.read_bytes() == SECRET


def test_a_file_that_no_outbox_makes_is_named_and_left(card: Path, here: Configuration, place: Path) -> None:
    for name in ("notes.txt", "door/huge", "door/0000000000000001-00000001.json.old", "shelf/readme.json"):
        (outbox_of(card) / name).write_bytes(SECRET)
    done = adopt(here, card)
    told = " ".join(done.damages)
    for name in ("notes.txt", "door/huge", "door/0000000000000001-00000001.json.old", "shelf/readme.json"):
        assert f"{name}: no file of an outbox ({len(SECRET)} bytes), not taken" in told
    assert SECRET not in taken(place)


def test_what_the_outbox_itself_has_set_aside_comes_along(card: Path, here: Configuration, place: Path) -> None:
    (outbox_of(card) / "door" / "0000000000000900-00000001.json.bad").write_bytes(b"set aside before")
    adopt(here, card, damaged=True)
    assert b"set aside before" in taken(place)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_calibration_that_is_none_is_passed_over(
    card: Path, here: Configuration, place: Path, secret: Path, trick: Trick
) -> None:
    trick(card / "var/lib/gateway/calibration/aisle-4.json", secret)
    done = adopt(here, card)
    assert done.calibrations == ("aisle-3",)
    assert any("aisle-4" in told for told in done.damages)
    assert SECRET not in taken(place)


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_but_a_regular_file_is_opened_or_read(tmp_path: Path, secret: Path, trick: Trick) -> None:
    """The descriptor itself is looked at: what a name was a moment before does not count."""
    trick(tmp_path / "planted", secret)
    with opened(tmp_path) as folder:
        with pytest.raises(OSError, match=r"planted|larger") as refused:
            folder.read("planted", 1 << 20)
        assert refused.value.errno != errno.EBADF
        if trick is not huge:
            with pytest.raises(OSError, match="planted"):
                folder.open("planted")


def test_an_export_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[site]\nstore = "0042"\n')
    os.mkfifo(tmp_path / "export")
    (tmp_path / "deep").write_text('{"a":' * 50_000 + "\n")
    for name in ("export", "deep", "absent"):
        words = ["outbox", "import", "--dry-run", "--config", str(config), str(tmp_path / name)]
        done = CliRunner().invoke(gateway, words)
        assert done.exit_code == 1
        assert name in done.stderr
    with pytest.raises(ImageUnusable, match="cannot be read"):
        system_in(tmp_path / "export")


@pytest.mark.parametrize("folder", ["var", "var/lib/gateway", "var/lib/gateway/outbox", "var/lib/gateway/calibration"])
def test_a_folder_in_the_middle_that_is_a_link(card: Path, here: Configuration, place: Path, folder: str) -> None:
    elsewhere = place / "elsewhere"
    (card / folder).rename(elsewhere)
    (card / folder).symlink_to(elsewhere)
    with pytest.raises(AdoptionRefused, match="cannot be opened"):
        adopt(here, card)
    assert taken(place) == b""
    assert not list(elsewhere.rglob(MARK))


def test_a_stream_that_is_a_link(card: Path, here: Configuration, place: Path, secret: Path) -> None:
    (place / "etc").mkdir()
    secret.rename(place / "etc/0000000000000999-00000000.json")
    shutil.rmtree(outbox_of(card) / "shelf", ignore_errors=True)
    (outbox_of(card) / "shelf").symlink_to(place / "etc")
    with pytest.raises(AdoptionRefused, match="shelf: a symbolic link"):
        adopt(here, card)
    assert SECRET not in taken(place)


@pytest.mark.parametrize("trick", [link, dangling, hard_link, fifo])
def test_a_configuration_on_the_card_that_is_none(card: Path, here: Configuration, secret: Path, trick: Trick) -> None:
    (card / "etc/gateway/gateway.toml").unlink()
    trick(card / "etc/gateway/gateway.toml", secret)
    assert not adopt(here, card).identity_checked


@pytest.mark.parametrize("trick", [link, dangling, hard_link, fifo, device])
def test_the_mark_truncates_and_makes_nothing(card: Path, here: Configuration, secret: Path, trick: Trick) -> None:
    trick(outbox_of(card) / MARK, secret)
    with pytest.raises(AdoptionRefused, match="adopted before"):
        adopt(here, card)
    assert adopt(here, card, again=True).marked
    assert secret.read_bytes() == SECRET
    assert not secret.with_name("made-by-root").exists()
    assert json.loads((outbox_of(card) / MARK).read_text()) == {"store": "0042", "gateway": "front"}
    assert not (outbox_of(card) / MARK).is_symlink()


@pytest.mark.parametrize("trick", [link, dangling, fifo, device])
def test_a_lock_that_is_none_does_not_hold_it_up(card: Path, here: Configuration, secret: Path, trick: Trick) -> None:
    (outbox_of(card) / "lock").unlink(missing_ok=True)
    trick(outbox_of(card) / "lock", secret)
    assert adopt(here, card).unsent["door"] == 6


def test_a_name_that_writes_on_the_terminal_is_shown_harmless(card: Path, here: Configuration) -> None:
    (outbox_of(card) / "door/\x1b[2J\nfake: good").touch()
    with pytest.raises(AdoptionRefused, match=r"\\x1b\[2J\\nfake: good: a strange name") as told:
        adopt(here, card)
    assert str(told.value).isprintable()
    assert shown("ä" * 200) == "ä" * 128 + "..."


def test_a_file_swapped_between_the_look_and_the_reading(
    card: Path, here: Configuration, place: Path, secret: Path
) -> None:
    """Somebody exchanges a file and a link as fast as he can; whatever is met, the host's file is not taken."""
    segment = next((outbox_of(card) / "door").iterdir())
    honest, trap = segment.with_name("a"), segment.with_name("b")
    shutil.copy2(segment, place / "honest")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            shutil.copy2(place / "honest", honest)
            os.rename(honest, segment)
            trap.unlink(missing_ok=True)
            trap.symlink_to(secret)
            os.rename(trap, segment)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(30):
            try:
                adopt(here, card, damaged=True, again=True)
            except AdoptionRefused:
                continue
            assert SECRET not in taken(place)
            shutil.rmtree(here.outbox.directory)
    finally:
        done.set()
        thread.join()


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "endless").write_bytes(b"x" * 100_000)
    with opened(tmp_path) as folder:
        with pytest.raises(OSError, match="larger than 10 bytes"):
            folder.read("endless", 10)
        fd = folder.open("endless")
        assert list(cards.copy_file(fd, tmp_path / "copy", 70_000)) == []
        os.close(fd)
    assert (tmp_path / "copy").stat().st_size == 70_000


def test_what_the_card_cannot_read_is_named_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(5 * cards.SECTOR_BYTES + 17)
    (tmp_path / "file").write_bytes(content)
    real, bad = os.pread, range(2 * cards.SECTOR_BYTES, 3 * cards.SECTOR_BYTES)

    def worn(fd: int, count: int, at: int) -> bytes:
        if at < bad.stop and at + count > bad.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, count, at)

    monkeypatch.setattr(os, "pread", worn)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    assert list(cards.copy_file(fd, tmp_path / "copy", 1 << 20)) == ["4096 bytes at 8192 cannot be read from the card"]
    os.close(fd)
    assert (tmp_path / "copy").read_bytes() == content[: bad.start] + bytes(4096) + content[bad.stop :]


# What the service's user planted in its own folder.


@as_root
def test_root_writes_as_the_user_whose_folder_it_is(card: Path, here: Configuration, place: Path) -> None:
    os.chown(place / "state", SERVICE, SERVICE)
    adopt(here, card)
    owners = {path.lstat().st_uid for path in (place / "state").rglob("*")}
    assert owners == {SERVICE}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (place / "state").rglob("*") if path.is_file()}
    assert modes == {0o640}
    assert os.geteuid() == 0, "and is itself again"


@as_root
@pytest.mark.parametrize("planted", ["calibration", "outbox.adopting", "outbox", "outbox.before-1"])
def test_a_planted_link_gains_nothing(card: Path, here: Configuration, place: Path, planted: str) -> None:
    victim = place / "sudoers.d"
    victim.mkdir()
    (victim / "precious").write_text("root's")
    os.chown(place / "state", SERVICE, SERVICE)
    (place / "state" / planted).symlink_to(victim)
    os.chown(place / "state" / planted, SERVICE, SERVICE, follow_symlinks=False)
    with suppress(AdoptionRefused):
        adopt(here, card)
    assert [path.name for path in victim.iterdir()] == ["precious"]
    assert {path.stat().st_uid for path in (victim, victim / "precious")} == {0}


@as_root
def test_a_calibration_is_not_written_through_a_planted_link(place: Path, here: Configuration) -> None:
    victim = place / "cron.d"
    victim.mkdir()
    os.chown(place / "state", SERVICE, SERVICE)
    (place / "state/calibration").symlink_to(victim)

    class Stored:
        def to_json(self) -> dict[str, int]:
            return {"a": 1}

    store = CalibrationStore(here.outbox.directory, RealDisk())
    with pytest.raises(CalibrationNotWritten):
        store.save("aisle-3", Stored())  # type: ignore[arg-type]
    assert (list(victim.iterdir()), victim.stat().st_uid) == ([], 0)
    (place / "state/calibration").unlink()
    store.save("aisle-3", Stored())  # type: ignore[arg-type]
    written = place / "state/calibration/aisle-3.json"
    assert (written.stat().st_uid, written.parent.stat().st_uid) == (SERVICE, SERVICE)


@as_root
def test_whose_place_a_path_is(place: Path) -> None:
    (place / "state").mkdir()
    os.chown(place / "state", SERVICE, SERVICE)
    assert owner_of(place) is None
    assert owner_of(place / "state/outbox/door") == (SERVICE, SERVICE)
    (place / "by-root").symlink_to("state/outbox")
    assert owner_of(place / "by-root/door") == (SERVICE, SERVICE), "a link of root's is followed"
    (place / "state/etc").symlink_to(place)
    assert owner_of(place / "state/etc/shadow") == (SERVICE, SERVICE), "one of theirs is theirs"
    (place / "round").symlink_to(place / "round")
    with pytest.raises(OSError, match="circles"):
        owner_of(place / "round/x")
    with acting_as_owner_of(place / "state"):
        assert (os.geteuid(), os.getegid()) == (SERVICE, SERVICE)
        with pytest.raises(PermissionError):
            (place / "mine").touch()
    assert os.geteuid() == 0


def test_a_file_written_safely_replaces_what_was_planted(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "name").symlink_to(tmp_path / "victim")
    before = os.umask(0o077)
    try:
        with opened(tmp_path) as folder:
            folder.write("name", b"new", 0o644)
            with pytest.raises(FileExistsError):
                folder.write("victim", b"no", 0o644, replace=False)
    finally:
        os.umask(before)
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "name").is_symlink()
    assert stat.S_IMODE((tmp_path / "name").stat().st_mode) == 0o644
    assert sorted(os.listdir(tmp_path)) == ["name", "victim"], "nothing is left over"


def test_a_folder_with_too_many_names_is_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.machine.safe_files.NAMES_MAX", 3)
    for name in "abcd":
        (tmp_path / name).touch()
    with opened(tmp_path) as folder, pytest.raises(OSError, match="more than 3 names"):
        folder.names()
