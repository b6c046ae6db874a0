"""The sending policy in simulated time: lanes, windows, back-off, refusals, and that drained means drained."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gateway.model import NS_PER_S, STREAMS, Entry, LinkDown, Message, Stream
from gateway.uplink.parcel import runs
from gateway.uplink.profiles import PROFILES
from gateway.uplink.settings import BrokerSettings
from tests.uplink.weather import Sky, Weather, events_of

LIVE_FIRST = BrokerSettings(url="mqtt://broker.test")
IN_ORDER = BrokerSettings(url="mqtt://broker.test", resync="in-order")


def lanes(sky: Sky) -> tuple[list[int], list[int]]:
    """Return the door sequences sent on event topics and on the backfill topic, in order of sending."""
    live: list[int] = []
    back: list[int] = []
    for _, message in sky.sent:
        (back if message.topic.endswith("/backfill") else live).extend(s for _, s in events_of(message))
    return live, back


@pytest.mark.parametrize("seed", range(60))
def test_after_any_storm_all_is_delivered_or_named(seed: int) -> None:
    dice = Random(seed)
    settings = BrokerSettings(
        url="mqtt://broker.test",
        resync=dice.choice(("live-first", "in-order")),
        inflight_max=dice.choice((1, 3, 20, 100)),
        inflight_bytes_max=dice.choice(("adaptive", 2000, 60_000)),
        backfill_compression=dice.choice(("none", "gzip")),
        reconnect_max_s=dice.choice((5, 300)),
    )
    storm = Weather(
        refuse_connect=dice.choice((0, 0.5)),
        drop=dice.choice((0, 0.01, 0.05)),
        close=dice.choice((0, 0.01)),
        mute=dice.choice((0, 0.01)),
        refuse=dice.choice((0, 0.1)),
        double=0.1,
        round_trip_ms=dice.choice((1, 20, 400)),
    )
    sky = Sky(seed, settings, storm, receive_maximum=dice.choice((None, 1, 3, 20)))
    for _ in range(40):
        sky.record(dice.choice(STREAMS), dice.choice((1, 5, 60)))
        sky.run(dice.choice((0.01, 0.5, 20)))
        if dice.random() < 0.1:
            sky.restart()
    sky.weather = Weather(round_trip_ms=20)
    sky.drain(3600)
    sky.check_complete()
    sky.check_order()
    assert sky.under_way_max <= min(settings.inflight_max, sky.receive_maximum or 100)
    sky.record("door", 3)
    sky.drain(60)


def test_what_was_recorded_while_offline_goes_as_batches_and_what_comes_after_goes_live() -> None:
    sky = Sky(1)
    sky.record("door", 3)
    sky.run(5)
    sky.cut()
    sky.weather.refuse_connect = 1
    sky.run(20)
    sky.record("door", 250)
    sky.run(2)
    sky.weather.refuse_connect = 0
    assert sky.run(400, lambda: sky.uplink.status().up)
    sky.record("door", 5)
    sky.drain(60)
    live, back = lanes(sky)
    assert back == list(range(4, 254))
    assert live == [1, 2, 3, *range(254, 259)]
    batches = [m for _, m in sky.sent if m.topic.endswith("/backfill")]
    assert all(len(events_of(m)) <= 100 and len(m.payload) <= 32 * 1024 for m in batches)
    assert len(batches) < 20


def test_a_fresh_process_sends_the_backlog_of_an_earlier_run_as_backfill() -> None:
    sky = Sky(2)
    sky.record("shelf", 120)
    sky.restart()
    sky.run(1.5)
    sky.record("shelf", 1)
    sky.drain(30)
    backfill = {s for _, m in sky.sent if m.topic.endswith("/backfill") for s in events_of(m)}
    assert backfill == {("shelf", n) for n in range(1, 121)}


def test_what_an_earlier_run_left_is_backfill_also_where_it_counts_as_recorded_only_later() -> None:
    """After a crash the newest entries are sure only once they are synced again; that may be after the link is up."""
    sky = Sky(24)
    sky.record("door", 5)
    sky.outbox.uncertain["door"] = 3
    sky.restart()
    assert sky.run(10, lambda: sky.uplink.status().up)
    assert sky.run(20, lambda: lanes(sky)[1] == [1, 2])
    sky.outbox.uncertain["door"] = 0
    sky.record("door", 2)
    sky.drain(30)
    assert lanes(sky) == ([6, 7], [1, 2, 3, 4, 5])


def test_in_order_is_one_lane_of_single_events_in_ascending_order() -> None:
    sky = Sky(3, IN_ORDER)
    sky.weather.refuse_connect = 1
    sky.record("door", 200)
    sky.run(10)
    sky.weather.refuse_connect = 0
    assert sky.run(400, lambda: sky.uplink.status().up)
    sky.record("door", 20)
    sky.drain(60)
    live, back = lanes(sky)
    assert back == []
    assert live == list(range(1, 221))


def test_live_events_do_not_wait_behind_the_backlog_on_a_slow_line() -> None:
    sky = Sky(4, weather=Weather(refuse_connect=1, round_trip_ms=50), bytes_per_s=125_000)
    sky.record("beacon", 20_000)
    sky.run(10)
    sky.weather.refuse_connect = 0
    assert sky.run(300, lambda: sky.uplink.status().up)
    sky.run(15)  # the window learns the line
    sky.latencies_ms["event"].clear()
    before = sky.outbox.backlog
    began = sky.now.boot_ns
    for _ in range(40):
        sky.record("door")
        sky.run(0.5)
    took_s = (sky.now.boot_ns - began) / NS_PER_S
    late = sorted(sky.latencies_ms["event"])
    assert late[int(0.95 * len(late))] < 50 + 150
    drained_per_s = (before - sky.outbox.backlog) / took_s
    assert drained_per_s > 0.85 * 125_000 / 480, "the line is used: an envelope is about 480 bytes"


def test_backfill_never_starves_beside_a_busy_live_lane() -> None:
    sky = Sky(5, receive_maximum=1)
    sky.weather.refuse_connect = 1
    sky.record("beacon", 3000)
    sky.run(10)
    sky.weather.refuse_connect = 0
    assert sky.run(400, lambda: sky.uplink.status().up)
    sky.run(3)
    sky.sent.clear()
    sky.record("door", 400)  # more than the line takes meanwhile
    sky.run(8)
    messages = [m for _, m in sky.sent if events_of(m)]
    backfill = sum(m.topic.endswith("/backfill") for m in messages)
    assert backfill >= 0.09 * len(messages)


def test_duplicates_after_a_reconnect_are_at_most_a_window() -> None:
    sky = Sky(6, BrokerSettings(url="mqtt://broker.test", inflight_max=10))
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.mute_for_ever = {("door", n) for n in range(1, 101)}
    sky.record("door", 100)
    sky.run(1)
    sky.mute_for_ever = set()
    sky.cut()
    sky.drain(60)
    sent = [s for _, m in sky.sent for s in events_of(m)]
    assert len(sent) - len(set(sent)) <= 10


def test_poison_is_refused_after_three_closes_and_one_more_alone() -> None:
    sky = Sky(7, poison={("door", 5)})
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 10)
    sky.drain(120)
    assert [(e.sequence) for e, _ in sky.outbox.refused] == [5]
    alone = [link for link, m in sky.sent if events_of(m) == [("door", 5)]]
    assert 5 <= len(alone) <= 10, "under way with others, three times one at a time, alone, and after others were taken"
    last = [events_of(m) for link, m in sky.sent if link == alone[-1] and events_of(m)]
    assert last[-1] == [("door", 5)]
    assert len(last) == 2, "on a new connection, behind one that the broker takes"


def test_two_poisonous_messages_in_a_backlog_cost_only_themselves() -> None:
    sky = Sky(8, poison={("door", 150), ("shelf", 3)})
    sky.record("door", 300)
    sky.record("shelf", 10)
    sky.restart()
    sky.drain(600)
    assert {(e.stream, e.sequence) for e, _ in sky.outbox.refused} == {("door", 150), ("shelf", 3)}
    sky.check_complete()


def test_resets_and_lost_links_never_set_anything_aside() -> None:
    sky = Sky(9, BrokerSettings(url="mqtt://broker.test", reconnect_max_s=5), Weather(drop=1.0))
    sky.record("door", 10)
    sky.run(1)
    sky.record("door", 1)
    sky.run(600)
    assert len(sky.connects) > 100
    sky.weather.drop = 0
    sky.drain(600)
    assert sky.outbox.refused == []


def test_a_message_never_acknowledged_does_not_stop_the_others() -> None:
    sky = Sky(10, mute_for_ever={("door", 3)}, receive_maximum=1)
    sky.record("door", 200)
    sky.restart()
    assert sky.run(300, lambda: sky.outbox.backlog == 1)
    sky.record("shelf", 20)
    assert sky.run(60, lambda: sky.outbox.backlog == 1)
    assert len([1 for _, m in sky.sent if ("door", 3) in events_of(m)]) >= 3
    sky.mute_for_ever = set()
    sky.drain(600)


def test_each_sending_is_waited_for_ten_seconds_also_the_sixth() -> None:
    sky = Sky(21, mute_for_ever={("door", 1)})
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 1)
    sent: list[int] = []
    for _ in range(6):
        before = len(sky.connects)
        count = len(sky.sent)
        assert sky.run(400, lambda count=count: any(events_of(m) for _, m in sky.sent[count:]))  # type: ignore[misc]
        sent.append(sky.now.boot_ns)
        sky.record("shelf", 3)  # what shows that the link lives
        assert sky.run(60, lambda before=before: len(sky.connects) > before)  # type: ignore[misc]
        assert 10 <= (sky.now.boot_ns - sent[-1]) / NS_PER_S < 13
    waits = [(after - before) / NS_PER_S for before, after in itertools.pairwise(sent)]
    assert waits[-1] > waits[0] + 8, "ever rarer, so that its reconnects do not cost the others their place"


def test_live_events_have_a_byte_window_of_their_own_beside_a_full_one() -> None:
    """Backfill fills the byte window of a line that has stalled; a live event still goes at once, and so do more of
    them up to the window."""
    settings = BrokerSettings(url="mqtt://broker.test", inflight_bytes_max=8000)
    sky = Sky(22, settings, Weather(refuse_connect=1))
    sky.record("beacon", 2000)
    sky.run(10)
    sky.weather = Weather(mute=1.0)
    assert sky.run(300, lambda: sky.uplink.status().up)
    sky.run(4)
    assert sky.uplink.status().in_flight_bytes > 6000, "backfill has the whole of it"
    before = len(sky.sent)
    sky.record("door", 40)
    sky.run(0.05)
    went = [m for _, m in sky.sent[before:] if "/event/" in m.topic]
    assert 5 <= len(went) < 40
    assert sum(len(m.payload) for m in went) <= 8000


@pytest.mark.parametrize(
    ("url", "code", "tops"),
    [
        ("mqtt://broker.test", "dns.timeout", (2, 4, 8, 16, 32)),
        ("mqtt://broker.test", "tcp.refused", (2, 4, 8, 40, 40)),
        ("mqtt://127.0.0.1", "tcp.refused", (2, 4, 8, 16, 32)),
    ],
)
def test_back_off_grows_with_full_jitter_up_to_its_cap(url: str, code: str, tops: tuple[int, ...]) -> None:
    """Where a whole fleet may wait for the broker, its attempts are soon spread wide; not for this shop's own line."""
    waits: list[list[float]] = []
    for seed in range(200):
        sky = Sky(seed, BrokerSettings(url=url, reconnect_max_s=60), Weather(refuse_connect=1), refuses_as=code)
        sky.run(200, lambda sky=sky: len(sky.connects) >= 8)  # type: ignore[misc]
        waits.append([(b - a) / NS_PER_S for a, b in zip(sky.connects, sky.connects[1:], strict=False)])
    for n, top in enumerate(tops):
        nth = [w[n] for w in waits if len(w) > n]
        assert max(nth) <= top + 1.1
        assert min(nth) >= 1.0
        assert top * 0.35 < sum(nth) / len(nth) < top * 0.75 + 0.4


