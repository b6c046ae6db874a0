"""A dead gateway's card, which may have been written by anybody: its folders opened, its files listed and copied.

Law: as `safe_files`. What is no regular file of the outbox is not taken, and a sentence says so; a sector that cannot
be read becomes zeros, so that what lies before and behind it is kept.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import GatewayError
from gateway.machine.owner import FILE_MODE
from gateway.machine.safe_files import BLOCK_BYTES, Folder, opened, shown
from gateway.model import STREAMS
from gateway.outbox.adopted import MARK
from gateway.outbox.directory import BALLAST_NAME
from gateway.outbox.outbox import REFUSED_NAME
from gateway.outbox.record import parse_name
from gateway.outbox.state import STATE_NAME

OWN = (STATE_NAME, BALLAST_NAME, REFUSED_NAME, f"{REFUSED_NAME}.1")
LEFT_BEHIND = ("lock", "control", "privacy.key", MARK)
CALIBRATIONS = "calibration"
OUTBOX_ON_CARD = ("var", "lib", "gateway", "outbox")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SECTOR_BYTES = 4096


class AdoptionRefused(GatewayError):
    """This card cannot be taken over, or not now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Card:
    """A dead gateway's folders, opened: its outbox, its calibrations, and its configuration where that lies beside."""

    outbox: Folder
    calibrations: Folder | None
    etc: Folder | None


def why(error: OSError) -> str:
    """Return what an error of the system says, without its number and path."""
    return error.strerror or str(error)


def card_at(directory: Path, held: ExitStack) -> Card:
    """Open the outbox in `directory`, itself one or the mounted card, until `held` ends. Raises AdoptionRefused."""

    def below(folder: Folder, *names: str) -> Folder | None:
        try:
            found = folder.folder(*names)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AdoptionRefused(
                f"{folder.shown}/{'/'.join(names)} on the card cannot be opened: {why(error)}",
                "a card that a gateway wrote has folders there, and no links",
            ) from None
        held.callback(found.close)
        return found

    try:
        named = held.enter_context(opened(directory))
    except OSError as error:
        raise AdoptionRefused(f"{directory} cannot be opened: {why(error)}", "name the mounted card") from None
    outbox = below(named, *OUTBOX_ON_CARD)
    if outbox is not None:
        state = below(named, *OUTBOX_ON_CARD[:-1])
        return Card(outbox, state and below(state, CALIBRATIONS), below(named, "etc"))
    if any(name in STREAMS or name == "state.ack" for name in named.names()):
        state = held.enter_context(opened(Path(os.path.abspath(directory)).parent))
        return Card(named, below(state, CALIBRATIONS), None)
    raise AdoptionRefused(
        f"there is no outbox in {directory}",
        f"name the mounted card (it has {'/'.join(OUTBOX_ON_CARD)}) or the outbox directory itself",
    )


@dataclass(frozen=True, slots=True)
class CardFile:
    """A file of the card's outbox: where it is, and what it is called there."""

    folder: tuple[str, ...]
    name: str
    outbox: Folder

    def path(self) -> str:
        return "/".join((*self.folder, self.name))

    def open(self) -> int:
        folder = self.outbox.folder(*self.folder)
        try:
            return folder.open(self.name)
        finally:
            folder.close()


def is_own(stream: bool, name: str) -> bool:
    """Return whether an outbox makes files of this name, in the folder of a stream or in its own."""
    return parse_name(name.removesuffix(".bad")) is not None if stream else name in OWN


def files_of(outbox: Folder, bytes_max: int) -> tuple[list[CardFile], list[str], list[str]]:
    """Return what is taken of the card's outbox, a sentence for each damage, and one for each file that is left.

    Taken are regular files with a name that an outbox gives; other files are left, and what is no file is a damage.
    Raises AdoptionRefused where what is taken is too large, OSError.
    """
    found: list[CardFile] = []
    passed_over: list[str] = []
    left: list[str] = []
    size_bytes = 0

    def look(folder: Folder, below: tuple[str, ...]) -> None:
        nonlocal size_bytes
        for name in folder.names():
            kind = folder.kind(name)
            if not below and (name in LEFT_BEHIND or (name in STREAMS and kind == "a folder")):
                continue
            if kind or not NAME.fullmatch(name):
                passed_over.append(f"{'/'.join((*below, shown(name)))}: {kind or 'a strange name'}, not taken")
                continue
            if not is_own(bool(below), name):
                left.append(f"{'/'.join((*below, name))}: no file of an outbox ({folder.size(name)} bytes), not taken")
                continue
            size_bytes += folder.size(name)
            found.append(CardFile(below, name, outbox))

    look(outbox, ())
    for stream in STREAMS:
        with suppress(FileNotFoundError, NotADirectoryError):
            folder = outbox.folder(stream)
            try:
                look(folder, (stream,))
            finally:
                folder.close()
    if size_bytes > bytes_max:
        advice = "raise outbox.bytes_max, or the least valuable events would be shed at the first start"
        raise AdoptionRefused(f"the old outbox has {size_bytes} bytes, above this one's bound", advice)
    return found, passed_over, left


def copy_file(source: int, to: Path, bytes_max: int) -> Iterator[str]:
    """Copy what is open, as long as it is now; sectors that cannot be read become zeros, and a sentence each."""
    length = min(os.fstat(source).st_size, bytes_max)
    with open(os.open(to, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b") as copy:
        os.fchmod(copy.fileno(), FILE_MODE)
        wanted, at = hashlib.sha256(), 0
        while at < length:
            try:
                block = os.pread(source, min(BLOCK_BYTES, length - at), at)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                count = min(SECTOR_BYTES, length - at)
                try:
                    block = os.pread(source, count, at)
                except OSError:
                    block = bytes(count)
                    yield f"{count} bytes at {at} cannot be read from the card"
            if not block:
                break
            wanted.update(block)
            copy.write(block)
            at += len(block)
        copy.flush()
        os.fsync(copy.fileno())
        copy.seek(0)
        if hashlib.file_digest(copy, "sha256").digest() != wanted.digest():
            raise OSError(None, f"{to} does not read back as it was written")
