"""How a technician tries a sensor: a deed, and whether the sensor told just that. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gateway.model import Reading

Result = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one act came out: `found` says what the sensor told, `advice` what to do where it failed."""

    result: Result
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the technician has at hand: a known mass, and whether it shall stand on each corner of a shelf."""

    mass_grams: float = 1000.0
    corners: bool = False


class Trial(Protocol):
    """What is done at one sensor: its acts, one after the other, each begun anew by `begin`."""

    acts: tuple[str, ...]

    def begin(self, act: int) -> Verdict | None:
        """Begin an act; a verdict at once where it cannot come out well."""
        ...

    def take(self, reading: Reading) -> Verdict | None:
        """Take a reading of this sensor; return the verdict where it is clear."""
        ...

    def passed(self, since_last_ns: int) -> Verdict | None:
        """Let time pass, `since_last_ns` after the last reading came."""
        ...

    def give_up(self) -> Verdict:
        """Return the verdict where the time is over."""
        ...


class AnyReading:
    """A trial in which any reading will do: for a kind without a trial of its own."""

    acts: tuple[str, ...] = ("make it say something",)

    def __init__(self, settings: Any, tools: Tools) -> None:
        """Neither the settings nor the tools matter here."""

    def begin(self, act: int) -> Verdict | None:
        return None

    def take(self, reading: Reading) -> Verdict | None:
        return Verdict("ok", "it said something")

    def passed(self, since_last_ns: int) -> Verdict | None:
        return None

    def give_up(self) -> Verdict:
        return Verdict("failed", "it said nothing", "check its wiring")
