"""`python -m gateway.contract` writes the documents beside this file, and takes away those that are no more.

`python -m gateway.contract FOLDER` writes them there, also those of the kinds that installed packages bring.
"""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points
from pathlib import Path

from gateway.contract import DIRECTORY, documents, text_of
from gateway.sensors import GROUP


def main() -> None:
    """Write every schema, and the AsyncAPI document."""
    parser = argparse.ArgumentParser(prog="python -m gateway.contract", description=main.__doc__)
    help_ = "where to write; needed where packages bring kinds of their own. Otherwise: beside the code"
    parser.add_argument("folder", nargs="?", type=Path, help=help_)
    folder: Path | None = parser.parse_args().folder
    if folder is None and (outside := sorted(point.name for point in entry_points(group=GROUP))):
        parser.error(f"kinds from outside are installed ({', '.join(outside)}); say where to write: a FOLDER")
    wanted = documents()
    for old in DIRECTORY.rglob("*.json") if folder is None else ():
        if old.relative_to(DIRECTORY).as_posix() not in wanted:
            old.unlink()
    for name, document in wanted.items():
        path = (folder or DIRECTORY) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(document), encoding="utf-8")


if __name__ == "__main__":
    main()
