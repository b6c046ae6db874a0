"""The facts of stream `door`: passages, counts, and beams that stay broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gateway.model import Fact, Stream
from gateway.sensors.door.settings import BeamName


class DoorFact(Fact):
    """A fact of stream `door`."""

    __slots__ = ()
    stream: ClassVar[Stream] = "door"


@dataclass(frozen=True, slots=True)
class DoorPassed(DoorFact):
    """`duration_ms` from the first beam broken to the last cleared; totals of this sensor in this outbox."""

    type: ClassVar[str] = "store.door.passed"
    direction: Literal["in", "out", "unknown"]
    duration_ms: int
    in_total: int
    out_total: int
    unknown_total: int

    def __post_init__(self) -> None:
        if min(self.duration_ms, self.in_total, self.out_total, self.unknown_total) < 0:
            raise ValueError(f"a passage cannot last {self.duration_ms} ms, or its totals be negative: {self}")


@dataclass(frozen=True, slots=True)
class DoorCounted(DoorFact):
    """Passages whose time lies in `from` (inclusive) to `to` (exclusive), RFC 3339."""

    type: ClassVar[str] = "store.door.counted"
    from_: str
    to: str
    in_: int
    out: int
    unknown: int


@dataclass(frozen=True, slots=True)
class DoorBlocked(DoorFact):
    type: ClassVar[str] = "store.door.blocked"
    beam: BeamName


@dataclass(frozen=True, slots=True)
class DoorCleared(DoorFact):
    type: ClassVar[str] = "store.door.cleared"
    beam: BeamName
    blocked_ms: int
