"""What a check found wrong, turned into mistakes that a technician can act on.

`wrong` is a list of pydantic's error dicts, `at` the table they are of. One mistake a value, however many members of a
union were tried on it; what is allowed there comes from the annotation (`config_words`), not from the library.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.config.file import Document, Location, Mistake, shown
from gateway.config.words import advice, allowed, annotation_at, did_you_mean, keys_of
from gateway.outbox.memory import SENSORS_BYTES_MAX, sensors_bytes
from gateway.sensors.kind import Sensor
from gateway.wrong import NotAllowed, Wrong, WrongSettings

_MISSING = frozenset({"missing", "missing_argument"})
_UNKNOWN_KEY = frozenset({"unexpected_keyword_argument", "extra_forbidden"})


@dataclass(frozen=True, slots=True)
class Located:
    """A mistake, where it is within its table, and which of the table's keys it comes from."""

    inside: Location
    mistake: Mistake
    keys: frozenset[str]


def translated(
    document: Document, at: Location, settings: type[Any], wrong: Iterable[Mapping[str, Any]]
) -> Iterator[Located]:
    """Yield what is wrong with each value of the table at `at`, and each of its rules that is broken."""
    found: dict[Location, list[tuple[str, ValueError | str]]] = defaultdict(list)
    for error in wrong:
        inside = _location_in(document.at(at), error["loc"], error["type"])
        if error["loc"][-1:] == ("[key]",):
            error = {**error, "type": "extra_forbidden"}
        said = error["ctx"]["error"] if error["type"] == "value_error" else str(error["msg"])
        if isinstance(said, WrongSettings):
            yield from (_broken(document, at, inside, rule) for rule in said.wrongs)
        else:
            found[inside].append((error["type"], said))
    for inside, whys in found.items():
        # A value that one member of a union finds wrong inside is told there alone, not also as a whole.
        if not any(other[: len(inside)] == inside and other != inside for other in found if inside):
            mistake = _mistake(document, at, inside, settings, whys)
            yield Located(inside, mistake, frozenset(str(key) for key in inside[:1]))


def _broken(document: Document, at: Location, inside: Location, rule: Wrong) -> Located:
    value = document.at((*at, *inside))
    keys = frozenset((str(inside[0]),) if inside else (rule.key, *rule.also))
    if rule.key not in value:
        return Located(inside, document.mistake((*at, *inside), str(rule), "", rule.advice), keys)
    there = (*inside, rule.key)
    written = value[rule.key] if rule.instead is None else rule.instead
    words = (f"found {shown(written)}" if rule.is_shown else "", rule.why)
    found = ": ".join(part for part in words if part)
    return Located(there, document.mistake((*at, *there), found, rule.allowed, rule.advice), keys)


def _location_in(value: Any, loc: Sequence[str | int], kind: str) -> Location:
    """Take out of pydantic's location the names of a union's members, which stand between the keys."""
    location: list[str | int] = []
    for number, part in enumerate(loc):
        if _is_in(value, part):
            value = value[part]
        elif kind not in _MISSING or number < len(loc) - 1:
            continue
        location.append(part)
    return tuple(location)


