"""Kinds of sensors, one folder each, and how they are found.

A kind is a folder with a `kind.py` that holds its `KIND`: its settings (a table of the configuration), its readings,
its interpreter (pure: readings and time in, events out) and its driver (a thread at the rim).
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from gateway.sensors.kind import Kind


def kinds() -> tuple[Kind[Any], ...]:
    """Import `kind.py` of each folder that has one, and return their kinds, by table name."""
    folders = [importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__) if one.ispkg]
    found = [
        importlib.import_module(f"{folder.__name__}.kind").KIND
        for folder in folders
        if any(one.name == "kind" for one in pkgutil.iter_modules(folder.__path__))
    ]
    return tuple(sorted(found, key=lambda kind: kind.table))
