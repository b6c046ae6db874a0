"""A scale's samples judged: rate, noise, saturation, bit errors, a frozen converter, drift, spoiled frames. Pure."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from gateway.sensors.diagnosis import Evidence, Finding, Result, span_s
from gateway.sensors.kind import Context, Faults
from gateway.sensors.shelf.ailments import ALL_ONES, WORD_MAX, WORD_MIN
from gateway.sensors.shelf.facts import ShelfChanged, ShelfPicked, ShelfPlaced
from gateway.sensors.shelf.interpreter import ShelfInterpreter
from gateway.sensors.shelf.settings import ShelfSettings
from gateway.sensors.shelf.sizes import sizes_of
from gateway.sensors.shelf.weighing import roughness

RATE_GOOD, RATE_USABLE = 0.85, 0.5
"""The chip's own clock is within some per cent; what is missing beyond that was spoiled or did not come."""
NOISE_HIGH_COUNTS = 100.0
"""Boards in the field show 10 to 80 counts (hardware notes 3.1)."""
SPIKES_BAD = 0.2
"""More than a fifth of odd words, and the filter cannot hold (hardware notes 3.5)."""
SPIKE_SIGMAS, SPIKE_MIN_COUNTS = 8.0, 64.0
SPOILED_MANY, SPOILED_BAD = 0.05, 0.34
FEW_SAMPLES = 20
DRIFT_COUNTS_PER_MIN, DRIFT_LONG_COUNTS_PER_MIN = 100.0, 15.0
"""Creep after a load is some 100 counts in half an hour, most of it in the first minutes; a day's warmth is slower."""
STRANGE_MIN, STRANGE_SHARE = 3, 0.3
MOVED_SIGMAS = 12.0

SUPPLY = "check the converter's supply: VCC 3.3 V or 5 V, DVDD (logic) 3.3 V, GND shared with the Pi"
CELL = "check the four wires of the load cell at the converter: E+ and E- (supply, red and black), A+ and A- (signal)"
DATA = "check the data wire (data_pin to DOUT) and the clock wire (clock_pin to PD_SCK)"
SHIELD = "keep the load cell's wires twisted and away from mains, motors and antennas; check its screen and the supply"


def judge_scale(settings: ShelfSettings, evidence: Evidence) -> list[Finding]:
    """Judge the samples of one scale."""
    counts = [reading.counts for reading in evidence.readings]
    if not counts:
        found = f"no sample in {evidence.seconds:.0f} s"
        why = "DOUT never went low: the converter is not powered, or one of its two wires is broken"
        if evidence.faults and not evidence.driver.get("ready_timeouts"):
            return [Finding("samples", "failed", found, "see the fault above")]
        return [Finding("samples", "failed", found, why, f"{SUPPLY}; {DATA}"), *_frames(evidence)]
    odd = (WORD_MAX, WORD_MIN, ALL_ONES)
    clean = [value for value in counts if value not in odd]
    findings = [_rate(settings, evidence), *_words(counts)]
    if len(set(counts)) > 1 and len(clean) >= FEW_SAMPLES:
        middles, far = _middles(clean), _far(clean)
        steady = [value for value, middle in zip(clean, middles, strict=True) if abs(value - middle) <= far]
        noise = roughness([float(value) for value in steady])
        findings += [_noise(settings, noise), _spikes(clean, middles), _drift(evidence, steady, noise)]
    return [*findings, *_corners(settings, evidence), *_frames(evidence), _calibration(settings)]


def _rate(settings: ShelfSettings, evidence: Evidence) -> Finding:
    length_s, count = span_s(evidence.readings), len(evidence.readings)
    if length_s <= 0:
        return Finding("rate", "failed", f"{count} samples only", "too few to tell anything", f"{SUPPLY}; {DATA}")
    rate_hz = (count - 1) / length_s
    share = rate_hz / settings.rate_hz
    found = f"{rate_hz:.1f} samples a second, {settings.rate_hz} are configured"
    if RATE_GOOD <= share <= 1 / RATE_GOOD:
        return Finding("rate", "ok", found)
    other_hz = 80 if settings.rate_hz == 10 else 10
    if RATE_GOOD <= rate_hz / other_hz <= 1 / RATE_GOOD:
        why = f"the chip's RATE pin is wired for {other_hz} samples a second"
        return Finding("rate", "failed", found, why, f"set rate_hz = {other_hz}, or wire RATE to the other level")
    if RATE_USABLE <= share < 1:
        why = "samples are lost: frames spoiled while the processor was busy, or a loose wire"
        return Finding("rate", "warning", found, why, 'see "frames"; where it stays, use driver = "hx711-spi"')
    why = "neither 10 nor 80 samples a second, as the chip makes them"
    return Finding("rate", "failed", found, why, f"{SUPPLY}; {DATA}")