def test_back_off_is_reset_only_after_a_stable_minute_and_an_acknowledgement() -> None:
    sky = Sky(11)
    for _ in range(6):
        assert sky.run(400, lambda: sky.uplink.status().up)
        sky.run(5)
        sky.cut()
    assert sky.uplink._backoff.failures >= 6
    assert sky.run(400, lambda: sky.uplink.status().up)
    sky.run(61)
    sky.cut()
    assert sky.uplink._backoff.failures == 1


def test_bad_credentials_wait_at_the_cap_and_a_technician_cuts_it_short() -> None:
    sky = Sky(12, weather=Weather(refuse_connect=1))
    sky.run(0.001)
    sky.uplink.handle(LinkDown(1, "connack.bad_credentials", "no", connack=0x86), sky.now)
    wait_ms = sky.uplink.status(sky.now).next_attempt_ms
    assert wait_ms is not None
    assert 150_000 <= wait_ms <= 300_000
    sky.run(5)
    sky.uplink.hurry(sky.now)
    sky.run(0.1)
    assert len(sky.connects) == 2


def test_state_is_retained_told_at_each_connect_and_at_most_every_minute_when_it_changed() -> None:
    sky = Sky(13)
    for _ in range(10):
        sky.record("door")
        sky.run(20)
    states = [m for _, m in sky.sent if m.topic == "stores/v1/0042/front/state"]
    assert all(m.retain for m in states)
    assert len(states) == 4
    document = json.loads(states[-1].payload)
    assert list(document) == ["state", "outbox", "epoch", "streams", "version", "config_sha256", "sensors", "time"]
    assert document["state"] == "online"
    assert document["epoch"] == "1"
    assert document["streams"]["door"] == {"recorded_through": 10, "acknowledged_through": 9, "backlog": 1}
    sky.run(300)
    assert len([m for _, m in sky.sent if m.topic.endswith("/state")]) == 5, "unchanged is not told again"
    assert sky.wills[0].will is not None
    will = json.loads(sky.wills[0].will.payload)
    assert list(will) == ["state", "outbox", "epoch", "time"]
    assert will["state"] == "lost"
    assert sky.wills[0].will.retain
    assert [order.filters for _, order in sky.asked] == [("stores/v1/0042/front/command/+",)]


