"""Kinds of sensors, one folder each, and how they are found.

A kind is a folder with a `kind.py` that holds its `KIND`: its settings (a table of the configuration), its readings,
its interpreter (pure: readings and time in, events out) and its driver (a thread at the rim). A package from outside
brings one by an entry point of the group `store_gateway.kinds`. How to add one: README.md in this folder.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from gateway.errors import GatewayError
from gateway.model import STREAMS
from gateway.sensors.kind import Kind

GROUP = "store_gateway.kinds"


@cache
def kinds() -> tuple[Kind[Any], ...]:
    """Return the kinds of this package's folders and of the installed packages that bring one, by table name.

    GatewayError names a package whose kind cannot be loaded, or has the table of another.
    """
    found: dict[str, Kind[Any]] = {}
    for origin, kind in (*_ours(), *_from_outside()):
        if kind.table in found:
            advice = "uninstall one of the two packages"
            raise GatewayError(f"{origin} brings a second kind of sensor for [[{kind.table}]]", advice)
        found[kind.table] = kind
    return tuple(found[table] for table in sorted(found))


def _ours() -> Iterator[tuple[str, Kind[Any]]]:
    for one in pkgutil.iter_modules(__path__):
        name = f"{__name__}.{one.name}"
        if one.ispkg and any(
            inner.name == "kind" for inner in pkgutil.iter_modules(importlib.import_module(name).__path__)
        ):
            yield name, importlib.import_module(f"{name}.kind").KIND


def _from_outside() -> Iterator[tuple[str, Kind[Any]]]:
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        origin = f"the package {point.dist.name}" if point.dist is not None else f"the entry point {point.name}"
        advice = "install a version of it that fits this gateway, or uninstall it"
        try:
            kind = point.load()
        except Exception as error:  # somebody else's module may raise anything; the sentence names whose it is
            why = f"{type(error).__name__}: {error}"
            raise GatewayError(f"{origin} brings a kind of sensor that cannot be loaded ({why})", advice) from error
        if not isinstance(kind, Kind):
            raise GatewayError(f"{origin}: {point.value} is no kind of sensor but a {type(kind).__name__}", advice)
        for why in unfit(kind):
            raise GatewayError(f"{origin} brings a kind of sensor that does not fit: {why}", advice)
        yield origin, kind


def unfit(kind: Kind[Any]) -> Iterator[str]:
    """Yield what would stop the daemon later, or go unnoticed: better said when the configuration is read."""
    keys = {one.name for one in dataclasses.fields(kind.settings)} if dataclasses.is_dataclass(kind.settings) else set()
    if "id" not in keys:
        yield f"its settings {kind.settings.__name__} must be a dataclass with an id"
    for stream in (kind.stream, *(fact.stream for fact in kind.facts)):
        if stream not in STREAMS:
            known = ", ".join(STREAMS)
            yield f'no entry point of store_gateway.streams declares the stream "{stream}" (there are {known})'
    for fact in kind.facts:
        if not re.fullmatch(r"store\.[a-z0-9_]+\.[a-z0-9_]+", fact.type):
            yield f'the event type "{fact.type}" must have the form "store.area.fact", in small letters'
    for key in (*kind.changeable.split(), *kind.on_demand.split()):
        if key.partition(".")[0] not in keys:
            yield f'changeable or on_demand names "{key}", which is no key of {kind.settings.__name__}'
    if kind.remember is not Kind.remember and not kind.remembered_bytes_max:
        yield "it has remember, but its remembered_bytes_max is 0, so that nothing would be kept"
