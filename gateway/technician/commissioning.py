"""The acceptance of a gateway on the spot: what a person does at each sensor, and whether the sensor told just that.

Pure: readings and passing time in, verdicts out. Law: a sensor is accepted only by a deed that it told rightly; what
was skipped is not accepted, and the report says so. The report is a JSON object, and the same as a text to sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

from gateway.model import NS_PER_S, Event, Instant, Reading
from gateway.sensors import Faults, Surroundings
from gateway.sensors.beacon import Advertisement, ScannerSettings
from gateway.sensors.door import DoorBlocked, DoorPassed, DoorSettings
from gateway.sensors.door import interpreter as door_interpreter
from gateway.sensors.shelf import ScaleSampled, ShelfSettings
from gateway.sensors.tags import Rulebook
from gateway.technician.settling import Weighing, Weight

NO_KEYS: Mapping[int, bytes] = MappingProxyType({})
LAG_NS = NS_PER_S
"""Readings come through a tap late by some tenths of a second: time passes for a door only up to this before now."""
MASS_SHARE, MASS_LEAST_GRAMS, MASS_ERRORS = 0.01, 2.0, 4.0
"""A known mass must be told within a hundredth of it, 2 g, or four times what the noise allows."""
CORNERS = ("front left", "front right", "back right", "back left")
FIRST_CORNER = 3
DEAD_CORNER_SHARE = 0.6
"""With one of four cells dead, what stands right above it is carried by its neighbours to a half at most."""
NEAR_DBM, NEAR_HEARD = -70, 3
"""A tag held at the scanner is heard above -60; three of its advertisements above -70 are no stray ones."""

Result = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one act came out: `found` says what the sensor told, `advice` what to do where it failed."""

    result: Result
    found: str
    advice: str = ""


class Trial(Protocol):
    """What is done at one sensor: its acts, one after the other, each begun anew by `begin`."""

    acts: tuple[str, ...]

    def begin(self, act: int) -> Verdict | None:
        """Begin an act; a verdict at once where it cannot come out well."""
        ...

    def take(self, reading: Reading) -> Verdict | None:
        """Take a reading of this sensor; return the verdict where it is clear."""
        ...

    def passed(self, since_last_ns: int) -> Verdict | None:
        """Let time pass, `since_last_ns` after the last reading came."""
        ...

    def give_up(self) -> Verdict:
        """Return the verdict where the time is over."""
        ...


class DoorTrial:
    """Walk in, walk out."""

    def __init__(self, settings: DoorSettings) -> None:
        self._settings = settings
        self._is_dual = len(settings.beams) == 2
        self._ways = ("in", "out") if self._is_dual else ("unknown",)
        self.acts = tuple(
            {"in": "walk in once", "out": "walk out once", "unknown": "walk through once"}[way] for way in self._ways
        )
        self._act = 0
        self._last: Instant | None = None
        self._edges = 0
        self._interpreter = door_interpreter(settings, Surroundings(Faults(settings.id)))

    def begin(self, act: int) -> Verdict | None:
        self._act, self._edges, self._last = act, 0, None
        self._interpreter = door_interpreter(self._settings, Surroundings(Faults(self._settings.id)))
        return None

    def take(self, reading: Reading) -> Verdict | None:
        self._last = reading.at
        self._edges += 1
        return self._judge(list(self._interpreter.read(reading)))

    def passed(self, since_last_ns: int) -> Verdict | None:
        if self._last is None or since_last_ns <= LAG_NS:
            return None
        return self._judge(list(self._interpreter.tick(self._last.later(since_last_ns - LAG_NS))))

    def give_up(self) -> Verdict:
        if not self._edges:
            return Verdict("failed", "no beam was broken", "check the supply of the beams, their pins and alignment")
        found = "beams were broken, but by nothing that is a passage"
        return Verdict("failed", found, f"gateway diagnose {self._settings.id} --for 30s, and walk through meanwhile")

    def _judge(self, events: Sequence[Event]) -> Verdict | None:
        for event in events:
            if isinstance(event.fact, DoorBlocked):
                return Verdict("failed", f"the {event.fact.beam} beam stays broken", "align it, and clear its way")
            if not isinstance(event.fact, DoorPassed):
                continue
            wanted, told = self._ways[self._act], event.fact.direction
            found = f"told as {told}, {event.fact.duration_ms} ms"
            if told == wanted:
                return Verdict("ok", found)
            if told == "unknown":
                return Verdict("failed", found, "both beams must break one after the other: check their alignment")
            return Verdict("failed", found, "swap outer_pin and inner_pin in the configuration, or walk the other way")
        return None


