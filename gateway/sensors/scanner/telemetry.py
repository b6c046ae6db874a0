"""What a tag says of itself and its surroundings: Eddystone-TLM, RuuviTag RAWv2, BTHome v2. Pure; never raises.

Sources: google/eddystone eddystone-tlm; ruuvi-sensor-protocols dataformat_05.md; bthome.io/format. A value that the
format marks as not available, that the frame does not carry, or that cannot be (`QUANTITIES`), is None.

An encrypted BTHome frame is opened with its bind key (AES-128-CCM, tag of 4 bytes, nonce = address, D2FC, info byte,
counter). It is refused where its counter does not rise (a replay; a wrap by less than 100 is allowed), and a plain
frame of a tag that has a key is refused as a downgrade.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.sensors.scanner.ciphers import Decrypt

BTHOME_UUID = bytes.fromhex("d2fc")
BTHOME_VERSION = 2
BTHOME_RESERVED = 0b0001_1010
"""Bits of the info byte without a meaning: with one of them set the objects may begin elsewhere."""
BTHOME_TAG_BYTES = 4
COUNTER_WRAP = 100
BATTERY_MV_MAX = 5000  # a BTHome voltage above is no battery of a tag, but what it measures


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What one frame carries; the names are the contract's."""

    battery_mv: int | None = None
    battery_percent: int | None = None
    temperature_celsius: float | None = None
    humidity_percent: float | None = None
    pressure_pascal: int | None = None
    uptime_ms: int | None = None
    advertisements: int | None = None


NOTHING = Telemetry()

QUANTITIES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "battery_mv": (1, 6_500),  # four fresh alkaline cells; 0 is "not supported" in Eddystone
        "battery_percent": (0, 100),
        "temperature_celsius": (-200, 300),  # from liquid nitrogen to a baker's oven
        "humidity_percent": (0, 100),
        "pressure_pascal": (30_000, 120_000),  # from the top of Everest to below the Dead Sea
        "uptime_ms": (0, 0xFFFF_FFFF * 100),
        "advertisements": (0, 0xFFFF_FFFF),
    }
)
"""The least and the most that each quantity can be around a tag: for every decoder and for the JSON Schema."""


def possible(found: Mapping[str, float | None]) -> Telemetry:
    """Return the telemetry without the values that cannot be: a defect or a forgery is no event."""
    bounds = ((name, value, *QUANTITIES[name]) for name, value in found.items() if value is not None)
    return Telemetry(**{name: value for name, value, least, most in bounds if least <= value <= most})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class BtHome:
    """A BTHome v2 frame as it came, still closed: service data without its UUID, beginning with the info byte."""

    body: bytes

    @property
    def is_encrypted(self) -> bool:
        return bool(self.body) and bool(self.body[0] & 1)


def eddystone_tlm(body: bytes) -> Telemetry:
    """Read a plain TLM frame of at least 14 bytes (`20 00 ...`); a battery of 0 mV and 0x8000 °C are not available."""
    battery_mv, temperature, advertisements, uptime = struct.unpack_from(">HhII", body, 2)
    return possible(
        {
            "battery_mv": battery_mv,
            "temperature_celsius": None if temperature == -0x8000 else temperature / 256,
            "uptime_ms": uptime * 100,
            "advertisements": advertisements,
        }
    )


def ruuvi_raw_v2(body: bytes) -> Telemetry | None:
    """Read data format 5 (`05 ...`, without the company); None where it is cut short."""
    if len(body) < 18:
        return None
    temperature, humidity, pressure, _, _, _, power = struct.unpack_from(">hHHhhhH", body, 1)
    return possible(
        {
            "battery_mv": None if power >> 5 == 0x7FF else (power >> 5) + 1600,
            "temperature_celsius": None if temperature == -0x8000 else round(temperature * 0.005, 3),
            "humidity_percent": None if humidity == 0xFFFF else round(humidity * 0.0025, 4),
            "pressure_pascal": None if pressure == 0xFFFF else pressure + 50_000,
        }
    )


