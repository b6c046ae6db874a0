"""Random lives with power cuts at every kind of call; `python -m tests.outbox --first N --seeds K` soaks."""

from __future__ import annotations

import pytest

from tests.outbox.histories import BOUNDED, FAILING, FULL, HURRIED, POLITE, Troubles, run_history

LIVES = {"polite": (POLITE, 200), "bounded": (BOUNDED, 100), "failing": (FAILING, 150), "full": (FULL, 250)}
LIVES["hurried"] = (HURRIED, 150)
EVERY_DAY = 2  # of so many parts one; the others in CI


@pytest.mark.parametrize("part", [pytest.param(n, marks=pytest.mark.slow if n else ()) for n in range(EVERY_DAY)])
@pytest.mark.parametrize(("troubles", "seeds"), LIVES.values(), ids=LIVES)
def test_no_promise_is_broken_by_any_power_cut(troubles: Troubles, seeds: int, part: int) -> None:
    for seed in range(part, seeds, EVERY_DAY):
        run_history(seed, troubles)
