"""Kinds of sensors, one folder each, and how they are found.

A kind is a folder with a `kind.py` that holds its `KIND`: its settings (a table of the configuration), its readings,
its interpreter (pure: readings and time in, events out) and its driver (a thread at the rim).
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from typing import Any

from gateway.sensors.kind import Kind


def kinds() -> tuple[Kind[Any], ...]:
    """Import `kind.py` of each folder that has one, and return their kinds, by table name."""
    folders = (f"{__name__}.{found.name}.kind" for found in pkgutil.iter_modules(__path__) if found.ispkg)
    found = (importlib.import_module(folder).KIND for folder in folders if importlib.util.find_spec(folder))
    return tuple(sorted(found, key=lambda kind: kind.table))
