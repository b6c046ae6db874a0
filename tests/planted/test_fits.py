"""Every planted bug fits the code as it stands: one that fits nowhere is planted by nobody, and proves nothing."""

from __future__ import annotations

from pathlib import Path

from tests.planted.bugs import BUGS

ROOT = Path(__file__).resolve().parents[2]


def test_every_bug_has_one_place_to_be_planted_in() -> None:
    fits = {bug.name: (ROOT / bug.file).read_text(encoding="utf-8").count(bug.old) for bug in BUGS}
    assert {name: count for name, count in fits.items() if count != 1} == {}
    assert len(fits) == len(BUGS), "two bugs of one name"
