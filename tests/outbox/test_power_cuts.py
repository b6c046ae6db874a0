"""Random lives with power cuts at every kind of call; `python -m tests.outbox --first N --seeds K` soaks."""

from __future__ import annotations

import pytest

from tests.outbox.histories import BOUNDED, FAILING, FULL, HURRIED, POLITE, Troubles, run_history

LIVES = {"polite": (POLITE, 200), "bounded": (BOUNDED, 100), "failing": (FAILING, 150), "full": (FULL, 250)}


@pytest.mark.parametrize(("troubles", "seeds"), [*LIVES.values(), (HURRIED, 150)], ids=[*LIVES, "hurried"])
def test_no_promise_is_broken_by_any_power_cut(troubles: Troubles, seeds: int) -> None:
    for seed in range(seeds):
        run_history(seed, troubles)
