"""JSON Schemas (2020-12) from the facts' dataclasses.

Law: a key is named as on the wire (no trailing underscore); unknown is absent, so an optional key is not required and
never null; keys may be added within a version, so additional ones are allowed everywhere.
"""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from gateway.facts import FACTS
from gateway.model import STREAMS, Fact
from gateway.sensors import kinds

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER = "^[A-Za-z0-9_-]{1,64}$"
TIME = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}

UNITS = {
    "_ms": "milliseconds",
    "_dbm": "dBm",
    "_bytes": "bytes",
    "grams": "grams",
    "_celsius": "degrees Celsius",
    "_percent": "percent",
    "_pascal": "pascal",
    "_mv": "millivolts",
}
COUNTS = ("_total", "_bytes", "_entries")


def facts() -> dict[str, type[Fact]]:
    """Return every fact by its event type: the gateway's own, then each kind of sensor's."""
    found: list[type[Fact]] = [*FACTS, *(fact for kind in kinds() for fact in kind.facts)]
    return {fact.type: fact for fact in sorted(found, key=lambda fact: fact.type)}


def name_of(event_type: str) -> str:
    """Return the schema's name of an event type: `door.passed` of `store.door.passed`."""
    return event_type.removeprefix("store.")


def data_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each event type's `data`, by its name (`door.passed`)."""
    return {name_of(event_type): data_schema(fact) for event_type, fact in facts().items()}


def data_schema(fact: type[Fact]) -> dict[str, Any]:
    """Return the schema of one fact as `data`."""
    raw = TypeAdapter(fact).json_schema()
    hints = get_type_hints(fact, include_extras=True)
    properties, required = {}, []
    for field in dataclasses.fields(fact):  # type: ignore[arg-type]
        key = field.name.rstrip("_")
        properties[key] = _property(key, raw["properties"][field.name])
        if not _may_be_unknown(hints[field.name]):
            required.append(key)
    schema: dict[str, Any] = {
        "$schema": DIALECT,
        "$id": f"schemas/v1/{name_of(fact.type)}.json",
        "title": fact.type,
        "description": _description(fact),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": True,
    }
    if "$defs" in raw:
        schema["$defs"] = {name: _tidied(inner) for name, inner in raw["$defs"].items()}
    return schema


def _description(fact: type[Fact]) -> str:
    said = " ".join((fact.__doc__ or "").split())
    written = "" if said.startswith(f"{fact.__name__}(") else f" {said}"  # else what a dataclass writes by itself
    return f"The data of {fact.type}, an event of stream {fact.stream}.{written}"


