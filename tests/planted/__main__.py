"""Planted bugs, one at a time: `python -m tests.planted [ROOM ...] [--sample N] [--seed S] [--stale]`.

Each bug of `bugs.py` is put alone into a copy of the tree, and the tests that must catch it are run there. One that
they pass survives, and is a hole in the suite. A bug whose text is no longer in its file is an error: write it anew.
Exit status 0 where all are caught, 1 where one survived, 2 where one no longer fits.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.planted.bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "mutants", "build", "dist", "*.egg-info")
WITHIN_S = 120
CAUGHT = (1, 2)  # of pytest: a test failed; or nothing could be collected, for the bug breaks the import


def stale(bug: Bug, root: Path = ROOT) -> str | None:
    """Return why a bug cannot be planted any more, None where it can."""
    path = root / bug.file
    if not path.is_file():
        return f"{bug.file} is not there"
    count = path.read_text(encoding="utf-8").count(bug.old)
    if count != 1:
        return f"{bug.file} has {count} times, not once: {bug.old!r}"
    missing = [test for test in bug.tests if not (root / test.partition("::")[0]).exists()]
    return f"{', '.join(missing)} is not there" if missing else None


def fails(folder: Path, tests: tuple[str, ...], only: str = "") -> str:
    """Run tests in the copy; return what the first failure says, nothing where all pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-m", "not slow", *tests, *(["-k", only] if only else [])]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=WITHIN_S
        )
    except subprocess.TimeoutExpired:
        return f"no end within {WITHIN_S} s"
    if done.returncode not in (0, *CAUGHT):
        raise SystemExit(f"pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
    return done.stdout[-1500:] if done.returncode else ""


def is_caught(bug: Bug, folder: Path) -> bool:
    """Plant a bug in the copy, run its tests, take it out again."""
    path = folder / bug.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
    try:
        return bool(fails(folder, bug.tests, bug.only))
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rooms", nargs="*", help=f"of {', '.join(sorted({bug.room for bug in BUGS}))}; default: all")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="so many of them, by chance; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--named", default="", metavar="WORDS", help="those whose name has these words")
    parser.add_argument("--stale", action="store_true", help="only look whether each still fits")
    options = parser.parse_args()
    bugs = [bug for bug in BUGS if not options.rooms or bug.room in options.rooms]
    bugs = [bug for bug in bugs if options.named in bug.name]
    unfit = {bug.name: why for bug in bugs if (why := stale(bug)) is not None}
    for name, why in unfit.items():
        print(f"NO LONGER FITS  {name}: {why}")
    if options.stale or unfit:
        print(f"{len(bugs) - len(unfit)} of {len(bugs)} can be planted.")
        return 2 if unfit else 0
    if options.sample:
        bugs = random.Random(options.seed).sample(bugs, min(options.sample, len(bugs)))
    survivors = []
    with tempfile.TemporaryDirectory(prefix="planted-") as scratch:
        folder = Path(scratch) / "tree"
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        # A test that fails by itself would catch everything.
        for tests, only in {(bug.tests, bug.only): None for bug in bugs}:
            if said := fails(folder, tests, only):
                print(f"Without any bug {', '.join(tests)} {only} fails:\n{said}", file=sys.stderr)
                return 2
        for bug in bugs:
            began = time.monotonic()
            caught = is_caught(bug, folder)
            survivors += [] if caught else [bug]
            print(f"{'caught' if caught else 'SURVIVED':8} {time.monotonic() - began:5.1f} s  {bug.name}", flush=True)
    print(f"{len(bugs) - len(survivors)} of {len(bugs)} caught.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
