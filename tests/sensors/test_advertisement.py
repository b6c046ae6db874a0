"""Published vectors of every format, and bytes that mean nothing."""

from __future__ import annotations

import random
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sensors.scanner.advertisement import (
    AltBeacon,
    EddystoneEid,
    EddystoneTlm,
    EddystoneUid,
    EddystoneUrl,
    Frame,
    IBeacon,
    Private,
    Ruuvi,
    decode,
    power_dbm,
)
from gateway.sensors.scanner.ciphers import aes_ccm
from gateway.sensors.scanner.telemetry import (
    QUANTITIES,
    BtHome,
    BtHomeOpener,
    Telemetry,
    bthome_objects,
    eddystone_tlm,
    ruuvi_raw_v2,
)

VECTORS: dict[str, tuple[str, Frame]] = {
    # Ernst79/bleparser test_ibeacon_parser.py
    "ibeacon": (
        "02011A1AFF4C000215E2C56DB5DFFB48D2B060D0F5A71096E000640000C5",
        IBeacon("e2c56db5-dffb-48d2-b060-d0f5a71096e0", 100, 0, -59),
    ),
    # citruz/beacontools test_parser.py
    "ibeacon 2": (
        "0201061aff4c000215414243444546474849404142434445460001" + "0002f8",
        IBeacon("41424344-4546-4748-4940-414243444546", 1, 2, -8),
    ),
    # The same: flags 0x04, a real device's.
    "ibeacon of a sensor": (
        "0201041aff4c000215000500010000100080000080" + "5f9b013100026c66c3",
        IBeacon("00050001-0000-1000-8000-00805f9b0131", 2, 0x6C66, -61),
    ),
    # bleparser test_ibeacon_parser.py: an iPhone that is no iBeacon.
    "iphone": ("02011A020A0C0FFF4C000F06A033BD08C5001002440C", Private("apple")),
    # bleparser test_altbeacon_parser.py
    "altbeacon": (
        "1BFFFFFFBEACD3162F5AF3EE494799DB09756062D0FC005A0005C400",
        AltBeacon("d3162f5af3ee494799db09756062d0fc005a0005", -60),
    ),
    # beacontools; tx power -29 dBm at 0 m
    "uid": (
        "0201060303aafe1716aafe00e312345678901234678901000000000001" + "0000",
        EddystoneUid("12345678901234678901", "000000000001", -70),
    ),
    "url": ("0303AAFE1316AAFE10F8036769746875620063697472757a", EddystoneUrl("https://github.com/citruz", -49)),
    # 2840 mV, 19 °C, 5223 advertisements, 1094.8 s; one byte lies behind the AD structures.
    "tlm": (
        "0201060303aafe1116aafe20000b1813000000146700002ac4e4",
        EddystoneTlm(Telemetry(2840, None, 19.0, None, None, 1_094_800, 5223)),
    ),
    "tlm, encrypted": ("0201060303aafe1116aafe2001414141414141414141414141deadbeff", EddystoneTlm(None)),
    "eid": ("0201060303aafe0d16aafe30e34549445f74657374", EddystoneEid("4549445f74657374", -70)),
    # ruuvi/ruuvi-sensor-protocols dataformat_05.md, valid data
    "ruuvi": (
        "1BFF9904" + "0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F",
        Ruuvi(Telemetry(2977, None, 24.3, 53.49, 100_044)),
    ),
    "exposure notification": ("03036ffd17166ffd" + "00" * 20, Private("exposure notification")),
    "bthome": ("0816d2fc4004138A01", BtHome(bytes.fromhex("4004138A01"))),
}


@pytest.mark.parametrize("name", VECTORS)
def test_published_vector(name: str) -> None:
    payload, frame = VECTORS[name]
    assert decode(bytes.fromhex(payload)) == (frame,)


def test_power_at_one_metre() -> None:
    assert power_dbm(decode(bytes.fromhex(VECTORS["uid"][0]))) == -29 - 41
    assert power_dbm(decode(bytes.fromhex(VECTORS["tlm"][0]))) is None


