"""Draws `hardware/wiring/*.svg` from the `*.toml` beside them; a test says when they are not current.

.venv/bin/python scripts/drawings.py
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from gateway.machine.header import Part, Terminal, drawing

WIRING = Path(__file__).resolve().parent.parent / "hardware" / "wiring"


def parts_of(path: Path) -> tuple[str, list[Part], tuple[str, ...]]:
    """Return title, parts and notes of a wiring."""
    found = tomllib.loads(path.read_text())
    parts = [
        Part(part["name"], tuple(Terminal(one["name"], one["pin"], one.get("wire")) for one in part["terminals"]))
        for part in found["part"]
    ]
    return found["title"], parts, tuple(found["notes"])


def drawings() -> Iterator[tuple[Path, str]]:
    """Yield each drawing's file and what must stand in it."""
    for path in sorted(WIRING.glob("*.toml")):
        yield path.with_suffix(".svg"), drawing(*parts_of(path))


def main() -> None:
    """Write every drawing."""
    for path, text in drawings():
        path.write_text(text, encoding="utf-8")
        print(path.name)


if __name__ == "__main__":
    main()
