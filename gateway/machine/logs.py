"""Log lines: one a change of state, a lower-case message, then key=value; for journald or a person."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.machine.clock import monotonic_usec

PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}
"""syslog(3); journald reads them from `<n>` in front of a line (sd-daemon(3))."""
QUIET = ("apscheduler", "amqtt", "transitions", "asyncio")


LINE_CHARACTERS_MAX = 2000
BURST, WINDOW_S = 20, 60.0
KINDS_MAX = 256


@dataclass(slots=True)
class _Kind:
    """How often one kind of line came since `since_s`, and how many of them were left out."""

    since_s: float
    room: int
    left_out: int = 0


class Throttle(logging.Filter):
    """Lets the first `BURST` lines of a kind pass, and of a flood one a minute that tells how many were left out.

    A kind is a line as it stands in the code, whatever is filled in: who floods cannot choose it. Debug lines all
    pass. Memory is bounded by `KINDS_MAX`. `clock` tells microseconds, and never goes back.
    """

    def __init__(self, clock: Callable[[], int] = monotonic_usec) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return True
        now_s, name = self._clock() / 1_000_000, (record.name, record.levelno, str(record.msg)[:200])
        kind = self._kinds.get(name)
        if kind is None or now_s - kind.since_s >= WINDOW_S:
            left_out = kind.left_out if kind is not None else 0
            self._kinds.pop(name, None)
            if len(self._kinds) >= KINDS_MAX:
                del self._kinds[next(iter(self._kinds))]  # whose minute began first
            self._kinds[name] = _Kind(now_s, 0 if left_out else BURST - 1)
            record.left_out = left_out
            return True
        if kind.room:
            kind.room -= 1
            return True
        kind.left_out += 1
        return False


class OneLineFormatter(logging.Formatter):
    """Makes one printable line of a message, whatever stands in it: line breaks and escape codes become `\\n`, `\\x1b`.

    A traceback keeps its own lines, each made printable. No line is longer than `LINE_CHARACTERS_MAX`.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = printable(super().formatMessage(record))
        left_out = getattr(record, "left_out", 0)
        return f"{line} (and {left_out} more like it, left out)" if left_out else line

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def printable(text: str) -> str:
    """Return the text as one bounded line: what is not printable is written as Python writes it in a string."""
    if len(text) > LINE_CHARACTERS_MAX:
        text = f"{text[:LINE_CHARACTERS_MAX]} (and {len(text) - LINE_CHARACTERS_MAX} characters more)"
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class JournalFormatter(OneLineFormatter):
    """Puts the priority in front; the journal knows the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        priority = PRIORITIES.get(record.levelname, 6)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)


class Redacted(logging.Formatter):
    """Forms a record as another formatter does, and takes out what nobody may read."""

    def __init__(self, inner: logging.Formatter, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._inner, self._redact = inner, redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(self._inner.format(record))


def begin_logging(level: str = "INFO", redact: Callable[[str], str] = str) -> None:
    """Send log lines from `level` on to standard error, formed for journald where it listens, each through `redact`."""
    to_journal = bool(os.environ.get("JOURNAL_STREAM"))
    stream = logging.StreamHandler(sys.stderr)
    form = (
        JournalFormatter("%(name)s: %(message)s")
        if to_journal
        else OneLineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    stream.setFormatter(Redacted(form, redact))
    stream.addFilter(Throttle())
    logging.basicConfig(level=level, handlers=[stream], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
