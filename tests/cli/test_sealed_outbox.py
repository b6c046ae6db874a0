"""A sealed outbox under the verbs and the daemon: with its key as before, else a sentence and no change."""

from __future__ import annotations

import json
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gateway import wire
from gateway.config import load
from gateway.config.outbox_key import sealing_of
from gateway.errors import EXIT_CONFIGURATION, EXIT_GOOD, OutboxSealed
from gateway.facts import EventsDropped
from gateway.machine.disk import RealDisk
from gateway.model import Event, Instant, Loss
from gateway.outbox.adopted import MARK
from gateway.outbox.outbox import Outbox
from gateway.outbox.writing import InlineWriter
from gateway.sensors.door.facts import DoorPassed
from gateway.technician.adoption import adopt
from gateway.technician.checks.warnings import warnings_of
from tests.cli.test_outbox_verbs import NOW, call
from tests.daemon import Shop, ended, stop, wait_for

KEY, OTHER = bytes(range(32)).hex(), bytes(range(32, 64)).hex()
CANARY = "staff-anna"


def describe_loss(outbox: str, loss: Loss, now: Instant) -> bytes:
    dropped = EventsDropped(outbox, loss.stream, loss.reason, loss.first, loss.last, loss.count)
    return wire.record(Event("gateway", now, dropped), "969b0c7f")


def opened(path: Path, now: Instant = NOW) -> Outbox:
    settings = load([path]).outbox
    disk = RealDisk()
    sealing = sealing_of(settings)
    return Outbox.open(settings.directory, settings, disk, InlineWriter(disk), now, describe_loss, sealing=sealing)


@pytest.fixture
def path(write_configuration: Any, tmp_path: Path) -> Path:
    """A configuration whose sealed outbox holds four passages of a door with a telling name."""
    key = tmp_path / "outbox.key"
    key.write_text(KEY + "\n")
    path: Path = write_configuration(f'key_file = "{key}"\n[broker]\nurl = "mqtt://127.0.0.1:1"\n')
    outbox = opened(path)
    for number in range(4):
        fact = DoorPassed("in", 300 + number, number, 0, 0)
        outbox.append("door", wire.record(Event(CANARY, NOW, fact), "969b0c7f"), NOW)
    outbox.commit(NOW)
    outbox.refuse(outbox.read("door", 0, 1, 1)[0], "too large")
    outbox.close(NOW)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("content", [None, KEY[:32], "0" * 64])
def test_a_key_that_starts_no_daemon_is_warned_of_before(path: Path, content: str | None) -> None:
    configuration = load([path])
    assert configuration.outbox.key_file is not None
    configuration.outbox.key_file.unlink()
    if content is not None:
        configuration.outbox.key_file.write_text(content)
        configuration.outbox.key_file.chmod(0o600)
    (warning,) = warnings_of(configuration, NOW)
    assert warning.code == "outbox.key"
    assert str(configuration.outbox.key_file) in warning.detail
    assert "no daemon starts" in warning.detail


READING = (
    ("outbox", "status"),
    ("outbox", "list"),
    ("outbox", "show", "door", "2"),
    ("outbox", "query", f'subject == "{CANARY}"'),
    ("outbox", "refused"),
    ("outbox", "verify"),
    ("outbox", "estimate"),
    ("outbox", "export"),
    ("outbox", "repair", "--yes"),
)
RUN = ("run", "--simulated")


def test_with_its_key_every_verb_works_as_before(path: Path) -> None:
    assert not any(CANARY.encode() in content for content in tree(path.parent / "outbox").values())
    for verb in READING:
        result = call(*verb, "--config", path)
        assert result.exit_code == EXIT_GOOD, (verb, result.output)
        assert (CANARY in result.output) == (verb[1] in ("list", "show", "query", "refused", "export")), verb


