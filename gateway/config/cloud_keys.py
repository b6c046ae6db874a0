"""Which keys of the configuration the cloud may change: an allow-list, and everything else is decided at the gateway.

Law: by default the cloud changes only numbers and words that cannot send data elsewhere, open a file, drive a pin,
weaken privacy, throw recorded events away (delivered ones too: `resend` needs them) or widen its own rights.
`[commands] config_keys` replaces the default; `fixed()` may not stand there. Every key of the settings is in exactly
one of the three sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

from gateway.sensors import kinds


def _keys(**tables: str) -> frozenset[str]:
    return frozenset(f"{table}.{key}" for table, keys in tables.items() for key in keys.split())


OUR_CHANGEABLE = _keys(
    broker="keepalive_s reconnect_max_s inflight_max inflight_bytes_max resync backfill_compression",
    outbox="commit_interval_ms",
    health="every",
)
"""What the cloud may change where `[commands] config_keys` is not given."""
OUR_ON_DEMAND = _keys(
    site="timezone",
    broker="profile protocol discovery",
    outbox="bytes_max age_max keep_acknowledged",
)
"""What it may change only where `[commands] config_keys` names it."""
OUR_FIXED = _keys(
    site="store gateway",
    broker="url username password_file ca_file cert_file key_file client_id topic_prefix"
    " proxy proxy_username proxy_password_file",
    outbox="directory key_file old_key_file",
    privacy="identity anonymous_min",
    commands="allow key_file config_keys response_prefix resend_bytes_per_hour",
)
"""What no configuration lets it change: who this gateway is, hosts, files, identities, its rights."""


def changeable() -> frozenset[str]:
    """Return what the cloud may change where `[commands] config_keys` is not given."""
    return OUR_CHANGEABLE | _keys(**{kind.table: kind.changeable for kind in kinds()})


def on_demand() -> frozenset[str]:
    """Return what it may change only where `[commands] config_keys` names it."""
    return OUR_ON_DEMAND | _keys(**{kind.table: kind.on_demand for kind in kinds()})


def fixed() -> frozenset[str]:
    """Return what no configuration lets it change: of a sensor every key that its kind does not name."""
    of_sensors = {kind.table: " ".join(field.name for field in fields(kind.settings)) for kind in kinds()}
    return (OUR_FIXED | _keys(**of_sensors)) - changeable() - on_demand()


def wrong_keys(keys: Collection[str]) -> Iterator[str]:
    """Yield a sentence where `[commands] config_keys` names a key that cannot stand there."""
    for key in keys:
        if key not in changeable() | on_demand():
            why = "is no key of the configuration"
            if key in fixed():
                why = "the cloud can never change: hosts, files, pins, identities and rights are set at the gateway"
            yield f'config_keys has "{key[:80]}", which {why}'


def changed_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return the keys, such as `broker.url`, that differ between two documents; entries of a list are told by `id`."""
    changed: set[str] = set()
    for table in {*ours, *theirs}:
        before, after = _entries(ours.get(table)), _entries(theirs.get(table))
        for one in {*before, *after}:
            mine, other = before.get(one, {}), after.get(one, {})
            changed |= {f"{table}.{key}" for key in {*mine, *other} if mine.get(key, ...) != other.get(key, ...)}
    return sorted(changed)


def forbidden_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any], allowed: Collection[str] | None) -> list[str]:
    """Return the keys that the cloud's document `theirs` changes in the local `ours` without a right to."""
    may_change = changeable() if allowed is None else allowed
    return [key for key in changed_keys(ours, theirs) if key not in may_change]


def _entries(value: Any) -> dict[str, Mapping[str, Any]]:
    entries = value if isinstance(value, list) else [value]
    return {str(entry.get("id", "")): entry for entry in entries if isinstance(entry, dict)}
