"""A dead gateway's card taken over: the same outbox goes on, nothing unsent is lost, the old card never runs again."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import gateway
from gateway.config import Configuration, loads
from gateway.engine.assembly import World, assemble
from gateway.errors import OutboxUnusable
from gateway.machine.disk import RealDisk
from gateway.model import STREAMS, Instant, Loss
from gateway.outbox.adopted import MARK, refuse_adopted
from gateway.outbox.outbox import Outbox
from gateway.outbox.reader import OutboxReader
from gateway.outbox.settings import OutboxSettings
from gateway.outbox.writing import InlineWriter
from gateway.technician.adoption import adopt
from gateway.technician.card import AdoptionRefused
from gateway.technician.card_image import ImageUnusable, system_in

NOW = Instant(10**9, 1_795_000_000 * 10**9)
DISK = RealDisk()


def describe_loss(outbox: str, loss: Loss, now: Instant) -> bytes:
    return b'{"type":"store.gateway.events_dropped","data":{}}'


def open_outbox(directory: Path) -> Outbox:
    return Outbox.open(str(directory), OutboxSettings(), DISK, InlineWriter(DISK), NOW, describe_loss)


def record(outbox: Outbox, count: int) -> None:
    for number in range(count):
        outbox.append("door", json.dumps({"type": "store.door.passed", "data": {"number": number}}).encode(), NOW)
    outbox.commit(NOW)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A dead gateway's card: ten passages, four of them acknowledged, a calibration; the plug was pulled."""
    root = tmp_path / "card"
    outbox = open_outbox(root / "var/lib/gateway/outbox")
    record(outbox, 10)
    outbox.acknowledge("door", 1, 4)
    outbox.save_soon()
    outbox.step(NOW.later(10**9))
    DISK.close(outbox._lock)  # type: ignore[arg-type]  # the power went: nothing is closed in order
    outbox._lock = None
    (root / "etc/gateway").mkdir(parents=True)
    (root / "etc/gateway/gateway.toml").write_text('[site]\nstore = "0042"\n')
    (root / "etc/hostname").write_text("front\n")
    calibrations = root / "var/lib/gateway/calibration"
    calibrations.mkdir()
    (calibrations / "aisle-3.json").write_text('{"old": 1}')
    (root / "var/lib/gateway/outbox/privacy.key").write_text("secret")
    return root


@pytest.fixture
def here(tmp_path: Path) -> Configuration:
    return site(tmp_path)


def site(tmp_path: Path, store: str = "0042", gateway: str = "front") -> Configuration:
    return loads(
        f'[site]\nstore = "{store}"\ngateway = "{gateway}"\n[broker]\nurl = "mqtt://localhost"\n'
        f'[outbox]\ndirectory = "{tmp_path}/new/outbox"\n'
    )


def old_outbox(card: Path) -> Path:
    return card / "var/lib/gateway/outbox"


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_outbox_goes_on_with_its_numbers_and_a_higher_epoch(
    card: Path, here: Configuration, tmp_path: Path
) -> None:
    before = OutboxReader(str(old_outbox(card)))
    done = adopt(here, card)
    assert done.outbox == before.id
    assert done.unsent == {"door": 6, "shelf": 0, "beacon": 0, "gateway": 0}
    assert (done.marked, done.identity_checked, done.put_aside) == (True, True, None)
    outbox = open_outbox(Path(here.outbox.directory))
    assert outbox.created is None, "no outbox_created: nothing was given up"
    assert outbox.id == before.id
    assert outbox.epoch > before.epoch
    assert [entry.sequence for entry in outbox.read("door", 0, 100, 1 << 20)] == [5, 6, 7, 8, 9, 10]
    record(outbox, 1)
    assert outbox.positions("door").recorded_through == 11
    outbox.close(NOW)


def test_a_card_without_an_outbox_that_can_be_read_is_named_itself(card: Path, here: Configuration) -> None:
    (old_outbox(card) / "state.ack").unlink()
    for stream in STREAMS:
        shutil.rmtree(old_outbox(card) / stream, ignore_errors=True)
    with pytest.raises(OutboxUnusable, match=str(old_outbox(card))) as caught:
        adopt(here, card)
    assert "adopting" not in str(caught.value)


