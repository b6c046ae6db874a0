"""A scanner's advertisements into events: tags by every rule, strangers as a number, time at each edge."""

from __future__ import annotations

import dataclasses
import itertools
import random
import tracemalloc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.model import NS_PER_S, ClockTrust, Event, Instant, data_of, rfc3339
from gateway.sensors.kind import Context, Faults
from gateway.sensors.scanner.interpreter import BeaconInterpreter, Strangers
from gateway.sensors.scanner.kind import KIND
from gateway.sensors.scanner.reading import Advertisement
from gateway.sensors.scanner.settings import ScannerSettings
from gateway.sensors.scanner.tags import AltBeaconRule, EddystoneRule, IBeaconRule, TagRule

UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
NAMESPACE = "edd1ebeac04e5defa017"
MIDDAY_NS = 1_795_000_500 * NS_PER_S - 1_795_000_500 * NS_PER_S % (900 * NS_PER_S)  # at a quarter of an hour
PLAIN = bytes.fromhex("020106")
TLM = bytes.fromhex("0201060303aafe1116aafe20000b1813000000146700002ac4")
SEALED_TLM = bytes.fromhex("0201060303aafe1116aafe2001" + "41" * 12)
RUUVI = bytes.fromhex("1BFF99040512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
BTHOME_SEALED = bytes.fromhex("1216d2fc41a47266c95f730011223378237214")
BTHOME_KEY = "231d39c1d7cc1ab1aee224cd096db932"
BTHOME_ADDRESS = "54:48:e6:8f:80:a5"
CART = "c4:64:e3:00:00:01"


def ibeacon(major: int = 1, minor: int = 2, uuid: str = UUID) -> bytes:
    return bytes.fromhex(f"0201061aff4c000215{uuid.replace('-', '')}{major:04x}{minor:04x}c5")


def uid(instance: int = 1, namespace: str = NAMESPACE) -> bytes:
    return bytes.fromhex(f"0201060303aafe1716aafe00ee{namespace}{instance:012x}0000")


def altbeacon(digits: str) -> bytes:
    return bytes.fromhex(f"1bffffffbeac{digits}c400")


def moment(s: float, clock: ClockTrust = "synced", wall_ns: int = MIDDAY_NS) -> Instant:
    return Instant(round(s * NS_PER_S), wall_ns + round(s * NS_PER_S), clock)


class Shop:
    """One scanner at work, and the events that it told."""

    def __init__(self, *rules: TagRule, anonymous_min: int = 5, **settings: Any) -> None:
        self.settings = ScannerSettings("ble", tags=rules, **settings)
        self.context = Context(Faults("ble"), ZoneInfo("UTC"), anonymous_min)
        self.interpreter = KIND.interpreter(self.settings, self.context)
        self.events: list[Event] = []

    def hear(self, s: float, payload: bytes, address: str = CART, rssi_dbm: int | None = -60) -> Shop:
        self.events += self.interpreter.read(Advertisement("ble", moment(s), address, "random", rssi_dbm, payload))
        return self

    def finish(self, s: float) -> Shop:
        self.events += self.interpreter.tick(moment(s))
        self.events += self.interpreter.finish(moment(s))
        return self

    def told(self, *kinds: str) -> list[tuple[str, float, Mapping[str, Any]]]:
        """(type, seconds, data) of the events of these kinds (all but `counted`, where none is named)."""
        rows = [
            (event.fact.type.split(".")[-1], event.at.boot_ns / NS_PER_S, data_of(event.fact)) for event in self.events
        ]
        return [row for row in rows if row[0] in kinds or (not kinds and row[0] != "counted")]

    def identities(self) -> list[tuple[str, str | None]]:
        return [(data["tag"], data.get("identity")) for _, _, data in self.told("arrived")]


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "payload", "identity"),
        [
            (TagRule("t", ibeacon=IBeaconRule(UUID)), ibeacon(3, 4), f"ibeacon:{UUID}:3:4"),
            (TagRule("t", ibeacon=IBeaconRule(UUID.upper().replace("-", ""))), ibeacon(), f"ibeacon:{UUID}:1:2"),
            (TagRule("t", ibeacon=IBeaconRule(UUID, 1)), ibeacon(), f"ibeacon:{UUID}:1:2"),
            (TagRule("t", ibeacon=IBeaconRule(UUID, minor=2)), ibeacon(), f"ibeacon:{UUID}:1:2"),
            (TagRule("t", ibeacon=IBeaconRule(UUID, 1, 2)), ibeacon(), None),
            (TagRule("t", eddystone=EddystoneRule(NAMESPACE)), uid(9), f"eddystone:{NAMESPACE}:000000000009"),
            (TagRule("t", eddystone=EddystoneRule(NAMESPACE.upper(), "00000000000A")), uid(10), None),
            (TagRule("t", altbeacon=AltBeaconRule("Ab" * 16)), altbeacon("ab" * 20), f"altbeacon:{'ab' * 20}"),
            (TagRule("t", altbeacon=AltBeaconRule("ab" * 20)), altbeacon("ab" * 20), None),
            (TagRule("t", address=CART.upper()), PLAIN, None),
            (TagRule("t", address=CART), b"", None),
        ],
    )
    def test_names_a_tag(self, rule: TagRule, payload: bytes, identity: str | None) -> None:
        assert Shop(rule).hear(0, payload).identities() == [("t", identity)]

    @pytest.mark.parametrize(
        ("rule", "payload"),
        [
            (TagRule("t", ibeacon=IBeaconRule(UUID)), ibeacon(uuid="00" * 16)),
            (TagRule("t", ibeacon=IBeaconRule(UUID, 2)), ibeacon(1)),
            (TagRule("t", ibeacon=IBeaconRule(UUID, 1, 3)), ibeacon(1, 2)),
            (TagRule("t", eddystone=EddystoneRule(NAMESPACE, "000000000002")), uid(1)),
            (TagRule("t", altbeacon=AltBeaconRule("ab" * 16)), altbeacon("ac" * 20)),
            (TagRule("t", address="c4:64:e3:00:00:99"), ibeacon()),
        ],
    )
    def test_names_no_other(self, rule: TagRule, payload: bytes) -> None:
        assert Shop(rule).hear(0, payload).told() == []

    def test_the_first_rule_that_fits_wins(self) -> None:
        one, all_ = TagRule("one", ibeacon=IBeaconRule(UUID, 1, 2)), TagRule("all", ibeacon=IBeaconRule(UUID))
        assert [tag for tag, _ in Shop(one, all_).hear(0, ibeacon()).identities()] == ["one"]
        assert [tag for tag, _ in Shop(all_, one).hear(0, ibeacon()).identities()] == ["all"]
        cart = TagRule("cart", address=CART)
        assert [tag for tag, _ in Shop(cart, all_).hear(0, ibeacon()).identities()] == ["cart"]
        assert [tag for tag, _ in Shop(all_, cart).hear(0, ibeacon()).hear(1, PLAIN).identities()] == ["all", "cart"]

    def test_the_first_rule_wins_among_the_frames_of_one_payload(self) -> None:
        one, two = TagRule("one", altbeacon=AltBeaconRule("ab" * 20)), TagRule("two", ibeacon=IBeaconRule(UUID, 1, 2))
        both = ibeacon() + altbeacon("ab" * 20)
        assert [tag for tag, _ in Shop(one, two).hear(0, both).identities()] == ["one"]
        assert [tag for tag, _ in Shop(two, one).hear(0, both).identities()] == ["two"]

    def test_each_device_of_a_group_has_a_visit_of_its_own(self) -> None:
        shop = Shop(TagRule("loyalty", ibeacon=IBeaconRule(UUID)))
        shop.hear(0, ibeacon(1, 1)).hear(1, ibeacon(1, 2)).hear(2, ibeacon(1, 1))
        assert [identity for _, identity in shop.identities()] == [f"ibeacon:{UUID}:1:1", f"ibeacon:{UUID}:1:2"]

    def test_a_device_stays_itself_when_its_address_changes(self) -> None:
        shop = Shop(TagRule("loyalty", ibeacon=IBeaconRule(UUID)))
        shop.hear(0, ibeacon(), "40:00:00:00:00:01").hear(10, ibeacon(), "40:00:00:00:00:02")
        assert len(shop.told()) == 1

    def test_rules_of_one_tag_that_name_one_device_each_are_one_visit(self) -> None:
        shop = Shop(TagRule("cart", address=CART), TagRule("cart", ibeacon=IBeaconRule(UUID, 1, 2)))
        shop.hear(0, PLAIN).hear(5, ibeacon(), "40:00:00:00:00:01")
        assert [kind for kind, _, _ in shop.told()] == ["arrived"]

    @pytest.mark.parametrize(
        "rule",
        [{}, {"address": CART, "ibeacon": IBeaconRule(UUID)}, {"ibeacon": IBeaconRule(UUID), "bindkey_file": "/k"}],
    )
    def test_that_cannot_be(self, rule: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="rule"):
            TagRule("t", **rule)

    def test_two_that_look_for_the_same(self) -> None:
        with pytest.raises(ValueError, match="look for the same"):
            ScannerSettings("ble", tags=(TagRule("a", address=CART), TagRule("b", address=CART.upper())))


