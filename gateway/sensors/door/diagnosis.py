"""A door's beams judged: levels, edges, chatter, a blocked beam, which beam breaks first, passages. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence

from gateway.facts import SensorFailed
from gateway.model import NS_PER_MS, NS_PER_S, Event
from gateway.sensors.diagnosis import Evidence, Finding
from gateway.sensors.door.facts import DoorPassed
from gateway.sensors.door.interpreter import DoorInterpreter
from gateway.sensors.door.reading import BeamChanged
from gateway.sensors.door.settings import DoorSettings
from gateway.sensors.kind import Context, Faults

CHATTER_NS = 20 * NS_PER_MS
"""A shorter level is no part of a person (`sensors/beams.py`)."""
CHATTER_MANY = 0.1
PHASE_MIN_MS, PHASE_MAX_MS = 10.0, 600.0
"""Beams 5 to 10 cm apart are broken 35 to 70 ms after each other; a slow walker may take half a second."""
PAIR_WITHIN_NS = NS_PER_S

ALIGN = "align emitter and receiver, clean their windows, and keep sunlight off the receiver"
WIRES = "check its supply, the signal wire and `pull`; `broken_when` must fit the receiver's output"


def judge_door(settings: DoorSettings, evidence: Evidence) -> list[Finding]:
    """Judge the beams of one door."""
    readings: Sequence[BeamChanged] = evidence.readings
    if not readings:
        found = f"no level and no edge in {evidence.seconds:.0f} s"
        why = "a beam that nobody breaks says nothing for a minute"
        return [Finding("edges", "warning", found, why, "walk through the door while this runs")]
    findings: list[Finding] = []
    for beam in settings.beams:
        findings += _judge_beam(settings, beam, [one for one in readings if one.beam == beam], evidence)
    strange = {reading.beam for reading in readings} - set(settings.beams)
    if strange:
        why = "the configuration has other beams than the wiring"
        findings.append(Finding("beams", "warning", f"also heard: {', '.join(sorted(strange))}", why))
    if len(settings.beams) == 2:
        findings += _order(readings)
    return [*findings, *_passages(settings, readings)]


def _changes(readings: Sequence[BeamChanged]) -> list[BeamChanged]:
    """Return the readings at which the level truly changed; the first known level is one where it is broken."""
    changes: list[BeamChanged] = []
    level = False
    for reading in readings:
        if reading.broken != level:
            changes.append(reading)
            level = reading.broken
    return changes


def _judge_beam(
    settings: DoorSettings, beam: str, readings: Sequence[BeamChanged], evidence: Evidence
) -> list[Finding]:
    if not readings:
        found = f"the {beam} beam said nothing"
        why = "nobody broke it, or its wire is off"
        return [Finding(f"{beam} beam", "warning", found, why, f"walk through the door while this runs; {WIRES}")]
    changes = _changes(readings)
    last_ns = max(reading.at.boot_ns for reading in evidence.readings)
    is_broken = readings[-1].broken
    level = "broken" if is_broken else "clear"
    found = f"{level} now, {len(changes)} changes"
    if is_broken:
        held_ns = last_ns - changes[-1].at.boot_ns
        since_s = held_ns / NS_PER_S
        throughout = len(changes) == 1 and changes[0] is readings[0]
        if throughout or since_s >= settings.blocked_after_s:
            why = "something stands in the beam, or it does not meet its receiver"
            if throughout:
                found = f"broken throughout, for {max(since_s, 0):.0f} s and more"
            else:
                found = f"broken for {since_s:.0f} s"
            return [Finding(f"{beam} beam", "failed", found, why, f"{ALIGN}; {WIRES}")]
    short = sum(1 for before, after in itertools.pairwise(changes) if after.at.boot_ns - before.at.boot_ns < CHATTER_NS)
    per_s = _busiest_second(changes)
    if short and (short > CHATTER_MANY * len(changes) or per_s >= 20):
        found += f", {short} of them after less than {CHATTER_NS // NS_PER_MS} ms, {per_s} in the busiest second"
        bad = per_s >= 20
        why = "it flickers: passages cannot be told" if bad else "it chatters: edges of clothes do so, but rarely"
        return [Finding(f"{beam} beam", "failed" if bad else "warning", found, why, f"{ALIGN}; {WIRES}")]
    return [Finding(f"{beam} beam", "ok", found)]


def _busiest_second(changes: Sequence[BeamChanged]) -> int:
    busiest, first = 0, 0
    for index, change in enumerate(changes):
        while change.at.boot_ns - changes[first].at.boot_ns >= NS_PER_S:
            first += 1
        busiest = max(busiest, index - first + 1)
    return busiest


def _order(readings: Sequence[BeamChanged]) -> list[Finding]:
    """Say which beam broke first, and how far apart they are in time."""
    breaks = {
        beam: [one.at.boot_ns for one in _changes([r for r in readings if r.beam == beam]) if one.broken]
        for beam in ("outer", "inner")
    }
    outer, inner = breaks["outer"], breaks["inner"]
    if not outer and not inner:
        return []
    if not outer or not inner:
        dead, alive = ("outer", "inner") if not outer else ("inner", "outer")
        found = f"the {alive} beam broke {max(len(outer), len(inner))} times, the {dead} beam never"
        why = "without both beams no direction can be told"
        return [Finding("order", "failed", found, why, f"{dead} beam: {ALIGN}; {WIRES}")]
    phases_ms = [
        (nearest - at) / NS_PER_MS
        for at in outer
        if abs((nearest := min(inner, key=lambda other, at=at: abs(other - at))) - at) <= PAIR_WITHIN_NS  # type: ignore[misc]
    ]
    if not phases_ms:
        why = "they stand too far apart, or one of them is disturbed"
        found = "the two beams never broke within a second of each other"
        return [Finding("order", "warning", found, why, "mount them 5 to 10 cm apart at hip height")]
    outer_first = sum(1 for phase in phases_ms if phase > 0)
    middle_ms = statistics.median(abs(phase) for phase in phases_ms)
    found = (
        f"outer first {outer_first} times, inner first {len(phases_ms) - outer_first} times, {middle_ms:.0f} ms apart"
    )
    if middle_ms < PHASE_MIN_MS:
        why = "so close that the order hangs on chance"
        return [Finding("order", "warning", found, why, "mount the beams 5 to 10 cm apart")]
    if middle_ms > PHASE_MAX_MS:
        why = "so far apart that people may turn or meet between them"
        return [Finding("order", "warning", found, why, "mount the beams 5 to 10 cm apart")]
    advice = "if you walked in and it says inner first, swap outer_pin and inner_pin"
    return [Finding("order", "ok", found, advice=advice)]


def events_of(settings: DoorSettings, readings: Sequence[BeamChanged]) -> list[Event]:
    """Return what the door's interpreter makes of the readings, what is pending at their end included."""
    judge = DoorInterpreter(settings, Context(Faults(settings.id)))
    events = [event for reading in readings for event in judge.read(reading)]
    return events + list(judge.finish(readings[-1].at)) if readings else events


def _passages(settings: DoorSettings, readings: Sequence[BeamChanged]) -> list[Finding]:
    events = events_of(settings, readings)
    ways = Counter(event.fact.direction for event in events if isinstance(event.fact, DoorPassed))
    failed = [event.fact for event in events if isinstance(event.fact, SensorFailed)]
    told = ", ".join(f"{count} {way}" for way, count in ways.items())
    findings = [Finding("passages", "ok", told or "nobody passed")]
    if ways["unknown"] and len(settings.beams) == 2:
        why = "their direction could not be told"
        findings = [Finding("passages", "warning", told, why, ALIGN)]
    return findings + [Finding(fact.reason, "failed", fact.detail, "", ALIGN) for fact in failed]
