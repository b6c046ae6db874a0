"""A fault of a sensor, one value from the driver to the status and to everything that shows it to a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is active. `since` is UTC (RFC 3339), None where the hardware is read without a daemon.

    `reason` is one of the contract's words, `detail` the sentence for a person that says what is wrong.
    """

    reason: str
    detail: str
    since: str | None = None

    @property
    def sentence(self) -> str:
        """What is shown of it everywhere: the detail, or the reason where a driver gave none."""
        return self.detail or self.reason


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a sensor beside its readings: the counters of its driver, and its active faults."""

    driver: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def faults_to_json(faults: Iterable[Fault]) -> dict[str, dict[str, str | None]]:
    """Return the faults of one sensor as the status has them, by reason."""
    return {fault.reason: {"since": fault.since, "detail": fault.detail} for fault in faults}


def known_of(status: Mapping[str, Any]) -> Known:
    """Read what the status of a running daemon says of one sensor; an earlier version gave a fault no detail."""
    faults = (
        Fault(reason, str(fault.get("detail") or ""), fault.get("since"))
        for reason, fault in status.get("faults", {}).items()
    )
    return Known(status.get("driver", {}), tuple(faults))