class ScaleTrial:
    """Rest, a known mass, rest again; with `corners`, the mass on each corner of the board.

    A board on four cells that are wired as one shows a dead cell in no other way: the sum is merely too small, and only
    for what stands there.
    """

    def __init__(self, settings: ShelfSettings, mass_grams: float, *, corners: bool = False) -> None:
        self._settings = settings
        self._mass_grams = mass_grams
        at_corners = tuple(f"put the {mass_grams:g} g on the {corner} corner, nothing else" for corner in CORNERS)
        self.acts: tuple[str, ...] = (
            "leave it alone", f"put {mass_grams:g} g on", "take it off again", *(at_corners if corners else ()),
        )  # fmt: skip
        self._act = 0
        self._is_bare = False
        self._weights: dict[int, Weight] = {}
        self._weighing = Weighing(settings.rate_hz)

    def begin(self, act: int) -> Verdict | None:
        self._act = act
        if self._settings.calibration is None:
            return Verdict("failed", "not calibrated", f"gateway calibrate {self._settings.id}")
        before = 0 if act >= FIRST_CORNER else act - 1
        if act and before not in self._weights:
            return Verdict("failed", "there is no level to compare with", "begin this shelf again")
        # The mass may still stand on the last corner: the board must have been bare in between.
        self._is_bare = act < FIRST_CORNER
        away_from = self._weights.get(before) if self._is_bare else None
        self._weighing = Weighing(self._settings.rate_hz, away_from=away_from)
        return None

    def take(self, reading: Reading) -> Verdict | None:
        if not isinstance(reading, ScaleSampled):
            return None
        weight = self._weighing.add(reading.at, reading.counts)
        if weight is None:
            return None
        if self._is_bare:
            return self._judge(weight)
        bare = self._weights[0]
        allowed_counts = self._allowed_grams(weight) * abs(self._per_gram)
        self._is_bare = abs(weight.counts - bare.counts) <= max(allowed_counts, 10 * bare.noise_counts)
        self._weighing = Weighing(self._settings.rate_hz, away_from=bare if self._is_bare else None)
        return None

    def passed(self, since_last_ns: int) -> Verdict | None:
        return None

    def give_up(self) -> Verdict:
        return Verdict("failed", self._weighing.why(), f"gateway diagnose {self._settings.id}")

    @property
    def _per_gram(self) -> float:
        calibration = self._settings.calibration
        assert calibration is not None
        return calibration.counts_per_gram

    def _allowed_grams(self, weight: Weight) -> float:
        error_grams = (weight.error_counts + self._weights[0].error_counts) / abs(self._per_gram)
        return max(MASS_SHARE * self._mass_grams, MASS_LEAST_GRAMS, MASS_ERRORS * error_grams)

    def _judge(self, weight: Weight) -> Verdict:
        calibration = self._settings.calibration
        assert calibration is not None
        self._weights[self._act] = weight
        if self._act == 0:
            noise_grams = weight.noise_counts / abs(self._per_gram)
            return Verdict("ok", f"at rest at {calibration.grams(weight.counts):.1f} g, noise {noise_grams:.2f} g")
        wanted_grams = 0.0 if self._act == 2 else self._mass_grams
        changed_grams = (weight.counts - self._weights[0].counts) / self._per_gram
        allowed_grams = self._allowed_grams(weight)
        found = f"{changed_grams:+.1f} g from before, {wanted_grams:g} g expected, ±{allowed_grams:.1f} g allowed"
        if abs(changed_grams - wanted_grams) <= allowed_grams:
            return Verdict("ok", found)
        if self._act == 2:
            return Verdict("failed", found, "it does not come back: something touches the shelf, or the cell is loose")
        if self._act < FIRST_CORNER:
            return Verdict("failed", found, f"check the mass; then gateway calibrate {self._settings.id}")
        if changed_grams < DEAD_CORNER_SHARE * wanted_grams:
            return Verdict("failed", found, "a dead corner: its load cell, its wires or its foot carry nothing")
        return Verdict("failed", found, "the corners differ: level the feet, tighten the cells, then calibrate again")


class ScannerTrial:
    """Each tag held at the scanner; where none is configured, anything that is heard."""

    def __init__(self, settings: ScannerSettings, identity_keys: Mapping[int, bytes] = NO_KEYS) -> None:
        self._tags = tuple(dict.fromkeys(rule.tag for rule in settings.tags))
        self._rules = Rulebook(settings.tags, identity_keys)
        self.acts = tuple(f'hold the tag "{tag}" at the scanner' for tag in self._tags) or (
            "hold anything with Bluetooth at the scanner",
        )
        self._act = 0
        self._heard = 0
        self._strengths: list[int] = []

    def begin(self, act: int) -> Verdict | None:
        self._act, self._heard, self._strengths = act, 0, []
        return None

    def take(self, reading: Reading) -> Verdict | None:
        if not isinstance(reading, Advertisement):
            return None
        self._heard += 1
        if self._tags:
            match = self._rules.match(self._rules.content(reading.payload), reading.address, reading.at.wall_ns)
            if match is None or match.tag != self._tags[self._act]:
                return None
        if reading.rssi_dbm is not None:
            self._strengths.append(reading.rssi_dbm)
        if sum(1 for rssi in self._strengths if rssi >= NEAR_DBM) < NEAR_HEARD:
            return None
        return Verdict("ok", f"heard {len(self._strengths)} times, at best {max(self._strengths)} dBm")

    def passed(self, since_last_ns: int) -> Verdict | None:
        return None

    def give_up(self) -> Verdict:
        if self._strengths:
            found = f"heard {len(self._strengths)} times, at best {max(self._strengths)} dBm: too weak for so near"
            return Verdict("failed", found, "hold it closer; check its battery, the antenna and metal around the Pi")
        if self._heard:
            found = f"{self._heard} advertisements of others, none of it"
            return Verdict("failed", found, "check that the tag is awake, and its rule in `tags`")
        return Verdict("failed", "nothing was heard", "check the adapter: gateway doctor")


