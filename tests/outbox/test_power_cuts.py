"""Random lives with power cuts at every kind of call; `python -m tests.outbox.histories SEED COUNT` soaks."""

from __future__ import annotations

import pytest

from tests.outbox.histories import BOUNDED, FAILING, FULL, HURRIED, POLITE, Troubles, run_history

LIVES = {"polite": (POLITE, 120), "bounded": (BOUNDED, 60), "failing": (FAILING, 80), "full": (FULL, 150)}


@pytest.mark.parametrize(("troubles", "seeds"), [*LIVES.values(), (HURRIED, 100)], ids=[*LIVES, "hurried"])
def test_no_promise_is_broken_by_any_power_cut(troubles: Troubles, seeds: int) -> None:
    for seed in range(seeds):
        run_history(seed, troubles)
