"""Cards with bad sectors, files of another owner, folders away and hangs: histories in which that happens."""

from __future__ import annotations

from tests.simulation.histories import History, chance_of

SEEDS = (4010, 4014, 4015, 4020, 4033, 4042, 4054)


def test_what_passes_loses_nothing_and_what_stays_unreadable_is_named_alone() -> None:
    told = ""
    for seed in SEEDS:
        history = History(seed)
        with chance_of(history.random):
            history.run()
        told += history.trace.tail(5_000)
    for kind in (
        "cannot be read, for ever",
        "cannot be read, for a while",
        "files cannot be opened",
        "is away",
        "not answer",
    ):
        assert kind in told
