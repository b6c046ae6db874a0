"""A fridge's temperatures judged. Pure."""

from __future__ import annotations

from gateway.sensors.diagnosis import Evidence, Finding

from .settings import FridgeSettings


def judge(settings: FridgeSettings, evidence: Evidence) -> list[Finding]:
    """Judge some seconds of one fridge."""
    found = [reading.celsius for reading in evidence.readings]
    if not found:
        why = "the thermometer does not answer"
        return [Finding("temperature", "failed", f"none in {evidence.seconds:.0f} s", why, "check its three wires")]
    said = f"{found[-1]:.1f} °C ({min(found):.1f} to {max(found):.1f})"
    if found[-1] > settings.warm_above_celsius:
        why = f"above warm_above_celsius ({settings.warm_above_celsius:g} °C)"
        return [Finding("temperature", "warning", said, why, "is the door shut, and the probe inside?")]
    return [Finding("temperature", "ok", said)]
