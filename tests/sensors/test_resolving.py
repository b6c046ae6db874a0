"""Addresses and identifiers that change, resolved by their keys: published vectors, the clock, and what has no key."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.model import NS_PER_S
from gateway.sensors.scanner.ciphers import aes_block
from gateway.sensors.scanner.resolving import ADDRESSES_MAX, EidKey, Resolver, address_hash, ephemeral_id, started_ns
from gateway.sensors.scanner.tags import EddystoneEidRule, TagRule
from tests.sensors.test_beacon import MIDDAY_NS, SEALED_TLM, TLM, Shop, ibeacon

pytest.importorskip("cryptography")

IRK = "ec0234a357c8ad05341010a60a397d9b"
RESOLVABLE = "70:81:94:0d:fb:aa"
"""Core Specification vol 3 part H appendix D.7: prand 708194, hash 0dfbaa."""
EID_KEY = bytes.fromhex("0102030405060708090a111213141516")
EID_VECTORS = {0: "a9b76a71c5f89290", 2000: "4144413e45fefa58"}
"""RadiusNetworks/ephemeral_calc, spec/encryptor_spec.rb: exponent 10, the clock in seconds."""
EVERY_S = 1024


def eid_frame(eid: str) -> bytes:
    return bytes.fromhex(f"0201060303aafe0d16aafe30ee{eid}")


@pytest.fixture
def irk_rule(tmp_path: Path) -> TagRule:
    (tmp_path / "irk").write_text(f"{IRK}\n")
    return TagRule("badge", irk_file=str(tmp_path / "irk"))


@pytest.fixture
def eid_rule(tmp_path: Path) -> TagRule:
    (tmp_path / "eid").write_text(EID_KEY.hex())
    return TagRule("crate", eddystone_eid=EddystoneEidRule(str(tmp_path / "eid"), "2026-11-01T00:00:00Z"))


def eid_at(wall_ns: int) -> str:
    return ephemeral_id(EID_KEY, 10, (wall_ns - started_ns("2026-11-01T00:00:00Z")) // NS_PER_S)


class TestResolvablePrivateAddresses:
    def test_the_hash_is_that_of_the_specification(self) -> None:
        assert address_hash(aes_block(bytes.fromhex(IRK)), bytes.fromhex("708194")) == bytes.fromhex("0dfbaa")

    def test_a_key_fits_its_own_addresses_alone(self) -> None:
        resolver = Resolver([(bytes.fromhex(IRK), "badge")])
        assert resolver.by_address(RESOLVABLE) == "badge"
        assert resolver.by_address(RESOLVABLE) == "badge", "remembered"
        assert resolver.by_address("70:81:94:0d:fb:ab") is None
        assert resolver.by_address("f0:81:94:0d:fb:aa") is None, "a static address is not resolvable"

    def test_a_crowd_of_addresses_does_not_fill_the_memory(self) -> None:
        resolver = Resolver([(bytes.fromhex(IRK), "badge")])
        for n in range(ADDRESSES_MAX + 10):
            resolver.by_address((0x400000000000 + n).to_bytes(6, "big").hex(":"))
        assert len(resolver._addresses) == ADDRESSES_MAX

    def test_a_tag_that_changes_its_address_is_one_visit_and_no_stranger(self, irk_rule: TagRule) -> None:
        block = aes_block(bytes.fromhex(IRK))
        shop = Shop(irk_rule, anonymous_min=1)
        for n in range(5):
            random_part = bytes((0x40 + n, n, 7))
            address = (random_part + address_hash(block, random_part)).hex(":")
            shop.hear(10.0 * n, bytes.fromhex("0201060bff4c001006") + bytes(6), address)
        shop.finish(100)
        assert [kind for kind, _, _ in shop.told() if kind != "counted"] == ["arrived", "left"]
        assert shop.told("arrived")[0][2]["tag"] == "badge"
        assert "identity" not in shop.told("arrived")[0][2], "the rule names one device"
        assert all("devices" not in data for _, _, data in shop.told("counted"))


class TestEddystoneEid:
    @pytest.mark.parametrize(("seconds", "eid"), EID_VECTORS.items())
    def test_published_identifiers(self, seconds: int, eid: str) -> None:
        assert ephemeral_id(EID_KEY, 10, seconds) == eid

    def test_an_identifier_holds_for_its_period(self) -> None:
        assert ephemeral_id(EID_KEY, 10, 2047) == EID_VECTORS[2000]
        assert ephemeral_id(EID_KEY, 10, 2048) != EID_VECTORS[2000]

    def test_a_beacon_is_one_visit_over_its_periods_and_its_tlm_belongs_to_it(self, eid_rule: TagRule) -> None:
        shop = Shop(eid_rule, left_after_s=1200)
        address = "d0:00:00:00:00:07"
        for n in range(4):
            s = 1000.0 * n
            shop.hear(s, eid_frame(eid_at(MIDDAY_NS + round(s * NS_PER_S))), address)
        shop.hear(3100, SEALED_TLM, address)
        shop.finish(9000)
        visits = [(kind, s) for kind, s, _ in shop.told() if kind in ("arrived", "left")]
        assert visits == [("arrived", 0.0), ("left", 3100.0)]

    @pytest.mark.parametrize(("off_s", "is_known"), [(3 * EVERY_S, True), (-3 * EVERY_S, True), (9 * EVERY_S, False)])
    def test_a_clock_may_be_some_periods_off(self, off_s: int, is_known: bool) -> None:
        key = EidKey(EID_KEY, 10, 0, "crate")
        resolver = Resolver(eids=[key])
        wall_ns = 1_000_000 * NS_PER_S
        eid = ephemeral_id(EID_KEY, 10, 1_000_000 + off_s)
        assert (resolver.by_eid(eid, wall_ns) == "crate") is is_known

    def test_before_the_clock_is_set_nobody_is_resolved_and_nothing_breaks(self, eid_rule: TagRule) -> None:
        resolver = Resolver(eids=[EidKey(EID_KEY, 10, started_ns("2026-11-01T00:00:00Z"), "crate")])
        assert resolver.by_eid(EID_VECTORS[0], 0) is None

    @pytest.mark.parametrize("started", ["yesterday", "2026-11-01T00:00:00"])
    def test_when_its_clock_began_must_be_told_with_a_zone(self, started: str) -> None:
        with pytest.raises(ValueError, match="started"):
            EddystoneEidRule("/k", started)


def test_without_its_key_a_tag_is_a_stranger_and_the_fault_says_why(tmp_path: Path) -> None:
    shop = (
        Shop(TagRule("badge", irk_file=str(tmp_path / "none"))).hear(0, TLM, RESOLVABLE).hear(1, ibeacon(), RESOLVABLE)
    )
    assert [kind for kind, _, _ in shop.told()] == ["failed"]
    assert "identity key of tag badge cannot be read" in shop.told("failed")[0][2]["detail"]


def test_no_key_stands_in_a_representation(irk_rule: TagRule, eid_rule: TagRule) -> None:
    from gateway.sensors.scanner.drivers.tag_keys import opened_keys

    assert EID_KEY.hex() not in repr(EidKey(EID_KEY, 10, 0, "x"))
    said = repr(opened_keys([irk_rule, eid_rule]))
    assert IRK not in said
    assert str(EID_KEY) not in said
