"""What was announced to others and retained for them, and is to be taken back once it is announced no more.

Law: a topic is noted on the disk before it is first announced, so that no crash leaves one behind that nobody knows.
One that is wanted no more (a sensor left or was renamed, the announcing was turned off) is cleared at each connect of
the next 30 days, an empty retained message, and then forgotten: the broker needs no memory of it, nor we of its answer.
The file is read without trust: what it names is cleared only where it can be a description.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gateway.machine.bounded import read_object
from gateway.machine.owner import beside, put
from gateway.model import NS_PER_MS, Instant
from gateway.uplink.discovery import PREFIX, Announcement

log = logging.getLogger(__name__)

Noted = Mapping[str, int | None]
"""Each topic that was ever announced, and since when it is no more (milliseconds since 1970), or None."""

CLEARED_FOR_MS = 30 * 24 * 3600 * 1000
FILE_BYTES_MAX = 256 * 1024
NOTED_MAX = 2_000
TOPIC = re.compile(rf"{PREFIX}/\w{{1,32}}/[\w-]{{1,130}}/[\w-]{{1,130}}/config", re.ASCII)


def noted(before: Noted, wanted: Iterable[str], now_ms: int) -> dict[str, int | None]:
    """Return what is to be noted where `wanted` are announced from `now_ms` on. Those taken back last stay, if many."""
    gone = {topic: now_ms if since is None else since for topic, since in before.items()}
    kept = {topic: since for topic, since in gone.items() if abs(now_ms - since) < CLEARED_FOR_MS}
    now: dict[str, int | None] = dict.fromkeys(wanted)
    newest = sorted((topic for topic in kept if topic not in now), key=lambda topic: -kept[topic])
    return now | {topic: kept[topic] for topic in newest[: max(0, NOTED_MAX - len(now))]}


def with_withdrawals(outbox_directory: Path | str, wanted: Sequence[Announcement], now: Instant) -> list[Announcement]:
    """Return `wanted` and, behind it, an empty message for each topic that was announced before and is not wanted.

    On return it is noted beside the outbox what will be published. Where the disk refuses that, it is in the log.
    """
    path = path_of(outbox_directory)
    before: Noted = {}
    try:
        before = _read(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("what was announced is not known, and is not taken back path=%s why=%s", path, error)
        if isinstance(error, OSError):
            return list(wanted)  # it may be read next time: nothing is written over it
    after = noted(before, (one.topic for one in wanted), now.wall_ns // NS_PER_MS)
    if after != before:
        try:
            put(path, json.dumps({"topics": after}, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            log.warning("what is announced cannot be noted path=%s why=%s", path, error)
    return [*wanted, *(Announcement(topic, b"") for topic, since in after.items() if since is not None)]


def path_of(outbox_directory: Path | str) -> Path:
    """Return where it is noted: beside the outbox."""
    return beside(outbox_directory, "announced.json")


def _read(path: Path) -> dict[str, int | None]:
    topics = read_object(path, FILE_BYTES_MAX, follow=False).get("topics")
    if not isinstance(topics, dict):
        raise ValueError('it has no object "topics"')
    return {
        topic: since
        for topic, since in topics.items()
        if TOPIC.fullmatch(topic) and (since is None or type(since) is int)
    }