class AnyTrial:
    """A kind without a trial of its own: any reading will do."""

    acts: tuple[str, ...] = ("make it say something",)

    def begin(self, act: int) -> Verdict | None:
        return None

    def take(self, reading: Reading) -> Verdict | None:
        return Verdict("ok", "it said something")

    def passed(self, since_last_ns: int) -> Verdict | None:
        return None

    def give_up(self) -> Verdict:
        return Verdict("failed", "it said nothing", "check its wiring")


def trial_of(
    settings: Any, mass_grams: float, *, corners: bool = False, identity_keys: Mapping[int, bytes] = NO_KEYS
) -> Trial:
    """Return the trial of one sensor; `identity_keys` are those of a scanner's tags, by their rule's index."""
    match settings:
        case DoorSettings():
            return DoorTrial(settings)
        case ShelfSettings():
            return ScaleTrial(settings, mass_grams, corners=corners)
        case ScannerSettings():
            return ScannerTrial(settings, identity_keys)
        case _:
            return AnyTrial()


@dataclass(frozen=True, slots=True)
class Done:
    """One act as the report holds it."""

    act: str
    result: Result
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One sensor as the report holds it; `result` is ok only where every act was done and came out well."""

    id: str
    kind: str
    acts: tuple[Done, ...]
    when: str

    @property
    def result(self) -> Result:
        results = {done.result for done in self.acts}
        return "failed" if "failed" in results else "skipped" if "skipped" in results or not results else "ok"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "result": self.result}


@dataclass(frozen=True, slots=True)
class Report:
    """The acceptance report. `daemon` is what the running daemon said of itself, empty where none ran."""

    store: str
    gateway: str
    version: str
    config_sha256: str
    who: str
    when: str
    source: str
    daemon: Mapping[str, Any]
    sensors: tuple[Accepted, ...]

    @property
    def result(self) -> Literal["accepted", "incomplete", "failed"]:
        results = {sensor.result for sensor in self.sensors}
        return "failed" if "failed" in results else "accepted" if results == {"ok"} else "incomplete"

    def to_json(self) -> dict[str, Any]:
        named = ("store", "gateway", "version", "config_sha256", "who", "when", "source", "daemon")
        return {
            "commissioning": 1,
            **{name: getattr(self, name) for name in named},
            "result": self.result,
            "sensors": [sensor.to_json() for sensor in self.sensors],
        }

    def to_markdown(self) -> str:
        """Return the report as a text to read, print and sign."""
        lines = [
            f"# Acceptance of gateway {self.gateway}, store {self.store}",
            "",
            f"**{self.result.upper()}** on {self.when} by {self.who}",
            "",
            f"- version {self.version}, configuration {self.config_sha256[:12]}, readings of the {self.source}",
            *(f"- {key}: {value}" for key, value in self.daemon.items()),
            "",
            "| sensor | what was done | result | what it told | what to do |",
            "| --- | --- | --- | --- | --- |",
        ]
        for sensor in self.sensors:
            for done in sensor.acts:
                cells = (f"{sensor.id} ({sensor.kind})", done.act, done.result, done.found, done.advice)
                lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        return "\n".join([*lines, "", "Signed: ______________________________", ""])


def accepted_before(report: Any, config_sha256: str) -> dict[str, Accepted]:
    """Return the sensors that an earlier report (a JSON value) accepted under this very configuration, by id."""
    if not isinstance(report, dict) or report.get("config_sha256") != config_sha256:
        return {}
    found = {}
    sensors = report.get("sensors")
    for sensor in sensors if isinstance(sensors, list) else []:
        try:
            acts = tuple(Done(a["act"], a["result"], a["found"], a["advice"]) for a in sensor["acts"])
            one = Accepted(sensor["id"], sensor["kind"], acts, sensor["when"])
        except (KeyError, TypeError):
            continue
        if one.result == "ok":
            found[one.id] = one
    return found