# Bytes of each BTHome v2 object; text and raw (0x53, 0x54) state their own length in the byte after the id.
_BTHOME_BYTES = {
    **dict.fromkeys((0x00, 0x01, 0x09, 0x2E, 0x2F, 0x3A, 0x46, 0x57, 0x58, 0x59, 0x60, 0x64), 1),
    **dict.fromkeys(range(0x0F, 0x12), 1),
    **dict.fromkeys(range(0x15, 0x2E), 1),
    **dict.fromkeys((0x02, 0x03, 0x06, 0x07, 0x08, 0x0C, 0x0D, 0x0E, 0x12, 0x13, 0x14, 0x3C, 0x3D, 0x3F), 2),
    **dict.fromkeys((0x40, 0x41, 0x43, 0x44, 0x45, 0x47, 0x48, 0x49, 0x4A, 0x51, 0x52, 0x56, 0x5A, 0x5D), 2),
    **dict.fromkeys((0x5E, 0x5F, 0x61, 0xF0), 2),
    **dict.fromkeys((0x04, 0x05, 0x0A, 0x0B, 0x42, 0x4B, 0xF2), 3),
    **dict.fromkeys((0x3E, 0x4C, 0x4D, 0x4E, 0x4F, 0x50, 0x55, 0x5B, 0x5C, 0x62, 0x63, 0xF1), 4),
}
_BTHOME_OF_VARIABLE_LENGTH = (0x53, 0x54)


def bthome_objects(objects: bytes) -> Telemetry:
    """Read the objects of a BTHome v2 frame; an unknown id ends the reading, for its length is not known either.

    Where an object is repeated (two probes), the first counts.
    """
    found: dict[str, int | float] = {}
    at = 0
    while at < len(objects):
        kind = objects[at]
        if kind in _BTHOME_OF_VARIABLE_LENGTH:
            at += 2 + (objects[at + 1] if at + 1 < len(objects) else 0)
            continue
        size = _BTHOME_BYTES.get(kind)
        value = objects[at + 1 : at + 1 + (size or 0)]
        if size is None or len(value) < size:
            break
        for name, quantity in _bthome_quantity(kind, value):
            found.setdefault(name, quantity)
        at += 1 + size
    return possible(found)


def _bthome_quantity(kind: int, value: bytes) -> tuple[tuple[str, int | float], ...]:
    unsigned = int.from_bytes(value, "little")
    signed = int.from_bytes(value, "little", signed=True)
    match kind:
        case 0x01:
            return (("battery_percent", unsigned),)
        case 0x02:
            return (("temperature_celsius", round(signed * 0.01, 2)),)
        case 0x45:
            return (("temperature_celsius", round(signed * 0.1, 1)),)
        case 0x57:
            return (("temperature_celsius", signed),)
        case 0x58:
            return (("temperature_celsius", round(signed * 0.35, 2)),)
        case 0x03:
            return (("humidity_percent", round(unsigned * 0.01, 2)),)
        case 0x2E:
            return (("humidity_percent", unsigned),)
        case 0x04:
            return (("pressure_pascal", unsigned),)  # in 0.01 hPa
        case 0x0C if unsigned <= BATTERY_MV_MAX:
            return (("battery_mv", unsigned),)
    return ()


class BtHomeOpener:
    """Opens the BTHome frames of one device: plain ones, or only encrypted ones where it has a key.

    `must_be_encrypted` without a decryption opens nothing: the key is there but cannot be used.
    """

    def __init__(self, decrypt: Decrypt | None = None, must_be_encrypted: bool = False) -> None:
        self._decrypt = decrypt
        self._must_be_encrypted = must_be_encrypted or decrypt is not None
        self._counter = -1

    def open(self, frame: BtHome, address: str) -> Telemetry | None:
        """Return what the frame carries; None where it is refused, cannot be opened, or is a repetition."""
        body = frame.body
        if not body or body[0] >> 5 != BTHOME_VERSION or body[0] & BTHOME_RESERVED:
            return None
        if not frame.is_encrypted:
            return None if self._must_be_encrypted else bthome_objects(body[1:])
        if self._decrypt is None or len(body) < 1 + 4 + BTHOME_TAG_BYTES:
            return None
        counter_bytes, tag = body[-8:-4], body[-BTHOME_TAG_BYTES:]
        counter = int.from_bytes(counter_bytes, "little")
        if counter <= self._counter and not (counter < COUNTER_WRAP and self._counter >= 2**32 - COUNTER_WRAP):
            return None
        nonce = bytes.fromhex(address.replace(":", "")) + BTHOME_UUID + body[:1] + counter_bytes
        plain = self._decrypt(nonce, body[1:-8] + tag)
        if plain is None:
            return None
        self._counter = counter
        return bthome_objects(plain)
