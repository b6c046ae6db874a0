"""Run histories of the outbox on the model disk: `python -m tests.outbox [--first N] [--seeds K]`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence

from tests.outbox.histories import run_history


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds asked for; return 1 at the first that breaks a guarantee, with its trace on standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.outbox", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    asked = parser.parse_args(arguments)
    began = time.perf_counter()
    for seed in range(asked.first, asked.first + asked.seeds):
        try:
            run_history(seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            traceback.print_exc(file=sys.stdout)
            print(f"seed {seed} broke a guarantee: python -m tests.outbox --first {seed} --seeds 1")
            return 1
    print(f"{asked.seeds} histories from seed {asked.first} hold, in {time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
