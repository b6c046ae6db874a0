"""Power cuts of a real ext4, beside SQLite and TinyDB; kills: `python -m tests.blocks [--cuts 1000] [--kills N]`.

Each life is cut off 100 times; `--first` gives other lives. Where root, FUSE or loop devices are missing it says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.blocks.kills import kill_again_and_again
from tests.blocks.mounts import Missing
from tests.blocks.ours import Ours
from tests.blocks.subjects import SqliteFull, SqliteNormal, StockTinyDB, Subject, Violation
from tests.blocks.trial import try_cuts

CUTS_A_LIFE = KILLS_A_LIFE = 100
SUBJECTS: dict[str, tuple[Callable[[int], Subject], int, str]] = {
    "outbox": (lambda seed: Ours(threaded=seed % 2 == 0), 1200, "durable"),
    "SQLite WAL FULL": (lambda _: SqliteFull(), 300, "durable"),
    "SQLite WAL NORMAL": (lambda _: SqliteNormal(), 1000, "nothing since the last checkpoint"),
    "TinyDB": (lambda _: StockTinyDB(), 250, "nothing; it syncs each write"),
}
"""Name to (a subject for the seed of a life, acts of a life, what it promises)."""
MUST_HOLD = {"outbox"}


def cut_one(name: str, cuts: int, first: int) -> tuple[str, bool]:
    """Cut lives of one subject; return its line of the table, and whether a promise of ours was broken."""
    make, acts, promise = SUBJECTS[name]
    done = logged = 0
    kinds: Counter[str] = Counter()
    began = time.perf_counter()
    for seed in range(first, first + -(-cuts // CUTS_A_LIFE)):
        verdicts = try_cuts(make(seed), seed, acts, min(CUTS_A_LIFE, cuts - done))
        done += verdicts.cuts
        logged += verdicts.logged
        kinds += verdicts.kinds
        for cut, what in verdicts.broken if name in MUST_HOLD else ():
            print(f"{name}: {what}; life {seed}, {cut}: python -m tests.blocks --only {name} --first {seed}")
    broken = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items())) or "-"
    print(f"{name}: {done} cuts of {logged} writes and flushes in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    row = f"| {name} | {promise} | {done - kinds.total():,} of {done:,} | {broken} |"
    return row, name in MUST_HOLD and bool(kinds)


def kill_some(kills: int, first: int) -> int:
    """Kill one outbox so often, in memory where that is possible; return how many entries it told durable."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        told = kill_again_and_again(Path(place), kills, first)
    print(f"{kills} kills from seed {first}: {told:,} entries", file=sys.stderr, flush=True)
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; return 1 where a promise of the outbox was broken, 0 where the machine cannot do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.blocks", description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000, help="power cuts of each (1000)")
    parser.add_argument("--kills", type=int, default=0, help="and so many SIGKILLs of the outbox (0)")
    parser.add_argument("--first", type=int, default=1, help="the first life (1)")
    parser.add_argument("--only", choices=list(SUBJECTS), help="only one of them")
    asked = parser.parse_args(arguments)
    failed = False
    if asked.cuts < 1 and asked.kills < 1:
        parser.error("nothing to do")
    rows = ["| real ext4, power cut | promises | opens and keeps it | broken |", "| --- | --- | ---: | --- |"]
    try:
        for name in () if asked.cuts < 1 else [asked.only] if asked.only else SUBJECTS:
            row, is_broken = cut_one(name, asked.cuts, asked.first)
            rows.append(row)
            failed |= is_broken
        if asked.cuts:
            print("\n".join(rows))
    except Missing as error:
        print(f"no power cuts here: {error}")
    if asked.kills:
        try:
            told = sum(
                kill_some(min(KILLS_A_LIFE, asked.kills - done), asked.first + done)
                for done in range(0, asked.kills, KILLS_A_LIFE)
            )
            print(f"{asked.kills:,} kills; {told:,} entries told durable, all there or named")
        except Violation as violation:
            print(f"kills: {violation}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
