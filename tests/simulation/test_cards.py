"""Cards that are copied, put back and take turns, and second writers: histories in which people do that."""

from __future__ import annotations

from tests.simulation.cards import are_copied
from tests.simulation.histories import History, chance_of

SEEDS = [seed for seed in range(3010, 3060) if are_copied(seed)]


def test_whatever_people_do_with_cards_no_id_names_two_events_and_no_loss_is_hidden() -> None:
    told, verdicts = "", set()
    for seed in SEEDS:
        history = History(seed)
        with chance_of(history.random):
            history.run()
        told += history.trace.tail(5_000)
        verdicts.add(history.checker.ledger.report().verdict)
    for kind in ("the card is copied", "is put in for", "a second writer"):
        assert kind in told
    assert verdicts >= {"complete", "conflict"}
