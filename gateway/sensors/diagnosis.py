"""How a sensor is judged from some seconds of its readings: what was found, why it matters, what to do. Pure.

Law: readings and figures in, findings out; each finding stands for itself, and nothing is said that the readings do not
show. A stranger's radio address is in no finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.model import NS_PER_S, Reading
from gateway.sensors.fault import Fault

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

    `driver` holds how much its counters grew meanwhile; `faults` are the active ones.
    """

    readings: Sequence[Any]
    seconds: float
    driver: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    missed: int = 0


def judge_readings(settings: Any, evidence: Evidence) -> list[Finding]:
    """Judge a sensor by the number of its readings: for a kind without a judge of its own."""
    if not evidence.readings:
        return [Finding("readings", "failed", f"no reading in {evidence.seconds:.0f} s", advice="check its wiring")]
    return [Finding("readings", "ok", f"{len(evidence.readings)} readings in {evidence.seconds:.0f} s")]


def verdict(findings: Sequence[Finding]) -> Result:
    """Return the worst result."""
    results = {finding.result for finding in findings}
    return "failed" if "failed" in results else "warning" if "warning" in results else "ok"


def span_s(readings: Sequence[Reading]) -> float:
    """Return the seconds from the first reading to the last."""
    return (readings[-1].at.boot_ns - readings[0].at.boot_ns) / NS_PER_S if len(readings) > 1 else 0.0
