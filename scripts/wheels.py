"""Asks the package index whether `hardware/wheels.toml` still holds; to be run after a pin in pyproject.toml has moved.

    .venv/bin/python scripts/wheels.py

Nothing is installed: pip resolves each system's wheels and says what it would take. Exit status 1 where the table is
wrong, with a line for each cell. A cell that says `build` or `none` is right while no wheel is offered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "hardware" / "wheels.toml"
GROUPS = ("direct", "pi", "bthome", "bleak", "tui", "demo", "brought")
SYSTEMS = {"bookworm": ("3.11", 36), "trixie": ("3.13", 41)}
"""Python and the minor version of glibc 2 on Raspberry Pi OS, which Debian gives it."""
GLIBC_OLDEST = 17


def offered(target: str, requirements: Sequence[str]) -> dict[str, str] | None:
    """Return name to `pure` or `wheel` for exactly these requirements on `target`, or None where one has no wheel."""
    system, _, machine = target.partition("-")
    python, glibc = SYSTEMS[system]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_OLDEST, glibc + 1)]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
        command += [f"--platform={platform}" for platform in platforms]
        command += ["--target", folder, "--report", str(report), *requirements]
        if subprocess.run(command, capture_output=True).returncode != 0:
            return None
        installed = json.loads(report.read_text())["install"]
    return {
        item["metadata"]["name"].lower().replace("_", "-"): (
            "pure" if item["download_info"]["url"].endswith("-none-any.whl") else "wheel"
        )
        for item in installed
    }


def mistakes(wheels: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each cell of the table that the index does not bear out."""
    rows = {name: row for group in GROUPS for name, row in wheels[group].items()}
    for column, target in enumerate(wheels["targets"]):
        said = {name: row["is"][column] for name, row in rows.items()}
        required = {name: f"{name}=={row['version']}" for name, row in rows.items()}
        ready = [name for name in rows if said[name] in ("pure", "wheel")]
        found = offered(target, [required[name] for name in ready])
        for name in rows:
            if found is None or name not in ready:  # one by one: which of them is it, and has a missing one come
                alone = offered(target, [required[name]]) or {}
            else:
                alone = found
            now = alone.get(name, "no wheel")
            if now != said[name] and not (now == "no wheel" and said[name] in ("build", "none")):
                yield f"{name} on {target}: the table says {said[name]}, the index {now}"


def main() -> int:
    """Compare the table with the index."""
    found = list(mistakes(tomllib.loads(TABLE.read_text())))
    print("\n".join(found) or "The table holds.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
