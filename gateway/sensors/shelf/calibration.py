"""From known masses to a calibration: least squares, how well it fits, and when it is refused. Pure.

Law: what is stored has been shown to fit. Masses are in grams; counts are the converter's; a point of 0 g is the empty
shelf. The straight line is counts = offset_counts + counts_per_gram * grams (hardware notes 3.5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from gateway.errors import GatewayError
from gateway.machine.bounded import json_object
from gateway.sensors.shelf.settings import Calibration
from gateway.sensors.shelf.settling import Weight

RESIDUAL_SHARE_MAX = 0.001
"""Of the span: what a bar load cell of class C3 and better keeps, with creep."""
R2_MIN = 0.9999
ERRORS_IN_RESIDUAL = 2.0
"""The span must be so large that a thousandth of it is twice the standard error of a point; else it proves nothing."""
POINTS_MAX = 20
NOTE_MAX = 500


class CalibrationRefused(GatewayError):
    """A calibration that cannot be trusted, or that cannot be used here."""


@dataclass(frozen=True, slots=True)
class Point:
    """A known mass and what the scale read: `noise_counts` of a tenth of a second, `points` of these averaged."""

    grams: float
    counts: float
    noise_counts: float
    points: int = 30

    @classmethod
    def of(cls, grams: float, weight: Weight) -> Point:
        return cls(grams, round(weight.counts, 2), round(weight.noise_counts, 2), weight.points)


@dataclass(frozen=True, slots=True)
class Fit:
    """The straight line through the points, what each is off it in grams, and R² (1: all on it)."""

    calibration: Calibration
    points: tuple[Point, ...]
    residuals_grams: tuple[float, ...]
    r2: float

    @property
    def residual_max_grams(self) -> float:
        return max(abs(residual) for residual in self.residuals_grams)


@dataclass(frozen=True, slots=True)
class StoredCalibration:
    """What is written down of a calibration. `over` is the configured one that a tare was taken on."""

    kind: Literal["calibrate", "tare"]
    offset_counts: float
    counts_per_gram: float
    when: str
    who: str
    note: str = ""
    points: tuple[Point, ...] = ()
    residual_max_grams: float | None = None
    r2: float | None = None
    over: Calibration | None = None

    @property
    def calibration(self) -> Calibration:
        return Calibration(self.offset_counts, self.counts_per_gram)

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


def fit(points: Sequence[Point]) -> Fit:
    """Return the line of least squares.

    Raises CalibrationRefused, with what to check, where it does not fit or the masses say too little.
    """
    masses = {point.grams for point in points}
    if len(masses) < 2 or 0.0 not in masses:
        raise CalibrationRefused("a calibration needs the empty shelf and at least one known mass")
    if len(points) > POINTS_MAX or not all(0 <= grams < 1e6 for grams in masses):
        raise CalibrationRefused(f"masses are from 0 to 1000000 grams, {POINTS_MAX} of them at most")
    span_grams = max(masses)
    grams_mean = sum(point.grams for point in points) / len(points)
    counts_mean = sum(point.counts for point in points) / len(points)
    square = sum((point.grams - grams_mean) ** 2 for point in points)
    slope = sum((p.grams - grams_mean) * (p.counts - counts_mean) for p in points) / square
    error_counts = max(point.noise_counts / math.sqrt(point.points) for point in points)
    span_counts = abs(slope) * span_grams
    if span_counts < 20 * error_counts:
        raise CalibrationRefused(
            f"{span_grams:g} g change the reading by {span_counts:.0f} counts, no more than its noise",
            "check that the mass stood on this shelf, and the load cell's white and green wires (A+, A-)",
        )
    if RESIDUAL_SHARE_MAX * span_counts < ERRORS_IN_RESIDUAL * error_counts:
        needed_grams = ERRORS_IN_RESIDUAL * error_counts / RESIDUAL_SHARE_MAX / abs(slope)
        raise CalibrationRefused(
            f"{span_grams:g} g are too little against the noise of this scale ({points[0].noise_counts:.0f} counts)",
            f"use a mass of {_rounded_up(needed_grams):g} g or more, or find the noise: gateway diagnose",
        )
    offset = counts_mean - slope * grams_mean
    residuals = tuple((point.counts - offset - slope * point.grams) / slope for point in points)
    scatter = sum((point.counts - counts_mean) ** 2 for point in points)
    r2 = 1 - sum((residual * slope) ** 2 for residual in residuals) / scatter
    try:
        line = Calibration(round(offset, 3), float(f"{slope:.9g}"))
    except ValueError as error:
        raise CalibrationRefused(f"this cannot be a scale: {error}", "check the masses and their unit, grams") from None
    found = Fit(line, tuple(points), residuals, r2)
    if found.residual_max_grams > RESIDUAL_SHARE_MAX * span_grams or r2 < R2_MIN:
        worst = max(zip(points, residuals, strict=True), key=lambda pair: abs(pair[1]))
        raise CalibrationRefused(
            f"the points do not lie on a line: {worst[0].grams:g} g is {abs(worst[1]):.2f} g off it, allowed is "
            f"{RESIDUAL_SHARE_MAX * span_grams:.2f} g (R² {r2:.6f})",
            "check each mass and that the shelf touches nothing beside it, that the load cell is screwed tight at both "
            "ends with a spacer and not overloaded; then calibrate again",
        )
    return found


def _rounded_up(grams: float) -> float:
    step = 10 ** math.floor(math.log10(grams)) if grams >= 1 else 1
    return math.ceil(grams / step) * step


def stored_of(found: Fit, when: str, who: str, note: str = "") -> StoredCalibration:
    """Return what is to be stored of a fit."""
    line = found.calibration
    return StoredCalibration(
        kind="calibrate",
        offset_counts=line.offset_counts,
        counts_per_gram=line.counts_per_gram,
        when=when,
        who=who,
        note=note[:NOTE_MAX],
        points=found.points,
        residual_max_grams=round(found.residual_max_grams, 4),
        r2=round(found.r2, 9),
    )


def tared(
    configured: Calibration | None,
    stored: StoredCalibration | None,
    weight: Weight,
    when: str,
    who: str,
    note: str = "",
) -> StoredCalibration:
    """Return a new zero at `weight`, the factor of what holds now kept: the configured one, else the stored one.

    Raises CalibrationRefused where there is neither.
    """
    offset = round(weight.counts, 3)
    if configured is not None:
        return StoredCalibration(
            "tare", offset, configured.counts_per_gram, when, who, note[:NOTE_MAX], over=configured
        )
    if stored is None or stored.over is not None:
        raise CalibrationRefused(
            "the shelf is not calibrated, so there is no zero to set",
            "calibrate it with a known mass: gateway calibrate",
        )
    return replace(stored, kind="tare", offset_counts=offset, when=when, who=who, note=note[:NOTE_MAX])


def in_force(configured: Calibration | None, stored: StoredCalibration | None) -> Calibration | None:
    """Return which calibration holds: the configuration's, but for a tare that was taken on just this one; else the
    stored one."""
    if configured is not None:
        return stored.calibration if stored is not None and stored.over == configured else configured
    return stored.calibration if stored is not None and stored.over is None else None


def from_json(text: bytes | str) -> StoredCalibration:
    """Read what was stored; ValueError says what is wrong with it."""
    return from_object(json_object(text))


def from_object(value: Any) -> StoredCalibration:
    """Read a stored calibration from a JSON value; ValueError says what is wrong with it."""
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    kind = value.get("kind")
    if kind not in ("calibrate", "tare"):
        raise ValueError('"kind" must be "calibrate" or "tare"')
    points = value.get("points", [])
    if not isinstance(points, list) or len(points) > POINTS_MAX:
        raise ValueError(f'"points" must be a list of at most {POINTS_MAX}')
    over = value.get("over")
    stored = StoredCalibration(
        kind=kind,
        offset_counts=_number(value, "offset_counts"),
        counts_per_gram=_number(value, "counts_per_gram"),
        when=_text(value, "when"),
        who=_text(value, "who"),
        note=_text(value, "note"),
        points=tuple(_point(point) for point in points),
        residual_max_grams=_number(value, "residual_max_grams") if "residual_max_grams" in value else None,
        r2=_number(value, "r2") if "r2" in value else None,
        over=None if over is None else _calibration(over),
    )
    _calibration(value)
    return stored


def _calibration(value: Any) -> Calibration:
    if not isinstance(value, Mapping):
        raise ValueError('"over" must be an object')
    return Calibration(_number(value, "offset_counts"), _number(value, "counts_per_gram"))


def _point(value: Any) -> Point:
    if not isinstance(value, Mapping):
        raise ValueError("a point must be an object")
    count = value.get("points", 30)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError('"points" of a point must be a whole number from 1')
    return Point(_number(value, "grams"), _number(value, "counts"), _number(value, "noise_counts"), count)


def _number(value: Mapping[str, Any], key: str) -> float:
    number = value.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f'"{key}" must be a number')
    return float(number)


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str) or len(text) > NOTE_MAX:
        raise ValueError(f'"{key}" must be a text of at most {NOTE_MAX} characters')
    return text
