"""A scanner's advertisements judged: how many, from how many devices, which tags, how strong, silence. Pure.

Law: of a stranger nothing is said but that there is one more.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from gateway.model import NS_PER_S
from gateway.sensors.diagnosis import Evidence, Finding
from gateway.sensors.scanner.keys import TagKeys
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import Rulebook

SILENCE_S = 5.0
SILENT_GAPS = 10
"""A silence is one where ten gaps of the usual length would have fit."""
WEAK_DBM = -85
UNAVAILABLE_MANY = 0.5
RADIO = "check the antenna, that no metal box or shelf is around the Pi, and that Bluetooth is on: bluetoothctl show"


def judge_scanner(settings: ScannerSettings, evidence: Evidence, keys: TagKeys) -> list[Finding]:
    """Judge what one scanner heard."""
    readings: Sequence[Advertisement] = evidence.readings
    if not readings:
        found = f"no advertisement in {evidence.seconds:.0f} s"
        if evidence.faults:
            return [Finding("advertisements", "failed", found, "see the fault above")]
        why = "in a shop somebody's device is nearly always heard"
        advice = f"hold a tag at it; {RADIO}; rfkill list; gateway doctor"
        return [Finding("advertisements", "failed", found, why, advice)]
    rate = len(readings) / max(evidence.seconds, 1.0)
    findings = [
        Finding("advertisements", "ok", f"{rate:.1f} a second"),
        Finding("devices", "ok", f"{len({reading.address for reading in readings})} different addresses"),
        *_tags(settings, readings, evidence, keys),
        *_strength(readings),
    ]
    return [*findings, *_silence(readings), *_keys(keys)]


def _tags(
    settings: ScannerSettings, readings: Sequence[Advertisement], evidence: Evidence, keys: TagKeys
) -> list[Finding]:
    rules = Rulebook(settings.tags, keys.identity)
    heard: dict[str, list[int | None]] = {rule.tag: [] for rule in settings.tags}
    for reading in readings:
        match = rules.match(rules.content(reading.payload), reading.address, reading.at.wall_ns)
        if match is not None:
            heard[match.tag].append(reading.rssi_dbm)
    findings = []
    for tag, strengths in heard.items():
        known = [rssi for rssi in strengths if rssi is not None]
        if not strengths:
            why = "it is not here, asleep or empty, or its rule does not fit it"
            advice = "hold the tag at the scanner, change its battery, compare its rule with what its maker says"
            found = f"not heard in {evidence.seconds:.0f} s"
            findings.append(Finding(f"tag {tag}", "warning", found, why, advice))
            continue
        rate = len(strengths) / max(evidence.seconds, 1.0)
        found = f"{rate:.1f} a second"
        if known:
            found += f", {statistics.median(known):.0f} dBm ({min(known)} to {max(known)})"
        if known and max(known) < settings.arrive_rssi_dbm:
            why = f"weaker than arrive_rssi_dbm ({settings.arrive_rssi_dbm:g}): it never arrives"
            findings.append(Finding(f"tag {tag}", "warning", found, why, f"bring it nearer, or {RADIO}"))
        else:
            findings.append(Finding(f"tag {tag}", "ok", found))
    return findings


def _keys(keys: TagKeys) -> list[Finding]:
    why, advice = (
        "who is named by that key is a stranger here",
        "put the key where its rule says, readable for this user",
    )
    return [Finding("key", "warning", trouble, why, advice) for trouble in keys.troubles]


def _strength(readings: Sequence[Advertisement]) -> list[Finding]:
    known = [reading.rssi_dbm for reading in readings if reading.rssi_dbm is not None]
    if len(known) < (1 - UNAVAILABLE_MANY) * len(readings):
        found = f"{len(readings) - len(known)} of {len(readings)} advertisements without a strength"
        why = "without RSSI no proximity can be told"
        return [Finding("strength", "warning", found, why, "update the adapter's firmware, or use another adapter")]
    found = f"{statistics.median(known):.0f} dBm ({min(known)} to {max(known)})"
    if max(known) < WEAK_DBM:
        return [Finding("strength", "warning", found, "everything is weak: the antenna hears little", RADIO)]
    return [Finding("strength", "ok", found)]


def _silence(readings: Sequence[Advertisement]) -> list[Finding]:
    times_s = [reading.at.boot_ns / NS_PER_S for reading in readings]
    gaps_s = [after - before for before, after in itertools.pairwise(times_s)]
    if not gaps_s:
        return []
    longest_s, usual_s = max(gaps_s), statistics.median(gaps_s)
    if longest_s > max(SILENCE_S, SILENT_GAPS * usual_s):
        why = "the radio was deaf for a while, or the room was quiet"
        advice = f"look whether Wi-Fi on 2.4 GHz or another program uses the radio; {RADIO}"
        return [Finding("silence", "warning", f"{longest_s:.0f} s without an advertisement", why, advice)]
    return [Finding("silence", "ok", f"the longest gap was {longest_s:.1f} s")]
