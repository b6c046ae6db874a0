"""One sensor diagnosed: its active faults, what its kind finds in its readings, and what was missed. Pure."""

from __future__ import annotations

from typing import Any

from gateway.sensors.diagnosis import Evidence, Finding
from gateway.sensors.kind import Kind


def diagnose(kind: Kind[Any], settings: Any, evidence: Evidence) -> tuple[Finding, ...]:
    """Judge one sensor."""
    return (*_faults(evidence), *kind.judge(settings, evidence), *_missed(evidence))


def _faults(evidence: Evidence) -> list[Finding]:
    advice = "what follows narrows it down; gateway doctor says more of drivers and permissions"
    return [
        Finding(f"fault {fault.reason}", "failed", fault.sentence, "this fault is active now", advice)
        for fault in evidence.faults
        if fault.reason != "not_calibrated"
    ]


def _missed(evidence: Evidence) -> list[Finding]:
    if not evidence.missed:
        return []
    why = "the findings rest on what was heard"
    return [Finding("missed", "warning", f"{evidence.missed} readings came too fast to be heard", why)]