@pytest.mark.parametrize("verb", [*READING, RUN], ids=" ".join)
def test_without_its_key_every_verb_and_the_daemon_say_what_is_missing_and_changes_nothing(
    path: Path, verb: tuple[str, ...]
) -> None:
    key = path.parent / "outbox.key"
    before = tree(path.parent / "outbox")
    for spoil, says in (
        (lambda: key.write_text(OTHER), "is sealed with key"),
        (lambda: key.write_text("hunter2"), "is no key of an outbox"),
        (key.unlink, "cannot be read: No such file"),
    ):
        spoil()
        result = call(*verb, "--config", path)
        assert result.exit_code == EXIT_CONFIGURATION, (verb, result.output)
        assert says in str(result.exception) + result.output, verb
        assert OTHER not in result.output
        assert "hunter2" not in result.output
    assert tree(path.parent / "outbox") == before


def test_status_doctor_and_bundle_say_that_the_key_is_missing(path: Path) -> None:
    assert "sealed with key" in call("doctor", "--config", path).output
    archive = path.parent / "bundle.tar.gz"
    assert call("support-bundle", "--config", path, "--output", archive).exit_code == EXIT_GOOD
    with tarfile.open(archive) as bundle:
        texts = {name.rsplit("/", 1)[1]: bundle.extractfile(name).read() for name in bundle.getnames()}  # type: ignore[union-attr]
    assert json.loads(texts["outbox.json"])["streams"]["door"]["recorded_through"] == 4
    assert not any(KEY.encode() in text or CANARY.encode() in text for text in texts.values())
    (path.parent / "outbox.key").write_text(OTHER)
    doctor = call("doctor", "--config", path)
    assert "is sealed with key" in doctor.output
    assert doctor.exit_code != EXIT_GOOD
    assert "is sealed with key" in call("status", "--config", path, "--json").output


def test_a_card_is_adopted_with_its_key_alone(path: Path, tmp_path: Path) -> None:
    card = tmp_path / "card"
    (path.parent / "outbox").rename(card)
    (tmp_path / "new").mkdir()
    settings = path.read_text().replace(f"{tmp_path}/outbox", f"{tmp_path}/new/outbox", 1)
    here = tmp_path / "new/gateway.toml"
    here.write_text(settings)
    key = tmp_path / "outbox.key"
    before = tree(card)
    key.write_text(OTHER)
    with pytest.raises(OutboxSealed, match="is sealed with key"):
        adopt(load([here]), card)
    assert tree(card) == before
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["gateway.toml"]
    key.write_text(KEY)
    assert adopt(load([here]), card).unsent["door"] == 3
    assert (card / MARK).exists()
    outbox = opened(here)
    assert [entry.sequence for entry in outbox.read("door", 0, 9, 1 << 20)] == [2, 3, 4]
    outbox.close(NOW)


@pytest.mark.slow
def test_the_daemon_records_sealed_and_stops_with_a_sentence_under_another_key(tmp_path: Path) -> None:
    key = tmp_path / "outbox.key"
    key.write_text(KEY)
    shop = Shop(tmp_path, "mqtt://127.0.0.1:1", f'key_file = "{key}"')
    process = shop.run("--simulated")
    wait_for(lambda: shop.backlog("gateway") > 0, what="the first events")
    key.write_text(OTHER)
    assert shop.ask("outbox list").returncode == EXIT_CONFIGURATION
    before = shop.backlog("gateway")
    process.send_signal(signal.SIGHUP)  # it is refused, and the key in memory stays in force
    wait_for(lambda: shop.backlog("gateway") > before, what="the event that tells so")
    key.write_text(KEY)
    _, said, _ = stop(process)
    assert "the new configuration is refused" in said
    listed = shop.ask("outbox list", "gateway", "--json").stdout
    assert "store.gateway.started" in listed
    files = tree(shop.outbox)
    assert not any(b"store.gateway" in content for content in files.values())
    key.write_text(OTHER)
    status, said = ended(shop.run("--simulated"))
    assert status == EXIT_CONFIGURATION
    assert f"the outbox {shop.outbox} is sealed with key" in said
    assert tree(shop.outbox) == files
