"""Two hundred histories, eighty of them every day, each a shop with bad luck. What fails prints its seed.

`python -m tests.simulation --seed S -v`; `scripts/soak` runs others for as long as you let it.
"""

from __future__ import annotations

import pytest

from tests.simulation.histories import run

SEEDS, EVERY_DAY = 200, 80
GROUP = 20
GROUPS = [pytest.param(first, marks=pytest.mark.slow if first >= EVERY_DAY else ()) for first in range(0, SEEDS, GROUP)]


@pytest.mark.parametrize("first", GROUPS)
def test_whatever_happens_nothing_recorded_is_lost(first: int) -> None:
    for seed in range(first, first + GROUP):
        run(seed)


def test_equal_seeds_give_equal_histories() -> None:
    assert run(4) == run(4)


def test_an_event_refused_on_one_of_its_topics_and_unanswered_on_the_other_is_not_set_aside() -> None:
    run(659)  # a broker without the right to `backfill`, which loses acknowledgements


def test_two_events_that_are_refused_do_not_hide_the_others_of_their_topic() -> None:
    run(642)