def test_calibrations_come_along_and_newer_ones_stay(card: Path, here: Configuration, tmp_path: Path) -> None:
    (card / "var/lib/gateway/calibration/aisle-4.json").write_text('{"old": 2}')
    new = tmp_path / "new/calibration"
    new.mkdir(parents=True)
    (new / "aisle-4.json").write_text('{"new": 2}')
    done = adopt(here, card)
    assert (done.calibrations, done.calibrations_kept) == (("aisle-3",), ("aisle-4",))
    assert (new / "aisle-3.json").read_text() == '{"old": 1}'
    assert (new / "aisle-4.json").read_text() == '{"new": 2}'


def test_the_key_of_the_day_never_leaves_its_gateway(card: Path, here: Configuration, tmp_path: Path) -> None:
    adopt(here, card)
    assert not (Path(here.outbox.directory) / "privacy.key").exists()
    assert not (old_outbox(card) / "privacy.key").exists()


def test_the_old_card_never_runs_again(card: Path, here: Configuration, tmp_path: Path) -> None:
    adopt(here, card)
    with pytest.raises(OutboxUnusable, match="adopted"):
        refuse_adopted(DISK, str(old_outbox(card)))
    refuse_adopted(DISK, str(here.outbox.directory))
    refuse_adopted(DISK, str(tmp_path / "not there"))
    old = loads(f'[site]\nstore = "0042"\n[outbox]\ndirectory = "{old_outbox(card)}"\n')

    class Still:
        bootid = "00000000"

        def now(self) -> Instant:
            return NOW

    opened: Callable[..., InlineWriter] = lambda wake: InlineWriter(DISK)  # noqa: E731
    world = World(Still(), DISK, opened, lambda *rest: pytest.fail("it linked"), random.Random(1))
    with pytest.raises(OutboxUnusable, match="adopted"):
        assemble(old, world, lambda identity, now: None)
    with pytest.raises(AdoptionRefused, match="adopted before"):
        adopt(site(tmp_path / "third"), card)


def test_an_interrupted_adoption_is_taken_up_again(card: Path, here: Configuration) -> None:
    (old_outbox(card) / MARK).write_text("{}")
    assert adopt(here, card, again=True).unsent["door"] == 6
    assert MARK not in os.listdir(here.outbox.directory)


def refused(found: str, configuration: Configuration, card: Path, root: Path) -> None:
    before = tree(root)
    with pytest.raises(AdoptionRefused, match=found) as error:
        adopt(configuration, card)
    assert error.value.advice or "already" in str(error.value)
    assert tree(root) == before, "nothing was changed"


