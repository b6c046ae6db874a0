"""Run histories: `python -m tests.simulation [--seeds N] [--from SEED]`, or one aloud: `--seed S -v`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from tests.simulation.histories import Failed, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds asked for; return 1 at the first that fails, with its trace on standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--from", "--first", dest="first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--keep-going", action="store_true", help="show every seed that fails, in one line each")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell the history as it happens")
    asked = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    first, count = (asked.first, asked.seeds) if asked.seed is None else (asked.seed, 1)
    began, failed, steps, recorded, virtual_s = time.perf_counter(), 0, 0, 0, 0.0
    for seed in range(first, first + count):
        try:
            outcome = run(seed, asked.verbose)
        except Failed as error:
            failed += 1
            if not asked.keep_going:
                print(error)
                return 1
            print(str(error).splitlines()[0])
            continue
        steps, recorded, virtual_s = steps + outcome.steps, recorded + outcome.recorded, virtual_s + outcome.virtual_s
    took_s = time.perf_counter() - began
    print(
        f"{count - failed} of {count} histories hold: {recorded} events, {steps} steps, "
        f"{virtual_s / 86_400:.1f} days of virtual time in {took_s:.1f} s"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