class TestEvents:
    def test_a_visit_in_the_contracts_words(self) -> None:
        shop = Shop(TagRule("cart-12", address=CART))
        for s in range(20):
            shop.hear(s, PLAIN, rssi_dbm=-70)
        for s in range(20, 30):
            shop.hear(s, PLAIN, rssi_dbm=-45)
        shop.finish(100)
        assert shop.told() == [
            ("arrived", 0.0, {"tag": "cart-12", "proximity": "near", "rssi_dbm": -70}),
            ("moved", 20.0, {"tag": "cart-12", "from": "near", "to": "immediate", "rssi_dbm": -45}),
            ("left", 29.0, {"tag": "cart-12", "dwell_ms": 29_000, "rssi_max_dbm": -45}),
        ]

    def test_left_is_told_by_time_alone(self) -> None:
        shop = Shop(TagRule("cart-12", address=CART)).hear(0, PLAIN)
        assert shop.interpreter.due_ns() == 30 * NS_PER_S
        assert [event.at.boot_ns for event in shop.interpreter.tick(moment(30))] == [0]
        assert shop.interpreter.due_ns() is None

    def test_the_end_of_readings_ends_every_visit(self) -> None:
        shop = Shop(TagRule("cart-12", address=CART)).hear(0, PLAIN).hear(5, PLAIN).finish(6)
        assert [(kind, s) for kind, s, _ in shop.told()] == [("arrived", 0.0), ("left", 5.0)]

    def test_a_visit_keeps_the_pseudonym_that_it_began_with(self) -> None:
        shop = Shop()
        rule = TagRule("loyalty", ibeacon=IBeaconRule(UUID))
        context = Context(Faults("ble"), identify=lambda identity, at: f"day-{at.boot_ns // (10 * NS_PER_S)}")
        shop.interpreter = BeaconInterpreter(ScannerSettings("ble", tags=(rule,)), context)
        shop.hear(9, ibeacon()).hear(11, ibeacon()).hear(12, ibeacon(5, 5)).finish(60)
        identities = [(kind, data["identity"]) for kind, _, data in shop.told()]
        assert identities == [("arrived", "day-0"), ("arrived", "day-1"), ("left", "day-0"), ("left", "day-1")]

    def test_identity_none_is_absent(self) -> None:
        rule = TagRule("loyalty", ibeacon=IBeaconRule(UUID))
        shop = Shop()
        context = Context(Faults("ble"), identify=lambda identity, at: None)
        shop.interpreter = BeaconInterpreter(ScannerSettings("ble", tags=(rule,)), context)
        shop.hear(0, ibeacon()).finish(1)
        assert ["identity" in data for _, _, data in shop.told()] == [False, False]

    def test_ticks_in_between_change_nothing(self) -> None:
        def run(tick_s: float | None) -> list[Event]:
            shop = Shop(TagRule("cart", address=CART), counted_every=60.0)
            ticked = 0.0
            shop.events += shop.interpreter.tick(moment(0))
            for n in range(300):
                s = n * 1.7 if n % 50 else n * 1.7 + 0.1
                while tick_s is not None and ticked < s:
                    shop.events += shop.interpreter.tick(moment(ticked))
                    ticked += tick_s
                shop.hear(s, PLAIN, CART if n % 60 < 20 else f"40:00:00:00:00:{n % 256:02x}", -70 - n % 30)
            return shop.finish(600).events

        assert run(None) == run(0.35) == run(13.0)


