"""An evening and the day that follows it, on the real kernel, in minutes: idle time is skipped.

What follows the wall clock or waits long runs for real: quarter hours, the day's key, the ladder of silence, health,
and hours without the broker with a restart in between. `LAB_HOURS=168 scripts/lab run virtual_time` is a week.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.consumer.ledger import Ledger
from tests.lab.cache import HERE, say
from tests.lab.machine import warped
from tests.lab.prepared import installed, on_disk
from tests.lab.shop import CONFIGURATION, SCANNER

pytestmark = pytest.mark.lab

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = datetime(2026, 11, 22, 23, 25, tzinfo=BERLIN)
HOURS = float(os.environ.get("LAB_HOURS", "12"))
WITHIN_S = 60.0 + HOURS * 400.0
QUARTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Night:
    """What was left of it."""

    events: list[dict[str, Any]]
    ledger: Ledger
    walked: dict[str, int]
    said: list[dict[str, Any]]
    """The status at the end of each of its lives."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == f"store.{kind}"]


@pytest.fixture(scope="module")
def night(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Some hours of a shop, the first midnight after 35 minutes."""
    with on_disk(installed(), warped()) as machine:
        machine.start()
        machine.put("/etc/gateway/gateway.toml", CONFIGURATION.format(host="127.0.0.1", port=1883, more="") + SCANNER)
        machine.put("/run/lab/night.py", (HERE / "guest/night.py").read_text())
        machine.sh("chown root:gateway /etc/gateway/gateway.toml")
        began_s = time.monotonic()
        told = machine.ask(
            "run",
            WITHIN_S,
            text=f"python3 -I /run/lab/night.py {EVENING.timestamp()} {HOURS}",
            within_s=HOURS * 3600 + 7200,
        )
        took_s = time.monotonic() - began_s
        assert told["status"] == 0, told["err"]
        say(f"  {HOURS} h of the machine's took {took_s:.0f} s of ours: {HOURS * 3600 / took_s:.0f} times as fast")
        about = json.loads(machine.sh("cat /run/lab/night/about.json"))
        messages = machine.sh("cat /run/lab/night/messages", 300)
    ledger, events = Ledger(from_one=True), []
    for line in messages.splitlines():
        retained, topic, payload = line.split(" ")
        content = bytes.fromhex(payload)
        ledger.take(topic, content, retained == "1")
        if "/event/" in topic:
            events.append(json.loads(content))
        elif topic.endswith("/backfill"):
            events += json.loads(content)
    return Night(events, ledger, about["walked"], about["said"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_quarter_hours_are_whole_and_contiguous(night: Night) -> None:
    counted = [event["data"] for event in night.of("door.counted")]
    starts = [moment(event["time"]) for event in night.of("gateway.started")]
    breaks = [(before, after) for before, after in pairwise(counted) if before["to"] != after["from"]]
    assert len(breaks) <= len(starts) - 1, breaks
    assert all(any(moment(one["to"]) <= at for at in starts) for one, _ in breaks)
    quarters = [one for one in counted if moment(one["to"]) - moment(one["from"]) == QUARTER]
    assert len(quarters) >= HOURS * 4 - 2 - 2 * len(breaks)
    assert all(moment(one["to"]).minute % 15 == 0 for one in quarters)
    assert {way: sum(one[way] for one in counted) for way in ("in", "out")} == night.walked
    passed = [event["data"] for event in night.of("door.passed")]
    assert {way: sum(one["direction"] == way for one in passed) for way in ("in", "out")} == night.walked
    assert (passed[-1]["in_total"], passed[-1]["out_total"]) == (night.walked["in"], night.walked["out"])


def test_pseudonym_changes_at_each_local_midnight(night: Night) -> None:
    identities: dict[object, set[str]] = {}
    for event in (*night.of("beacon.arrived"), *night.of("beacon.left"), *night.of("beacon.moved")):
        day = moment(event["time"]).astimezone(BERLIN).date()
        identities.setdefault(day, set()).add(event["data"]["identity"])
    midnights = ((EVENING + timedelta(hours=HOURS)).date() - EVENING.date()).days
    assert len(identities) == 1 + midnights, identities
    assert all(len(of_day) == 1 for of_day in identities.values()), identities
    assert len(set.union(*identities.values())) == len(identities)


def test_silence_was_climbed_and_ended(night: Night) -> None:
    left = night.of("beacon.left")
    assert len(left) >= 1
    rungs = [ladder(status) for status in night.said]
    say(f"  {rungs}")
    assert sum(of_life.get("scans_restarted", 0) for of_life in rungs) >= 1, rungs
    assert len(night.of("beacon.arrived")) >= 2
    assert not night.of("sensor.failed")


def ladder(status: dict[str, Any]) -> dict[str, int]:
    """Find the scanner's counters wherever the status has them."""
    found: dict[str, int] = {}
    waiting: list[Any] = [status]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            found |= {name: value for name, value in one.items() if name in ("scans_restarted", "helpers_restarted")}
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


def test_health_comes_every_five_minutes(night: Night) -> None:
    health = night.of("gateway.machine.health")
    assert abs(len(health) - HOURS * 12) <= 4
    rss = [event["data"]["memory_rss_bytes"] for event in health]
    first, last, most = (one >> 10 for one in (rss[1], rss[-1], max(rss)))
    say(f"  resident memory {first} KiB after ten minutes, {last} KiB at the end, {most} KiB at most")
    assert max(rss) < rss[1] * 1.2


def test_nothing_is_missing_though_the_broker_was_away_for_hours(night: Night) -> None:
    assert len(night.of("gateway.started")) == 2
    report = night.ledger.report()
    assert report.is_complete, report
    assert not report.lost
    assert night.of("gateway.stopped")