def test_several_frames_in_one_payload_are_all_read() -> None:
    frames = decode(bytes.fromhex(VECTORS["bthome"][0] + VECTORS["altbeacon"][0]))
    assert frames == (VECTORS["bthome"][1], VECTORS["altbeacon"][1])


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "00",
        "0201060303",
        "02",
        "ff",
        "01ff",
        "03ff4c00",
        "0201060303abfe1716abfe00e31234567890123467890100000000000100" + "00",  # another service
        "0201060303aafe1716aafe01e31234567890123467890100000000000100" + "00",  # unknown frame type
        "0000001aff4c000215" + "00" * 21,  # a length of zero ends the payload
        "1bff4c000215" + "00" * 21,  # one byte short of its own length
        "1916aafe00e3",
        "0316d2fc",
    ],
)
def test_what_is_cut_short_or_unknown_is_no_beacon(payload: str) -> None:
    frames = decode(bytes.fromhex(payload))
    assert all(isinstance(frame, Private | BtHome) for frame in frames)


def test_what_stands_before_the_damage_counts() -> None:
    assert decode(bytes.fromhex(VECTORS["ibeacon"][0] + "1aff4c00")) == (VECTORS["ibeacon"][1],)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "057FFFFFFEFFFE7FFF7FFF7FFFFFDEFEFFFECBB8334C884F",
            Telemetry(3646, None, 163.835, None, 115_534),  # humidity above 100 % is a defect, says Ruuvi
        ),
        ("058001000000008001800180010000000000CBB8334C884F", Telemetry(1600, None, -163.835, 0.0, 50_000)),
        ("058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF", Telemetry()),
        ("0512FC5394", None),
    ],
)
def test_ruuvi_limits(body: str, expected: Telemetry | None) -> None:
    assert ruuvi_raw_v2(bytes.fromhex(body)) == expected


def test_tlm_not_available_is_absent() -> None:
    (frame,) = decode(bytes.fromhex("1116aafe200000008000000000010000000a"))
    assert frame == EddystoneTlm(Telemetry(uptime_ms=1000, advertisements=1))


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ("02CA0903BF13", Telemetry(temperature_celsius=25.06, humidity_percent=50.55)),
        ("04138A01", Telemetry(pressure_pascal=100_883)),
        ("0164020aff0c540b", Telemetry(battery_percent=100, temperature_celsius=-2.46, battery_mv=2900)),
        ("451101", Telemetry(temperature_celsius=27.3)),
        ("57EA", Telemetry(temperature_celsius=-22)),
        ("58EA", Telemetry(temperature_celsius=-7.7)),
        ("2E23", Telemetry(humidity_percent=35)),
        ("530C48656C6C6F20576F726C64210150", Telemetry(battery_percent=80)),  # text is skipped
        ("02CA0902FFFF", Telemetry(temperature_celsius=25.06)),  # of two probes the first
        ("0CFFFF", Telemetry()),  # 65 V is no battery
        ("EE0102CA09", Telemetry()),  # the length of an unknown object is unknown
        ("02CA", Telemetry()),
        ("54", Telemetry()),
        *(("03" + raw, Telemetry()) for raw in ("1127", "94a7", "ffff")),  # humidity from 100.01 % up
        *(("02" + raw, Telemetry()) for raw in ("288d", "0080", "ff7f")),  # -294 °C, and the ends of the scale
        *((raw, Telemetry()) for raw in ("2e65", "2eff", "0165", "01ff", "450080", "45ff7f", "0c0000")),
        *(("04" + raw, Telemetry()) for raw in ("000000", "ffffff")),
        ("02288d02CA09", Telemetry()),  # what the second probe says is not said of the first
        ("02288d2E23", Telemetry(humidity_percent=35)),
    ],
)
def test_bthome_objects(objects: str, expected: Telemetry) -> None:
    assert bthome_objects(bytes.fromhex(objects)) == expected


KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
SEALED = BtHome(bytes.fromhex("41a47266c95f730011223378237214"))  # bthome-ble test_v2_encryption.py
SENDER = "54:48:e6:8f:80:a5"


class TestEncryptedBtHome:
    def test_published_vector(self) -> None:
        opened = BtHomeOpener(aes_ccm(KEY, 4)).open(SEALED, SENDER)
        assert opened == Telemetry(temperature_celsius=25.06, humidity_percent=50.55)

    def test_another_key_or_address_opens_nothing(self) -> None:
        assert BtHomeOpener(aes_ccm(bytes(16), 4)).open(SEALED, SENDER) is None
        assert BtHomeOpener(aes_ccm(KEY, 4)).open(SEALED, "54:48:e6:8f:80:a6") is None

    def test_a_replay_is_refused(self) -> None:
        opener = BtHomeOpener(aes_ccm(KEY, 4))
        assert opener.open(SEALED, SENDER) is not None
        assert opener.open(SEALED, SENDER) is None

    def test_a_forged_counter_does_not_lock_the_tag_out(self) -> None:
        opener = BtHomeOpener(aes_ccm(KEY, 4))
        forged = bytearray(SEALED.body)
        forged[-8:-4] = b"\xff\xff\xff\xff"
        assert opener.open(BtHome(bytes(forged)), SENDER) is None
        assert opener.open(SEALED, SENDER) is not None

    def test_a_plain_frame_is_refused_where_there_is_a_key(self) -> None:
        plain = BtHome(bytes.fromhex("4002CA09"))
        assert BtHomeOpener(aes_ccm(KEY, 4)).open(plain, SENDER) is None
        assert BtHomeOpener(must_be_encrypted=True).open(plain, SENDER) is None
        assert BtHomeOpener().open(plain, SENDER) == Telemetry(temperature_celsius=25.06)

    @pytest.mark.parametrize("body", ["", "41", "41a47266c95f73", "2002CA09", "4202CA09", "4802CA09", "5002CA09"])
    def test_short_or_of_another_version(self, body: str) -> None:
        assert BtHomeOpener(aes_ccm(KEY, 4)).open(BtHome(bytes.fromhex(body)), SENDER) is None


@pytest.mark.parametrize("power", [0, 1, 20, 127, -101, -128])
def test_a_measured_power_that_cannot_be_is_none(power: int) -> None:
    assert power_dbm((IBeacon("", 1, 2, power), IBeacon("", 1, 2, -60))) is None
    assert power_dbm((IBeacon("", 1, 2, -60),)) == -60


@given(st.binary(min_size=24, max_size=24), st.binary(max_size=40))
def test_whatever_a_tag_sends_is_possible(ruuvi: bytes, objects: bytes) -> None:
    for told in (ruuvi_raw_v2(ruuvi), eddystone_tlm(ruuvi), bthome_objects(objects)):
        for name, value in asdict(told or Telemetry()).items():
            least, most = QUANTITIES[name]
            assert value is None or least <= value <= most


def _everything(payload: bytes) -> None:
    for frame in decode(payload):
        if isinstance(frame, BtHome):
            BtHomeOpener().open(frame, SENDER)
            BtHomeOpener(aes_ccm(KEY, 4)).open(frame, SENDER)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.binary(max_size=80))
def test_never_raises_on_any_bytes(payload: bytes) -> None:
    _everything(payload)


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_never_raises_on_mutated_vectors(count: int) -> None:
    dice = random.Random(20261122)
    vectors = [bytes.fromhex(payload) for payload, _ in VECTORS.values()]
    for _ in range(count):
        payload = bytearray(dice.choice(vectors))
        for _ in range(dice.randint(1, 4)):
            payload[dice.randrange(len(payload))] = dice.randrange(256)
        _everything(bytes(payload[: dice.randint(0, len(payload))] if dice.random() < 0.3 else payload))
