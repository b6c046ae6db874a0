"""The trial of a shelf: rest, a known mass, rest again, and the corners."""

from __future__ import annotations

from gateway.model import Reading
from gateway.sensors.shelf.reading import ScaleSampled
from gateway.sensors.shelf.settings import ShelfSettings
from gateway.sensors.shelf.settling import Weighing, Weight
from gateway.sensors.trial import Tools, Verdict

MASS_SHARE, MASS_LEAST_GRAMS, MASS_ERRORS = 0.01, 2.0, 4.0
"""A known mass must be told within a hundredth of it, 2 g, or four times what the noise allows."""
CORNERS = ("front left", "front right", "back right", "back left")
FIRST_CORNER = 3
DEAD_CORNER_SHARE = 0.6
"""With one of four cells dead, what stands right above it is carried by its neighbours to a half at most."""


class ScaleTrial:
    """Rest, a known mass, rest again; with `tools.corners`, the mass on each corner of the board.

    A board on four cells that are wired as one shows a dead cell in no other way: the sum is merely too small, and only
    for what stands there.
    """

    def __init__(self, settings: ShelfSettings, tools: Tools) -> None:
        self._settings = settings
        self._mass_grams = mass_grams = tools.mass_grams
        at_corners = tuple(f"put the {mass_grams:g} g on the {corner} corner, nothing else" for corner in CORNERS)
        self.acts: tuple[str, ...] = (
            "leave it alone", f"put {mass_grams:g} g on", "take it off again", *(at_corners if tools.corners else ()),
        )  # fmt: skip
        self._act = 0
        self._is_bare = False
        self._weights: dict[int, Weight] = {}
        self._weighing = Weighing(settings.rate_hz)

    def begin(self, act: int) -> Verdict | None:
        self._act = act
        if self._settings.calibration is None:
            return Verdict("failed", "not calibrated", f"gateway calibrate {self._settings.id}")
        before = 0 if act >= FIRST_CORNER else act - 1
        if act and before not in self._weights:
            return Verdict("failed", "there is no level to compare with", "begin this shelf again")
        # The mass may still stand on the last corner: the board must have been bare in between.
        self._is_bare = act < FIRST_CORNER
        away_from = self._weights.get(before) if self._is_bare else None
        self._weighing = Weighing(self._settings.rate_hz, away_from=away_from)
        return None

    def take(self, reading: Reading) -> Verdict | None:
        if not isinstance(reading, ScaleSampled):
            return None
        weight = self._weighing.add(reading.at, reading.counts)
        if weight is None:
            return None
        if self._is_bare:
            return self._judge(weight)
        bare = self._weights[0]
        allowed_counts = self._allowed_grams(weight) * abs(self._per_gram)
        self._is_bare = abs(weight.counts - bare.counts) <= max(allowed_counts, 10 * bare.noise_counts)
        self._weighing = Weighing(self._settings.rate_hz, away_from=bare if self._is_bare else None)
        return None

    def passed(self, since_last_ns: int) -> Verdict | None:
        return None

    def give_up(self) -> Verdict:
        return Verdict("failed", self._weighing.why(), f"gateway diagnose {self._settings.id}")

    @property
    def _per_gram(self) -> float:
        calibration = self._settings.calibration
        assert calibration is not None
        return calibration.counts_per_gram

    def _allowed_grams(self, weight: Weight) -> float:
        error_grams = (weight.error_counts + self._weights[0].error_counts) / abs(self._per_gram)
        return max(MASS_SHARE * self._mass_grams, MASS_LEAST_GRAMS, MASS_ERRORS * error_grams)

    def _judge(self, weight: Weight) -> Verdict:
        calibration = self._settings.calibration
        assert calibration is not None
        self._weights[self._act] = weight
        if self._act == 0:
            noise_grams = weight.noise_counts / abs(self._per_gram)
            return Verdict("ok", f"at rest at {calibration.grams(weight.counts):.1f} g, noise {noise_grams:.2f} g")
        wanted_grams = 0.0 if self._act == 2 else self._mass_grams
        changed_grams = (weight.counts - self._weights[0].counts) / self._per_gram
        allowed_grams = self._allowed_grams(weight)
        found = f"{changed_grams:+.1f} g from before, {wanted_grams:g} g expected, ±{allowed_grams:.1f} g allowed"
        if abs(changed_grams - wanted_grams) <= allowed_grams:
            return Verdict("ok", found)
        if self._act == 2:
            return Verdict("failed", found, "it does not come back: something touches the shelf, or the cell is loose")
        if self._act < FIRST_CORNER:
            return Verdict("failed", found, f"check the mass; then gateway calibrate {self._settings.id}")
        if changed_grams < DEAD_CORNER_SHARE * wanted_grams:
            return Verdict("failed", found, "a dead corner: its load cell, its wires or its foot carry nothing")
        return Verdict("failed", found, "the corners differ: level the feet, tighten the cells, then calibrate again")