def test_a_clean_stop_tells_stopped_and_disconnects_gently() -> None:
    sky = Sky(14)
    sky.record("door", 3)
    sky.drain(10)
    sky.uplink.stop(sky.now)
    assert sky.run(2, lambda: sky.uplink.is_stopped)
    assert json.loads(sky.sent[-1][1].payload)["state"] == "stopped"
    assert sky.uplink.due_ns() is None
    sky.uplink.stop(sky.now)
    assert sky.uplink.step(sky.now) == []


def test_stopping_while_down_is_done_at_once() -> None:
    sky = Sky(15, weather=Weather(refuse_connect=1))
    sky.run(5)
    sky.uplink.stop(sky.now)
    assert sky.run(0.2, lambda: sky.uplink.is_stopped)


def test_resend_delivers_what_is_kept_again_and_acknowledges_nothing() -> None:
    sky = Sky(16)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 30)
    sky.drain(30)
    assert sky.uplink.resend("door", 20, 90) == [(20, 30)]
    assert sky.uplink.resend("shelf", 1, 9) == []
    sky.run(5)
    assert lanes(sky)[1] == list(range(20, 31))
    assert sky.uplink.counters.resent == 11
    sky.uplink.resend("door", 1, 30)
    sky.uplink.step(sky.now)
    sky.cut()
    sky.run(60)
    assert lanes(sky)[1][-30:] == list(range(1, 31)), "one that was lost on the way goes again"


