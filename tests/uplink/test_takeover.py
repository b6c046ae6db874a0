"""Two gateways under one client id at a real broker: each ends the other's connection, and both are told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import pytest

from gateway.uplink.settings import BrokerSettings
from tests.uplink.brokers import mosquitto
from tests.uplink.shop import Shop


@pytest.mark.mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_copied_card_is_told_by_both_and_costs_no_event(tmp_path: Path, protocol: Literal["5", "3.1.1"]) -> None:
    with mosquitto(tmp_path) as broker:
        settings = BrokerSettings(url=broker.url, protocol=protocol, client_id="twin")
        twins = [Shop(settings), Shop(settings)]
        end = time.monotonic() + 8
        due = 0.0
        while time.monotonic() < end:
            is_due = time.monotonic() >= due
            due = time.monotonic() + 0.05 if is_due else due
            for twin in twins:
                twin.uplink.hurry(twin.clock.now())
                twin.passed(is_due)
                twin.step(0.01)
        for twin in twins:
            [note] = twin.uplink.status(twin.clock.now()).notes
            assert note.code in ("link.taken_over", "link.closed_in_turn")
            assert "client id" in note.detail
            assert twin.outbox.refused == []
        other, mine = twins
        other.close()
        mine.drain(20, hurry=True)
        assert mine.outbox.refused == []
        mine.until(lambda: mine.subscribed)
        mine.close()
