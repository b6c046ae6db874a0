"""A configuration from afar and the engine's inbox, step by step in one process, at every turn that it can take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.commands.verbs import CommandRefused, understood
from gateway.config import Configuration, loads
from gateway.config.overlay import FailedProbation, Ordered, Probation, path_of, read_ordered, write_ordered
from gateway.daemon.remote import BY, STARTS_MAX, RemoteConfiguration
from gateway.engine.engine import READINGS_MAX, Engine, Wake
from gateway.errors import ConfigurationError
from gateway.model import NS_PER_S, DriverRecovered, Event, Instant

NOW = Instant(1_000 * NS_PER_S, 1_795_000_000 * NS_PER_S)
TOPIC = "stores/v1/1/front/answers/7"


class Bench:
    """One run of the daemon under a configuration, as far as an order of the cloud needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outbox = folder / "outbox"
        self.outbox.mkdir(exist_ok=True)
        self.events: list[Event] = []
        self.said: list[tuple[str, dict[str, Any], bytes | None]] = []
        self.reloads = 0
        self.counters = SimpleNamespace(acknowledged=0)
        self.refuses = False
        self.configuration = self.of({})

    def of(self, overlay: Mapping[str, Any]) -> Configuration:
        if self.refuses:
            raise ConfigurationError("nonsense")
        every = overlay.get("health", {}).get("every", 300)
        store = overlay.get("site", {}).get("store", "1")
        url = overlay.get("broker", {"url": "mqtt://localhost"}).get("url")
        broker = f'[broker]\nurl = "{url}"\n' if url else ""
        return loads(
            f'[site]\nstore = "{store}"\ngateway = "front"\n{broker}[outbox]\ndirectory = "{self.outbox}"\n'
            f'[commands]\nallow = ["config"]\n[health]\nevery = {every}\n'
        )

    @property
    def engine(self) -> Any:
        def answer(topic: str, payload: bytes, correlation: bytes | None = None) -> bool:
            self.said.append((topic, json.loads(payload), correlation))
            return True

        def record(events: list[Event], now: Instant) -> None:
            assert isinstance(now, Instant)
            assert all(event.subject == "gateway" and event.at == now for event in events)
            self.events.extend(events)

        return SimpleNamespace(
            record=record,
            uplink=SimpleNamespace(counters=self.counters, answer=answer),
        )

    def reload(self) -> None:
        self.reloads += 1

    def start(self, under: Configuration | None = None) -> RemoteConfiguration:
        """Start as the daemon does."""
        self.counters.acknowledged = 0
        remote = RemoteConfiguration(under or self.configuration, self.of, self.reload)
        remote.count_start()
        remote.begin(self.engine, NOW)
        return remote

    def outcomes(self) -> list[tuple[str, str]]:
        return [(event.fact.by, event.fact.outcome) for event in self.events]  # type: ignore[attr-defined]

    def shas(self) -> list[str]:
        return [event.fact.config_sha256 for event in self.events]  # type: ignore[attr-defined]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def order(bench: Bench, remote: RemoteConfiguration, overlay: Mapping[str, Any], within_s: float = 20) -> Any:
    arguments = {"config": overlay, "within_s": within_s}
    return remote.order(bench.engine, arguments, TOPIC, b"\x07\xff", NOW)


CHANGED = {"health": {"every": 60}}


def test_an_order_is_kept_and_taken_over_by_a_stop_and_a_start(bench: Bench) -> None:
    remote = bench.start()
    assert order(bench, remote, CHANGED) is None, "answered once it has proved itself"
    assert bench.reloads == 1
    kept = read_ordered(bench.outbox)
    sha256 = bench.of(CHANGED).sha256
    assert kept == Ordered(CHANGED, Probation(sha256, 20, TOPIC, "07ff", {}))
    assert (bench.said, bench.events) == ([], [])


