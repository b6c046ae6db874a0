"""Which advertisement belongs to which tag: the rules of a scanner, and their index. Pure.

A rule names a tag by address, iBeacon, AltBeacon, Eddystone-UID, or by a key (`resolving`). Where several rules fit
one advertisement the first in the configuration wins, so put the particular one before the general one. Rules of the
same tag that each name one device are one tag in several guises. An Eddystone-TLM frame has no name in it and belongs
to the tag last identified at its address. Law: what no rule names is a stranger, and nothing of a stranger leaves this
file but that it is one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

from annotated_types import Ge, Le

from gateway.sensors.scanner.advertisement import (
    AltBeacon,
    EddystoneEid,
    EddystoneTlm,
    EddystoneUid,
    Frame,
    IBeacon,
    Ruuvi,
    decode,
    power_dbm,
)
from gateway.sensors.scanner.resolving import EidKey, Resolver, started_ns
from gateway.sensors.scanner.telemetry import BtHome, Telemetry
from gateway.units import Address, Identifier, Pattern
from gateway.wrong import Wrong, refuse

CONTENTS_MAX = 8192
"""Payloads whose reading is remembered: most devices repeat theirs for minutes. At most 0.5 KB each."""
CONTENT_BYTES_MAX = 64
"""A legacy advertisement with its scan response is 62 bytes; longer ones are read anew each time."""
IDENTIFIED_MAX = 4096
"""Addresses at which a tag was identified, for TLM frames; the one identified first is forgotten first."""

Uuid = Annotated[
    str,
    Pattern(
        r"[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}",
        'a UUID such as "f7826da6-4fa2-4e98-8024-bc5b71e0893e"',
    ),
]
Number16 = Annotated[int, Ge(0), Le(65535)]
AltBeaconId = Annotated[str, Pattern(r"([0-9A-Fa-f]{2}){16,20}", "32 (an organization) to 40 (one device) hex digits")]
Namespace = Annotated[str, Pattern(r"[0-9A-Fa-f]{20}", "20 hex digits")]
Instance = Annotated[str, Pattern(r"[0-9A-Fa-f]{12}", "12 hex digits")]


@dataclass(frozen=True, slots=True)
class IBeaconRule:
    """All iBeacons of a UUID, or those of one `major` or `minor`, or one device by both."""

    uuid: Uuid
    major: Number16 | None = None
    minor: Number16 | None = None


@dataclass(frozen=True, slots=True)
class AltBeaconRule:
    """All AltBeacons whose id begins with these digits, or one device by all 40 of them."""

    id: AltBeaconId


@dataclass(frozen=True, slots=True)
class EddystoneRule:
    """All Eddystone-UID beacons of a namespace, or one device by its instance as well."""

    namespace: Namespace
    instance: Instance | None = None


@dataclass(frozen=True, slots=True)
class EddystoneEidRule:
    """One Eddystone-EID beacon: the file with its identity key, its rotation exponent, and when its clock was 0."""

    key_file: str
    started: str
    exponent: Annotated[int, Ge(0), Le(15)] = 10

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        try:
            started_ns(self.started)
        except ValueError as error:
            yield Wrong("started", str(error))


@dataclass(frozen=True, slots=True)
class TagRule:
    """One rule of `tags`. Key files hold 32 hex digits.

    `bindkey_file` is of an encrypted BTHome tag (so: telemetry); `irk_file` is the identity resolving key of a device
    that changes its address.
    """

    tag: Identifier
    address: Address | None = None
    ibeacon: IBeaconRule | None = None
    altbeacon: AltBeaconRule | None = None
    eddystone: EddystoneRule | None = None
    eddystone_eid: EddystoneEidRule | None = None
    irk_file: str | None = None
    telemetry: bool = False
    bindkey_file: str | None = None

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        ways = (self.address, self.ibeacon, self.altbeacon, self.eddystone, self.eddystone_eid, self.irk_file)
        if sum(way is not None for way in ways) != 1:
            names = "address, ibeacon, altbeacon, eddystone, eddystone_eid and irk_file"
            yield Wrong("", f"a rule names its tag by exactly one of {names}")
        if self.bindkey_file is not None and self.address is None:
            yield Wrong("bindkey_file", "needs a rule by address: the address is part of the encryption")

    @property
    def has_telemetry(self) -> bool:
        return self.telemetry or self.bindkey_file is not None

    def selector(self) -> str:
        """Return what the rule looks for in the words of an identity, `*` where anything fits."""
        if self.address is not None:
            return f"address:{self.address.lower()}"
        if (ibeacon := self.ibeacon) is not None:
            major, minor = ("*" if n is None else n for n in (ibeacon.major, ibeacon.minor))
            return f"ibeacon:{_dashed(ibeacon.uuid)}:{major}:{minor}"
        if self.altbeacon is not None:
            return f"altbeacon:{self.altbeacon.id.lower()}" + "*" * (len(self.altbeacon.id) < 40)
        if self.irk_file is not None:
            return f"irk_file:{self.irk_file}"
        if self.eddystone_eid is not None:
            return f"eddystone_eid:{self.eddystone_eid.key_file}"
        assert self.eddystone is not None
        return f"eddystone:{self.eddystone.namespace.lower()}:{(self.eddystone.instance or '*').lower()}"

    def names_one_device(self) -> bool:
        return self.irk_file is not None or self.eddystone_eid is not None or "*" not in self.selector()


def _dashed(uuid: str) -> str:
    digits = uuid.replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def repeated_selectors(rules: Sequence[TagRule]) -> list[str]:
    """Return what two rules look for alike: of those the second would never be asked."""
    seen: set[str] = set()
    return [s for rule in rules if (s := rule.selector()) in seen or seen.add(s)]  # type: ignore[func-returns-value]


@dataclass(frozen=True, slots=True)
class Match:
    """A tag's rule, and whom it identified: None where the rule names one device, else the identity of section 7."""

    rule: int
    tag: str
    identity: str | None
    telemetry: bool

    @property
    def key(self) -> tuple[str, str | None]:
        """What a visit belongs to."""
        return self.tag, self.identity