def _words(counts: Sequence[int]) -> list[Finding]:
    total, findings = len(counts), []
    top, bottom, ones = counts.count(WORD_MAX), counts.count(WORD_MIN), counts.count(ALL_ONES)
    if top or bottom:
        often = top + bottom > total * SPIKES_BAD
        end = "the upper end" if top >= bottom else "the lower end"
        found = f"{top + bottom} of {total} samples are at {end} of the converter's scale"
        why = (
            "overloaded, or a load cell wire is loose or swapped" if often else "single words at the end are bit errors"
        )
        findings.append(Finding("saturation", "failed" if often else "warning", found, why, CELL if often else DATA))
    else:
        middle = statistics.median(counts)
        used = abs(middle) / WORD_MAX
        result: Result = "warning" if used > 0.9 else "ok"
        why = "a full shelf would saturate it" if used > 0.9 else ""
        advice = "check the load cell's capacity and its wires E+, E-, A+, A-" if used > 0.9 else ""
        findings.append(Finding("saturation", result, f"{used:.0%} of the converter's scale is used", why, advice))
    if ones:
        often = ones > total * SPIKES_BAD
        found = f"{ones} of {total} samples are all ones"
        why = "DOUT is high throughout: nothing answers" if often else "read before they were ready, or disturbed"
        result = "failed" if often else "warning"
        findings.append(Finding("unplugged", result, found, why, f"{DATA}; {SUPPLY}" if often else DATA))
    different = len(set(counts))
    if total < FEW_SAMPLES:
        why = "too few to judge noise and bit errors"
        findings.append(Finding("samples", "warning", f"{total} samples only", why, "listen longer: --for 30s"))
    elif different == 1 and not ones and not top + bottom:
        why = "a converter that converts has noise: this one does not convert any more"
        advice = "interrupt its power for a moment; if it comes again, replace it"
        findings.append(Finding("values", "failed", f"all {total} samples are {counts[0]}", why, advice))
    elif different < min(5, total // 10):
        why = "a sound converter gives more"
        advice = f"{CELL}; a shorted input reads almost constant"
        findings.append(Finding("values", "warning", f"{different} different values in {total} samples", why, advice))
    else:
        findings.append(Finding("values", "ok", f"{different} different values in {total} samples"))
    return findings


def _noise(settings: ShelfSettings, noise: float) -> Finding:
    found = f"{noise:.0f} counts"
    grams = ""
    if settings.calibration is not None:
        grams = f", {noise / abs(settings.calibration.counts_per_gram):.2f} g"
    found += f"{grams} (one sigma of a sample)"
    if noise > sizes_of(settings).noise_max:
        why = "far above what a sound scale has (10 to 80 counts): no weight is believed"
        return Finding("noise", "failed", found, why, f"{CELL}; {SHIELD}")
    if noise > NOISE_HIGH_COUNTS:
        why = "above what a sound scale has (10 to 80 counts): small items are told apart late or not at all"
        return Finding("noise", "warning", found, why, SHIELD)
    return Finding("noise", "ok", found)


def _middles(counts: Sequence[int]) -> list[float]:
    """Return for each sample the median of the five around it: a step stays, a spike is gone."""
    last = len(counts) - 1
    windows = (counts[max(0, min(i - 2, last - 4)) : max(0, min(i - 2, last - 4)) + 5] for i in range(len(counts)))
    return [float(statistics.median(window)) for window in windows]


def _far(counts: Sequence[int]) -> float:
    return max(SPIKE_MIN_COUNTS, SPIKE_SIGMAS * roughness([float(value) for value in counts]))


def _spikes(counts: Sequence[int], middles: Sequence[float]) -> Finding:
    far = _far(counts)
    spikes = [(value, middle) for value, middle in zip(counts, middles, strict=True) if abs(value - middle) > far]
    if not spikes:
        return Finding("bit errors", "ok", "no sample is out of line")
    kinds = [_kind_of(value, middle, far) for value, middle in spikes]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    found = f"{len(spikes)} of {len(counts)} samples are spikes, far out of line ({told})"
    often = len(spikes) > len(counts) * SPIKES_BAD
    why = (
        "too many for the filter: weights may be wrong"
        if often
        else "the filter removes them, but the wires are at fault"
    )
    advice = f"{DATA}: shorten them to below 30 cm, and keep DVDD at 3.3 V, the Pi's logic level"
    return Finding("bit errors", "failed" if often else "warning", found, why, advice)


def _kind_of(value: int, middle: float, far: float) -> str:
    """Say what made a word odd: 2^n - 1 (the rest of a word lost), a shifted word, or a flipped bit."""
    if value > 0 and value & (value + 1) == 0:
        return f"of the form 2^n-1 (n = {value.bit_length()})"
    if abs(value - 2 * middle) <= 2 * far:
        return "shifted by one bit"
    off = abs(value - middle)
    bit = round(math.log2(off))
    if 5 <= bit <= 23 and abs(off - 2**bit) <= far:
        return f"with bit {bit} flipped"
    return "of no known form"


def _drift(evidence: Evidence, steady: Sequence[int], noise: float) -> Finding:
    fifth = max(3, len(steady) // 5)
    begin, end = statistics.median(steady[:fifth]), statistics.median(steady[-fifth:])
    blocks = [statistics.median(steady[at : at + fifth]) for at in range(0, len(steady) - fifth + 1, fifth)]
    jump = max((abs(after - before) for before, after in itertools.pairwise(blocks)), default=0.0)
    moved = max(blocks) - min(blocks)
    # A load comes or goes in one step, creep goes in many.
    if moved > MOVED_SIGMAS * max(noise, 5.0) and jump > moved / 2:
        found = f"the level moved by {moved:.0f} counts"
        why = "something was put on or taken off, or the shelf touches something"
        return Finding("drift", "warning", found, why, "leave the shelf alone and diagnose again")
    minutes = 0.8 * span_s(evidence.readings) / 60
    per_min = (end - begin) / minutes if minutes > 0 else 0.0
    # The means of two fifths differ by their noise: what lies within four times that is no drift.
    unsure_per_min = 4 * noise * math.sqrt(2 * 1.57 / fifth) / minutes if minutes > 0 else math.inf
    found = f"{per_min:+.0f} counts a minute"
    limit_per_min = max(DRIFT_LONG_COUNTS_PER_MIN, DRIFT_COUNTS_PER_MIN * min(1.0, 1.0 / minutes)) if minutes else 0.0
    if abs(per_min) > max(limit_per_min, unsure_per_min):
        why = "drifting: the level creeps faster than a warm scale's should"
        advice = "wait ten minutes after power-up or a load; keep heat, draught and damp off"
        return Finding("drift", "warning", found, why, advice)
    return Finding("drift", "ok", found + (f", within its uncertainty of {unsure_per_min:.0f}" if per_min else ""))


def _corners(settings: ShelfSettings, evidence: Evidence) -> list[Finding]:
    """Judge, where enough was taken and put, whether the board carries alike everywhere.

    What stands on a dead corner is carried by the others in part: some changes fit the products, and some are each
    lighter than the lightest.
    """
    if settings.calibration is None or not settings.products:
        return []
    judge = ShelfInterpreter(settings, Context(Faults(settings.id)))
    facts = [event.fact for reading in evidence.readings for event in judge.read(reading)]
    fitting = sum(1 for fact in facts if isinstance(fact, ShelfPicked | ShelfPlaced))
    lightest = min(product.unit_grams for product in settings.products)
    light = [fact for fact in facts if isinstance(fact, ShelfChanged) and 0.1 * lightest < abs(fact.grams) < lightest]
    total = fitting + sum(1 for fact in facts if isinstance(fact, ShelfChanged))
    if total < 2 * STRANGE_MIN:
        return []
    found = f"{len(light)} of {total} changes are lighter than the lightest product"
    if not fitting or len(light) < STRANGE_MIN or len(light) < STRANGE_SHARE * total:
        return [Finding("corners", "ok", found)]
    why = "a dead corner: what stands above a cell that carries nothing weighs too little; or other goods lie there"
    return [Finding("corners", "warning", found, why, f"gateway commission {settings.id} --corners")]


def _frames(evidence: Evidence) -> list[Finding]:
    frames, spoiled = evidence.driver.get("frames", 0), evidence.driver.get("frames_spoiled", 0)
    astray = evidence.driver.get("frames_out_of_step", 0)
    late = evidence.driver.get("ready_timeouts", 0)
    if not frames and not late:
        return []
    found = f"{spoiled} of {frames} frames were spoiled by a slow pulse, {astray} were out of step"
    if late:
        found += f", {late} times the converter was not ready within a second"
    bad = (spoiled + astray) / frames if frames else 1.0
    if bad > SPOILED_BAD or late:
        why = "the converter is hardly heard"
        advice = f'{SUPPLY}; {DATA}; or clock it by SPI: driver = "hx711-spi"'
        return [Finding("frames", "failed", found, why, advice)]
    if bad > SPOILED_MANY:
        why = "the processor is busy at the wrong moments; each spoiled frame costs four more"
        return [Finding("frames", "warning", found, why, 'move load away from this Pi, or use driver = "hx711-spi"')]
    return [Finding("frames", "ok", found)]


def _calibration(settings: ShelfSettings) -> Finding:
    calibration = settings.calibration
    if calibration is None:
        advice = f"gateway calibrate {settings.id}"
        return Finding("calibration", "warning", "the scale is not calibrated", "it tells no grams", advice)
    found = f"offset_counts {calibration.offset_counts:g}, counts_per_gram {calibration.counts_per_gram:g}"
    return Finding("calibration", "ok", found)
