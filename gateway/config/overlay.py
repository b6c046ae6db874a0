"""What the cloud ordered of the configuration: one small file beside the outbox, laid over the local files.

Format: `{outbox directory}.config.json`, one JSON object: `overlay` (tables as in TOML), `trial` while the overlay has
yet to prove itself (with the overlay to go back to), `verdict` while it has yet to be told that it was taken back.
Law: written whole under another name, synced, renamed: a power cut leaves the old one or the new one. A file that
cannot be read or used is as if it were not there: the local files alone can always run the gateway.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.machine.bounded import read_object
from gateway.machine.owner import beside, put, sync_folder

log = logging.getLogger(__name__)

BYTES_MAX = 256 * 1024
TEXT_MAX = 65_535 * 2
STARTS_MAX = 1000
WITHIN_S_MAX = 3600.0

One = TypeVar("One")


@dataclass(frozen=True, slots=True)
class Probation:
    """A configuration (`sha256`) that must prove itself within `within_s` of each start; `previous` is what was.

    `topic` and `correlation` (hexadecimal) say whom to answer.
    """

    sha256: str
    within_s: float
    topic: str
    correlation: str | None = None
    previous: Mapping[str, Any] = field(default_factory=dict)
    starts: int = 0


@dataclass(frozen=True, slots=True)
class FailedProbation:
    """A trial was lost: what is to be told when the gateway is back on what it had."""

    sha256: str
    why: str
    topic: str
    correlation: str | None = None


@dataclass(frozen=True, slots=True)
class Ordered:
    """The file's content."""

    overlay: Mapping[str, Any] = field(default_factory=dict)
    trial: Probation | None = None
    verdict: FailedProbation | None = None


def path_of(outbox_directory: Path | str) -> Path:
    """Return where it stands: beside the outbox, never in it."""
    return beside(outbox_directory, "config.json")


def read_ordered(outbox_directory: Path | str) -> Ordered:
    """Return what was ordered; nothing, with a warning in the log, where the file cannot be read and understood."""
    path = path_of(outbox_directory)
    try:
        return _understood(read_object(path, BYTES_MAX))
    except FileNotFoundError:
        return Ordered()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        log.warning("what the cloud ordered of the configuration is not used path=%s why=%s", path, why)
        return Ordered()


def _understood(document: Mapping[str, Any]) -> Ordered:
    """Return the content of the file; ValueError names the first key that is of the wrong form."""
    overlay, trial, verdict = (document.get(key) for key in ("overlay", "trial", "verdict"))
    if overlay is not None and not isinstance(overlay, dict):
        raise ValueError('"overlay" is no object')
    return Ordered(overlay or {}, _one(Probation, trial, "trial"), _one(FailedProbation, verdict, "verdict"))


def _one(form: Callable[..., One], value: Any, name: str) -> One | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f'"{name}" is no object')
    for key, inner in value.items():
        if key not in FORMS or not FORMS[key](inner):
            raise ValueError(f'"{name}" has a wrong "{str(key)[:40]}"')
    try:
        return form(**value)
    except TypeError:
        raise ValueError(f'"{name}" lacks a key, or has one too many') from None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_MAX


FORMS: Mapping[str, Callable[[Any], bool]] = {
    "sha256": _is_text,
    "topic": _is_text,
    "why": _is_text,
    "correlation": lambda value: value is None or _is_text(value),
    "previous": lambda value: isinstance(value, dict),
    "starts": lambda value: type(value) is int and 0 <= value <= STARTS_MAX,
    "within_s": lambda value: type(value) in (int, float) and 0 < value <= WITHIN_S_MAX,
}


def write_ordered(outbox_directory: Path | str, ordered: Ordered) -> None:
    """Keep it; it survives a power cut on return. Where there is nothing left to keep the file goes. Raises OSError."""
    path = path_of(outbox_directory)
    if ordered == Ordered():
        with suppress(FileNotFoundError):
            path.unlink()
        sync_folder(path.parent)
    else:
        put(path, json.dumps(dataclasses.asdict(ordered), ensure_ascii=False, indent=1).encode() + b"\n")
