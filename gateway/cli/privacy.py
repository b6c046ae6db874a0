"""`gateway privacy report`: every field that leaves the store, from the schemas and the configuration in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.verb import VerbGroup, configured, console, load, printing, say_json, table
from gateway.errors import EXIT_GOOD

if TYPE_CHECKING:
    from gateway.config import Configuration

IDENTITY = {
    "pseudonym": "a pseudonym under a key that is destroyed at the day's end: two days cannot be linked",
    "plain": "as the device sends it: the same every day",
    "none": "does not leave",
}
DESCRIPTIONS = {"none": None, "home-assistant": "the ids of doors and shelves, retained, for Home Assistant"}
COMMAND_ANSWERS = {
    "ping": "the time",
    "status": "what `gateway status --json` prints",
    "doctor": "what `gateway doctor --json` prints",
    "tare": "the shelf's new zero",
    "resend": "ranges of sequence numbers; the events named there are sent again",
    "config": "whether the new configuration was applied",
    "restart": "nothing more",
}


@click.group(cls=VerbGroup, example="gateway privacy report --config gateway.toml")
def privacy() -> None:
    """What leaves the store."""


@privacy.command(example="gateway privacy report --json | jq .events")
@configured
@printing
def report(config: tuple[Path, ...], as_json: bool) -> int:
    """Print every field that leaves the store, from the schemas and the configuration in force."""
    configuration = load(config)
    found = leaving(configuration)
    if as_json:
        say_json(found)
    else:
        _say(found)
    return EXIT_GOOD


def leaving(configuration: Configuration) -> dict[str, Any]:
    """Return what leaves: each event type that the configured sensors can make, field by field."""
    from gateway.contract.generation import data_schemas, envelope_schema, facts, name_of, state_schema
    from gateway.facts import FACTS

    described = [(sensor.kind, sensor.kind.describe(sensor.settings)) for sensor in configuration.sensors]
    possible = {fact.type for kind, one in described for fact in (kind.facts if one.facts is None else one.facts)}
    schemas = data_schemas()
    events = {}
    for event_type, fact in facts().items():
        name = name_of(event_type)
        if event_type not in possible and fact not in FACTS:
            continue
        fields = schemas[name]["properties"]
        if configuration.privacy.identity == "none":
            fields = {key: field for key, field in fields.items() if key != "identity"}
        events[event_type] = {key: _words(key, field, configuration) for key, field in fields.items()}
    return {
        "to": configuration.broker.url,
        "store": configuration.site.store,
        "gateway": configuration.site.gateway,
        "identity": configuration.privacy.identity,
        "identity_means": IDENTITY[configuration.privacy.identity],
        "anonymous_min": configuration.privacy.anonymous_min,
        "identified": [{"tag": tag, "by": by} for _, one in described for tag, by in one.identified],
        "envelope": {
            key: field.get("description", "") for key, field in envelope_schema()["properties"].items() if key != "data"
        },
        "events": events,
        "state": list(state_schema()["properties"]),
        "descriptions": DESCRIPTIONS[configuration.broker.discovery],
        "commands": {verb: COMMAND_ANSWERS[verb] for verb in configuration.commands.allow},
    }


def _words(key: str, field: dict[str, Any], configuration: Configuration) -> str:
    if key == "identity":
        return IDENTITY[configuration.privacy.identity]
    if key == "devices":
        return f"how many strangers; absent below {configuration.privacy.anonymous_min}"
    choices = field.get("enum")
    kind = " or ".join(str(choice) for choice in choices) if choices else str(field.get("type", "value"))
    described = field.get("description", "")
    return f"{kind}, {described}" if described else kind


def _say(found: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]What leaves store {found['store']}, gateway {found['gateway']}[/]")
    out.print(f"to: {found['to'] or 'nobody: no broker is configured'}", markup=False)
    out.print()
    if found["identified"]:
        out.print("Devices that are identified, because a rule names them:")
        out.print(table(("tag", "recognized by"), [(one["tag"], one["by"]) for one in found["identified"]]))
        out.print(f"identity: {found['identity']}: {found['identity_means']}", markup=False)
    else:
        out.print("No device is identified: no rule names one.")
    out.print(
        f"All others are at most a count, absent below {found['anonymous_min']}. No radio address of theirs leaves."
    )
    out.print("\nEvery event has:")
    out.print(table(("field", "what"), found["envelope"].items()))
    for event_type, fields in found["events"].items():
        out.print(f"\n[bold]{event_type}[/]")
        out.print(table(("field", "what"), fields.items()))
    out.print(f"\nThe retained state has: {', '.join(found['state'])}", markup=False)
    if found["descriptions"]:
        out.print(f"\nDescriptions: {found['descriptions']}", markup=False)
    out.print("\nThe cloud may order, and is answered:")
    out.print(table(("command", "answer"), found["commands"].items()))
