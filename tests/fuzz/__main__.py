"""Fuzzing by hypothesis: `python -m tests.fuzz --seconds N [--target NAME ...] [--seed S]`, from the corpus beside it.

Each target gets its share of the time in rounds, each round from a seed that is printed with a crash. A crash is any
exception that the target does not declare, a hang of more than 5 s, or memory that grows past 256 MiB. Hypothesis makes
it small, and it is saved as `corpus/TARGET/crash-...`: from then on `tests/fuzz/test_corpus.py` plays it every day.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
HANG_S = 5.0
GROWTH_BYTES_MAX = 256 << 20
ROUND = 300
TOKENS = (
    *(b"NaN", b"1e999", b"9" * 5000, b"-1", b"null", b"true", b'""', b"{}", b"[]", b"\\ud800", b"\x00", b"\xff\xff"),
    *(b"[" * 5000, b'{"a":' * 5000, b"\n", b"0", b"1e-400", b"inf", b"\x7f", b"\x80", b"\x00\x80", b"x" * 70_000),
)


class Hang(BaseException):
    """A target took more than 5 s."""


def inputs(corpus: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return bytes near those of the corpus: parts replaced, repeated, cut out, or joined to another's."""
    some = st.one_of(st.binary(max_size=12), st.sampled_from(TOKENS), st.sampled_from(corpus or [b""]))
    edit = st.tuples(st.integers(0, 1 << 12), st.integers(0, 24), some)
    mutated = st.builds(_edited, st.sampled_from(corpus or [b""]), st.lists(edit, max_size=6))
    return st.one_of(mutated, mutated, mutated, st.binary(max_size=300))


def _edited(base: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, cut, fresh in edits:
        at %= len(base) + 1
        base = base[:at] + fresh + base[at + cut :]
    return base


def corpus_of(name: str) -> list[bytes]:
    """Return the inputs kept for a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def guarded(target: Callable[[bytes], None], raw: bytes) -> None:
    """Run a target once; Hang where it takes too long."""

    def hang(number: int, frame: Any) -> None:
        raise Hang(f"more than {HANG_S:g} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        target(raw)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(
    name: str, target: Callable[[bytes], None], seconds: float, first: int, shrink: bool = True
) -> tuple[int, bytes | None, str]:
    """Return how many inputs were tried, and the smallest that crashes with why."""
    corpus, tried = corpus_of(name), 0
    smallest: bytes | None = None
    until = time.monotonic() + seconds
    number = first
    while time.monotonic() < until:

        @seed(number)
        @settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        )
        @given(inputs(corpus))
        def one(raw: bytes) -> None:
            nonlocal tried, smallest
            if time.monotonic() >= until and smallest is None:
                return
            tried += 1
            try:
                guarded(target, raw)
            except BaseException:
                smallest = raw if smallest is None or len(raw) < len(smallest) else smallest
                raise

        try:
            one()
        except (Exception, Hang) as error:  # noqa: BLE001 - what no target declares is looked for
            return tried, smallest, f"{type(error).__name__}: {error} (seed {number})"
        number += 1
    return tried, None, ""


def main() -> int:
    """Fuzz, and say what was found; 1 where something crashed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="for all targets together")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="this one only; may be repeated")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given_ = parser.parse_args()
    names = given_.target or list(TARGETS)
    logging.disable(logging.CRITICAL)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * GROWTH_BYTES_MAX, hard))
    crashed = 0
    print(f"seed {given_.seed}, {given_.seconds / len(names):.0f} s a target", flush=True)
    for name in names:
        began = time.monotonic()
        tried, raw, why = fuzz(name, TARGETS[name], given_.seconds / len(names), given_.seed)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak
        if raw is None and grown > GROWTH_BYTES_MAX:
            raw, why = b"", f"memory grew by {grown >> 20} MiB"
        print(f"{name:15} {tried:8} inputs in {time.monotonic() - began:4.0f} s, {grown >> 20} MiB more", flush=True)
        if raw is not None:
            crashed += 1
            path = CORPUS / name / f"crash-{sha256(raw).hexdigest()[:10]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
            print(f"  CRASH {why}\n  saved as {path}: {raw[:200]!r}", flush=True)
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
