"""The contract as documents: a JSON Schema of every event's data, of the envelope and the state, and AsyncAPI 3.

They are generated from the facts (`python -m gateway.contract`), committed, shipped with the package, and a test holds
that what is committed is what would be generated. Within `v1` a schema only gains keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent
VERSION = "v1"


def documents() -> dict[str, dict[str, Any]]:
    """Return every document by its path below this package, for example `schemas/v1/door.passed.json`."""
    from gateway.contract.asyncapi import asyncapi
    from gateway.contract.generation import batch_schema, data_schemas, envelope_schema, state_schema

    data = data_schemas()
    schemas = {
        **{f"schemas/{VERSION}/{name}.json": schema for name, schema in data.items()},
        f"schemas/{VERSION}/envelope.json": envelope_schema(),
        f"schemas/{VERSION}/batch.json": batch_schema(),
        f"schemas/{VERSION}/state.json": state_schema(),
    }
    return {**schemas, "asyncapi.json": asyncapi()}


def text_of(document: dict[str, Any]) -> str:
    """Return a document as its file has it."""
    import json

    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