def on_trial(bench: Bench, starts: int = 0, previous: Mapping[str, Any] | None = None) -> Configuration:
    fresh = bench.of(CHANGED)
    write_ordered(bench.outbox, Ordered(CHANGED, Probation(fresh.sha256, 20, TOPIC, "07ff", previous or {}, starts)))
    return fresh


def test_it_is_in_force_once_the_broker_has_acknowledged_an_event_under_it(bench: Bench) -> None:
    fresh = on_trial(bench)
    remote = bench.start(fresh)
    kept = read_ordered(bench.outbox).trial
    assert kept is not None
    assert kept.starts == 1, "counted before anything else happens"
    remote.watch(bench.engine, NOW.later(19 * NS_PER_S))
    assert (bench.events, bench.said, bench.reloads) == ([], [], 0)
    bench.counters.acknowledged = 1
    remote.watch(bench.engine, NOW.later(19 * NS_PER_S))
    assert bench.outcomes() == [(BY, "applied")]
    assert bench.shas() == [fresh.sha256]
    result = {"outcome": "applied", "config_sha256": fresh.sha256}
    assert bench.said == [(TOPIC, {"ok": True, "result": result}, b"\x07\xff")]
    assert read_ordered(bench.outbox) == Ordered(CHANGED)
    remote.watch(bench.engine, NOW.later(99 * NS_PER_S))
    assert (len(bench.said), bench.reloads) == (1, 0), "told once, and never taken back"


def test_without_an_acknowledgement_in_time_what_was_comes_back(bench: Bench) -> None:
    before = {"health": {"every": 120}}
    remote = bench.start(on_trial(bench, previous=before))
    remote.watch(bench.engine, NOW.later(20 * NS_PER_S - 1))
    assert bench.reloads == 0
    remote.watch(bench.engine, NOW.later(20 * NS_PER_S))
    assert bench.reloads == 1
    kept = read_ordered(bench.outbox)
    assert (kept.overlay, kept.trial) == (before, None)
    assert kept.verdict is not None
    assert "acknowledged nothing within 20 s" in kept.verdict.why
    remote.watch(bench.engine, NOW.later(30 * NS_PER_S))
    assert bench.reloads == 1
    assert bench.said == []

    again = bench.start(bench.of(before))
    assert bench.outcomes() == [(BY, "rolled_back")]
    assert bench.shas() == [kept.verdict.sha256]
    assert read_ordered(bench.outbox) == Ordered(before), "told once"
    again.watch(bench.engine, NOW)
    assert bench.said == [], "nobody hears it before the link is up"
    bench.counters.acknowledged = 1
    again.watch(bench.engine, NOW)
    again.watch(bench.engine, NOW)
    ((topic, document, correlation),) = bench.said
    assert (topic, correlation) == (TOPIC, b"\x07\xff")
    assert document["error"]["code"] == "failed"
    assert "within 20 s" in document["error"]["detail"]


def test_a_daemon_that_dies_under_it_three_times_goes_back(bench: Bench) -> None:
    fresh = on_trial(bench)
    for _ in range(STARTS_MAX):
        bench.start(fresh)
        assert bench.reloads == 0
    bench.start(fresh)
    assert bench.reloads == 1
    verdict = read_ordered(bench.outbox).verdict
    assert verdict is not None
    assert f"stopped {STARTS_MAX} times" in verdict.why


def test_local_files_that_no_longer_fit_it_take_it_back(bench: Bench) -> None:
    on_trial(bench)
    bench.start(bench.configuration)
    assert bench.reloads == 1
    verdict = read_ordered(bench.outbox).verdict
    assert verdict is not None
    assert "no longer fits" in verdict.why


def test_the_same_again_changes_nothing(bench: Bench) -> None:
    remote = bench.start()
    result = order(bench, remote, {})
    assert result == {"outcome": "unchanged", "config_sha256": bench.configuration.sha256}
    assert (bench.reloads, path_of(bench.outbox).exists()) == (0, False)


