"""What a check found wrong, turned into mistakes that a technician can act on.

`wrong` is a list of pydantic's error dicts, `at` the table they are of. One mistake a value, however many members of a
union were tried on it; what is allowed there comes from the annotation (`config_words`), not from the library.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway.config.file import Document, Location, Mistake, shown
from gateway.config.words import allowed, annotation_at, did_you_mean, keys_of, nearest_choice
from gateway.outbox.memory import SENSORS_BYTES_MAX, sensors_bytes
from gateway.sensors.kind import Sensor

_MISSING = frozenset({"missing", "missing_argument"})
_UNKNOWN_KEY = frozenset({"unexpected_keyword_argument", "extra_forbidden"})


def translated(
    document: Document, at: Location, settings: type[Any], wrong: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Location, Mistake]]:
    """Yield a mistake for each value of the table at `at` that is wrong, and where in that table it is."""
    found: dict[Location, list[tuple[str, str]]] = defaultdict(list)
    for error in wrong:
        inside = _location_in(document.at(at), error["loc"], error["type"])
        if error["loc"][-1:] == ("[key]",):
            error = {**error, "type": "extra_forbidden"}
        said = str(error["ctx"]["error"]) if error["type"] == "value_error" else str(error["msg"])
        found[inside].append((error["type"], said.removeprefix("Input should be ")))
    for inside, whys in found.items():
        # A value that one member of a union finds wrong inside is told there alone, not also as a whole.
        if not any(other[: len(inside)] == inside and other != inside for other in found if inside):
            yield _mistake(document, at, inside, settings, whys)


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
    document: Document, at: Location, inside: Location, settings: type[Any], whys: list[tuple[str, str]]
) -> tuple[Location, Mistake]:
    here, annotation = (*at, *inside), annotation_at(settings, inside)
    reasons = {reason for reason, _ in whys}
    if reasons & _MISSING:
        return inside, document.mistake(here, "is missing", allowed(annotation), f"add {inside[-1]} = ...")
    if reasons & _UNKNOWN_KEY:
        known = tuple(keys_of(annotation_at(settings, inside[:-1])))
        return inside, document.mistake(here, "is not a known key", "", did_you_mean(str(inside[-1]), known))
    value = document.at(here)
    said = list(dict.fromkeys(words for reason, words in whys if reason == "value_error"))
    if isinstance(value, dict) and (keys := keys_of(annotation)):
        words = "; ".join(said) or whys[0][1]
        # "bytes_max must be ..." of a settings' own check belongs to that key's line.
        named = words.split(maxsplit=1)[0] if words else ""
        if named in keys and named in value:
            inside, here = (*inside, named), (*here, named)
            if words.startswith(f"{named} must"):
                words = words.removeprefix(named).strip()
            words = words if "found" in words else f"found {shown(value[named])}: {words}"
        return inside, document.mistake(here, words)
    words = allowed(annotation)
    new = [one for one in said if one.removeprefix("must be ") not in words]
    return inside, document.mistake(here, f"found {shown(value)}", words or whys[0][1], _advice(value, words, new))


def _advice(value: Any, words: str, said: list[str]) -> str:
    if isinstance(value, str) and (near := nearest_choice(value, words)):
        return f'did you mean "{near}"?'
    if isinstance(value, str) and "number" in words and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value.strip()):
        return "write it without quotation marks"
    if isinstance(value, str) and words == "true or false" and value.lower() in ("true", "false"):
        return "write it without quotation marks"
    if isinstance(value, int | float) and not isinstance(value, bool) and words == "a text in quotation marks":
        return f'write it in quotation marks: "{value}"'
    return "; ".join(said)


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


SCHEMES = ("mqtts", "mqtt", "wss", "ws")
URL_EXAMPLE = '"mqtts://mqtt.example.com:8883"'
MQTT_TEXT_BYTES_MAX = 65_535
"""MQTT 5, section 1.5.4."""
TOPIC_PREFIX = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


def broker_mistakes(document: Document) -> Iterator[Mistake]:
    """Yield what is wrong with the broker's address and with the topics' prefix."""
    broker = document.tables.get("broker")
    if not isinstance(broker, dict):
        return
    if isinstance(url := broker.get("url"), str):
        allowed_words = f"{', '.join(SCHEMES)}, then :// and a host, such as {URL_EXAMPLE}"
        for why, advice in _url_wrong(url):
            bare = re.sub(r"//[^/]*@", "//...@", url)  # a password must not reach a log
            yield document.mistake(("broker", "url"), f"found {shown(bare)}: {why}", allowed_words, advice)
    if isinstance(prefix := broker.get("topic_prefix"), str) and not TOPIC_PREFIX.fullmatch(prefix):
        words = 'segments of A-Z a-z 0-9 _ - with single slashes between them, such as "stores"'
        advice = "no slash at either end, no + or #, no leading $"
        yield document.mistake(("broker", "topic_prefix"), f"found {shown(prefix)}", words, advice)
    for key in ("client_id", "username"):
        text = broker.get(key)
        if isinstance(text, str) and not (0 < len(text.encode()) <= MQTT_TEXT_BYTES_MAX and text.isprintable()):
            found = f"found {shown(text)}" if len(text) <= 64 else f"found a text of {len(text.encode())} bytes"
            yield document.mistake(("broker", key), found, "1 to 65535 bytes of text without control characters")
    yield from _halves(document, broker, "cert_file", "key_file", "mutual TLS needs both")
    yield from _halves(document, broker, "password_file", "username", "a password belongs to a user name")


def _url_wrong(url: str) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        port_words = "the port is not a number from 1 to 65535" if "ort" in str(error) else str(error)
        yield port_words, ""
        return
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
        advice = {
            "https": "wss is MQTT over HTTPS",
            "http": "ws is MQTT over HTTP",
            "ssl": "write mqtts",
            "tcp": "write mqtt",
        }
        yield "the scheme is not known" if "://" in url else "there is no scheme", advice.get(parts.scheme, "")
        return
    if parts.username is not None or parts.password is not None:
        yield "a user name stands in it", "write username = ... and password_file = ... instead"
    if not host or not re.fullmatch(r"[A-Za-z0-9._:%-]+", host):
        yield "there is no host in it" if not host else "the host is not one", ""
    if port == 0:
        yield "the port is not a number from 1 to 65535", ""
    if parts.scheme in ("mqtt", "mqtts") and (parts.path.strip("/") or parts.query):
        yield "a path stands in it", "only ws and wss have a path"


def _halves(document: Document, broker: Mapping[str, Any], one: str, other: str, why: str) -> Iterator[Mistake]:
    for present, absent in ((one, other), (other, one)):
        if present in broker and absent not in broker and present != "username":
            advice = f"add {absent} = ..., or take {present} away: {why}"
            yield document.mistake(("broker", present), f"stands there without {absent}", "", advice)


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