def _is_in(value: Any, part: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _mistake(
    document: Document, at: Location, inside: Location, settings: type[Any], whys: list[tuple[str, ValueError | str]]
) -> Mistake:
    here, annotation = (*at, *inside), annotation_at(settings, inside)
    reasons = {reason for reason, _ in whys}
    if reasons & _MISSING:
        return document.mistake(here, "is missing", allowed(annotation), f"add {inside[-1]} = ...")
    if reasons & _UNKNOWN_KEY:
        known = tuple(keys_of(annotation_at(settings, inside[:-1])))
        return document.mistake(here, "is not a known key", "", did_you_mean(str(inside[-1]), known))
    value = document.at(here)
    said = dict.fromkeys(str(why) for _, why in whys if isinstance(why, ValueError) and not isinstance(why, NotAllowed))
    words = allowed(annotation) or str(whys[0][1]).removeprefix("Input should be ")
    return document.mistake(here, f"found {shown(value)}", words, advice(annotation, value) or "; ".join(said))


def repeated_ids(document: Document, tables: Iterable[str]) -> Iterator[Mistake]:
    """Yield a mistake for each sensor's id that another has already, or that names the gateway itself."""
    first: dict[str, Location] = {}
    for table, index, entry in document.entries(tables):
        sensor, at = entry.get("id"), (table, index, "id")
        if sensor == "gateway":
            yield document.mistake(at, 'found "gateway", which names the gateway itself', "another id")
        elif isinstance(sensor, str) and sensor in first:
            used = document.origin_of(first[sensor])
            yield document.mistake(at, f"found {shown(sensor)}, which is used already ({used})", "an id used once")
        elif isinstance(sensor, str):
            first[sensor] = at


def shared_pins(document: Document, users: Iterable[tuple[str, int, Mapping[str, int]]]) -> Iterator[Mistake]:
    """Yield a mistake for each pin that has a user already; `users` are tables, their index, and their pins by key."""
    first: dict[int, Location] = {}
    for table, index, pins in users:
        for key, pin in pins.items():
            at = (table, index, key)
            if pin in first:
                user = f"{document.key_of(first[pin])}, {document.origin_of(first[pin])}"
                yield document.mistake(at, f"found {pin}, which is used already ({user})", "a pin used once")
            else:
                first[pin] = at


def too_much_to_remember(document: Document, sensors: Iterable[Sensor[Any]]) -> Iterator[Mistake]:
    """Yield a mistake where what these sensors must know over restarts does not fit where the outbox keeps it."""
    taken = [(one.kind.stream, one.id, one.kind.remembered_bytes_max) for one in sensors]
    if (needed := sensors_bytes(taken)) > SENSORS_BYTES_MAX:
        longest = max((sensor for _, sensor, known in taken if known), key=len)
        found = f"what {len(taken)} sensors keep over restarts takes {needed} bytes"
        entries = document.entries(document.tables)
        at = next((table, index, "id") for table, index, entry in entries if entry.get("id") == longest)
        yield document.mistake(at, found, f"at most {SENSORS_BYTES_MAX} bytes", "shorten the ids, or use fewer sensors")


def pins_as_written(entry: Mapping[str, Any]) -> dict[str, int]:
    """Return the pins of a table that is wrong otherwise, so that it takes part in the search for shared ones."""
    pins = ((key, value) for key, value in entry.items() if key.endswith("_pin"))
    return {key: value for key, value in pins if isinstance(value, int) and not isinstance(value, bool)}


PREFIX_SEGMENTS_BELOW_PREFIX = 6
"""`{prefix}/v1/{store}/{gateway}/event/{area}/{subject}`: what the gateway adds to the prefix."""


def too_long(
    document: Document, names: Mapping[Location, tuple[str, str, int | None]], profile: str
) -> Iterator[Mistake]:
    """Yield a mistake where a name (what it is, its text, its limit) is longer than the service of `profile` takes."""
    for at, (what, text, bytes_max) in names.items():
        if bytes_max is not None and len(text.encode()) > bytes_max:
            found = f"{what} {shown(text)} has {len(text.encode())} bytes"
            yield document.mistake(at, found, f"at most {bytes_max} bytes with profile {shown(profile)}")


def too_deep(document: Document, prefix: str, segments_max: int, profile: str) -> Iterator[Mistake]:
    """Yield a mistake where a topic would have more segments than the service of `profile` takes."""
    room = segments_max - PREFIX_SEGMENTS_BELOW_PREFIX
    if (have := prefix.count("/") + 1) > room:
        found = f"found {shown(prefix)}, which has {have} segments"
        yield document.mistake(
            ("broker", "topic_prefix"), found, f"at most {room} segments with profile {shown(profile)}"
        )
