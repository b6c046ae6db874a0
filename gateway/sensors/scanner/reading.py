"""The reading of a scanner: one advertisement as the radio heard it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.model import Instant, Reading
from gateway.sensors.scanner.settings import RSSI_DBM_MAX, RSSI_DBM_MIN
from gateway.units import Pattern

PAYLOAD_BYTES_MAX = 1650  # the most that extended advertising can carry

AddressType = Literal["public", "random"]


@dataclass(frozen=True, slots=True)
class Advertisement(Reading):
    """One advertisement as the radio heard it: `address` in lower case, `payload` the raw AD structures.

    `rssi_dbm` and `address_type` are None where not available. Address and payload stand in no `repr`: that may be
    logged.
    """

    address: str = field(repr=False)
    address_type: AddressType | None
    rssi_dbm: int | None
    payload: bytes = field(repr=False)


def sane_rssi_dbm(rssi_dbm: int | None) -> int | None:
    """Return an RSSI, or None where the number means that it is not available."""
    return rssi_dbm if rssi_dbm is not None and RSSI_DBM_MIN <= rssi_dbm <= RSSI_DBM_MAX else None


_ADDRESS = Pattern(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", 'six hex bytes such as "c4:64:e3:00:00:01"')


def reading_of(sensor: str, at: Instant, line: Mapping[str, Any]) -> Advertisement:
    """Read a recording's line; ValueError says what is wrong."""
    address, kind, rssi_dbm, payload = (line.get(key) for key in ("address", "address_type", "rssi_dbm", "payload"))
    if not isinstance(address, str):
        raise ValueError('"address" must be six hex bytes such as "c4:64:e3:00:00:01"')
    try:
        _ADDRESS.read(address)
    except ValueError as error:
        raise ValueError(f'"address" {error}') from None
    if kind not in (None, "public", "random"):
        raise ValueError(f'"address_type" must be "public" or "random", not {kind!r}')
    if rssi_dbm is not None and (isinstance(rssi_dbm, bool) or not isinstance(rssi_dbm, int)):
        raise ValueError(f'"rssi_dbm" must be a whole number, not {rssi_dbm!r}')
    if not isinstance(payload, str):
        raise ValueError('"payload" must be the advertising data in hex')
    try:
        data = bytes.fromhex(payload)
    except ValueError:
        raise ValueError('"payload" must be hex digits, two a byte') from None
    if len(data) > PAYLOAD_BYTES_MAX:
        raise ValueError(f'"payload" must be {PAYLOAD_BYTES_MAX} bytes at most, not {len(data)}')
    return Advertisement(sensor, at, address.lower(), kind, sane_rssi_dbm(rssi_dbm), data)


def line_of(reading: Advertisement) -> dict[str, Any]:
    """Return what a recording's line says of the reading; what is not available is absent."""
    line: dict[str, Any] = {"address": reading.address}
    if reading.address_type is not None:
        line["address_type"] = reading.address_type
    if reading.rssi_dbm is not None:
        line["rssi_dbm"] = reading.rssi_dbm
    line["payload"] = reading.payload.hex()
    return line