def test_what_is_asked_for_again_before_it_was_sent_at_all_keeps_its_place_in_the_backlog() -> None:
    sky = Sky(25, BrokerSettings(url="mqtt://broker.test", inflight_max=1))
    sky.record("door", 300)
    sky.restart()
    assert sky.run(10, lambda: sky.uplink.status().up)
    assert sky.uplink.resend("door", 200, 300) == [(200, 300)]
    sky.drain(60)
    sky.check_order()
    assert lanes(sky)[1] == list(range(1, 301)), "once, by its own lane"


def test_a_broker_that_closes_at_what_is_asked_for_again_is_not_asked_for_ever() -> None:
    sky = Sky(26, poison={("door", 5)})
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 10)
    sky.drain(120)
    sky.sent.clear()
    sky.uplink.resend("door", 1, 10)
    sky.run(300)
    again = {number for link, m in sky.sent for number in events_of(m) if len(events_of(m)) == 1}
    assert again == {("door", n) for n in range(1, 11)}, "each alone, after the batch broke the link"
    assert sky.uplink.counters.resent == 9
    assert len(sky.outbox.refused) == 1, "what is settled stays settled"
    connects = len(sky.connects)
    sky.run(3600)
    assert len(sky.connects) == connects


@pytest.mark.parametrize("code", [0x99, 0x87])
def test_a_refusal_among_what_is_asked_for_again_costs_only_itself(code: int) -> None:
    sky = Sky(27)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 10)
    sky.drain(120)
    sky.refuses = {("door", 5): code}
    sky.uplink.resend("door", 1, 10)
    sky.run(60)
    assert sky.uplink.counters.resent == 9
    assert sky.outbox.refused == []


