"""The rooms of the house: which there are, what each may import, and that no two lean on each other.

Every import counts, also those inside functions and under TYPE_CHECKING: a circle is a circle for whoever reads.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUND = {"errors", "facts", "model", "privacy", "redaction", "shown", "streams", "units", "wire", "wrong"}
"""The files beside the rooms."""
MAY_IMPORT: dict[str, set[str]] = {
    "errors": {"machine"},
    "shown": set(),
    "streams": set(),
    "model": {"streams"},
    "units": {"wrong"},
    "wrong": set(),
    "redaction": set(),
    "facts": {"model"},
    "wire": {"model"},
    "machine": {"model"},
    "privacy": {"machine", "model"},
    "sensors": {"errors", "facts", "machine", "model", "redaction", "shown", "units", "wrong"},
    "outbox": {"errors", "machine", "model", "streams", "units", "wrong"},
    "uplink": {"model", "outbox", "shown", "units", "wire", "wrong"},
    "mqtt": {"errors", "machine", "model", "uplink"},
    "config": {"errors", "machine", "model", "outbox", "privacy", "redaction", "sensors", "units", "uplink", "wrong"},
    "commands": {"errors", "machine", "model", "wire"},
    "control": {"config", "errors", "machine", "model"},
    "engine": {"config", "facts", "machine", "model", "mqtt", "outbox", "sensors", "uplink", "wire"},
    "consumer": {"errors", "machine", "model", "mqtt", "uplink"},
    "contract": {"facts", "model", "sensors"},
    "simulated": {"config", "machine", "model", "sensors"},
    "recordings": {"config", "control", "engine", "errors", "machine", "model", "privacy", "sensors", "wire"},
    "demo": {"config", "consumer", "control", "errors", "machine", "model", "simulated"},
    "technician": {
        *("commands", "config", "control", "engine", "errors", "machine", "model", "mqtt", "outbox"),
        *("recordings", "sensors", "uplink", "wire"),
    },
    "daemon": {
        *("commands", "config", "control", "engine", "errors", "facts", "machine", "model", "mqtt", "outbox"),
        *("privacy", "recordings", "redaction", "sensors", "simulated", "technician", "uplink"),
    },
    "cli": {
        *("commands", "config", "consumer", "contract", "control", "daemon", "demo", "engine", "errors", "facts"),
        *("machine", "model", "outbox", "recordings", "redaction", "sensors", "technician", "units", "wire"),
    },
    "__main__": {"cli"},
}
"""A room, and all that it imports: each line is a decision. A room stands above everything on its line."""

Graph = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    paths = (ROOT / "gateway").rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(text: str, known: set[str]) -> Iterator[str]:
    """Yield the modules of ours that a module's text imports anywhere."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from (names & known) or ({node.module} & known)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach each other."""

    def reached(node: str) -> set[str]:
        seen: set[str] = set()
        new = set(graph.get(node, ()))
        while new:
            seen |= new
            new = {further for one in new for further in graph.get(one, ())} - seen
        return seen

    reach = {node: reached(node) for node in graph}
    found = {frozenset({node, *(one for one in reach[node] if node in reach.get(one, ()))}) for node in graph}
    return sorted(sorted(group) for group in found if len(group) > 1)


def of_rooms(graph: Graph) -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for module, targets in graph.items():
        rooms.setdefault(room_of(module), set()).update(room_of(target) for target in targets)
    return {room: targets - {room, ""} for room, targets in rooms.items() if room}


PURE_CONSUMER = ("ledger", "messages", "order", "spans", "words")
"""What a consumer copies: it stands on each other and the standard library."""


@pytest.fixture(scope="module")
def house() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imported(path.read_text(), set(known))) - {name} for name, path in known.items()}


def test_no_module_imports_one_that_imports_it(house: Graph) -> None:
    assert circles(house) == []


def test_a_room_imports_what_its_line_names_and_nothing_else(house: Graph) -> None:
    assert of_rooms(house) == MAY_IMPORT


@pytest.mark.parametrize("name", PURE_CONSUMER)
def test_what_a_consumer_copies_needs_nothing_else(name: str) -> None:
    text = (ROOT / f"gateway/consumer/{name}.py").read_text()
    names = {node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    beyond = {one for one in names if one.split(".")[0] not in sys.stdlib_module_names}
    assert beyond <= {f"gateway.consumer.{other}" for other in PURE_CONSUMER}


def test_no_two_rooms_lean_on_each_other() -> None:
    assert circles(MAY_IMPORT) == []


def test_a_loose_module_is_one_of_the_ground() -> None:
    loose = {path.stem for path in (ROOT / "gateway").glob("*.py")} - {"__init__", "__main__"}
    assert loose == GROUND


def test_a_circle_is_seen_however_it_hides() -> None:
    known = {"gateway.a", "gateway.b", "gateway.c.d"}
    lazy = "def f():\n    from gateway import b"
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gateway.a"
    assert set(imported(lazy, known)) == {"gateway.b"}
    assert set(imported(for_types, known)) == {"gateway.a"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
