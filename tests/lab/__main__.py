"""`scripts/lab`: builds the virtual machine, opens a shell in it, runs its tests.

scripts/lab build            build what is not there (minutes, once; then kept)
scripts/lab list             what can be run
scripts/lab run NAME ...     the tests whose names have NAME in them
scripts/lab core             the quick set, which CI runs (a quarter of an hour)
scripts/lab all              everything, with 50 power cuts, half a virtual day and aarch64 (some four hours)
scripts/lab shell            a machine with the service running: walk through its door
scripts/lab why              say why it cannot run here; nothing, with status 0, where it can
scripts/lab clean            delete all that was built
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from tests.lab.cache import HERE, Missing, folder, say, size_of, why_not_to_run
from tests.lab.prepared import build_all, forget, what_is_missing

SKIPPED = 0
CANNOT = 69
TESTS_FAILED = 1
"""What pytest ends with."""


def build() -> int:
    """Build the lab, and say what it took."""
    began_s = time.monotonic()
    build_all()
    size = size_of(folder()) >> 20
    say(f"The lab is built: {time.monotonic() - began_s:.0f} s, {size} MiB in {folder()}.")
    return 0


def tests(*arguments: str) -> int:
    """Run pytest on the lab, one machine at a time."""
    kept = f"cache_dir={folder() / 'pytest'}"
    command = [sys.executable, "-m", "pytest", str(HERE), "-n0", "-o", kept, "--timeout=7200", *arguments]
    return subprocess.run(command, check=False).returncode


def built(*arguments: str) -> int:
    """Build, then run the tests."""
    return build() or tests("--durations=0", "--durations-min=1", "-v", "-rs", *arguments)


def core() -> int:
    """Run the quick set; what failed is tried once more: beside other work an emulated processor can be too slow."""
    status = built("-m", "core")
    if status == TESTS_FAILED:
        say("Once more what failed: an emulated processor beside other work can be too slow.")
        status = tests("-v", "--last-failed", "-m", "core")
    return status


def shell() -> int:
    """Give a person a shop."""
    from tests.lab.hands_on import play

    build()
    return play()


def clean() -> int:
    """Delete what was built."""
    forget()
    say(f"{folder()} is gone.")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Do what was asked; 69 with a sentence where it cannot be done, but for `core`, which then is skipped."""
    parser = argparse.ArgumentParser(prog="lab", usage=__doc__, add_help=False)
    parser.add_argument("verb", choices=("build", "list", "run", "core", "all", "shell", "why", "clean"))
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    verbs: dict[str, Callable[[], int]] = {
        "build": build,
        "list": lambda: tests("--collect-only"),
        "run": lambda: built("-k", " or ".join(options.names)),
        "core": core,
        "all": built,
        "shell": shell,
        "why": lambda: 0,
        "clean": clean,
    }
    if options.verb == "run" and not options.names:
        parser.error("which tests? scripts/lab list")
    if options.verb not in ("list", "clean"):
        why = why_not_to_run() or what_is_missing()
        if why:
            print(why if options.verb == "why" else f"The lab cannot run here: {why}")
            return SKIPPED if options.verb == "core" else CANNOT
    try:
        return verbs[options.verb]()
    except Missing as missing:
        say(f"The lab cannot be built: {missing}")
        return SKIPPED if options.verb == "core" else CANNOT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
