"""The score of mutation testing by room: `python -m tests.mutation [ROOM ...] [--sample N] [--seed S]`.

mutmut changes one operator, number or word at a time in a copy of the tree and runs the everyday tests that reach it
(`[tool.mutmut]` in pyproject.toml). A mutant that nothing reaches counts as survived. `--sample 0` takes all of them;
`--folder DIR` keeps the copy, so that the next run begins where this one ended. Exit status 1 below `--least`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path

from tests.mutation import equal

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = "tests/shipped"
ROOMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "disk": ("gateway/machine/disk.py", (SHIPPED, "tests/outbox/test_real_files.py", "tests/outbox/test_real_disk.py")),
    "outbox": ("gateway/outbox/*.py", (SHIPPED, "tests/outbox")),
    "uplink": ("gateway/uplink/*.py", (SHIPPED, "tests/uplink")),
    "mqtt": ("gateway/mqtt/*.py", (SHIPPED, "tests/uplink")),
    "engine": (
        "gateway/engine/engine.py",
        (SHIPPED, "tests/test_interpretation.py", "tests/test_health.py", "tests/test_engine.py"),
    ),
    "privacy": ("gateway/privacy.py", (SHIPPED, "tests/test_privacy.py")),
    "control": ("gateway/control/*.py", (SHIPPED, "tests/cli/test_control.py")),
    "commands": ("gateway/commands/*.py", (SHIPPED, "tests/test_commands.py", "tests/test_signed.py")),
    "remote": ("gateway/daemon/remote.py", (SHIPPED,)),
    "overlay": ("gateway/config/overlay.py", (SHIPPED,)),
    "adoption": ("gateway/technician/adoption.py", (SHIPPED, "tests/test_adoption.py", "tests/test_hostile_card.py")),
    "installer": ("scripts/installer/*.py", (SHIPPED, "tests/test_install.py", "tests/test_trust.py")),
}
"""Of each room its files, and the everyday tests that run in one process and look at it."""
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "mutants", "build", "dist", "*.egg-info")
SURVIVED = (0, 33, 34)  # all tests pass; no test reaches it; skipped
TRIES = 5
ARGUMENTS_MAX = 400  # names of one call


def mutmut(folder: Path, *words: str, within_s: float | None) -> subprocess.CompletedProcess[str]:
    """Run mutmut in the copy, quietly; one that takes too long is ended and what it found is kept."""
    command = ["timeout", "--signal=INT", "--kill-after=10", str(within_s or 0), sys.executable, "-m", "mutmut"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, *words], cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def found(folder: Path) -> dict[str, dict[str, int | None]]:
    """Return by source file what became of each mutant; None where it has not run."""
    metas = sorted((folder / "mutants").rglob("*.py.meta"))
    return {
        meta.relative_to(folder / "mutants").as_posix().removesuffix(".meta"): json.loads(meta.read_text())[
            "exit_code_by_key"
        ]
        for meta in metas
    }


def choose(path: Path, rooms: list[str]) -> None:
    """Let mutmut look at these rooms alone, by their own tests."""
    tests = dict.fromkeys(test for room in rooms for test in ROOMS[room][1] if (ROOT / test).exists())
    text = path.read_text(encoding="utf-8")
    for key, values in (
        ("only_mutate", [ROOMS[room][0] for room in rooms]),
        ("pytest_add_cli_args_test_selection", list(tests)),
    ):
        text, count = re.subn(rf"^{key} = \[[^\]]*\]", f"{key} = {json.dumps(values)}", text, flags=re.M)
        assert count == 1, f"{key} is not in {path}"
    path.write_text(text, encoding="utf-8")


def shown(folder: Path, name: str) -> str:
    """Return the changed lines of a mutant."""
    lines = mutmut(folder, "show", name, within_s=60).stdout.splitlines()
    return "\n".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"default: all of {', '.join(ROOMS)}")
    parser.add_argument("--sample", type=int, default=40, help="mutants a room; 0: all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=0.0, help="the score below which the status is 1, in percent")
    parser.add_argument("--within", type=float, default=None, help="seconds for all of it")
    parser.add_argument("--children", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the copy lies; kept")
    parser.add_argument("--quiet", action="store_true", help="do not list the survivors")
    options = parser.parse_args()
    rooms = options.rooms or list(ROOMS)
    if unknown := set(rooms) - set(ROOMS):
        parser.error(f"there is no room {', '.join(sorted(unknown))}")
    until = None if options.within is None else time.monotonic() + options.within
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mutation-"))
    try:
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
        choose(folder / "pyproject.toml", rooms)
        return score(folder, rooms, options, until)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def score(folder: Path, rooms: list[str], options: argparse.Namespace, until: float | None) -> int:
    """Make the mutants, run the sample, and tell what survived."""

    def left() -> float | None:
        return None if until is None else max(1.0, until - time.monotonic())

    made = mutmut(folder, "run", "no.such.mutant", within_s=left())
    if not found(folder):
        print(made.stdout[-2000:], made.stderr[-2000:], sep="\n", file=sys.stderr)
        return 2
    chosen: dict[str, list[str]] = {}
    for room in rooms:
        names = [
            name for path, mutants in found(folder).items() if fnmatch(path, ROOMS[room][0]) for name in sorted(mutants)
        ]
        count = len(names) if options.sample == 0 else min(options.sample, len(names))
        chosen[room] = random.Random(f"{options.seed} {room}").sample(names, count)
    names = [name for room in rooms for name in chosen[room]]
    for start in range(0, len(names), ARGUMENTS_MAX):
        some = names[start : start + ARGUMENTS_MAX]
        for _ in range(TRIES):  # a child that a test left behind ends mutmut; what has run is kept
            ran = mutmut(folder, "run", f"--max-children={options.children}", *some, within_s=left())
            if ran.returncode == 0:
                break
            done = {name for mutants in found(folder).values() for name, code in mutants.items() if code is not None}
            some = [name for name in some if name not in done]
        else:
            print(ran.stdout[-1000:], ran.stderr[-1000:], sep="\n", file=sys.stderr)
    outcome = {name: code for mutants in found(folder).values() for name, code in mutants.items()}
    killed_all = ran_all = 0
    for room in rooms:
        ran_here = [name for name in chosen[room] if outcome.get(name) is not None]
        survivors = [name for name in ran_here if outcome[name] in SURVIVED]
        changes = {name: shown(folder, name) for name in survivors}
        same = [name for name in survivors if equal.why(changes[name])]
        killed, ran_count = len(ran_here) - len(survivors), len(ran_here) - len(same)
        killed_all, ran_all = killed_all + killed, ran_all + ran_count
        print(f"{room:10} {killed:4} of {ran_count:4} killed {rate(killed, ran_count)} ({len(same)} equal)", flush=True)
        for name in () if options.quiet else [name for name in survivors if name not in same]:
            reached = "" if outcome[name] == 0 else "  (no test reaches it)"
            print(f"  {name}{reached}\n    " + changes[name].replace("\n", "\n    "))
    print(f"{'all':10} {killed_all:4} of {ran_all:4} killed {rate(killed_all, ran_all)}")
    return 1 if 100 * killed_all < options.least * ran_all else 0


def rate(killed: int, ran: int) -> str:
    return f"{100 * killed / ran:5.1f} %" if ran else "  -   "


if __name__ == "__main__":
    sys.exit(main())
