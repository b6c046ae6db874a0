"""Mutants that change nothing anybody could see: each by a pattern of its changed lines, with the reason.

A line is written here only after a survivor of its kind was looked at. `python -m tests.mutation` counts them apart.
"""

from __future__ import annotations

import re

EQUAL: tuple[tuple[str, str], ...] = (
    (r'"(utf-8|ascii|sha256|idna)".*\n\+.*"(UTF-8|ASCII|SHA256|IDNA)"', "the library takes either case"),
    (r"O_RDONLY \| os\.O_DIRECTORY.*\n\+.*O_RDONLY & os\.O_DIRECTORY", "the flag only refuses what is no folder"),
    (r"\n\+.*\"XX[^\"]* [^\"]*XX\"", "words for a person: the sentence is there, its wording is no contract"),
    (r"\n\+[^\"a-z]*(return|raise|yield|,|\(|:|=)?[^\"]*\"(?=[^\"]* )[^\"a-z]*[A-Z][^\"a-z]*\"", "words for a person"),
    (r"ensure_ascii=False.*\n\+.*json\.dumps", "the layout of a JSON text that a program reads"),
    (r"name=f?\"[a-z{}.-]+\".*\n\+.*(name=None|daemon=True\)\.start)", "the name of a thread, for a debugger"),
    (
        r"_NOFOLLOW, KEY_MODE\).*\n\+.*_NOFOLLOW, \)",
        "`settle` sets the mode by the descriptor before anything is written",
    ),
    (r"- +self\._latest_ns = -1\n", "not read before the first period is known"),
    (r"- +self\._key = b\"\"\n", "not read before a period is known"),
    (r"self\._period: Period \| None = None\n\+.*= \"\"", "equal to no period either"),
    (r"before = self\._period\n\+.*before = None", "what is destroyed is destroyed again, each minute: a stat more"),
    (r"fromtimestamp\(at\.wall_ns // NS_PER_S, UTC\)\.astimezone.*\n\+.*NS_PER_S, \)\.astimezone", "the same moment"),
    (r"recv\((4096|65_?536)\).*\n\+.*recv\((4097|65_?537)\)", "how much is read at once"),
    (r'"Host": place.*\n\+.*"(host|HOST)": place', "a header's name has no case"),
    (r"_listener: socket\.socket \| None = None\n\+.*= \"\"", "asked only whether it is None before it is made"),
    (r"\"-S\", \"-c\".*\n\+.*\"-s\", \"-c\"", "the child starts later by the search for packages"),
    (r"raise ConnectionRefusedError\(\"no answer\"\)", "caught next door, where its words are not read"),
)


def why(change: str) -> str | None:
    """Return why a mutant is equal to what was there, None where no reason is written down."""
    return next((reason for pattern, reason in EQUAL if re.search(pattern, change)), None)
