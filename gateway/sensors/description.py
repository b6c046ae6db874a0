"""What a sensor's settings say about people: for the privacy report and for what is taken out of logs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Fact


@dataclass(frozen=True, slots=True)
class Description:
    """`identified` are the devices that a rule names, each with what it is recognized by; `addresses` are radio
    addresses that the owner wrote down, and logs may show; `facts` what this sensor can tell (None: all of its kind's).
    """

    identified: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = ()
    facts: tuple[type[Fact], ...] | None = None