def test_what_is_asked_for_again_and_never_acknowledged_ends() -> None:
    sky = Sky(28)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 3)
    sky.drain(120)
    sky.mute_for_ever = {("door", 2)}
    sky.uplink.resend("door", 1, 3)
    for _ in range(60):
        sky.record("shelf")
        sky.run(10)
    connects = len(sky.connects)
    sky.run(3600)
    assert len(sky.connects) == connects
    assert sky.uplink.counters.resent == 2
    sky.drain(10)


@pytest.mark.parametrize("poison", [set[tuple[Stream, int]](), {("door", 1)}], ids=["refused for now", "closed at"])
def test_a_time_that_was_estimated_once_is_never_told_as_unsynced_again(poison: set[tuple[Stream, int]]) -> None:
    sky = Sky(29, poison=poison, refuses={} if poison else {("door", 1): 0x97})
    sky.now = replace(sky.now, clock="unsynced")
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door")
    sky.run(30)
    assert clocks_told(sky, 1) == {"unsynced"}
    sky.sent.clear()
    sky.anchors["969b0c7f"] = 1_795_338_000_000
    sky.record("door")
    sky.run(600)
    assert clocks_told(sky, 1) == {"estimated"}


def clocks_told(sky: Sky, sequence: int) -> set[str]:
    """Return how the clock of a door's event was called each time it was sent."""
    documents = (json.loads(message.payload) for _, message in sky.sent if ("door", sequence) in events_of(message))
    events = (event for told in documents for event in (told if isinstance(told, list) else [told]))
    return {event["clock"] for event in events if int(event["sequence"]) == sequence}


def test_only_unbroken_sequences_are_acknowledged_as_a_range() -> None:
    door: Stream = "door"
    entries = (*(Entry(door, n, 1, b"") for n in (1, 2, 4)), Entry("shelf", 5, 1, b""))
    assert runs(entries) == [("door", 1, 2), ("door", 4, 4), ("shelf", 5, 5)]


