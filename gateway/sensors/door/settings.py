"""The settings of a door: its beams, how they are wired, and how its passages are counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.units import Identifier, Pin, Seconds
from gateway.wrong import Wrong, refuse

BeamName = Literal["outer", "inner", "only"]
BEAMS: tuple[BeamName, ...] = ("outer", "inner", "only")
DAY_S = 86_400.0
Wiring = Literal["beam", "reed", "turnstile", "mat"]


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """One `[[door]]`.

    `pull` and `broken_when` follow the sensor's wiring: most beam receivers are open collectors that pull the pin low
    while the beam is broken. `wiring` says what stands there: with "reed" a passage is the door opened and closed, with
    "turnstile" each turn, on two pins `outer_pin` for who comes in and `inner_pin` for who goes out, with "mat" steps,
    two zones as two beams. A closed contact is "broken" where it pulls the pin low.
    """

    id: Identifier
    outer_pin: Pin | None = None
    inner_pin: Pin | None = None
    beam_pin: Pin | None = None
    blocked_after_s: Seconds = 10.0
    counted_every: Seconds = 15 * 60.0
    pull: Literal["up", "down", "floating"] = "up"
    broken_when: Literal["low", "high"] = "low"
    wiring: Wiring = "beam"

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        is_single = self.beam_pin is not None
        if is_single == (self.outer_pin is not None or self.inner_pin is not None) or (
            not is_single and (self.outer_pin is None or self.inner_pin is None)
        ):
            why = "give either outer_pin and inner_pin (two beams) or beam_pin (a single beam)"
            yield Wrong("", why, also=("outer_pin", "inner_pin", "beam_pin"))
        if self.outer_pin is not None and self.outer_pin == self.inner_pin:
            why = f"outer_pin and inner_pin are both {self.outer_pin}; each beam needs a pin of its own"
            yield Wrong("outer_pin", why, also=("inner_pin",))
        if self.wiring == "reed" and not is_single:
            why = 'wiring "reed" takes beam_pin: one switch cannot tell the direction'
            yield Wrong("wiring", why, also=("outer_pin", "inner_pin", "beam_pin"))
        if not 1.0 <= self.blocked_after_s <= 3600.0:
            yield Wrong("blocked_after_s", "must lie between 1 s and 1 h")
        if not 1.0 <= self.counted_every <= DAY_S:
            yield Wrong("counted_every", "must lie between 1 s and 1 d")

    @property
    def beams(self) -> tuple[BeamName, ...]:
        return ("only",) if self.beam_pin is not None else ("outer", "inner")


def pins_of(settings: DoorSettings) -> Mapping[str, int]:
    """Return the BCM number of each pin by its key."""
    keys = ("outer_pin", "inner_pin", "beam_pin")
    return {key: pin for key in keys if (pin := getattr(settings, key)) is not None}