@dataclass(slots=True)
class Content:
    """What one payload says, whoever sent it."""

    match: Match | None
    power_dbm: int | None
    telemetry: Telemetry | None
    bthome: BtHome | None
    is_tlm: bool
    eid: str | None = None


class Rulebook:
    """The rules of one scanner, indexed, and what they said of the payloads of late.

    `keys` are identity keys by their rule's index; a rule whose key is missing here identifies nobody.
    """

    def __init__(self, rules: Sequence[TagRule], keys: Mapping[int, bytes] = MappingProxyType({})) -> None:
        self._by_address: dict[str, Match] = {}
        self._ibeacons: dict[str, list[tuple[IBeaconRule, Match]]] = {}
        self._altbeacons: list[tuple[str, Match]] = []
        self._eddystones: dict[str, list[tuple[str | None, Match]]] = {}
        irks: list[tuple[bytes, Match]] = []
        eids: list[EidKey[Match]] = []
        for index, rule in enumerate(rules):
            match = Match(index, rule.tag, None if rule.names_one_device() else "", rule.has_telemetry)
            if rule.address is not None:
                self._by_address.setdefault(rule.address.lower(), match)
            elif rule.ibeacon is not None:
                self._ibeacons.setdefault(_dashed(rule.ibeacon.uuid), []).append((rule.ibeacon, match))
            elif rule.altbeacon is not None:
                self._altbeacons.append((rule.altbeacon.id.lower(), match))
            elif rule.eddystone is not None:
                instance = rule.eddystone.instance
                wanted = (instance.lower() if instance is not None else None, match)
                self._eddystones.setdefault(rule.eddystone.namespace.lower(), []).append(wanted)
            elif (key := keys.get(index)) is None:
                continue
            elif (eid := rule.eddystone_eid) is not None:
                eids.append(EidKey(key, eid.exponent, started_ns(eid.started), match))
            else:
                irks.append((key, match))
        self._resolver = Resolver(irks, eids) if irks or eids else None
        self._young: dict[bytes, Content] = {}
        self._old: dict[bytes, Content] = {}
        self._identified: OrderedDict[str, Match] = OrderedDict()

    def content(self, payload: bytes) -> Content:
        """Return what a payload says; a payload heard of late is not read again."""
        content = self._young.get(payload)
        if content is not None:
            return content
        content = self._old.get(payload) or self._read(payload)
        if len(payload) <= CONTENT_BYTES_MAX:
            # Two generations: when the young are full they become the old ones, and what nobody asked for is gone.
            if len(self._young) >= CONTENTS_MAX // 2:
                self._old, self._young = self._young, {}
            self._young[payload] = content
        return content

    def match(self, content: Content, address: str, wall_ns: int | None = None) -> Match | None:
        """Return the tag that an advertisement from `address` belongs to, None for a stranger.

        `wall_ns` is when it was heard: without it no Eddystone-EID is resolved. Remembers who was identified there,
        for the TLM frames to come.
        """
        named = content.match
        here = self._by_address.get(address)
        if (resolver := self._resolver) is not None:
            if here is None:
                here = resolver.by_address(address)
            if named is None and content.eid is not None and wall_ns is not None:
                named = resolver.by_eid(content.eid, wall_ns)
        if named is None:
            if content.is_tlm and (last := self._identified.get(address)) is not None:
                return last if here is None or last.rule < here.rule else here
            return here
        if here is not None and here.rule < named.rule:
            return here
        known = self._identified.get(address)
        if known is not named and known != named:
            if known is None and len(self._identified) >= IDENTIFIED_MAX:
                self._identified.popitem(last=False)
            self._identified[address] = named
        return named

    def is_known(self, address: str) -> bool:
        """Say whether a tag was identified at an address: then its other frames are no stranger's."""
        return address in self._identified

    def _read(self, payload: bytes) -> Content:
        frames = decode(payload)
        matches = [match for frame in frames if (match := self._named(frame)) is not None]
        telemetry = next((f.telemetry for f in frames if isinstance(f, Ruuvi | EddystoneTlm) and f.telemetry), None)
        return Content(
            match=min(matches, key=lambda match: match.rule, default=None),
            power_dbm=power_dbm(frames),
            telemetry=telemetry,
            bthome=next((frame for frame in frames if isinstance(frame, BtHome)), None),
            is_tlm=any(isinstance(frame, EddystoneTlm) for frame in frames),
            eid=next((frame.eid for frame in frames if isinstance(frame, EddystoneEid)), None),
        )

    def _named(self, frame: Frame) -> Match | None:
        match frame:
            case IBeacon(uuid, major, minor):
                for rule, found in self._ibeacons.get(uuid, ()):
                    if rule.major in (None, major) and rule.minor in (None, minor):
                        return _whom(found, f"ibeacon:{uuid}:{major}:{minor}")
            case AltBeacon(id):
                for begin, found in self._altbeacons:
                    if id.startswith(begin):
                        return _whom(found, f"altbeacon:{id}")
            case EddystoneUid(namespace, instance):
                for wanted, found in self._eddystones.get(namespace, ()):
                    if wanted in (None, instance):
                        return _whom(found, f"eddystone:{namespace}:{instance}")
        return None


def _whom(rule: Match, identity: str) -> Match:
    return rule if rule.identity is None else Match(rule.rule, rule.tag, identity, rule.telemetry)