def test_a_profile_limits_the_rate_and_the_window() -> None:
    sky = Sky(17, BrokerSettings(url="mqtt://broker.test", profile="emqx-cloud", resync="in-order"))
    assert sky.run(10, lambda: sky.uplink.status().up)
    began = sky.now.boot_ns
    sky.record("door", 200)
    sky.drain(120)
    took_s = (sky.now.boot_ns - began) / NS_PER_S
    assert 22 < took_s < 27, "8 messages a second: 80 % of what the service allows"


@pytest.mark.parametrize("name", sorted(PROFILES))
@pytest.mark.parametrize("lanes", ["live-first", "in-order"])
def test_no_profile_is_ever_exceeded(name: Any, lanes: Any) -> None:
    profile = PROFILES[name]
    sky = Sky(23, BrokerSettings(url="mqtt://broker.test", profile=name, resync=lanes, inflight_max=2000))
    sky.record("beacon", 3000)
    sky.outbox.passed(sky.now, note="x" * 1_200_000)
    sky.record("beacon", 10)
    sky.restart()
    assert sky.run(20, lambda: sky.uplink.status().up)
    sent_before, began = len(sky.sent), sky.now.boot_ns
    sky.record("door", 200)
    sky.run(30)
    took_s = (sky.now.boot_ns - began) / NS_PER_S
    sent = [message for _, message in sky.sent[sent_before:]]
    burst = 1  # a second's worth may have been saved up
    if profile.messages_per_s is not None:
        assert len(sent) <= 0.8 * profile.messages_per_s * (took_s + burst)
    if profile.bytes_per_s is not None:
        assert sum(len(message.payload) for message in sent) <= 0.8 * profile.bytes_per_s * (took_s + burst)
    assert sky.under_way_max <= min(2000, profile.inflight_max or 2000)
    if profile.payload_bytes_max is not None:
        assert all(len(message.payload) <= profile.payload_bytes_max for message in sent)
        sky.drain(600)
        assert len(sky.outbox.refused) == 1, "what can never be sent is named, the rest flows"


def test_nothing_is_sent_before_the_link_is_up_nor_after_it_is_down() -> None:
    sky = Sky(18, weather=Weather(refuse_connect=1))
    sky.record("door", 10)
    orders = sky.uplink.step(sky.now)
    assert not [order for order in orders if isinstance(order, Message)]
    sky.run(10)
    assert sky.sent == []


def test_signals_of_an_earlier_connection_change_nothing() -> None:
    sky = Sky(19)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.uplink.handle(LinkDown(0, "link.lost", "late"), sky.now)
    assert sky.uplink.status().up


def test_without_an_address_nothing_is_ordered() -> None:
    sky = Sky(20, BrokerSettings())
    sky.record("door")
    assert sky.uplink.step(sky.now) == []
    assert sky.uplink.due_ns() is None
    assert sky.uplink.status().phase == "off"


def test_the_same_range_asked_for_64_times_at_once_is_delivered_once() -> None:
    sky = Sky(34)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("door", 300)
    sky.drain(120)
    sky.sent.clear()
    for _ in range(64):
        assert sky.uplink.resend("door", 1, 300) == [(1, 300)]
    sky.uplink.resend("door", 200, 300)
    sky.run(300)
    again = [number for _, m in sky.sent for number in events_of(m)]
    assert len(again) == 300


@pytest.mark.parametrize("settings", [LIVE_FIRST, IN_ORDER])
@pytest.mark.parametrize("is_live", [False, True])
def test_what_the_card_could_not_read_follows_on_the_same_link(settings: BrokerSettings, is_live: bool) -> None:
    sky = Sky(7, settings)
    sky.run(10 if is_live else 0)
    sky.outbox.unread["door"] = {3, 4, 40}
    sky.outbox.held = {"shelf"}
    sky.record("door", 60)
    sky.record("shelf", 20)
    sky.run(60)
    assert {number for stream, number in sky.delivered if stream == "door"} == set(range(1, 61)) - {3, 4, 40}
    assert not any(stream == "shelf" for stream, _ in sky.delivered), "it is held, not passed over"
    sky.outbox.mend()
    sky.drain(60)
    sky.check_complete()
    assert len(sky.connects) == 1
