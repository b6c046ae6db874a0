"""Ten seconds of a sensor's readings judged in words: what was found, why it matters, what to do. Pure.

Law: readings and figures in, findings out; each finding stands for itself, and nothing is said that the readings do not
show. A stranger's radio address is in no finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.model import NS_PER_S, Reading

Result = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged fact. `why` and `advice` are empty where all is well."""

    name: str
    result: Result
    found: str
    why: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was heard of one sensor in `seconds`: readings in the order of time, and what the driver says of itself.

    `driver` holds how much its counters grew meanwhile; `faults` the sentence of each active fault, by reason;
    `identity_keys` the keys of a scanner's tags by their rule's index, `key_troubles` why some cannot be used.
    """

    readings: Sequence[Any]
    seconds: float
    driver: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    missed: int = 0
    identity_keys: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    key_troubles: Sequence[str] = ()


def diagnose(settings: Any, table: str, evidence: Evidence) -> tuple[Finding, ...]:
    """Judge one sensor by its kind's table; a kind without a judge of its own is judged by its readings' number."""
    from gateway.technician.diagnosis.door import judge_door
    from gateway.technician.diagnosis.scale import judge_scale
    from gateway.technician.diagnosis.scanner import judge_scanner

    judges: Mapping[str, Any] = {"shelf": judge_scale, "door": judge_door, "scanner": judge_scanner}
    judge = judges.get(table, _judge_any)
    return (*_faults(evidence), *judge(settings, evidence), *_missed(evidence))


def verdict(findings: Sequence[Finding]) -> Result:
    """Return the worst result."""
    results = {finding.result for finding in findings}
    return "failed" if "failed" in results else "warning" if "warning" in results else "ok"


def span_s(readings: Sequence[Reading]) -> float:
    """Return the seconds from the first reading to the last."""
    return (readings[-1].at.boot_ns - readings[0].at.boot_ns) / NS_PER_S if len(readings) > 1 else 0.0


def _faults(evidence: Evidence) -> list[Finding]:
    advice = "what follows narrows it down; gateway doctor says more of drivers and permissions"
    return [
        Finding(f"fault {reason}", "failed", sentence or reason, "this fault is active now", advice)
        for reason, sentence in evidence.faults.items()
        if reason != "not_calibrated"
    ]


def _missed(evidence: Evidence) -> list[Finding]:
    if not evidence.missed:
        return []
    why = "the findings rest on what was heard"
    return [Finding("missed", "warning", f"{evidence.missed} readings came too fast to be heard", why)]


def _judge_any(settings: Any, evidence: Evidence) -> list[Finding]:
    if not evidence.readings:
        return [Finding("readings", "failed", f"no reading in {evidence.seconds:.0f} s", advice="check its wiring")]
    return [Finding("readings", "ok", f"{len(evidence.readings)} readings in {evidence.seconds:.0f} s")]