class TestTelemetry:
    @pytest.mark.parametrize(
        ("payload", "carried"),
        [
            (TLM, {"battery_mv": 2840, "temperature_celsius": 19.0, "uptime_ms": 1_094_800, "advertisements": 5223}),
            (
                RUUVI,
                {
                    "battery_mv": 2977,
                    "temperature_celsius": 24.3,
                    "humidity_percent": 53.49,
                    "pressure_pascal": 100_044,
                },
            ),
            (
                bytes.fromhex("0b16d2fc40016402ca092e23"),
                {"battery_percent": 100, "temperature_celsius": 25.06, "humidity_percent": 35},
            ),
        ],
    )
    def test_what_the_frame_carries(self, payload: bytes, carried: dict[str, Any]) -> None:
        shop = Shop(TagRule("cold-room", address=CART, telemetry=True)).hear(3, payload)
        assert shop.told("telemetry") == [("telemetry", 3.0, {"tag": "cold-room", **carried})]

    def test_only_of_tags_that_are_to_tell_it(self) -> None:
        assert Shop(TagRule("cold-room", address=CART)).hear(0, RUUVI).told("telemetry") == []

    def test_first_then_at_most_every_five_minutes(self) -> None:
        shop = Shop(TagRule("cold-room", address=CART, telemetry=True))
        for s in range(0, 901, 10):
            shop.hear(s, RUUVI)
        assert [s for _, s, _ in shop.told("telemetry")] == [0.0, 300.0, 600.0, 900.0]

    def test_also_while_too_weak_for_a_visit(self) -> None:
        shop = Shop(TagRule("cold-room", address=CART, telemetry=True)).hear(0, RUUVI, rssi_dbm=-95)
        assert [kind for kind, _, _ in shop.told()] == ["telemetry"]

    def test_of_nothing_available_is_not_told_and_does_not_use_up_the_turn(self) -> None:
        nothing = bytes.fromhex("1BFF9904" + "058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF")
        shop = Shop(TagRule("cold-room", address=CART, telemetry=True)).hear(0, nothing).hear(1, RUUVI)
        assert [s for _, s, _ in shop.told("telemetry")] == [1.0]

    def test_tlm_belongs_to_the_tag_last_identified_at_its_address(self) -> None:
        shop = Shop(TagRule("fridge", eddystone=EddystoneRule(NAMESPACE), telemetry=True))
        shop.hear(0, TLM).hear(1, uid(1)).hear(2, TLM, "40:00:00:00:00:01").hear(3, TLM)
        ((_, s, data),) = shop.told("telemetry")
        assert (s, data["tag"], data["identity"]) == (3.0, "fridge", f"eddystone:{NAMESPACE}:000000000001")

    def test_tlm_of_an_address_that_another_tag_took_over(self) -> None:
        shop = Shop(TagRule("fridge", eddystone=EddystoneRule(NAMESPACE), telemetry=True))
        shop.hear(0, uid(1)).hear(1, uid(2)).hear(2, TLM)
        ((_, _, data),) = shop.told("telemetry")
        assert data["identity"].endswith("2")

    @pytest.mark.parametrize("frame", [TLM, SEALED_TLM])
    def test_a_tag_that_sends_tlm_is_here(self, frame: bytes) -> None:
        shop = Shop(TagRule("fridge", eddystone=EddystoneRule(NAMESPACE))).hear(0, uid()).hear(25, frame).finish(99)
        assert shop.told("left")[0][1] == 25.0

    def test_encrypted_with_its_key(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(f"{BTHOME_KEY}\n")
        shop = Shop(TagRule("cold-room", address=BTHOME_ADDRESS, bindkey_file=str(tmp_path / "key")))
        shop.hear(0, BTHOME_SEALED, BTHOME_ADDRESS)
        ((_, _, data),) = shop.told("telemetry")
        assert data == {"tag": "cold-room", "temperature_celsius": 25.06, "humidity_percent": 50.55}

    @pytest.mark.parametrize(
        ("content", "says"), [(None, "cannot be read"), ("zz", "32 hex digits"), ("00" * 15, "32 hex")]
    )
    def test_a_key_that_cannot_be_used_is_a_fault_and_the_tag_is_still_here(
        self, tmp_path: Path, content: str | None, says: str
    ) -> None:
        if content is not None:
            (tmp_path / "key").write_text(content)
        shop = Shop(TagRule("cold-room", address=BTHOME_ADDRESS, bindkey_file=str(tmp_path / "key")))
        shop.hear(0, BTHOME_SEALED, BTHOME_ADDRESS)
        assert [kind for kind, _, _ in shop.told()] == ["failed", "arrived"]
        assert shop.told("failed")[0][2]["reason"] == "driver_missing"
        assert says in shop.told("failed")[0][2]["detail"]

    def test_without_cryptography_an_encrypted_tag_is_a_fault(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("cryptography", "cryptography.exceptions"):
            monkeypatch.setitem(__import__("sys").modules, module, None)
        (tmp_path / "key").write_text(BTHOME_KEY)
        shop = Shop(TagRule("cold-room", address=BTHOME_ADDRESS, bindkey_file=str(tmp_path / "key")))
        shop.hear(0, BTHOME_SEALED, BTHOME_ADDRESS)
        assert "cryptography is not installed" in shop.told("failed")[0][2]["detail"]
        assert BTHOME_KEY not in str(shop.told())


def addresses(count: int) -> list[str]:
    return [n.to_bytes(6, "big").hex(":") for n in range(count)]


class TestStrangers:
    def test_are_a_number_and_nothing_else(self) -> None:
        shop = Shop(TagRule("cart", address=CART))
        for n, address in enumerate(addresses(7) * 3):
            shop.hear(n, ibeacon(), address)
        shop.finish(60)
        assert [kind for kind, _, _ in shop.told()] == []
        ((_, _, data),) = shop.told("counted")
        assert data == {"from": rfc3339(MIDDAY_NS), "to": rfc3339(MIDDAY_NS + 60 * NS_PER_S), "devices": 7}
        assert not any(address in repr(shop.events) for address in addresses(7))

    def test_fewer_than_the_minimum_are_absent(self) -> None:
        shop = Shop(anonymous_min=5)
        for address in addresses(4):
            shop.hear(0, PLAIN, address)
        assert "devices" not in shop.finish(60).told("counted")[0][2]
        assert Shop(anonymous_min=0).hear(0, PLAIN).finish(60).told("counted")[0][2]["devices"] == 1

    def test_a_tag_is_no_stranger_whatever_else_it_sends(self) -> None:
        shop = Shop(TagRule("fridge", eddystone=EddystoneRule(NAMESPACE)), anonymous_min=0)
        shop.hear(0, PLAIN).hear(1, uid()).hear(2, PLAIN).hear(3, PLAIN, "40:00:00:00:00:01").finish(60)
        assert shop.told("counted")[0][2]["devices"] == 1

    def test_intervals_are_contiguous_aligned_and_told_when_empty(self) -> None:
        shop = Shop(anonymous_min=0).hear(100, PLAIN).hear(1000, PLAIN)
        shop.finish(3000)
        spans = [(data["from"], data["to"], data["devices"]) for _, _, data in shop.told("counted")]
        edges = [rfc3339(MIDDAY_NS + s * NS_PER_S) for s in (100, 900, 1800, 2700, 3000)]
        assert spans == [(*pair, count) for pair, count in zip(itertools.pairwise(edges), (1, 1, 0, 0), strict=True)]

    def test_an_interval_is_cut_where_the_clock_is_set(self) -> None:
        shop = Shop(anonymous_min=0).hear(0, PLAIN)
        before, after = moment(50), moment(50, wall_ns=MIDDAY_NS + 3600 * NS_PER_S)
        shop.events += shop.interpreter.clock_set(before, after)
        shop.events += shop.interpreter.finish(after.later(10 * NS_PER_S))
        spans = [(data["from"], data["to"]) for _, _, data in shop.told("counted")]
        assert spans == [
            (rfc3339(MIDDAY_NS), rfc3339(before.wall_ns)),
            (rfc3339(after.wall_ns), rfc3339(after.wall_ns + 10 * NS_PER_S)),
        ]

    @pytest.mark.parametrize(
        ("heard_s", "order"),
        [(875, ["arrived", "counted", "left", "counted"]), (865, ["arrived", "left", "counted", "counted"])],
    )
    def test_an_interval_and_a_departure_are_told_in_the_order_of_time(self, heard_s: float, order: list[str]) -> None:
        shop = Shop(TagRule("cart", address=CART)).hear(heard_s, PLAIN).finish(950)
        assert [event.fact.type.split(".")[-1] for event in shop.events] == order

    def test_so_many_that_they_are_estimated(self) -> None:
        strangers = Strangers(limit=1000)
        for address in addresses(20_000):
            strangers.add(address)
            strangers.add(address)
        assert strangers.count() == pytest.approx(20_000, rel=0.15)

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.sensors.scanner.tags.CONTENTS_MAX", 64)
        monkeypatch.setattr("gateway.sensors.scanner.tags.IDENTIFIED_MAX", 16)
        shop = Shop(TagRule("loyalty", ibeacon=IBeaconRule(UUID)))
        for n, address in enumerate(addresses(500)):
            shop.hear(n * 0.001, ibeacon(0, n), address, rssi_dbm=-95)
        rules = shop.interpreter._rules  # type: ignore[attr-defined]
        assert len(rules._young) + len(rules._old) <= 64
        assert len(rules._identified) == 16

    @pytest.mark.slow
    def test_memory_is_bounded_under_5_000_random_addresses_a_minute(self) -> None:
        """Bounded by Python's own count of it: six minutes of strangers, 30,000 addresses and payloads."""
        shop, dice = Shop(TagRule("loyalty", ibeacon=IBeaconRule(UUID))), random.Random(1)
        tracemalloc.start()
        try:
            for n in range(30_000):
                address = ":".join(f"{octet:02x}" for octet in dice.randbytes(6))
                shop.hear(n * 0.012, dice.randbytes(24), address, rssi_dbm=-80)
            assert tracemalloc.get_traced_memory()[1] < 12 * 1024 * 1024
        finally:
            tracemalloc.stop()


class TestReadings:
    LINE: Mapping[str, Any] = {"address": CART, "address_type": "random", "rssi_dbm": -71, "payload": "020106"}

    def test_line_and_back(self) -> None:
        reading = KIND.reading_of("ble", moment(0), self.LINE)
        assert reading == Advertisement("ble", moment(0), CART, "random", -71, PLAIN)
        assert KIND.line_of(reading) == self.LINE

    def test_upper_case_is_read_as_lower(self) -> None:
        reading = KIND.reading_of("ble", moment(0), {**self.LINE, "address": CART.upper()})
        assert KIND.line_of(reading)["address"] == CART

    @pytest.mark.parametrize("rssi_dbm", [127, -127, -129, -4294967169, 21, None])
    def test_rssi_outside_its_range_is_not_available(self, rssi_dbm: int | None) -> None:
        reading = KIND.reading_of("ble", moment(0), {**self.LINE, "rssi_dbm": rssi_dbm})
        assert "rssi_dbm" not in KIND.line_of(reading)

    @pytest.mark.parametrize("rssi_dbm", [-126, 20])
    def test_rssi_at_the_ends_of_its_range(self, rssi_dbm: int) -> None:
        assert (
            KIND.line_of(KIND.reading_of("ble", moment(0), {**self.LINE, "rssi_dbm": rssi_dbm}))["rssi_dbm"] == rssi_dbm
        )

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("address", None),
            ("address", "c4:64:e3:00:00"),
            ("address", 7),
            ("address_type", "static"),
            ("rssi_dbm", "-71"),
            ("rssi_dbm", True),
            ("rssi_dbm", -71.5),
            ("payload", None),
            ("payload", "02010"),
            ("payload", "zz"),
            ("payload", "00" * 1651),
        ],
    )
    def test_a_line_that_is_wrong_says_which_key(self, key: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f'"{key}"'):
            KIND.reading_of("ble", moment(0), {**self.LINE, key: value})

    def test_no_address_in_a_repr(self) -> None:
        reading = KIND.reading_of("ble", moment(0), self.LINE)
        assert CART not in repr(reading)
        assert "020106" not in repr(reading)


def test_every_fact_is_a_key_of_the_contract() -> None:
    expected = {
        "arrived": ["tag", "identity", "proximity", "rssi_dbm"],
        "moved": ["tag", "identity", "from_", "to", "rssi_dbm"],
        "left": ["tag", "identity", "dwell_ms", "rssi_max_dbm"],
        "counted": ["from_", "to", "devices"],
    }
    for fact in KIND.facts:
        name = fact.type.removeprefix("store.beacon.")
        if name in expected:
            assert [field.name for field in dataclasses.fields(fact)] == expected[name]  # type: ignore[arg-type]
    assert KIND.stream == "beacon"


def _all(events: Iterable[Event]) -> list[str]:
    return [event.fact.type for event in events]


def test_a_reading_of_another_kind_is_passed_over() -> None:
    from gateway.model import Reading

    shop = Shop()
    assert _all(shop.interpreter.read(Reading("ble", moment(0)))) == []
