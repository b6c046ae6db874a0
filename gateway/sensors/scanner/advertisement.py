"""What an advertisement says: the frames in its raw advertising data. Pure, our own, and it never raises on any bytes.

An advertising payload is a row of AD structures: length (of what follows), type, value (Core Specification vol 3
part C section 11). Two types carry beacons: 0xFF manufacturer data (company first, little-endian) and 0x16 service data
(16-bit UUID first, little-endian). A structure that is cut short ends the reading; what stood before it counts.

Sources: Apple's iBeacon layout; AltBeacon/spec; google/eddystone protocol-specification.md; data formats of RuuviTags
and of BTHome in `telemetry`. Powers are what a receiver measures at 1 m, Eddystone's at 0 m being 41 dB more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.sensors.scanner.telemetry import BtHome, Telemetry, eddystone_tlm, ruuvi_raw_v2

MANUFACTURER_DATA = 0xFF
SERVICE_DATA_16 = 0x16
IBEACON_PREFIX = bytes.fromhex("4c000215")
APPLE = bytes.fromhex("4c00")
RUUVI_RAW_V2_PREFIX = bytes.fromhex("990405")
ALTBEACON_CODE = bytes.fromhex("beac")
EDDYSTONE = bytes.fromhex("aafe")
BTHOME = bytes.fromhex("d2fc")
EXPOSURE_NOTIFICATION = bytes.fromhex("6ffd")
EDDYSTONE_LOSS_OF_FIRST_METRE_DB = 41  # protocol-specification.md: "subtract 41dB from the power at 1 m"
POWER_DBM_MIN, POWER_DBM_MAX = -100, -1
"""Outside, a measured power at 1 m cannot be: below, no radio hears the tag at all; above, it breaks the band's law."""

URL_SCHEMES = ("http://www.", "https://www.", "http://", "https://")
URL_EXPANSIONS = (
    ".com/", ".org/", ".edu/", ".net/", ".info/", ".biz/", ".gov/",
    ".com", ".org", ".edu", ".net", ".info", ".biz", ".gov",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IBeacon:
    """Apple's iBeacon; `uuid` in lower case with dashes."""

    uuid: str
    major: int
    minor: int
    power_dbm: int


@dataclass(frozen=True, slots=True)
class AltBeacon:
    """AltBeacon; `id` is 40 hex digits, of which the first 32 name an organization."""

    id: str
    power_dbm: int


@dataclass(frozen=True, slots=True)
class EddystoneUid:
    """Eddystone-UID; `namespace` is 20 hex digits, `instance` 12."""

    namespace: str
    instance: str
    power_dbm: int


@dataclass(frozen=True, slots=True)
class EddystoneUrl:
    """Eddystone-URL, written out."""

    url: str
    power_dbm: int


@dataclass(frozen=True, slots=True)
class EddystoneEid:
    """Eddystone-EID: 16 hex digits that change; who it is only the owner of its key can tell."""

    eid: str
    power_dbm: int


@dataclass(frozen=True, slots=True)
class EddystoneTlm:
    """Eddystone-TLM; `telemetry` is None where the frame is encrypted."""

    telemetry: Telemetry | None


@dataclass(frozen=True, slots=True)
class Ruuvi:
    """A RuuviTag's data format 5 (RAWv2)."""

    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class Private:
    """What is recognised and left alone: Exposure Notification, and Apple frames that are no iBeacon."""

    what: str


Frame = (
    IBeacon | AltBeacon | EddystoneUid | EddystoneUrl | EddystoneEid | EddystoneTlm | Ruuvi | BtHome | Private
)  # fmt: skip


def structures(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of each whole AD structure; a length of zero ends the payload, as the specification says."""
    at, size = 0, len(payload)
    while at < size and (length := payload[at]):
        until = at + 1 + length
        if until > size:
            return
        yield payload[at + 1], payload[at + 2 : until]
        at = until


def decode(payload: bytes) -> tuple[Frame, ...]:
    """Return the frames of a payload in their order; empty where it has none that is known."""
    frames: list[Frame] = []
    for kind, value in structures(payload):
        if kind == MANUFACTURER_DATA:
            frame = _manufacturer(value)
        elif kind == SERVICE_DATA_16:
            frame = _service(value)
        else:
            continue
        if frame is not None:
            frames.append(frame)
    return tuple(frames)


def power_dbm(frames: tuple[Frame, ...]) -> int | None:
    """Return the measured power at 1 m that the first frame with one states, or None; one that cannot be is none."""
    for frame in frames:
        if isinstance(frame, IBeacon | AltBeacon | EddystoneUid | EddystoneUrl | EddystoneEid):
            return frame.power_dbm if POWER_DBM_MIN <= frame.power_dbm <= POWER_DBM_MAX else None
    return None


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _manufacturer(value: bytes) -> Frame | None:
    size = len(value)
    if value.startswith(APPLE) and value[2:4] != ALTBEACON_CODE:
        if size < 25 or not value.startswith(IBEACON_PREFIX):
            return Private("apple")
        uuid = value[4:20].hex()
        return IBeacon(
            f"{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}",
            value[20] << 8 | value[21],
            value[22] << 8 | value[23],
            _signed(value[24]),
        )
    if size >= 25 and value[2:4] == ALTBEACON_CODE:
        return AltBeacon(value[4:24].hex(), _signed(value[24]))
    if value.startswith(RUUVI_RAW_V2_PREFIX) and (telemetry := ruuvi_raw_v2(value[2:])) is not None:
        return Ruuvi(telemetry)
    return None


def _service(value: bytes) -> Frame | None:
    uuid, body = value[:2], value[2:]
    if uuid == EDDYSTONE:
        return _eddystone(body)
    if uuid == BTHOME:
        return BtHome(body)
    if uuid == EXPOSURE_NOTIFICATION:
        return Private("exposure notification")
    return None


def _eddystone(body: bytes) -> Frame | None:
    size = len(body)
    if size < 2:
        return None
    kind, power = body[0], _signed(body[1]) - EDDYSTONE_LOSS_OF_FIRST_METRE_DB
    if kind == 0x00 and size >= 18:
        return EddystoneUid(body[2:12].hex(), body[12:18].hex(), power)
    if kind == 0x10 and size >= 3 and body[2] < len(URL_SCHEMES):
        return EddystoneUrl(URL_SCHEMES[body[2]] + "".join(map(_url_part, body[3:])), power)
    if kind == 0x20 and body[1] == 0x00 and size >= 14:
        return EddystoneTlm(eddystone_tlm(body))
    if kind == 0x20 and body[1] == 0x01 and size >= 14:
        return EddystoneTlm(None)
    if kind == 0x30 and size >= 10:
        return EddystoneEid(body[2:10].hex(), power)
    return None


def _url_part(byte: int) -> str:
    if byte < len(URL_EXPANSIONS):
        return URL_EXPANSIONS[byte]
    return chr(byte) if 0x20 < byte < 0x7F else f"%{byte:02X}"