@pytest.mark.parametrize("by", ["lock", "."])
@pytest.mark.parametrize("which", ["old", "new"])
def test_not_while_a_daemon_runs_on_either(
    card: Path, here: Configuration, tmp_path: Path, which: str, by: str
) -> None:
    directory = old_outbox(card) if which == "old" else Path(here.outbox.directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "lock").touch()
    lock = os.open(directory / by, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        refused("a daemon runs", here, card, tmp_path)
    finally:
        os.close(lock)


def test_not_over_events_that_are_not_sent(card: Path, here: Configuration, tmp_path: Path) -> None:
    mine = open_outbox(Path(here.outbox.directory))
    record(mine, 2)
    mine.close(NOW)
    refused("holds 2 events", here, card, tmp_path)
    mine = open_outbox(Path(here.outbox.directory))
    mine.acknowledge("door", 1, 2)
    mine.close(NOW)
    done = adopt(here, card)
    assert done.put_aside is not None
    assert OutboxReader(str(done.put_aside)).id == mine.id
    assert OutboxReader(str(here.outbox.directory)).id == done.outbox


@pytest.mark.parametrize(("store", "name"), [("0043", "front"), ("0042", "back")])
def test_not_as_another_gateway(card: Path, tmp_path: Path, store: str, name: str) -> None:
    refused("the card is of store 0042, gateway front", site(tmp_path, store, name), card, tmp_path)


def test_a_damaged_outbox_only_when_told(card: Path, here: Configuration, tmp_path: Path) -> None:
    segment = next((old_outbox(card) / "door").iterdir())
    content = bytearray(segment.read_bytes())
    content[len(content) // 2 if content[len(content) // 2] else content.index(b'"number": 3')] ^= 0xFF
    segment.write_bytes(content)
    assert list(OutboxReader(str(old_outbox(card))).verify())
    refused("damages", here, card, tmp_path)
    assert adopt(here, card, damaged=True).damages


def test_nothing_there_and_itself(here: Configuration, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused("no outbox", here, tmp_path / "empty", tmp_path)
    open_outbox(Path(here.outbox.directory)).close(NOW)
    refused("already", here, Path(here.outbox.directory), tmp_path)


def test_the_verb_says_what_was_taken_and_what_never_to_do(card: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'[site]\nstore = "0042"\ngateway = "front"\n[outbox]\ndirectory = "{tmp_path}/new/outbox"\n')
    done = CliRunner().invoke(gateway, ["adopt", str(old_outbox(card)), "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert "not yet sent: 6 door" in done.output
    assert "must never run again" in done.output
    assert "see yourself" in done.output, "named by its outbox alone, the card's configuration is not known"
    again = CliRunner().invoke(gateway, ["adopt", str(card), "--config", str(config)])
    assert again.exit_code == 1
    assert "--again" in again.output


# From a copy of the card.


def entry(kind: int, first: int, count: int) -> bytes:
    """One entry of an MBR."""
    return bytes([0, 0, 0, 0, kind, 0, 0, 0]) + first.to_bytes(4, "little") + count.to_bytes(4, "little")


def table(*entries: bytes) -> bytes:
    return b"\0" * 446 + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def test_the_system_of_a_card_is_its_largest_linux_partition(tmp_path: Path) -> None:
    image = tmp_path / "card.img"
    image.write_bytes(table(entry(0x0C, 1, 50), entry(0x83, 8, 4), entry(0x83, 16, 8)).ljust(24 * 512, b"\0"))
    assert system_in(image) == (16 * 512, 8 * 512)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "no Linux partition"), (b"\xff" * 4096, "no Linux"), (table(entry(0x83, 8, 4)), "cut short")],
    ids=["empty", "noise", "short"],
)
def test_an_image_that_is_none(tmp_path: Path, content: bytes, found: str) -> None:
    image = tmp_path / "card.img"
    image.write_bytes(content)
    with pytest.raises(ImageUnusable, match=found):
        system_in(image)
    with pytest.raises(ImageUnusable, match="cannot be read"):
        system_in(tmp_path / "absent")


@pytest.mark.parametrize("partitioned", [True, False], ids=["card", "partition"])
def test_a_card_is_adopted_from_its_image(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitioned: bool
) -> None:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    image, config = tmp_path / "card.img", tmp_path / "gateway.toml"
    offset = 1 << 20 if partitioned else 0
    image.write_bytes(table(entry(0x0C, 1, 8), entry(0x83, 2048, 32 << 11)) if partitioned else b"")
    os.truncate(image, offset + (32 << 20))
    made = ["mkfs.ext4", "-q", "-d", str(card), "-E", f"offset={offset}", str(image), "32M"]
    subprocess.run(made, check=True, capture_output=True)
    config.write_text(f'[site]\nstore = "0042"\ngateway = "front"\n[outbox]\ndirectory = "{tmp_path}/new/outbox"\n')
    done = CliRunner().invoke(gateway, ["adopt", "--from-image", str(image), "--config", str(config)])
    if "loop" in done.output and done.exit_code:
        pytest.skip(f"no loop devices here: {done.output}")
    assert done.exit_code == 0, done.output
    assert "not yet sent: 6 door" in done.output
    assert "destroy it" in done.output
    assert "aisle-3" in done.output
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text(), "unmounted again"
    again = CliRunner().invoke(gateway, ["adopt", "--from-image", str(image), "--config", str(config)])
    assert again.exit_code == 1, "the copy is marked"


def test_one_card_is_named_not_two_and_not_none(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[site]\nstore = "0042"\n')
    for words in ([], ["somewhere", "--from-image", "card.img"]):
        assert CliRunner().invoke(gateway, ["adopt", *words, "--config", str(config)]).exit_code == 2
