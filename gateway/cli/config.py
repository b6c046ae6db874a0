"""`gateway config`: check, show, example, schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.verb import VerbGroup, configured, console, load, printing, say_json, table
from gateway.errors import EXIT_CONFIGURATION, EXIT_GOOD

if TYPE_CHECKING:
    from gateway.config import Configuration


@click.group(cls=VerbGroup, example="gateway config check --config gateway.toml")
def config() -> None:
    """Check, show and write configurations."""


@config.command(example="gateway config check --config gateway.toml --config site-0042.toml")
@configured
@printing
def check(config: tuple[Path, ...], as_json: bool) -> int:
    """Say everything that is wrong with a configuration, all at once. Exit status 78 where anything is.

    What works and is unsafe is a warning.
    """
    from gateway.config import DEFAULT_PATH, mistakes_of
    from gateway.machine.clock import SystemClock
    from gateway.technician.checks.warnings import warnings_of

    files = [str(path) for path in config or (DEFAULT_PATH,)]
    mistakes = mistakes_of(config)
    if as_json:
        found = [
            {
                "file": mistake.origin.file,
                "line": mistake.origin.line,
                **{key: getattr(mistake, key) for key in ("key", "found", "allowed", "advice")},
            }
            for mistake in mistakes
        ]
        warned = [] if mistakes else [dataclasses.asdict(one) for one in warnings_of(load(config), SystemClock().now())]
        results: dict[str, Any] = {"result": "failed" if mistakes else "ok", "files": files, "mistakes": found}
        say_json({**results, "warnings": warned})
        return EXIT_CONFIGURATION if mistakes else EXIT_GOOD
    configuration = load(config)  # raises with every mistake
    click.echo(f"{', '.join(files)}: good")
    count = len(configuration.sensors)
    broker = configuration.broker.url or "no broker: nothing is sent"
    click.echo(f"  {count} sensor{'' if count == 1 else 's'}; {broker}; sha256 {configuration.sha256[:12]}")
    for warning in warnings_of(configuration, SystemClock().now()):
        click.echo(f"  warning: {warning.detail}")
        click.echo(f"    what to do: {warning.advice}")
    return EXIT_GOOD


@config.command(example="gateway config show --config gateway.toml --json | jq .outbox")
@configured
@printing
def show(config: tuple[Path, ...], as_json: bool) -> int:
    """Print what is in force, and where each value came from: a file and line, or the default."""
    configuration = load(config)
    if as_json:
        say_json({**_nested(configuration), "config_sha256": configuration.sha256})
        return EXIT_GOOD
    rows = [(key, shown, origin) for key, shown, origin in in_force(configuration)]
    console().print(table(("key", "value", "from"), rows))
    return EXIT_GOOD


@config.command(example="gateway config example > gateway.toml")
@configured
@printing
def example(config: tuple[Path, ...], as_json: bool) -> int:
    """Print a commented configuration to start from; no file is read. With --json: the same, without comments."""
    from gateway.cli.example import example as whole

    if as_json:
        import tomllib

        say_json(tomllib.loads(whole()))
    else:
        click.echo(whole(), nl=False)
    return EXIT_GOOD


@config.command(example="gateway config schema > gateway.schema.json")
@configured
@printing
def schema(config: tuple[Path, ...], as_json: bool) -> int:
    """Print the JSON Schema of the file, for editors; no file is read."""
    from gateway.config import schema as schema_of_file

    say_json(schema_of_file())
    return EXIT_GOOD


def in_force(configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    """Yield each key as `[[door]] "entrance".outer_pin`, its value as in TOML, and where it came from."""
    from gateway.config import SECTIONS
    from gateway.config.file import Document

    document = Document(dict(configuration.document), dict(configuration.origins))
    for section in SECTIONS:
        yield from _keys(document, (section,), getattr(configuration, section))
    places: dict[str, int] = {}
    ids = {
        (sensor.kind.table, entry.get("id")): index
        for sensor in configuration.sensors
        for index, entry in enumerate(configuration.document.get(sensor.kind.table, []))
    }
    for sensor in configuration.sensors:
        index = ids.get((sensor.kind.table, sensor.id), places.setdefault(sensor.kind.table, 0))
        yield from _keys(document, (sensor.kind.table, index), sensor.settings)


def _keys(document: Any, at: tuple[Any, ...], settings: Any) -> Iterator[tuple[str, str, str]]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        here = (*at, field.name)
        is_set = here in document.origins
        if value is None and not is_set:
            continue
        yield document.key_of(here), _toml(value), str(document.origins[here]) if is_set else "default"


def _toml(value: Any) -> str:
    """Write a value as TOML would, on one line."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(one)}" for key, one in value.items() if one is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nested(configuration: Configuration) -> dict[str, Any]:
    from gateway.config import SECTIONS

    document: dict[str, Any] = {name: dataclasses.asdict(getattr(configuration, name)) for name in SECTIONS}
    for sensor in configuration.sensors:
        document.setdefault(sensor.kind.table, []).append(dataclasses.asdict(sensor.settings))
    return document
