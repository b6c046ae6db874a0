"""Taking over a dead gateway's card: its outbox goes on here, with its id, its numbers and what was not yet sent.

A new card means a new outbox; an adopted one does not. The whole outbox is copied, checked against its original, and
its next opening has a higher epoch, so no id is used twice, as long as the old card never runs again: it is marked, and
`refuse_adopted` keeps a daemon from opening a marked outbox.

Order, so that a power cut at any point leaves at most one outbox that can run: copy beside the target, synced; mark the
old one; rename into place (interrupted between, it is taken up again by `again`). Not taken: the day's privacy key,
which never leaves the gateway it was made on (it is destroyed on the old card), the lock and the socket's note. The new
gateway's own outbox, all of it sent, is kept under another name.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Configuration
from gateway.disk import Disk, RealDisk
from gateway.errors import GatewayError, OutboxUnusable
from gateway.model import STREAMS
from gateway.outbox import OutboxReader

MARK = "adopted"
LOCK = "lock"
LEFT_BEHIND = ("lock", "control", "privacy.key", MARK)
CALIBRATIONS = "calibration"
OUTBOX_ON_CARD = "var/lib/gateway/outbox"
CONFIGURATION_ON_CARD = "etc/gateway/gateway.toml"
DAMAGES_TOLD_MAX = 5


class AdoptionRefused(GatewayError):
    """This card cannot be taken over, or not now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Card:
    """A dead gateway's outbox, and who it was where its configuration lies beside it."""

    outbox: Path
    configuration: Path | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was taken over. `marked` is False where the old card could not be written: it must be destroyed."""

    outbox: str
    unsent: dict[str, int]
    damages: tuple[str, ...]
    calibrations: tuple[str, ...]
    calibrations_kept: tuple[str, ...]
    identity_checked: bool
    put_aside: Path | None
    marked: bool


def refuse_adopted(disk: Disk, directory: str) -> None:
    """Raise OutboxUnusable where this outbox goes on elsewhere: here it must never run again."""
    with suppress(OSError):
        if MARK in disk.names(directory):
            raise OutboxUnusable(
                f"the outbox {directory} was adopted by another gateway and goes on there",
                "give this card a new outbox: move the directory away, or write the card anew",
            )


def card_at(directory: Path) -> Card:
    """Find the outbox in `directory`: itself one, or the mounted card. Raises AdoptionRefused."""
    whole = directory / OUTBOX_ON_CARD
    if whole.is_dir():
        configuration = directory / CONFIGURATION_ON_CARD
        return Card(whole, configuration if configuration.is_file() else None)
    if any((directory / stream).is_dir() for stream in STREAMS) or (directory / "state.ack").is_file():
        return Card(directory)
    raise AdoptionRefused(
        f"there is no outbox in {directory}",
        f"name the mounted card (it has {OUTBOX_ON_CARD}) or the outbox directory itself",
    )


def adopt(configuration: Configuration, directory: Path, *, damaged: bool = False, again: bool = False) -> Adopted:
    """Take over the card in `directory` as the outbox of this configuration.

    `damaged` takes a damaged one as well: what is lost is named at the next start. `again` takes one that is marked as
    adopted, where that adoption was interrupted. Raises AdoptionRefused, and OutboxUnusable where none can be read;
    then nothing was changed. On return the copy survives a power cut, and the next `gateway run` goes on with it.
    """
    card = card_at(directory)
    target = Path(os.path.abspath(configuration.outbox.directory))
    if target.resolve() == card.outbox.resolve():
        raise AdoptionRefused(f"{target} is the outbox of this gateway already")
    if (card.outbox / MARK).exists() and not again:
        raise AdoptionRefused(
            f"{card.outbox} was adopted before and goes on elsewhere",
            "if that was interrupted and no gateway runs with it, say --again",
        )
    checked = _same_identity(configuration, card)
    with _Held(card.outbox), _Held(target):
        reader = OutboxReader(str(card.outbox))
        damages = tuple(f"{found.path}: {found.detail}" for found in reader.verify())
        if damages and not damaged:
            shown = "; ".join(damages[:DAMAGES_TOLD_MAX])
            advice = "copy the card again if you can; to take what is whole and name the rest as lost, say --damaged"
            raise AdoptionRefused(f"{len(damages)} damages in the old outbox: {shown}", advice)
        _target_is_free(target)
        size_bytes = sum(path.stat().st_size for path in _files(card.outbox))
        if size_bytes > configuration.outbox.bytes_max:
            advice = "raise outbox.bytes_max, or the least valuable events would be shed at the first start"
            raise AdoptionRefused(f"the old outbox has {size_bytes} bytes, above this one's bound", advice)
        fresh = target.with_name(f"{target.name}.adopting")
        try:
            _copy(card.outbox, fresh)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise AdoptionRefused(f"the outbox cannot be copied: {error.strerror or error}", "see df -h") from None
        copied = OutboxReader(str(fresh))
        if (copied.id, copied.epoch) != (reader.id, reader.epoch):
            raise AdoptionRefused("the copy is not the outbox that was there", "is a daemon running with it?")
        taken, kept = _calibrations(card.outbox.parent / CALIBRATIONS, target.parent / CALIBRATIONS)
        marked = _mark(card.outbox, configuration)
        put_aside = _into_place(fresh, target)
    unsent: dict[str, int] = {stream: reader.positions(stream).backlog for stream in STREAMS}
    return Adopted(reader.id, unsent, damages, taken, kept, checked, put_aside, marked)


def _same_identity(configuration: Configuration, card: Card) -> bool:
    """Check that the card's gateway was this one: events go on under `/stores/{store}/gateways/{gateway}`."""
    if card.configuration is None:
        return False
    try:
        document = tomllib.loads(card.configuration.read_text())
        site = document["site"]
        store = str(site["store"])
        host = card.configuration.parent.parent / "hostname"
        gateway = str(site.get("gateway") or host.read_text().strip())
        prefix = str(document.get("broker", {}).get("topic_prefix", "stores"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    here = (configuration.site.store, configuration.site.gateway, configuration.broker.topic_prefix)
    if here != (store, gateway, prefix):
        found = f"the card is of store {store}, gateway {gateway}, below {prefix}"
        advice = f"its events are known as that gateway's: set [site] store and gateway as it had them; here is {here}"
        raise AdoptionRefused(found, advice)
    return True


class _Held:
    """Holds an outbox's lock while entered, so that no daemon can open it; without a lock there was no daemon."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        self._fd: int | None = None

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            found = f"a daemon runs with {self._path.parent}"
            raise AdoptionRefused(found, "stop it first: systemctl stop gateway") from None

    def __exit__(self, *exception: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _target_is_free(target: Path) -> None:
    if not target.exists() or not any(target.iterdir()):
        return
    try:
        unsent = sum(OutboxReader(str(target)).positions(stream).backlog for stream in STREAMS)
    except OutboxUnusable:
        unsent = None
    if unsent is None:
        found = f"what lies in {target} cannot be read"
        raise AdoptionRefused(found, "move it away by hand, then adopt")
    if unsent:
        found = f"the outbox here, {target}, holds {unsent} events that are not sent"
        advice = "let it send them first (gateway status), stop it, then adopt"
        raise AdoptionRefused(found, advice)


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.relative_to(directory).parts[0] not in LEFT_BEHIND:
            yield path


def _copy(source: Path, fresh: Path) -> None:
    """Copy the outbox, file by file, synced, and read each back."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    fresh.mkdir(mode=0o750)
    owner = fresh.parent.stat()
    for path in _files(source):
        to = fresh / path.relative_to(source)
        to.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _copy_file(path, to)
    disk = RealDisk()
    for there in [*(path for path in fresh.rglob("*") if path.is_dir()), fresh, fresh.parent]:
        disk.sync_directory(str(there))
    if os.geteuid() == 0:
        for there in [fresh, *fresh.rglob("*")]:
            os.chown(there, owner.st_uid, owner.st_gid)


def _copy_file(path: Path, to: Path) -> None:
    with path.open("rb") as source, to.open("xb") as copy:
        wanted = hashlib.sha256()
        while block := source.read(1 << 20):
            wanted.update(block)
            copy.write(block)
        copy.flush()
        os.fsync(copy.fileno())
    os.chmod(to, 0o640)
    with to.open("rb") as copy:
        if hashlib.file_digest(copy, "sha256").digest() != wanted.digest():
            raise OSError(None, f"{to} does not read back as it was written")


def _calibrations(source: Path, target: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy the stored calibrations; one that was made here since is kept, for it is the newer one."""
    taken, kept = [], []
    for path in sorted(source.glob("*.json")) if source.is_dir() else ():
        to = target / path.name
        if to.exists():
            kept.append(path.stem)
            continue
        target.mkdir(mode=0o750, parents=True, exist_ok=True)
        _copy_file(path, to)
        taken.append(path.stem)
    if taken:
        RealDisk().sync_directory(str(target))
        if os.geteuid() == 0:
            owner = target.parent.stat()
            for there in [target, *(target / f"{name}.json" for name in taken)]:
                os.chown(there, owner.st_uid, owner.st_gid)
    return tuple(taken), tuple(kept)


def _mark(outbox: Path, configuration: Configuration) -> bool:
    """Mark the old outbox, and destroy the key of its day; False where the card cannot be written."""
    site = configuration.site
    try:
        with (outbox / MARK).open("w") as mark:
            json.dump({"store": site.store, "gateway": site.gateway}, mark)
            mark.flush()
            os.fsync(mark.fileno())
        RealDisk().sync_directory(str(outbox))
    except OSError:
        return False
    with suppress(OSError):
        (outbox / "privacy.key").unlink(missing_ok=True)
    return True


def _into_place(fresh: Path, target: Path) -> Path | None:
    """Rename the copy to where the daemon looks; what lay there, all of it sent, stays under another name."""
    put_aside: Path | None = None
    if target.exists():
        names = (target.with_name(f"{target.name}.before-{count}") for count in itertools.count(1))
        put_aside = next(name for name in names if not name.exists())
        os.rename(target, put_aside)
    os.rename(fresh, target)
    RealDisk().sync_directory(str(target.parent))
    return put_aside
