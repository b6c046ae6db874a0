"""What `gateway doctor` checks: one file a group.

Law: a check looks and changes nothing, runs beside a running daemon without disturbing it, and ends within its time.
Each says what was found, why it matters, and what to do; its `code` is stable, for those who count them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.machine.disk import HUNG_ADVICE
from gateway.machine.threads import ADVICE, REFUSED, started

log = logging.getLogger(__name__)

Result = Literal["ok", "warning", "failed", "skipped"]
WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `why` says why it matters, `advice` what to do (empty where all is well)."""

    group: str
    name: str
    result: Result
    found: str
    why: str = ""
    advice: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """Something to look at: `look` gives one check or several, within `within_s` seconds.

    `disk` is the folder that it reads, where a disk without an answer is what lets it hang.
    """

    group: str
    name: str
    look: Callable[[], Check | Iterable[Check]]
    within_s: float = WITHIN_S
    disk: Path | None = None


def examined(examination: Examination) -> tuple[Check, ...]:
    """Run one examination in a thread of its own; one that hangs or breaks is itself a finding."""
    found: list[Check] = []

    def look() -> None:
        try:
            given = examination.look()
            found.extend([given] if isinstance(given, Check) else given)
        except Exception as error:  # the supervisor of checks: a broken one must not keep the others from running
            log.debug("a check broke", exc_info=True)
            found.append(_own_fault(examination, f"the check broke: {type(error).__name__}: {error}", "doctor.broken"))

    thread = threading.Thread(target=look, name=f"check-{examination.name}", daemon=True)
    if not started(thread):
        return (_own_fault(examination, f"{REFUSED}; {ADVICE}", "doctor.short"),)
    thread.join(examination.within_s)
    if thread.is_alive() and examination.disk is not None:
        return (hung(examination.name, examination.disk, f"nothing came back within {examination.within_s:g} s"),)
    if thread.is_alive():
        return (_own_fault(examination, f"no end within {examination.within_s:g} s", "doctor.hung"),)
    return tuple(found)


def hung(name: str, directory: Path, how: str) -> Check:
    """Return the finding that the disk of the outbox does not answer."""
    found = f"the card under {directory} does not answer: {how}"
    why = "what happens is recorded there before it is sent; now it can be neither written nor read"
    return Check("outbox", name, "failed", found, why, HUNG_ADVICE, "outbox.hung")


def _own_fault(examination: Examination, found: str, code: str) -> Check:
    why = "what this check would have found is not known"
    return Check(
        examination.group, examination.name, "failed", found, why, "run it again; if it stays, report it", code
    )
