"""How a shop looks to its sensors: bodies in a beam, goods on a load cell, radio in a room. Pure.

Law: every function takes the time and a seeded `random.Random`; nothing here knows of customers or configurations.
What is modelled and with which numbers is said beside each part; it is made up but physical, and tuned to no algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

# -- doors -------------------------------------------------------------------------------------------------------------

BEAM_GAP_M = 0.08
"""Between the outer and the inner beam: 5 to 10 cm is usual."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A body through a doorway: its speed, how thick it is, an arm ahead of it, or how deep it comes to turn back."""

    inward: bool
    speed_mps: float
    torso_m: float
    arm_lead_s: float = 0.0  # 0: no arm ahead
    arm_s: float = 0.0
    turn_back_m: float | None = None


def walk(rng: Random, inward: bool, turns_back: bool = False) -> Walk:
    """Draw a body: speed log-normal about 1.2 m/s, torso 22 to 35 cm, every third with an arm ahead."""
    has_arm = rng.random() < 0.35
    return Walk(
        inward,
        speed_mps=rng.lognormvariate(0.15, 0.3),
        torso_m=rng.uniform(0.22, 0.35),
        arm_lead_s=rng.uniform(0.06, 0.11) if has_arm else 0.0,
        arm_s=rng.uniform(0.03, 0.06),
        turn_back_m=rng.choice((0.04, 0.15)) if turns_back else None,
    )


def occlusions(body: Walk, beam: str) -> list[tuple[float, float]]:
    """Return when the body breaks beam `outer`, `inner` or `only`: seconds after its front reaches the first."""
    first = "outer" if body.inward else "inner"
    way_m = 0.0 if beam in (first, "only") else BEAM_GAP_M
    if body.turn_back_m is not None:
        if way_m >= body.turn_back_m:
            return []
        return [(way_m / body.speed_mps, (2 * body.turn_back_m - way_m) / body.speed_mps + 0.2)]
    begin_s = way_m / body.speed_mps
    found = [(begin_s, begin_s + body.torso_m / body.speed_mps)]
    if body.arm_lead_s:
        found.insert(0, (begin_s - body.arm_lead_s, begin_s - body.arm_lead_s + body.arm_s))
    return found


def bounces(rng: Random) -> list[float]:
    """Return the delays at which a relay output chatters after an edge, in seconds, an even number of flips."""
    if rng.random() < 0.7:
        return []
    delays, at_s = [], 0.0
    for _ in range(2 * rng.randint(1, 3)):
        at_s += rng.uniform(0.0001, 0.0008)
        delays.append(at_s)
    return delays


# -- shelves -----------------------------------------------------------------------------------------------------------

SETTLING_S = 0.12
RINGING_HZ = 6.0
FORGET_STEP_S = 3.0
DAY_S = 86_400.0
COUNTS_MAX = 2**23 - 1
COUNTS_MIN = -(2**23)


