"""What the cloud ordered of the configuration: one small file beside the outbox, laid over the local files.

Format: `{outbox directory}.config.json`, one JSON object: `overlay` (tables as in TOML), `trial` while the overlay has
yet to prove itself (with the overlay to go back to), `verdict` while it has yet to be told that it was taken back.
Law: written whole under another name, synced, renamed: a power cut leaves the old one or the new one. A file that
cannot be read or used is as if it were not there: the local files alone can always run the gateway.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.owner import FILE_MODE, settle

BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Trial:
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
class Verdict:
    """A trial was lost: what is to be told when the gateway is back on what it had."""

    sha256: str
    why: str
    topic: str
    correlation: str | None = None


@dataclass(frozen=True, slots=True)
class Ordered:
    """The file's content."""

    overlay: Mapping[str, Any] = field(default_factory=dict)
    trial: Trial | None = None
    verdict: Verdict | None = None


def path_of(outbox_directory: Path | str) -> Path:
    """Return where it stands: beside the outbox, never in it."""
    directory = Path(os.path.abspath(outbox_directory))
    return directory.with_name(f"{directory.name}.config.json")


def read_ordered(outbox_directory: Path | str) -> Ordered:
    """Return what was ordered; nothing where there is no file, or none that can be read and understood."""
    try:
        with path_of(outbox_directory).open("rb") as file:
            document = json.loads(file.read(BYTES_MAX))
        overlay, trial, verdict = (document.get(key) for key in ("overlay", "trial", "verdict"))
        return Ordered(
            overlay if isinstance(overlay, dict) else {},
            None if trial is None else Trial(**trial),
            None if verdict is None else Verdict(**verdict),
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return Ordered()


def write_ordered(outbox_directory: Path | str, ordered: Ordered) -> None:
    """Keep it; it survives a power cut on return. Where there is nothing left to keep the file goes. Raises OSError."""
    path = path_of(outbox_directory)
    if ordered == Ordered():
        with suppress(FileNotFoundError):
            path.unlink()
    else:
        fresh = path.with_name(f"{path.name}.new")
        with suppress(FileNotFoundError):
            fresh.unlink()
        with fresh.open("xb") as file:
            settle(file.fileno(), FILE_MODE, path.parent)
            file.write(json.dumps(dataclasses.asdict(ordered), ensure_ascii=False, indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
