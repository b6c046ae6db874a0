"""Who is behind an address or identifier that changes: resolvable private addresses and Eddystone-EID. Pure.

A resolvable private address (Core Specification vol 6 part B 1.3.2.3) has 01 as its top bits; its lower three bytes
are a hash of its upper three under the device's identity resolving key. Eddystone-EID (google/eddystone,
eid-computation.md) sends 8 bytes that follow from an identity key and the beacon's clock, and change every 2^K seconds.

Law: who has no key here is not resolved, and nothing is remembered of an address but whether a key fits it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from gateway.model import NS_PER_S
from gateway.sensors.scanner.ciphers import Encrypt, aes_block

T = TypeVar("T")

ADDRESSES_MAX = 8192
"""Addresses of which is remembered whether a key fits; phones change theirs every quarter of an hour."""
EID_PERIODS = 4
"""A beacon's clock may be so many periods off: at 20 ppm and 1,024 s a period, six years."""


def is_resolvable(address: str) -> bool:
    """Say whether an address in lower case may be a resolvable private one: top bits 01."""
    return address[:1] in ("4", "5", "6", "7")


def address_hash(encrypt: Encrypt, random_part: bytes) -> bytes:
    """Return the function ah of the Core Specification: 3 bytes of hash for 3 of random, big-endian."""
    return encrypt(bytes(13) + random_part)[-3:]


def ephemeral_id(key: bytes, exponent: int, seconds: int) -> str:
    """Return the 16 hex digits that a beacon says when its clock shows `seconds`."""
    seconds &= 0xFFFFFFFF
    temporary = aes_block(key)(bytes(11) + b"\xff\x00\x00" + (seconds >> 16).to_bytes(2, "big"))
    period = seconds >> exponent << exponent
    return aes_block(temporary)(bytes(11) + bytes((exponent,)) + period.to_bytes(4, "big"))[:8].hex()


@dataclass(frozen=True, slots=True, repr=False)
class EidKey(Generic[T]):
    """One beacon's identity key, its K, and the UTC time at which its clock was 0; `whose` is what it resolves to."""

    key: bytes
    exponent: int
    started_ns: int
    whose: T


class Resolver(Generic[T]):
    """Resolves addresses and ephemeral identifiers to what their keys belong to."""

    def __init__(self, irks: Iterable[tuple[bytes, T]] = (), eids: Iterable[EidKey[T]] = ()) -> None:
        self._irks = [(aes_block(key), whose) for key, whose in irks]
        self._eids = tuple(eids)
        self._addresses: OrderedDict[str, T | None] = OrderedDict()
        self._periods: tuple[int, ...] = ()
        self._known_eids: dict[str, T] = {}

    def by_address(self, address: str) -> T | None:
        """Return whose address this is, if it is one that changes and a key fits it."""
        if not self._irks or not is_resolvable(address):
            return None
        if address in self._addresses:
            self._addresses.move_to_end(address)
            return self._addresses[address]
        octets = bytes.fromhex(address.replace(":", ""))
        whose = next((w for encrypt, w in self._irks if address_hash(encrypt, octets[:3]) == octets[3:]), None)
        if len(self._addresses) >= ADDRESSES_MAX:
            self._addresses.popitem(last=False)
        self._addresses[address] = whose
        return whose

    def by_eid(self, eid: str, wall_ns: int) -> T | None:
        """Return whose ephemeral identifier this is at that time; nobody's while the wall clock is far off."""
        periods = tuple(self._period(key, wall_ns) for key in self._eids)
        if periods != self._periods:
            self._periods = periods
            self._known_eids = {
                ephemeral_id(key.key, key.exponent, at << key.exponent): key.whose
                for key, period in zip(self._eids, periods, strict=True)
                for at in range(period - EID_PERIODS, period + EID_PERIODS + 1)
                if at >= 0
            }
        return self._known_eids.get(eid)

    @staticmethod
    def _period(key: EidKey[T], wall_ns: int) -> int:
        return (wall_ns - key.started_ns) // NS_PER_S >> key.exponent


def started_ns(text: str) -> int:
    """Read when a beacon's clock was 0, RFC 3339 with a zone; ValueError says what is wrong."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError('must be like "2026-01-31T09:00:00Z"')
    return round(moment.timestamp()) * NS_PER_S