def _may_be_unknown(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _property(key: str, raw: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = _tidied(raw)
    if key == "stream":
        schema = {"enum": list(STREAMS)}
    if key in ("from", "to", "settled") and schema == {"type": "string"}:
        schema = dict(TIME)
    for suffix, unit in UNITS.items():
        if key.endswith(suffix):
            schema["description"] = f"in {unit}"
    for kind in kinds():
        if key in kind.ranges:
            schema["minimum"], schema["maximum"] = kind.ranges[key]
    if key.endswith(COUNTS) and schema.get("type") == "integer":
        schema["minimum"] = 0
    return schema


def _tidied(raw: Any) -> Any:
    """Take out titles, defaults and null: unknown is absent."""
    if isinstance(raw, list):
        return [_tidied(inner) for inner in raw]
    if not isinstance(raw, dict):
        return raw
    schema = {key: _tidied(inner) for key, inner in raw.items() if key not in ("title", "default")}
    members = [member for member in schema.get("anyOf", []) if member != {"type": "null"}]
    if len(members) == 1:
        del schema["anyOf"]
        schema |= members[0]
    elif members:
        schema["anyOf"] = members
    return schema


def envelope_schema() -> dict[str, Any]:
    """Return the schema of the CloudEvent that leaves (contract section 3), its `data` by its `type`."""
    of_type = [
        {
            "if": {"properties": {"type": {"const": event_type}}},
            "then": {
                "properties": {
                    "dataschema": {"const": f"schemas/v1/{name_of(event_type)}.json"},
                    "stream": {"const": fact.stream},
                    "data": {"$ref": f"{name_of(event_type)}.json"},
                }
            },
        }
        for event_type, fact in facts().items()
    ]
    properties = {
        "specversion": {"const": "1.0", "description": "of CloudEvents"},
        "id": {
            "type": "string",
            "pattern": rf"^[0-9a-f]{{8}}-[1-9][0-9]*-({'|'.join(STREAMS)})-[0-9]{{16}}$",
            "description": "{outbox}-{epoch}-{stream}-{sequence}; the same however often the event is sent",
        },
        "source": {
            "type": "string",
            "pattern": "^/stores/[A-Za-z0-9_-]{1,64}/gateways/[A-Za-z0-9_-]{1,64}$",
            "description": "/stores/{store}/gateways/{gateway}",
        },
        "subject": {"type": "string", "pattern": IDENTIFIER, "description": "the sensor's id, or gateway"},
        "type": {
            "type": "string",
            "pattern": r"^store\.[a-z]+\.[a-z_]+$",
            "description": "what happened; consumers ignore types they do not know",
        },
        "time": {**TIME, "description": "when it happened, UTC"},
        "dataschema": {
            "type": "string",
            "pattern": r"^schemas/v1/[a-z_.]+\.json$",
            "description": "the JSON Schema of data, with its version",
        },
        "datacontenttype": {"const": "application/json", "description": "of data"},
        "stream": {"enum": list(STREAMS), "description": "what the event is worth when the disk is full"},
        "sequence": {
            "type": "string",
            "pattern": "^[0-9]{16}$",
            "description": "gapless from 1 within (outbox, stream), in recording order",
        },
        "outbox": {"type": "string", "pattern": "^[0-9a-f]{8}$", "description": "made when an outbox is created"},
        "epoch": {
            "type": "string",
            "pattern": "^[1-9][0-9]*$",
            "description": "higher at each opening, by a random step: no card put back or copied uses an id again",
        },
        "clock": {"enum": ["synced", "estimated", "unsynced"], "description": "how far time can be trusted"},
        "bootid": {"type": "string", "pattern": "^[0-9a-f]{8}$", "description": "of the kernel's boot id"},
        "uptimems": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "milliseconds since boot when it happened",
        },
        "data": {"type": "object"},
    }
    return {
        "$schema": DIALECT,
        "$id": "schemas/v1/envelope.json",
        "title": "An event of a store gateway",
        "description": "CloudEvents 1.0, structured JSON mode.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": True,
        "allOf": of_type,
    }


def batch_schema() -> dict[str, Any]:
    """Return the schema of a message of the backfill lane."""
    return {
        "$schema": DIALECT,
        "$id": "schemas/v1/batch.json",
        "title": "What was recorded while offline",
        "description": "Each stream in ascending sequence; where it begins with the bytes 1f 8b it is gzip of this.",
        "type": "array",
        "items": {"$ref": "envelope.json"},
        "minItems": 1,
        "maxItems": 100,
    }


def state_schema() -> dict[str, Any]:
    """Return the schema of the retained state (contract section 5)."""
    position = {"type": "integer", "minimum": 0}
    streams = {
        "type": "object",
        "properties": {
            stream: {
                "type": "object",
                "properties": {
                    "recorded_through": {**position, "description": "the last sequence recorded; 0: none yet"},
                    "acknowledged_through": {**position, "description": "all up to it is acknowledged or dropped"},
                    "backlog": {**position, "description": "recorded and not acknowledged"},
                },
                "required": ["recorded_through", "acknowledged_through", "backlog"],
            }
            for stream in STREAMS
        },
        "required": list(STREAMS),
    }
    return {
        "$schema": DIALECT,
        "$id": "schemas/v1/state.json",
        "title": "The state of a store gateway",
        "description": 'Retained. "lost" is the will: it has the time of the connect, and only what is required.',
        "type": "object",
        "properties": {
            "state": {"enum": ["online", "stopped", "lost"]},
            "outbox": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
            "epoch": {"type": "string", "pattern": "^[1-9][0-9]*$"},
            "time": TIME,
            "streams": streams,
            "version": {"type": "string"},
            "config_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "sensors": {"type": "array", "items": {"type": "string", "pattern": IDENTIFIER}},
            "troubles": {
                "type": "array",
                "description": "what is wrong with the way to the broker, or the disk; absent where all is well",
                "items": {
                    "type": "object",
                    "properties": {
                        "code": {"type": "string"},
                        "detail": {"type": "string", "description": "a sentence for a person"},
                        "advice": {"type": "string", "description": "what to do"},
                        "next_probe": {**TIME, "description": "when one message asks again, while sending is held"},
                    },
                    "required": ["code", "detail", "advice"],
                },
            },
        },
        "required": ["state", "outbox", "epoch", "time"],
        "if": {"properties": {"state": {"enum": ["online", "stopped"]}}},
        "then": {"required": ["streams", "version", "config_sha256", "sensors"]},
        "additionalProperties": True,
    }
