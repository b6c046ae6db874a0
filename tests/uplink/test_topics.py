"""A broker that refuses one sensor's topic and takes all others: a right is missing, no message is bad.

What is held waits in the outbox as in an outage; the others go on in order; the words name topic and remedy.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.model import Instant, Order
from gateway.mqtt.link import LinkTimes
from gateway.uplink.settings import BrokerSettings
from tests.uplink.brokers import mosquitto
from tests.uplink.rabbitmq import rabbitmq
from tests.uplink.shop import Shop
from tests.uplink.test_refusals import mend, run
from tests.uplink.weather import Sky, events_of

IN_ORDER = BrokerSettings(url="mqtt://broker.test", resync="in-order")
BACK = "stores/v1/0042/front/event/door/back"


class Shopful(Sky):
    """Two doors, `entrance` and `back`; the broker treats every event of `back` as told."""

    def pass_both(self, count: int, code: int = 0, poison: bool = False) -> None:
        """`count` times somebody passes both doors, five seconds between them."""
        for _ in range(count):
            number = self.outbox.passed(self.now, "back")
            if code:
                self.refuses["door", number] = code
            if poison:
                self.poison.add(("door", number))
            self.outbox.passed(self.now)
            self.run(5)

    def mend(self) -> None:
        self.refuses.clear()
        self.poison.clear()

    @property
    def words(self) -> str:
        return " ".join(f"{note.detail}; {note.advice}" for note in self.uplink.status(self.now).notes)


def of_door(sky: Sky, is_back: bool) -> list[int]:
    """Return the numbers sent of one door, in order of their first sending."""
    sent = [number for _, message in sky.sent for stream, number in events_of(message) if stream == "door"]
    return [number for number in dict.fromkeys(sent) if (number % 2 == 1) is is_back]


@pytest.mark.parametrize("settings", [BrokerSettings(url="mqtt://broker.test"), IN_ORDER])
@pytest.mark.parametrize("code", [0x87, 0x83, 0x99])
def test_a_topic_that_is_refused_whole_is_held_and_all_others_go_on(code: int, settings: BrokerSettings) -> None:
    sky = Shopful(51, settings)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.pass_both(60, code)
    assert sky.outbox.refused == []
    assert sky.outbox.backlog == 60, "those of the other door are delivered"
    assert BACK in sky.words
    assert f"topic write {BACK}" in sky.words
    before = len(sky.sent)
    sky.run(600)
    assert len(sky.sent) - before < 30, "asked once a minute"
    sky.mend()
    sky.drain(120)
    assert sky.outbox.refused == []
    assert BACK not in sky.words
    assert of_door(sky, is_back=False) == sorted(of_door(sky, is_back=False))
    late = [number for number in of_door(sky, is_back=True) if number > 40]
    assert late == sorted(late), "what was held follows in its order"


@pytest.mark.parametrize("ending", ["link", "process"])
def test_a_held_topic_is_held_over_a_lost_link_and_a_restart(ending: str) -> None:
    sky = Shopful(52)
    assert sky.run(10, lambda: sky.uplink.status().up)
    for _ in range(3):
        sky.pass_both(30, 0x87)
        sky.cut() if ending == "link" else sky.restart()
        sky.run(60)
    assert sky.outbox.refused == []
    sky.mend()
    sky.drain(200)
    assert sky.outbox.refused == []
    sky.check_complete()


def test_a_broker_that_closes_at_one_topic_is_asked_rarely_and_sets_nothing_aside() -> None:
    sky = Shopful(53)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.pass_both(60, poison=True)
    sky.run(600)
    assert sky.outbox.refused == []
    assert sky.outbox.backlog == 60
    assert BACK in sky.words
    before = len(sky.connects)
    for _ in range(360):
        sky.outbox.passed(sky.now)
        sky.run(10)
    assert len(sky.connects) - before < 10, "each costs the connection"
    sky.mend()
    sky.drain(700)
    assert sky.outbox.refused == []
    sky.check_complete()


def test_others_go_on_while_it_is_found_out_at_which_topic_the_broker_closes() -> None:
    sky = Shopful(58)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("gateway")
    sky.run(3)
    for _ in range(40):
        sky.poison.add(("door", sky.outbox.passed(sky.now, "back")))
        sky.record("door")
        sky.run(0.5)
    assert BACK in sky.words
    assert sky.outbox.backlog < 40 + 5, "the others go on"
    assert sky.outbox.refused == []


PATIENT = LinkTimes(connect_s=4.0, connack_s=4.0, ping_s=4, user_timeout_s=4.0)
BACK_ENDS = "event/door/back"


def shopful(seed: int, **broker: Any) -> Shopful:
    sky = Shopful(seed, **broker)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.record("gateway")
    sky.run(3)
    return sky


def test_a_topic_at_which_the_broker_closes_is_asked_alone() -> None:
    sky = Shopful(59)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.pass_both(30, poison=True)
    assert BACK in sky.words
    before = len(sky.closed_beside)
    sky.weather.round_trip_ms = 500
    for _ in range(3000):
        sky.record("door")
        sky.run(0.4)
    assert len(sky.closed_beside) > before
    assert set(sky.closed_beside[before:]) == {0}, "its close takes no other message along"
    assert sky.outbox.backlog < 30 + 50


@pytest.mark.parametrize("code", [None, 0x87])
def test_where_the_backfill_topic_is_open_live_events_of_a_closed_topic_go_there_at_once(code: int | None) -> None:
    sky = shopful(60, closes_at=None if code else BACK_ENDS, denies={BACK_ENDS: code} if code else {})
    sky.pass_both(12)
    assert sky.outbox.backlog < 3
    connects, messages = len(sky.connects), len(sky.sent)
    sky.pass_both(60)
    assert sky.outbox.backlog < 3
    assert len(sky.connects) - connects <= 4, "each costs the connection"
    assert len(sky.sent) - messages < 150, "each is sent once"
    assert BACK in sky.words
    assert sky.outbox.refused == []
    sky.closes_at, sky.denies = None, {}
    sky.run(600)
    sky.pass_both(2)
    sent = len(sky.sent)
    sky.pass_both(3)
    assert sum(message.topic == BACK for _, message in sky.sent[sent:]) == 3, "its own topic is taken again"
    assert sky.words == ""


def test_where_the_backfill_topic_is_closed_the_backlog_goes_event_by_event() -> None:
    sky = shopful(61, closes_at="/backfill")
    sky.cut()
    sky.weather.refuse_connect = 1
    sky.record("door", 60)
    sky.run(20)
    sky.weather.refuse_connect = 0
    connects = len(sky.connects)
    sky.run(200)
    assert sky.outbox.backlog == 0
    assert len(sky.connects) - connects < 12, "one for each batch, not for each event"
    assert sky.outbox.refused == []
    assert "front/backfill" in sky.words


def test_where_one_topic_and_the_backfill_are_closed_others_are_delivered_within_seconds() -> None:
    sky = shopful(62)
    sky.closes_at = "l"  # of `backfill`; and of the door at the back, by each of its events
    for _ in range(15):
        sky.poison.add(("door", sky.outbox.passed(sky.now, "back")))
        sky.record("door")
        sky.run(1)
    assert BACK in sky.words
    assert sky.outbox.backlog < 15 + 4, "the others are delivered"
    assert sky.outbox.refused == []


@pytest.mark.parametrize("settings", [BrokerSettings(url="mqtt://broker.test"), IN_ORDER])
def test_a_topic_that_is_never_acknowledged_is_held_and_all_others_go_on(settings: BrokerSettings) -> None:
    sky = shopful(63, settings=settings, is_deaf_to=BACK_ENDS)
    sky.closes_at = None
    for _ in range(100):
        sky.outbox.passed(sky.now, "back")
        sky.record("door")
        sky.run(1)
    assert BACK in sky.words
    assert "not acknowledge" in sky.words
    connects = len(sky.connects)
    sky.pass_both(120)
    assert len(sky.connects) - connects < 6, "each question costs a connection"
    assert sky.outbox.backlog <= 220 + 2, "the others are delivered"
    assert sky.outbox.refused == []
    sky.is_deaf_to = None
    sky.drain(700)
    assert sky.outbox.refused == []
    sky.check_complete()


@pytest.mark.parametrize("code", ["link.taken_over", "broker.closed"])
def test_a_war_of_two_twins_blames_no_message(code: str) -> None:
    sky = shopful(64)
    chance = Random(64)
    for _ in range(400):
        sky.pass_both(1) if chance.random() < 0.2 else sky.record("door")
        sky.run(chance.uniform(0, 0.5))
        sky.cut(code, in_order=code == "broker.closed")  # often in the middle of a message
        sky.run(chance.uniform(0, 4))
    assert "copied card" in sky.words
    assert sky.outbox.refused == []
    sky.drain(700)
    assert sky.outbox.refused == []
    sky.check_complete()


def test_a_war_of_two_twins_blames_no_topic() -> None:
    sky = shopful(65)
    for _ in range(4):
        sky.run(8)
        sky.cut("broker.closed", in_order=True)
        assert sky.run(400, lambda: sky.uplink.status().up)
    assert "copied card" in sky.words
    for _ in range(12):
        sky.record("gateway")
        sky.run(2)
        sky.outbox.passed(sky.now, "back")
        sky.run(0.005)
        sky.cut("broker.closed", in_order=True)  # while that one alone is under way
        assert sky.run(400, lambda: sky.uplink.status().up)
        sky.uplink.hurry(sky.now)
    assert BACK not in sky.words
    sky.drain(700)
    assert sky.outbox.refused == []


def test_a_long_backlog_of_a_held_topic_is_passed_over_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Shopful(54)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.pass_both(20, 0x87)
    for _ in range(20_000):
        sky.refuses["door", sky.outbox.passed(sky.now, "back")] = 0x87
    sky.cut()
    looks: list[int] = []
    step = sky.uplink.step

    def counted(now: Instant) -> list[Order]:
        before = sky.outbox.reads
        orders = step(now)
        looks.append(sky.outbox.reads - before)
        return orders

    monkeypatch.setattr(sky.uplink, "step", counted)
    sky.outbox.passed(sky.now)
    sky.run(60)
    assert sum(looks) > 200
    assert max(looks) < 20, "the loop has sensors to listen to"
    assert sky.outbox.backlog == 20_020
    sky.mend()
    sky.drain(400)
    assert sky.outbox.refused == []


def test_one_bad_message_of_a_topic_that_is_taken_is_set_aside_as_before() -> None:
    sky = Shopful(55)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.refuses["door", 5] = 0x99
    sky.pass_both(10)
    sky.drain(60)
    assert [entry.sequence for entry, _ in sky.outbox.refused] == [5]


def test_a_single_event_refused_for_ever_for_now_is_told() -> None:
    sky = Shopful(56)
    assert sky.run(10, lambda: sky.uplink.status().up)
    sky.refuses["door", 5] = 0x83
    sky.pass_both(60)
    assert "refused again and again" in sky.words
    assert "door 5" in sky.words
    assert "by a rule of its own" in sky.words


def test_a_batch_refused_for_now_for_one_of_its_events_keeps_no_others_back() -> None:
    sky = Shopful(57)
    sky.weather.refuse_connect = 1
    sky.record("door", 300)
    sky.refuses["door", 5] = 0x83
    sky.run(30)
    sky.weather.refuse_connect = 0
    assert sky.run(400, lambda: sky.uplink.status().up)
    sky.run(60)
    assert sky.outbox.backlog == 1


@pytest.mark.mosquitto
@pytest.mark.slow
def test_an_access_list_without_one_sensors_topic_holds_that_sensor_alone(tmp_path: Path) -> None:
    access = tmp_path / "access"
    prefix = "stores/v1/0042/front"
    rights = f"topic read #\ntopic write {prefix}/state\ntopic write {prefix}/event/door/entrance\n"
    access.write_text(rights)
    with mosquitto(tmp_path, extra=(f"acl_file {access}",)) as broker:
        shop = Shop(BrokerSettings(url=broker.url))
        shop.until(lambda: shop.uplink.status().up)
        for _ in range(22):
            shop.outbox.passed(shop.clock.now(), "back")
            shop.passed(1)
            run(shop, 0.1)
        run(shop, 4)
        status = shop.uplink.status()
        assert shop.outbox.refused == []
        assert shop.outbox.backlog == 22
        assert any(f"topic write {prefix}/event/door/back" in note.advice for note in status.notes)
        mend(broker, access, rights + f"topic write {prefix}/event/door/back\n")
        shop.drain(70)
        assert shop.outbox.refused == []
        shop.close()


NARROW = "^stores\\.v1\\.0042\\.front\\.(state|{}event\\.door\\.entrance)$"


@pytest.mark.slow
@pytest.mark.parametrize("backfill", ["backfill|", ""])
def test_rabbitmq_that_closes_at_one_sensors_topic_gets_all_others_within_seconds(
    tmp_path: Path, backfill: str
) -> None:
    with rabbitmq(tmp_path) as broker:
        broker.allow(NARROW.format(backfill))
        shop = Shop(BrokerSettings(url=broker.url, protocol="3.1.1"), times=PATIENT)
        others: set[int] = set()
        for _ in range(15):
            shop.outbox.passed(shop.clock.now(), "back")
            others.add(shop.outbox.passed(shop.clock.now()))
            end = time.monotonic() + 1
            while time.monotonic() < end:
                shop.uplink.hurry(shop.clock.now())
                shop.step()
        held = len([number for number in shop.outbox.pending("door") if number in others])
        assert held <= 2, "the others are delivered"
        assert any(BACK in note.detail for note in shop.uplink.status(shop.clock.now()).notes)
        assert shop.uplink.counters.connects < 20
        broker.allow(".*")
        shop.drain(60, hurry=True)
        assert shop.outbox.refused == []
        shop.close()
