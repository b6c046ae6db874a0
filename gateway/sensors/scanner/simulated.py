"""A scanner in a simulated shop: the tags that its rules know. Pure."""

from __future__ import annotations

from uuid import UUID

from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import TagRule
from gateway.sensors.simulation import Scanner, Tag


def simulated(settings: ScannerSettings) -> Scanner:
    """Return the scanner with its tags; those known by a key are left out, for their keys lie in files."""
    rules = (rule for rule in settings.tags if rule.irk_file is None and rule.eddystone_eid is None)
    return Scanner(settings.id, tuple(map(_tag_of, rules)))


def _tag_of(rule: TagRule) -> Tag:
    if rule.ibeacon is not None:
        uuid = str(UUID(rule.ibeacon.uuid))
        return Tag(rule.tag, "ibeacon", uuid, _device(rule.ibeacon.major, rule.ibeacon.minor))
    if rule.altbeacon is not None:
        return Tag(rule.tag, "altbeacon", rule.altbeacon.id.lower())
    if rule.eddystone is not None:
        return Tag(rule.tag, "eddystone", rule.eddystone.namespace.lower(), _device(rule.eddystone.instance))
    assert rule.address is not None  # a rule without a key has one of the four
    return Tag(rule.tag, "ruuvi" if rule.telemetry else "address", rule.address.lower())


def _device(*parts: int | str | None) -> tuple[int | str | None, ...]:
    return parts if any(part is not None for part in parts) else ()
