"""Log lines: one a change of state, a lower-case message, then key=value; for journald or a person."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}
"""syslog(3); journald reads them from `<n>` in front of a line (sd-daemon(3))."""
QUIET = ("apscheduler", "amqtt", "transitions", "asyncio")


LINE_CHARACTERS_MAX = 2000


class Line(logging.Formatter):
    """Makes one printable line of a message, whatever stands in it: line breaks and escape codes become `\\n`, `\\x1b`.

    A traceback keeps its own lines, each made printable. No line is longer than `LINE_CHARACTERS_MAX`.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def printable(text: str) -> str:
    """Return the text as one bounded line: what is not printable is written as Python writes it in a string."""
    if len(text) > LINE_CHARACTERS_MAX:
        text = f"{text[:LINE_CHARACTERS_MAX]} (and {len(text) - LINE_CHARACTERS_MAX} characters more)"
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class JournalFormatter(Line):
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
        else Line("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    stream.setFormatter(Redacted(form, redact))
    logging.basicConfig(level=level, handlers=[stream], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