class LoadCell:
    """A load cell under a shelf: steps that ring and settle, hands that press, noise, drift with the day's warmth.

    `counts` must be asked in ascending time.
    """

    def __init__(self, rng: Random, offset_counts: float, counts_per_gram: float, noise_counts: float = 20.0) -> None:
        self.rng = rng
        self.offset_counts = offset_counts
        self.counts_per_gram = counts_per_gram
        self.noise_counts = noise_counts
        self.spike_share = 0.0005
        self.drift_grams = 6.0
        self._settled_grams = 0.0
        self._steps: list[tuple[float, float]] = []
        self._presses: list[tuple[float, float, float]] = []
        self._warmest_s = rng.uniform(0.0, DAY_S)

    def load(self, at_s: float, grams: float) -> None:
        """Put `grams` on at `at_s` (negative: take off)."""
        self._steps.append((at_s, grams))

    def press(self, at_s: float, for_s: float, grams: float) -> None:
        """A hand leans on the goods: half a sine of `grams`."""
        self._presses.append((at_s, for_s, grams))

    def grams(self, at_s: float) -> float:
        """Return what the cell carries, without noise."""
        while self._steps and at_s - self._steps[0][0] > FORGET_STEP_S:
            self._settled_grams += self._steps.pop(0)[1]
        self._presses = [press for press in self._presses if at_s < press[0] + press[1]]
        grams = self._settled_grams
        for began_s, step_grams in self._steps:
            if (since_s := at_s - began_s) >= 0:
                ringing = math.exp(-since_s / SETTLING_S) * math.cos(2 * math.pi * RINGING_HZ * since_s)
                grams += step_grams * (1 - ringing)
        for began_s, for_s, press_grams in self._presses:
            if at_s >= began_s:
                grams += press_grams * math.sin(math.pi * (at_s - began_s) / for_s)
        return grams + self.drift_grams * math.sin(2 * math.pi * (at_s - self._warmest_s) / DAY_S)

    def counts(self, at_s: float) -> int:
        """Return one conversion: signed, saturating at 24 bits, rarely spoiled as bit-banged words are."""
        exact = self.offset_counts + self.grams(at_s) * self.counts_per_gram + self.rng.gauss(0.0, self.noise_counts)
        counts = min(max(round(exact), COUNTS_MIN), COUNTS_MAX)
        return self._spoiled(counts) if self.rng.random() < self.spike_share else counts

    def _spoiled(self, counts: int) -> int:
        kind = self.rng.random()
        if kind < 0.4:
            return int(2 ** self.rng.randint(8, 23) - 1)  # the line read high from some bit on
        if kind < 0.7:
            word = (counts << 1) & 0xFFFFFF  # one clock pulse too many
            return word - 2**24 if word & 0x800000 else word
        return counts ^ (1 << self.rng.randint(8, 22))


# -- radio -------------------------------------------------------------------------------------------------------------

PATH_LOSS_EXPONENT = 2.3
SHADOW_DB = 3.5
SHADOW_LASTS_S = 6.0
RICE_K = 4.0
COLLISION_SHARE = 0.08
SENSITIVITY_DBM = -95.0
NOT_AVAILABLE_DBM = 127


class RadioPath:
    """The air between one radio and one scanner: path loss, slow shadowing by bodies, Rician fading, lost packets."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._shadow_db = rng.gauss(0.0, SHADOW_DB)
        self._at_s: float | None = None

    def rssi_dbm(self, at_s: float, distance_m: float, measured_dbm: float) -> int | None:
        """Return the strength of a packet sent at `at_s`, None where it is lost; `measured_dbm` is that at 1 m."""
        rng = self.rng
        passed_s = 0.0 if self._at_s is None else at_s - self._at_s
        self._at_s = at_s
        keep = math.exp(-passed_s / SHADOW_LASTS_S)
        self._shadow_db = keep * self._shadow_db + math.sqrt(1 - keep * keep) * rng.gauss(0.0, SHADOW_DB)
        scatter = math.sqrt(1 / (2 * (RICE_K + 1)))
        direct = math.sqrt(RICE_K / (RICE_K + 1)) + rng.gauss(0.0, scatter)
        power = direct * direct + rng.gauss(0.0, scatter) ** 2
        loss_db = 10 * PATH_LOSS_EXPONENT * math.log10(max(distance_m, 0.2))
        strength_dbm = measured_dbm - loss_db + self._shadow_db + 10 * math.log10(max(power, 1e-6))
        if strength_dbm < SENSITIVITY_DBM or rng.random() < COLLISION_SHARE:
            return None
        return NOT_AVAILABLE_DBM if rng.random() < 0.002 else round(min(strength_dbm, 20.0))


FLAGS = bytes.fromhex("020106")


def _structure(kind: int, content: bytes) -> bytes:
    return bytes((len(content) + 1, kind)) + content


def _signed(dbm: int) -> bytes:
    return dbm.to_bytes(1, "big", signed=True)


def ibeacon(uuid: str, major: int, minor: int, measured_dbm: int) -> bytes:
    """Return the advertising data of an iBeacon."""
    numbers = major.to_bytes(2, "big") + minor.to_bytes(2, "big")
    return FLAGS + _structure(
        0xFF, b"\x4c\x00\x02\x15" + bytes.fromhex(uuid.replace("-", "")) + numbers + _signed(measured_dbm)
    )


def altbeacon(identity: str, measured_dbm: int) -> bytes:
    """Return the advertising data of an AltBeacon with an id of 40 hex digits."""
    return FLAGS + _structure(0xFF, b"\x18\x01\xbe\xac" + bytes.fromhex(identity) + _signed(measured_dbm) + b"\x00")


def eddystone_uid(namespace: str, instance: str, measured_dbm: int) -> bytes:
    """Return an Eddystone UID frame; the frame's own power is that at 0 m, 41 dB above that at 1 m."""
    frame = b"\x00" + _signed(measured_dbm + 41) + bytes.fromhex(namespace) + bytes.fromhex(instance) + b"\x00\x00"
    return FLAGS + _structure(0x03, b"\xaa\xfe") + _structure(0x16, b"\xaa\xfe" + frame)


