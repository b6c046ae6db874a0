"""The keys of the outbox, read from their files at the rim: `[outbox] key_file` seals and opens, `old_key_file` opens.

Law: no part of a key stands in a sentence. Whatever is wrong with a key ends what was asked for, before the outbox is
touched: nothing is recorded in the open because its key was not found.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.known_secrets import readable
from gateway.errors import OutboxSealed
from gateway.machine.bounded import read_bounded
from gateway.outbox.sealing import Sealing, key_of
from gateway.outbox.settings import OutboxSettings

if TYPE_CHECKING:
    from gateway.outbox.reader import OutboxReader

KEY_FILE_BYTES_MAX = 1024
MADE_BY = "openssl rand -hex 32"


def sealing_of(settings: OutboxSettings) -> Sealing:
    """Return what seals and opens the outbox of this configuration. Raises OutboxSealed with what is wrong of a key."""
    key = _key("key_file", settings.key_file) if settings.key_file is not None else None
    old = [_key("old_key_file", settings.old_key_file)] if settings.old_key_file is not None else []
    try:
        return Sealing(key, old)
    except ImportError:
        raise OutboxSealed(
            "[outbox] key_file needs the package cryptography, which is not installed",
            'install it beside the gateway: pip install "store-gateway[encryption]"',
        ) from None


def reader_of(settings: OutboxSettings) -> OutboxReader:
    """Open the outbox of this configuration for reading. Raises OutboxUnusable, and OutboxSealed without its key."""
    from gateway.outbox.reader import OutboxReader

    return OutboxReader(settings.directory, sealing=sealing_of(settings))


def _key(name: str, path: Path) -> bytes:
    where = f"[outbox] {name} {path}"
    try:
        return key_of(read_bounded(readable(path.expanduser()), KEY_FILE_BYTES_MAX))
    except OSError as error:
        raise OutboxSealed(
            f"{where}, the key of the outbox, cannot be read: {error.strerror}",
            f"put it back (a new one, by {MADE_BY}, opens nothing that is sealed already), readable for this user",
        ) from None
    except ValueError:
        raise OutboxSealed(
            f"{where} is no key of an outbox: 32 random bytes, or they as 64 hex digits or as base64",
            f"put the key of this outbox there; for a new one: {MADE_BY}",
        ) from None
