"""What matters on one scale, in counts: the least difference, the lightest item, the most noise. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.sensors.shelf.settings import ShelfSettings

LEAST_GRAMS = 2.0
"""A lesser difference is draught, dust and creep; for items below 5 g it is 0.4 of one."""
NOISE_MAX_COUNTS = 400.0
"""The datasheet has 50 nV rms, 21 counts at gain 128; boards in the field show 10 to 80. Five times that is a fault."""
NOISE_UNIT_SHARE = 1 / 30
"""Noise of a thirtieth of the lightest item hides none: a compressor that shakes the shelf is not a broken scale."""
RAMP_SHARE = 0.5
"""What sinks slowly is goods once it is half an item, and faster than this board wanders."""
RAMP_UNITS_PER_MIN = 0.02
"""Creep, and a shelf that gives way: 0.02 of an item a minute is never told."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What matters on this scale, in counts: differences below `least` are nothing, `unit` is the lightest item."""

    least: float
    unit: float | None

    def threshold(self, noise: float, wander: float = 0.0, late: float = 0.0) -> float:
        """Return the difference from which the weight has left its level.

        `wander` is what this board can move by itself in the seconds over which a level is averaged, `late` what may
        still come of the last change.
        """
        least = max(self.least, 2.5 * noise, wander, late)
        return least if self.unit is None else min(max(least, 0.1 * self.unit), 0.45 * self.unit)

    @property
    def noise_max(self) -> float:
        """The noise above which a scale is at fault: of the converter, but judged against what it weighs."""
        return NOISE_MAX_COUNTS if self.unit is None else max(NOISE_MAX_COUNTS, NOISE_UNIT_SHARE * self.unit)

    @property
    def slack(self) -> float:
        return 0.25 * self.least if self.unit is None else 0.02 * self.unit

    @property
    def ramp(self) -> float:
        """The slow change that is told, however slowly it came."""
        return 4 * self.least if self.unit is None else RAMP_SHARE * self.unit

    @property
    def creep_per_min(self) -> float:
        return 0.0 if self.unit is None else RAMP_UNITS_PER_MIN * self.unit


def sizes_of(settings: ShelfSettings) -> Sizes:
    """Return what matters on the scale of one shelf; without a calibration a gram is taken for a count."""
    per_gram = abs(settings.calibration.counts_per_gram) if settings.calibration is not None else 1.0
    units = [product.unit_grams for product in settings.products]
    least = min(LEAST_GRAMS, 0.4 * min(units)) if units else 2 * LEAST_GRAMS
    return Sizes(least * per_gram, min(units) * per_gram if units else None)
