"""The AsyncAPI 3.0 document: the channels of contract section 5, with the generated schemas as payloads."""

from __future__ import annotations

from typing import Any

from gateway.contract.generation import IDENTIFIER, facts, name_of
from gateway.model import STREAMS, VERBS

PREFIX = "{prefix}/v1/{store}/{gateway}"
ERROR_CODES = (
    "malformed",
    "too_large",
    "unknown",
    "not_allowed",
    "not_signed",
    "invalid",
    "not_kept",
    "busy",
    "failed",
)
EVENT_TYPE = "application/cloudevents+json; charset=utf-8"
BATCH_TYPE = "application/cloudevents-batch+json; charset=utf-8"


def asyncapi() -> dict[str, Any]:
    """Return the document. Operations are the gateway's: it sends events and state, and receives commands."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Store gateway",
            "version": "1.0.0",
            "description": (
                "Events of a store: doors, shelves, beacons. Within one (source, outbox, stream) every sequence "
                "number is delivered at least once, or lies in a range of a store.gateway.events_dropped event. "
                "Drop duplicates by (source, id), order by sequence, ignore keys and types you do not know."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "mqtt.example.com:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5",
                "description": "MQTT 5, or 3.1.1 where the broker refuses 5.",
            }
        },
        "channels": {
            "event": _channel(
                "event/{area}/{subject}", "Live lane: one event a message.", list(_events()), area=areas()
            ),
            "backfill": _channel("backfill", "Backfill lane: what was recorded while offline.", ["batch"]),
            "state": _channel("state", "Retained: the gateway's state; the will says lost.", ["state"]),
            "command": _channel("command/{verb}", "An order to this gateway.", ["command"], verb=VERBS),
            "commandResult": _channel(
                "command/{verb}/result", "The answer, where no response topic was given.", ["commandResult"], verb=VERBS
            ),
        },
        "operations": {
            "sendEvent": _operation("send", "event", retain=False),
            "sendBackfill": _operation("send", "backfill", retain=False),
            "sendState": _operation("send", "state", retain=True),
            "receiveCommand": {
                **_operation("receive", "command", retain=False),
                "reply": {
                    "address": {
                        "location": "$message.header#/responseTopic",
                        "description": "MQTT 5 Response Topic; without one, the channel commandResult.",
                    },
                    "channel": {"$ref": "#/channels/commandResult"},
                },
            },
        },
        "components": {"messages": _messages()},
    }


def _events() -> dict[str, str]:
    return {_message_name(event_type): event_type for event_type in facts()}


def areas() -> tuple[str, ...]:
    """Return the word after `store` of every event type: those of the kinds' streams first."""
    found = {name_of(event_type).partition(".")[0] for event_type in facts()}
    return tuple(sorted(found, key=lambda area: (area == "gateway", area == "sensor", _place(area), area)))


def _place(area: str) -> int:
    return STREAMS.index(area) if area in STREAMS else len(STREAMS)


def _message_name(event_type: str) -> str:
    first, *rest = name_of(event_type).replace("_", ".").split(".")
    return first + "".join(word.capitalize() for word in rest)


def _channel(address: str, description: str, messages: list[str], **choices: tuple[str, ...]) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "prefix": {"description": "topic_prefix of the configuration", "default": "stores"},
        "store": {"description": f"matches {IDENTIFIER}"},
        "gateway": {"description": f"matches {IDENTIFIER}"},
    }
    if "{subject}" in address:
        parameters["subject"] = {"description": "the sensor's id, or gateway"}
    parameters |= {name: {"enum": list(values)} for name, values in choices.items()}
    return {
        "address": f"{PREFIX}/{address}",
        "description": description,
        "parameters": parameters,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, *, retain: bool) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": "0.2.0"}},
    }


def _messages() -> dict[str, Any]:
    events = {
        message: {
            "name": event_type,
            "title": event_type,
            "contentType": EVENT_TYPE,
            "payload": {
                "allOf": [
                    {"$ref": "schemas/v1/envelope.json"},
                    {"properties": {"type": {"const": event_type}}},
                ]
            },
        }
        for message, event_type in _events().items()
    }
    return {
        **events,
        "batch": {
            "name": "batch",
            "contentType": BATCH_TYPE,
            "description": "gzip of it where its first two bytes are 1f 8b (user property content-encoding: gzip)",
            "payload": {"$ref": "schemas/v1/batch.json"},
        },
        "state": {"name": "state", "contentType": "application/json", "payload": {"$ref": "schemas/v1/state.json"}},
        "command": {"name": "command", "contentType": "application/json", "payload": _command()},
        "commandResult": {"name": "commandResult", "contentType": "application/json", "payload": _result()},
    }


def _command() -> dict[str, Any]:
    sequence = {"type": "integer", "minimum": 1}
    return {
        "type": "object",
        "description": "Arguments of the verb; {} where it has none. At most 16 KiB; retained ones are ignored.",
        "properties": {
            "stream": {"enum": list(STREAMS), "description": "resend"},
            "first_sequence": {**sequence, "description": "resend"},
            "last_sequence": {**sequence, "description": "resend"},
        },
        "additionalProperties": True,
    }


def _result() -> dict[str, Any]:
    error = {
        "type": "object",
        "properties": {"code": {"enum": list(ERROR_CODES)}, "detail": {"type": "string"}},
        "required": ["code", "detail"],
    }
    return {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "result": {}, "error": error},
        "required": ["ok"],
        "if": {"properties": {"ok": {"const": True}}},
        "then": {"required": ["result"]},
        "else": {"required": ["error"]},
    }
