"""Who leaves the store under which name: pseudonyms under the key of the day (contract section 7).

A pseudonym is the first 16 hex digits of hmac-sha256(key of the day, identity). The key is made here, never leaves, and
is destroyed at the end of the local day, so what was told on two days cannot be linked, not even by us.

While the wall clock is not synchronised nobody knows the day: a gateway that boots every morning with the same wrong
date would use one key for ever. Such moments get a key in memory only, new each boot and every 24 hours; the day's key
in the file outlives them, unless they have lasted 24 hours, for it may still be that day.

Law: no key and no identity stands in a log line, a repr or an exception. `Pseudonyms` is pure given its keys; `DayKeys`
is the rim. Overwriting a file on an SD card does not promise that its flash forgets: put the file on a tmpfs (`/run`)
where that matters; a reboot then begins a new key within the day.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Protocol
from zoneinfo import ZoneInfo

from annotated_types import Ge

from gateway.machine.asker import Ask, at_once
from gateway.machine.bounded import read_object
from gateway.machine.disk import RealDisk
from gateway.machine.owner import settle
from gateway.model import NS_PER_S, Instant

log = logging.getLogger(__name__)

KEY_BYTES = 32
KEY_FILE_BYTES_MAX = 4096
KEY_MODE = 0o600
PSEUDONYM_DIGITS = 16
UNSYNCED_KEY_NS = 24 * 3600 * NS_PER_S
REPLAY_KEY = b"replay"


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """`[privacy]`: how tags are identified outside, and how many strangers make a count."""

    identity: Literal["pseudonym", "plain", "none"] = "pseudonym"
    anonymous_min: Annotated[int, Ge(0)] = 5


@dataclass(frozen=True, slots=True)
class Period:
    """For how long one key serves: a local day, or (`is_day` false) a stretch of one boot without a known day.

    `ends_others` says that any other day is over for sure.
    """

    name: str
    is_day: bool = True
    ends_others: bool = True


class Keys(Protocol):
    """Where keys come from."""

    def key_of(self, period: Period) -> bytes:
        """Return the key of a period, the same one each time; those that it ends are destroyed by asking."""
        ...

    def destroy_others(self, period: Period) -> None:
        """Destroy the keys that `period` ends, without making one."""
        ...


class ReplayKeys:
    """`gateway replay`: the key of every day is `replay`, so that equal input gives equal bytes."""

    def key_of(self, period: Period) -> bytes:
        return REPLAY_KEY

    def destroy_others(self, period: Period) -> None:
        """There is nothing to destroy."""


class Pseudonyms:
    """Maps an identity to what may leave the store. One object serves all sensors, in the engine's thread."""

    def __init__(self, settings: PrivacySettings, timezone: ZoneInfo, keys: Keys) -> None:
        self._mode = settings.identity
        self._timezone = timezone
        self._keys = keys
        self._latest_ns = -1
        self._period: Period | None = None

    def identify(self, identity: str, at: Instant) -> str | None:
        """Return the pseudonym, the identity itself, or None, as `[privacy] identity` has it."""
        if self._mode == "none":
            return None
        if self._mode == "plain":
            return identity
        key = self._keys.key_of(self._period_of(at))
        return hmac.digest(key, identity.encode(), "sha256").hex()[:PSEUDONYM_DIGITS]

    def turn(self, now: Instant) -> None:
        """Destroy the key of a day that is over. To be called about every minute; cheap where nothing is over."""
        if self._mode == "pseudonym":
            before = self._period
            if (period := self._period_of(now)) != before:
                self._keys.destroy_others(period)

    def _period_of(self, at: Instant) -> Period:
        # Two sensors' readings may change places around midnight: a day that is over does not come back for them.
        if self._period is None or at.boot_ns >= self._latest_ns:
            self._latest_ns = at.boot_ns
            self._period = period_of(at, self._timezone)
        return self._period


def period_of(at: Instant, timezone: ZoneInfo) -> Period:
    """Return the local day of a moment, or without a synchronised clock the stretch of this boot."""
    if at.clock == "unsynced":
        stretch = at.boot_ns // UNSYNCED_KEY_NS
        return Period(f"unsynced-{stretch}", is_day=False, ends_others=stretch > 0)
    return Period(datetime.fromtimestamp(at.wall_ns // NS_PER_S, UTC).astimezone(timezone).date().isoformat())


class DayKeys:
    """The key in force, in memory and for a day in one file of mode 0600: `{"day": "2026-11-22", "key": "<64 hex>"}`.

    `ask` calls what touches the file. Where it cannot be written the key lives in memory alone: a restart then begins a
    new one. Not thread-safe.
    """

    def __init__(self, path: Path, random: Callable[[int], bytes] = secrets.token_bytes, ask: Ask = at_once) -> None:
        self._path = path
        self._random = random
        self._ask = ask
        self._period: Period | None = None
        self._key = b""

    def __repr__(self) -> str:
        return f"DayKeys({str(self._path)!r})"

    def key_of(self, period: Period) -> bytes:
        """Return the key of `period`: from memory, from the file, or a new one. Keys that it ends are destroyed."""
        if period != self._period:
            self._key = self._stored(period) or self._made(period)
            self._period = period
        return self._key

    def destroy_others(self, period: Period) -> None:
        """Destroy the key in memory and in the file, unless it is that of `period`."""
        if period != self._period:
            self._period, self._key = None, b""
        if period.ends_others:
            self._destroy_file(period)

    def _stored(self, period: Period) -> bytes | None:
        if not period.is_day:
            return None
        try:
            return self._ask(self._read, period)
        except TimeoutError:
            return None

    def _read(self, period: Period) -> bytes | None:
        try:
            kept = read_object(self._path, KEY_FILE_BYTES_MAX, follow=False)
            key = bytes.fromhex(kept["key"])
            return key if kept["day"] == period.name and len(key) == KEY_BYTES else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _made(self, period: Period) -> bytes:
        key = self._random(KEY_BYTES)
        if period.ends_others:
            self._destroy_file()
        if period.is_day:
            try:
                self._ask(self._store, json.dumps({"day": period.name, "key": key.hex()}).encode())
            except OSError as error:
                log.warning("privacy key is kept in memory only reason=%s", error.strerror)
        return key

    def _store(self, content: bytes) -> None:
        RealDisk().make_directory(str(self._path.parent))
        draft = self._path.with_name(self._path.name + ".draft")
        with contextlib.suppress(FileNotFoundError):
            self._wipe(draft)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, KEY_MODE)
        try:
            settle(descriptor, KEY_MODE, self._path.parent)
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(self._path)
        self._sync_directory()

    def _destroy_file(self, but: Period | None = None) -> None:
        try:
            self._ask(self._wipe_file, but)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("the privacy key of a past day cannot be destroyed reason=%s", error.strerror)

    def _wipe_file(self, but: Period | None) -> None:
        if but is None or not but.is_day or self._read(but) is None:
            self._wipe(self._path)
            self._sync_directory()

    @staticmethod
    def _wipe(path: Path) -> None:
        # Overwritten in place before it is unlinked: an unlinked file's blocks can be read back until they are reused.
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.write(descriptor, bytes(min(os.fstat(descriptor).st_size, KEY_FILE_BYTES_MAX)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()

    def _sync_directory(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
