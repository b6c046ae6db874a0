"""The contract's documents: what is committed is what the code makes, and what leaves the box is what they say."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from gateway import wire
from gateway.contract import DIRECTORY, documents, text_of
from gateway.contract.generation import facts, name_of
from gateway.model import Entry, Event, Fact, Instant
from gateway.sensors.scanner.telemetry import QUANTITIES

AT = Instant(12_345_000_000, 1_795_338_000_000_000_000)
FROM, TO = "2026-11-22T09:00:00.000Z", "2026-11-22T09:15:00.000Z"
SHA = "0" * 64

# The contract's section 4, key by key: required, and those that may be absent. Within v1 this table only grows.
V1: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "store.door.passed": (
        {"direction": "in", "duration_ms": 420, "in_total": 7, "out_total": 5, "unknown_total": 0},
        {},
    ),
    "store.door.counted": ({"from": FROM, "to": TO, "in": 3, "out": 2, "unknown": 0}, {}),
    "store.door.blocked": ({"beam": "outer"}, {}),
    "store.door.cleared": ({"beam": "only", "blocked_ms": 15_000}, {}),
    "store.shelf.picked": (
        {"sku": "4006381333931", "count": 2, "grams": 660.0, "confidence": 0.98},
        {"remaining_count": 22, "remaining_grams": 7260.0},
    ),
    "store.shelf.placed": (
        {"sku": "4006381333931", "count": 2, "grams": 660.0, "confidence": 0.98},
        {"remaining_count": 22, "remaining_grams": 7260.0},
    ),
    "store.shelf.changed": (
        {"grams": -12.5},
        {"remaining_grams": 7260.0, "settled": "2026-11-22T09:00:02.000Z", "while_away": True, "sku": "apples"},
    ),
    "store.shelf.level": (
        {"state": "low", "sku": "4006381333931", "grams": 1650.0},
        {"count": 5, "capacity": 24},
    ),
    "store.beacon.arrived": (
        {"tag": "loyalty", "proximity": "near", "rssi_dbm": -70},
        {"identity": "0123456789abcdef"},
    ),
    "store.beacon.moved": (
        {"tag": "loyalty", "from": "far", "to": "near", "rssi_dbm": -65},
        {"identity": "0123456789abcdef"},
    ),
    "store.beacon.left": (
        {"tag": "loyalty", "dwell_ms": 60_000, "rssi_max_dbm": -50},
        {"identity": "0123456789abcdef"},
    ),
    "store.beacon.telemetry": (
        {"tag": "cold-room"},
        {
            "identity": "0123456789abcdef",
            "battery_mv": 2950,
            "battery_percent": 80,
            "temperature_celsius": -18.5,
            "humidity_percent": 40.0,
            "pressure_pascal": 101_325,
            "uptime_ms": 1000,
            "advertisements": 17,
        },
    ),
    "store.beacon.counted": ({"from": FROM, "to": TO}, {"devices": 12}),
    "store.sensor.failed": ({"reason": "silent", "detail": "no sample for 5 s"}, {}),
    "store.sensor.recovered": ({"reason": "silent", "detail": "reads again", "failed_ms": 5000}, {}),
    "store.gateway.started": ({"version": "0.1.0", "config_sha256": SHA, "reason": "boot", "clean": True}, {}),
    "store.gateway.stopped": ({"version": "0.1.0", "config_sha256": SHA, "reason": "sigterm"}, {}),
    "store.gateway.health": (
        {
            "memory_rss_bytes": 5_000_000,
            "outbox_entries": 3,
            "outbox_bytes": 900,
            "sensors": {"entrance": {"readings": 10, "discarded": 0, "age_ms": 5}},
        },
        {
            "cpu_celsius": 51.5,
            "throttled": True,
            "throttling": ["under_voltage", "under_voltage_since_boot"],
            "disk_free_bytes": 1 << 33,
            "disk_read_only": False,
            "card_worn_percent": 20,
            "card_spare": "normal",
            "certificate_days": 29,
            "not_kept": "/ is an overlay whose upper layer lies in memory",
            "unreadable": "the disk does not answer: what is recorded cannot be read, and waits",
            "oldest_entry_ms": 100,
            "board": "Raspberry Pi 4 Model B Rev 1.4",
            "board_serial": "10000000abcdef01",
            "last_reboot": "unclean",
        },
    ),
    "store.gateway.clock_set": ({"by_ms": -3_600_000}, {}),
    "store.gateway.events_dropped": (
        {
            "outbox": "0a1b2c3d",
            "stream": "beacon",
            "reason": "full",
            "first_sequence": 1,
            "last_sequence": 9,
            "count": 4,
        },
        {},
    ),
    "store.gateway.outbox_created": ({"reason": "new"}, {"previous": "0a1b2c3d"}),
    "store.gateway.readings_discarded": ({"sensor": "ble", "count": 10, "reason": "inbox_full"}, {}),
    "store.gateway.config_changed": ({"config_sha256": SHA, "by": "command", "outcome": "applied"}, {}),
}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return {name: document for name, document in documents().items() if name.startswith("schemas/")}


@pytest.fixture(scope="module")
def registry(schemas: dict[str, Any]) -> Any:
    return Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in schemas.items())


def mistakes(registry: Any, schemas: dict[str, Any], name: str, value: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(
        schemas[f"schemas/v1/{name}.json"],
        registry=registry,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    return [error.message for error in validator.iter_errors(value)]


def fact_of(event_type: str, data: dict[str, Any]) -> Fact:
    """Build the fact of this data: its fields are the keys, with an underscore where Python needs one."""
    fact: Any = facts()[event_type]
    fields = {name.rstrip("_"): name for name in fact.__dataclass_fields__}
    unknown = {name: None for key, name in fields.items() if key not in data and key in V1[event_type][1]}
    built: Fact = fact(**{fields[key]: value for key, value in data.items()}, **unknown)
    return built


def envelope_of(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    fact = fact_of(event_type, data)
    entry = Entry(fact.stream, 17, 3, wire.record(Event("entrance", AT, fact), "969b0c7f"))
    envelope: dict[str, Any] = json.loads(wire.Wire("0042", "front", "0a1b2c3d").envelope(entry, {}))
    return envelope


def test_what_is_committed_is_what_the_code_makes() -> None:
    made = {name: text_of(document) for name, document in documents().items()}
    committed = {
        path.relative_to(DIRECTORY).as_posix(): path.read_text(encoding="utf-8") for path in DIRECTORY.rglob("*.json")
    }
    assert committed == made, "run: python -m gateway.contract"


def test_every_schema_is_one(schemas: dict[str, Any]) -> None:
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_event_of_the_contract_has_its_fact_and_no_other() -> None:
    assert set(facts()) == set(V1)


@pytest.mark.parametrize("event_type", V1)
def test_keys_of_v1_stay(event_type: str, schemas: dict[str, Any]) -> None:
    schema = schemas[f"schemas/v1/{name_of(event_type)}.json"]
    required, optional = V1[event_type]
    assert set(required) | set(optional) <= set(schema["properties"])
    assert set(schema["required"]) == set(required)


@pytest.mark.parametrize("event_type", V1)
def test_events_as_they_leave_are_valid(event_type: str, schemas: dict[str, Any], registry: Any) -> None:
    required, optional = V1[event_type]
    for data in (required, required | optional):
        envelope = envelope_of(event_type, data)
        assert envelope["data"] == data
        assert mistakes(registry, schemas, "envelope", envelope) == []
        assert mistakes(registry, schemas, "batch", [envelope]) == []


@pytest.mark.parametrize("event_type", V1)
def test_what_breaks_the_contract_is_invalid(event_type: str, schemas: dict[str, Any], registry: Any) -> None:
    required, optional = V1[event_type]
    envelope = envelope_of(event_type, required | optional)
    for key in required:
        without = {name: value for name, value in envelope["data"].items() if name != key}
        assert mistakes(registry, schemas, "envelope", envelope | {"data": without}), f"without {key}"
    for key in optional:
        assert mistakes(registry, schemas, "envelope", envelope | {"data": envelope["data"] | {key: None}}), (
            f"{key} null"
        )
    assert not mistakes(registry, schemas, "envelope", envelope | {"data": envelope["data"] | {"added": 1}})
    for key in QUANTITIES.keys() & optional.keys():
        for beyond in (QUANTITIES[key][0] - 1, QUANTITIES[key][1] + 1):
            assert mistakes(registry, schemas, "envelope", envelope | {"data": envelope["data"] | {key: beyond}})


@pytest.mark.parametrize(
    ("attribute", "wrong"),
    [
        ("id", "0a1b2c3d-3-door-17"),
        ("sequence", "17"),
        ("epoch", 3),
        ("clock", "good"),
        ("time", "2026-11-22T09:00:00+01:00"),
        ("time", "2026-11-22T09:00:00Z"),
        ("uptimems", 12345),
        ("stream", "sensor"),
        ("stream", "shelf"),
        ("source", "/stores/0042"),
        ("dataschema", "schemas/v1/door.counted.json"),
    ],
)
def test_a_wrong_attribute_is_invalid(attribute: str, wrong: Any, schemas: dict[str, Any], registry: Any) -> None:
    envelope = envelope_of("store.door.blocked", {"beam": "outer"})
    assert mistakes(registry, schemas, "envelope", envelope | {attribute: wrong})
    assert mistakes(registry, schemas, "envelope", {key: envelope[key] for key in envelope if key != attribute})


def test_state_and_will(schemas: dict[str, Any], registry: Any) -> None:
    will = {"state": "lost", "outbox": "0a1b2c3d", "epoch": "3", "time": FROM}
    position = {"recorded_through": 4, "acknowledged_through": 3, "backlog": 1}
    more = {
        "streams": dict.fromkeys(("door", "shelf", "beacon", "gateway"), position),
        "version": "0.1.0",
        "config_sha256": SHA,
        "sensors": ["entrance"],
    }
    assert mistakes(registry, schemas, "state", will) == []
    assert mistakes(registry, schemas, "state", will | more | {"state": "online"}) == []
    assert mistakes(registry, schemas, "state", will | {"state": "online"})
    assert mistakes(registry, schemas, "state", will | {"epoch": 3})


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    made = documents()
    document = made["asyncapi.json"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            return (
                [value["$ref"]] if "$ref" in value else [one for inner in value.values() for one in references(inner)]
            )
        return [one for inner in value for one in references(inner)] if isinstance(value, list) else []

    found = references(document)
    assert len(found) > len(V1)
    for reference in found:
        file, _, pointer = reference.partition("#/")
        target: Any = made[file] if file else document
        for part in pointer.split("/") if pointer else ():
            target = target[part]
    for channel in document["channels"].values():
        named = {part[1:-1] for part in channel["address"].split("/") if part.startswith("{")}
        assert named == set(channel["parameters"])