def eddystone_tlm(battery_mv: int, celsius: float, advertisements: int, uptime_s: float) -> bytes:
    """Return an Eddystone telemetry frame."""
    temperature = round(celsius * 256).to_bytes(2, "big", signed=True)
    numbers = advertisements.to_bytes(4, "big") + round(uptime_s * 10).to_bytes(4, "big")
    frame = b"\x20\x00" + battery_mv.to_bytes(2, "big") + temperature + numbers
    return FLAGS + _structure(0x03, b"\xaa\xfe") + _structure(0x16, b"\xaa\xfe" + frame)


def ruuvi(celsius: float, humidity_percent: float, battery_mv: int, sequence: int, address: str) -> bytes:
    """Return a RuuviTag's RAWv2 frame, at 1013 hPa and at rest."""
    weather = round(celsius / 0.005).to_bytes(2, "big", signed=True) + round(humidity_percent / 0.0025).to_bytes(
        2, "big"
    )
    pressure = (101_325 - 50_000).to_bytes(2, "big")
    rest = bytes.fromhex("0004fffc040c")
    power = ((battery_mv - 1600) << 5 | 22).to_bytes(2, "big")
    tail = bytes((0,)) + (sequence & 0xFFFF).to_bytes(2, "big") + bytes.fromhex(address.replace(":", ""))
    return FLAGS + _structure(0xFF, b"\x99\x04\x05" + weather + pressure + rest + power + tail)


def name_only(name: str) -> bytes:
    """Return the advertising data of a thing that says nothing but its name."""
    return FLAGS + _structure(0x09, name.encode("ascii")[:26])


def phone(rng: Random) -> bytes:
    """Return what a stranger's phone says: Apple's nearby frame or a service of Android."""
    if rng.random() < 0.6:
        return bytes.fromhex("02011a020a0c") + _structure(0xFF, b"\x4c\x00\x10\x05" + rng.randbytes(5))
    return FLAGS + _structure(0x03, b"\xf3\xfe") + _structure(0x16, b"\xf3\xfe" + rng.randbytes(18))


def random_address(rng: Random, top_bits: int) -> str:
    """Return a random radio address; `top_bits` 3 is static, 1 resolvable, 0 not resolvable."""
    octets = bytearray(rng.randbytes(6))
    octets[0] = (octets[0] & 0x3F) | (top_bits << 6)
    return ":".join(f"{octet:02x}" for octet in octets)


@dataclass(slots=True)
class Radio:
    """A thing that advertises, on its way: `route` is its places over time, ended at `until_s`."""

    address: str
    interval_s: float
    measured_dbm: int
    route: list[tuple[float, float, float]]
    payload: Callable[[float, int], bytes]
    until_s: float = math.inf
    sent: int = 0
    paths: dict[str, RadioPath] = field(default_factory=dict)

    def place(self, at_s: float) -> tuple[float, float]:
        """Return (x, y) in metres, straight between the places of the route."""
        before = self.route[0]
        for after in self.route:
            if after[0] > at_s:
                share = (at_s - before[0]) / (after[0] - before[0]) if after[0] > before[0] else 0.0
                share = max(share, 0.0)
                return (before[1] + share * (after[1] - before[1]), before[2] + share * (after[2] - before[2]))
            before = after
        return before[1], before[2]