@pytest.mark.parametrize(
    ("overlay", "word"),
    [
        ({"site": {"store": "2"}}, "site.store"),
        ({"broker": {"url": None}}, "broker.url"),
    ],
)
def test_what_is_local_is_refused_told_and_changes_nothing(bench: Bench, overlay: Any, word: str) -> None:
    remote = bench.start()
    changed = {key: {inner: value for inner, value in table.items() if value} for key, table in overlay.items()}
    with pytest.raises(CommandRefused) as refused:
        order(bench, remote, changed)
    assert (refused.value.code, bench.outcomes()) == ("invalid", [(BY, "rejected")])
    assert word in str(refused.value), "the refusal names the key"
    assert (bench.reloads, read_ordered(bench.outbox)) == (0, Ordered())


def test_what_cannot_be_configured_is_refused(bench: Bench) -> None:
    remote = bench.start()
    bench.refuses = True
    with pytest.raises(CommandRefused, match="nonsense") as refused:
        order(bench, remote, CHANGED)
    assert (refused.value.code, bench.outcomes(), bench.reloads) == ("invalid", [(BY, "rejected")], 0)


def test_one_at_a_time_and_only_with_files(bench: Bench) -> None:
    remote = bench.start(on_trial(bench))
    with pytest.raises(CommandRefused) as refused:
        order(bench, remote, {})
    assert refused.value.code == "busy"
    assert "still on trial" in str(refused.value)
    with pytest.raises(CommandRefused) as refused:
        order(bench, RemoteConfiguration(bench.configuration, None, bench.reload), CHANGED)
    assert refused.value.code == "failed"


def test_what_cannot_be_kept_is_not_taken_over(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    remote = bench.start()
    (bench.folder / "outbox.config.json.new").mkdir()
    (bench.folder / "outbox.config.json").mkdir()
    (bench.folder / "outbox.config.json/inside").touch()
    with pytest.raises(CommandRefused) as refused:
        order(bench, remote, CHANGED)
    assert (refused.value.code, bench.reloads) == ("failed", 0)
    assert "cannot be kept" in str(refused.value)


def test_a_verdict_that_cannot_be_kept_does_not_start_the_same_trial_again(bench: Bench) -> None:
    remote = bench.start(on_trial(bench))
    (bench.folder / "outbox.config.json").unlink()
    (bench.folder / "outbox.config.json").mkdir()
    (bench.folder / "outbox.config.json/inside").touch()
    remote.watch(bench.engine, NOW.later(21 * NS_PER_S))
    assert bench.reloads == 0


def test_a_verdict_without_a_right_correlation_is_told_without_one(bench: Bench) -> None:
    write_ordered(bench.outbox, Ordered(verdict=FailedProbation("0" * 64, "why", TOPIC, "no hex")))
    remote = bench.start()
    bench.counters.acknowledged = 1
    remote.watch(bench.engine, NOW)
    assert [(topic, correlation) for topic, _, correlation in bench.said] == [(TOPIC, None)]


# What is allowed.


@pytest.mark.parametrize("verb", ["tare", "config", "restart"])
def test_what_is_not_allowed_does_not_run(verb: str) -> None:
    with pytest.raises(CommandRefused) as refused:
        understood(verb, b"{}", ["ping", "status"])
    assert (refused.value.code, verb in str(refused.value)) == ("not_allowed", True)
    assert understood(verb, b'{"a": 1}', [verb]) == {"a": 1}


# The inbox.


def test_readings_beyond_the_inbox_are_counted_and_a_signal_is_always_taken() -> None:
    nothing: Any = SimpleNamespace(by_sensor={})
    engine = Engine(nothing, nothing, nothing, nothing, nothing, lambda *about: {})
    reading = DriverRecovered("door", NOW)
    taken = sum(engine.offer(reading) for _ in range(READINGS_MAX + 7))
    assert taken == READINGS_MAX
    assert engine._discarded == {("door", "inbox_full"): 7}
    assert not engine.has_room()
    assert engine.offer(Wake()), "what is no reading is never refused"
