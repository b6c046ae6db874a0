"""Taking over a dead gateway's card: its outbox goes on here, with its id, its numbers and what was not yet sent.

A new card means a new outbox; an adopted one does not. The whole outbox is copied, checked against its original, and
its next opening has a higher epoch, so no id is used twice, as long as the old card never runs again: it is marked, and
`outbox.adopted` keeps a daemon from opening a marked outbox.

Order, so that a power cut at any point leaves at most one outbox that can run: copy beside the target, synced; mark the
old one; rename into place (interrupted between, it is taken up again by `again`). Not taken: the day's privacy key,
which never leaves the gateway it was made on (it is destroyed on the old card), the lock and the socket's note. The new
gateway's own outbox, all of it sent, is kept under another name.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Configuration
from gateway.config.outbox_key import sealing_of
from gateway.errors import GatewayError, OutboxSealed, OutboxUnusable
from gateway.machine.acting import acting_as_owner_of
from gateway.machine.disk import RealDisk
from gateway.machine.owner import DIRECTORY_MODE, FILE_MODE, refused
from gateway.machine.safe_files import Folder, opened, shown
from gateway.model import STREAMS
from gateway.outbox.adopted import MARK
from gateway.outbox.reader import OutboxReader
from gateway.outbox.sealing import Sealing
from gateway.technician.card import CALIBRATIONS, AdoptionRefused, Card, CardFile, card_at, copy_file, files_of, why

LOCK = "lock"
DAMAGES_TOLD_MAX = 5
CALIBRATION_BYTES_MAX = 64 * 1024
CALIBRATION = re.compile(r"([A-Za-z0-9_-]{1,64})\.json")
CONFIGURATION_BYTES_MAX = 1 << 20
HOSTNAME_BYTES_MAX = 256


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


def adopt(configuration: Configuration, directory: Path, *, damaged: bool = False, again: bool = False) -> Adopted:
    """Take over the card in `directory` as the outbox of this configuration.

    `damaged` takes a damaged one as well: what is lost is named at the next start. `again` takes one that is marked as
    adopted, where that adoption was interrupted. Raises AdoptionRefused, OutboxUnusable where none can be read, and
    OutboxSealed where this gateway has not the key of either outbox; then nothing was changed. On return the copy
    survives a power cut, and the next `gateway run` goes on with it.

    The card may have been written by anybody: of it regular files alone are read, through opened folders, and only the
    copy is interpreted. Here root writes as the user whose folder it is.
    """
    target = Path(os.path.abspath(configuration.outbox.directory))
    sealing = sealing_of(configuration.outbox)
    with ExitStack() as held:
        card = card_at(directory, held)
        with suppress(OSError):
            if os.path.samestat(os.stat(target), os.fstat(card.outbox.fd)):
                raise AdoptionRefused(f"{target} is the outbox of this gateway already")
        if MARK in card.outbox.names() and not again:
            raise AdoptionRefused(
                f"{card.outbox.shown} was adopted before and goes on elsewhere",
                "if that was interrupted and no gateway runs with it, say --again",
            )
        checked = _same_identity(configuration, card)
        outbox = card.outbox
        held.enter_context(_Held(outbox.shown, lambda: outbox.folder().fd, lambda: outbox.open(LOCK)))
        with acting_as_owner_of(target):
            carefully = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            openers = [lambda one=one: os.open(one, carefully) for one in (target, target / LOCK)]
            held.enter_context(_Held(str(target), *openers))
            _target_is_free(target, sealing)
        try:
            return _take_over(configuration, card, target, damaged, checked, sealing)
        except OSError as error:
            advice = "see df -h, and who owns the folder (ls -ld): it must be the service's user"
            raise AdoptionRefused(f"the card cannot be copied: {refused(error, target.parent)}", advice) from None


def _take_over(
    configuration: Configuration, card: Card, target: Path, damaged: bool, checked: bool, sealing: Sealing
) -> Adopted:
    fresh = target.with_name(f"{target.name}.adopting")
    files, damages, left = files_of(card.outbox, configuration.outbox.bytes_max)
    try:
        damages += _copy(files, fresh, configuration.outbox.bytes_max)
        with acting_as_owner_of(target):
            reader = _read(fresh, card.outbox.shown, sealing)
            damages += [f"{os.path.relpath(found.path, fresh)}: {found.detail}" for found in reader.verify()]
            unsent: dict[str, int] = {stream: reader.positions(stream).backlog for stream in STREAMS}
        if damages and not damaged:
            told = "; ".join(damages[:DAMAGES_TOLD_MAX])
            advice = "copy the card again if you can; to take what is whole and name the rest as lost, say --damaged"
            raise AdoptionRefused(f"{len(damages)} damages in the old outbox: {told}", advice)
        taken, kept, passed_over = _calibrations(card.calibrations, target.parent / CALIBRATIONS)
    except (OSError, GatewayError):
        with acting_as_owner_of(target):
            shutil.rmtree(fresh, ignore_errors=True)
        raise
    marked = _mark(card.outbox, configuration)
    with acting_as_owner_of(target):
        put_aside = _into_place(fresh, target)
    told_damages = (*damages, *left, *passed_over)
    return Adopted(reader.id, unsent, told_damages, taken, kept, checked, put_aside, marked)


def _read(fresh: Path, shown_as: str, sealing: Sealing) -> OutboxReader:
    """Open the copy; what is wrong with it is reported as of the card. Raises OutboxUnusable, OutboxSealed."""
    try:
        return OutboxReader(str(fresh), sealing=sealing)
    except (OutboxUnusable, OutboxSealed) as error:
        raise type(error)(str(error).replace(str(fresh), shown_as), error.advice) from None


def _same_identity(configuration: Configuration, card: Card) -> bool:
    """Check that the card's gateway was this one: events go on under `/stores/{store}/gateways/{gateway}`."""
    if card.etc is None:
        return False
    try:
        with ExitStack() as held:
            folder = card.etc.folder("gateway")
            held.callback(folder.close)
            document = tomllib.loads(folder.read("gateway.toml", CONFIGURATION_BYTES_MAX).decode())
        site = document["site"]
        store = str(site["store"])
        gateway = str(site.get("gateway") or card.etc.read("hostname", HOSTNAME_BYTES_MAX).decode().strip())
        prefix = str(document.get("broker", {}).get("topic_prefix", "stores"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    here = (configuration.site.store, configuration.site.gateway, configuration.broker.topic_prefix)
    if here != (store, gateway, prefix):
        found = f"the card is of store {shown(store)}, gateway {shown(gateway)}, below {shown(prefix)}"
        advice = f"its events are known as that gateway's: set [site] store and gateway as it had them; here is {here}"
        raise AdoptionRefused(found, advice)
    return True


class _Held:
    """Holds an outbox while entered, its directory and the lock file of older versions, so that no daemon opens it."""

    def __init__(self, outbox: str, *openers: Callable[[], int]) -> None:
        self._outbox, self._openers = outbox, openers
        self._fds: list[int] = []

    def __enter__(self) -> None:
        for opener in self._openers:
            with suppress(OSError):
                self._fds.append(opener())
        try:
            for fd in self._fds:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.__exit__()
            raise AdoptionRefused(
                f"a daemon runs with {self._outbox}", "stop it first: systemctl stop gateway"
            ) from None

    def __exit__(self, *exception: object) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []


def _target_is_free(target: Path, sealing: Sealing) -> None:
    if not target.exists() or not any(target.iterdir()):
        return
    try:
        unsent = sum(OutboxReader(str(target), sealing=sealing).positions(stream).backlog for stream in STREAMS)
    except OutboxUnusable:
        unsent = None
    if unsent is None:
        found = f"what lies in {target} cannot be read"
        raise AdoptionRefused(found, "move it away by hand, then adopt")
    if unsent:
        found = f"the outbox here, {target}, holds {unsent} events that are not sent"
        advice = "let it send them first (gateway status), stop it, then adopt"
        raise AdoptionRefused(found, advice)


def _copy(files: list[CardFile], fresh: Path, bytes_max: int) -> list[str]:
    """Copy the outbox, file by file, synced, and read each back; return what could not be read. Raises OSError."""
    with acting_as_owner_of(fresh):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir(mode=DIRECTORY_MODE)
        for name in sorted({file.folder[0] for file in files if file.folder}):
            (fresh / name).mkdir(mode=DIRECTORY_MODE)
    unread: list[str] = []
    left_bytes = bytes_max
    for file in files:
        source = file.open()
        try:
            with acting_as_owner_of(fresh):
                unread += [f"{file.path()}: {gap}" for gap in copy_file(source, fresh / file.path(), left_bytes)]
                left_bytes -= (fresh / file.path()).stat().st_size
        finally:
            os.close(source)
    disk = RealDisk()
    with acting_as_owner_of(fresh):
        for there in [*(path for path in fresh.iterdir() if path.is_dir()), fresh, fresh.parent]:
            disk.sync_directory(str(there))
    return unread


def _calibrations(source: Folder | None, target: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Copy the stored calibrations; one that was made here since is kept, for it is the newer one.

    Returns those taken, those kept, and a sentence for each that is none. Raises OSError where they cannot be written.
    """
    taken, kept, passed_over = [], [], []
    for name in source.names() if source is not None else ():
        assert source is not None
        if not name.endswith(".json"):
            continue
        named = CALIBRATION.fullmatch(name)
        try:
            content = source.read(name, CALIBRATION_BYTES_MAX) if named else None
        except OSError as error:
            passed_over.append(f"calibration {shown(name)}: {why(error)}; not taken")
            continue
        if named is None or content is None:
            passed_over.append(f"calibration {shown(name)}: a strange name; not taken")
            continue
        with acting_as_owner_of(target):
            target.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            with opened(target) as folder:
                try:
                    folder.write(name, content, FILE_MODE, replace=False)
                    taken.append(named[1])
                except FileExistsError:
                    kept.append(named[1])
    return tuple(taken), tuple(kept), tuple(passed_over)


def _mark(outbox: Folder, configuration: Configuration) -> bool:
    """Mark the old outbox, and destroy the key of its day; False where the card cannot be written."""
    site = configuration.site
    content = json.dumps({"store": site.store, "gateway": site.gateway}).encode()
    try:
        outbox.write(MARK, content, 0o644)
    except OSError:
        return False
    outbox.remove("privacy.key")
    with suppress(OSError):
        os.fsync(outbox.fd)  # else a power cut brings the key back
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
