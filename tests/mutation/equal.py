"""Mutants that change nothing anybody could see: each by a pattern of its changed lines, with the reason."""

from __future__ import annotations

import re

EQUAL: tuple[tuple[str, str], ...] = (
    (r'"(utf-8|ascii|sha256|idna)".*\n\+.*"(UTF-8|ASCII|SHA256|IDNA)"', "the library takes either case"),
    (r"O_RDONLY \| os\.O_DIRECTORY.*\n\+.*O_RDONLY & os\.O_DIRECTORY", "the flag only refuses what is no folder"),
)


def why(change: str) -> str | None:
    """Return why a mutant is equal to what was there, None where no reason is written down."""
    return next((reason for pattern, reason in EQUAL if re.search(pattern, change)), None)
