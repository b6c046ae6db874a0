"""The configuration: TOML files to one frozen value, all mistakes at once (contract section 6).

Law: parsed once, checked once, then only values travel. The settings are the plain dataclasses of their rooms; pydantic
checks them here and nowhere else, strictly: `"17"` is not a pin, `true` is not a number, an unknown key is a mistake.
What a single value cannot know (two users of one pin, an id given twice) is checked here across the whole.
Files that a key names are not opened here: `gateway doctor` does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from annotated_types import Ge
from pydantic import ConfigDict, TypeAdapter, ValidationError

from gateway.config.cloud_keys import forbidden_keys, wrong_keys
from gateway.config.file import Document, Location, Mistake, Origin, lay_over, parse, read, shown
from gateway.config.mistakes import (
    pins_as_written,
    repeated_ids,
    shared_pins,
    too_deep,
    too_long,
    too_much_to_remember,
    translated,
)
from gateway.config.overlay import read_ordered
from gateway.config.words import annotation_at, did_you_mean, stand_in
from gateway.errors import ConfigurationError
from gateway.machine.bounded import read_text
from gateway.model import CommandVerb
from gateway.outbox.settings import OutboxSettings
from gateway.privacy import PrivacySettings
from gateway.sensors import kinds
from gateway.sensors.kind import Sensor
from gateway.units import Bytes, Identifier, Quantity
from gateway.uplink.profiles import PROFILES
from gateway.uplink.settings import BrokerSettings
from gateway.wrong import NotAllowed, Wrong, refuse

log = logging.getLogger(__name__)

DEFAULT_PATH = Path("/etc/gateway/gateway.toml")
OVERLAY_NAME = "ordered by the cloud"
ZONE_LINK = Path("/etc/localtime")
ZONE_FILE = Path("/etc/timezone")
ZONE_BYTES_MAX = 4096


def host_name() -> str:
    """Return this machine's name made fit for an identifier; "gateway" where nothing of it is left."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname().split(".")[0]).strip("-")[:64] or "gateway"


def machine_timezone() -> str:
    """Return the IANA name of the machine's zone; "UTC" where the machine does not tell."""
    named = os.environ.get("TZ", "").lstrip(":")
    try:
        linked = os.readlink(ZONE_LINK).partition("zoneinfo/")[2]
    except OSError:
        linked = ""
    try:
        written = read_text(ZONE_FILE, ZONE_BYTES_MAX).strip()
    except (OSError, ValueError):
        written = ""
    return next((name for name in (named, linked, written) if name and is_zone(name)), "UTC")


def is_zone(name: str) -> bool:
    """Say whether the machine's zone database has this name."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Zone:
    """Marks the name of a time zone."""

    says: ClassVar[str] = 'the name of a time zone such as "Europe/Berlin" (timedatectl list-timezones)'

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.read, handler(source))

    def read(self, name: str) -> str:
        """Return the name if the machine knows the zone; ValueError where it does not."""
        if not is_zone(name):
            raise NotAllowed(f"must be {self.says}")
        return name


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """Where this gateway stands. `timezone` is an IANA name; `zone` is it as a value."""

    store: Identifier
    gateway: Identifier = field(default_factory=host_name)
    timezone: Annotated[str, Zone()] = field(default_factory=machine_timezone)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


@dataclass(frozen=True, slots=True)
class CommandsSettings:
    """Which verbs the cloud may order. By default those that change nothing in the store.

    With `key_file`, an Ed25519 public key, `signed.SIGNED_VERBS` need its signature. `config_keys` are the keys that
    `config` may change, in place of `cloud_keys.changeable()`. Answers go below the gateway's own topics, or below
    `response_prefix`, which ends with "/". What is sent again is bounded by `resend_bytes_per_hour`.
    """

    allow: tuple[CommandVerb, ...] = ("ping", "status", "doctor", "resend")
    key_file: Path | None = None
    config_keys: tuple[str, ...] | None = None
    response_prefix: str | None = None
    resend_bytes_per_hour: Annotated[Bytes, Ge(1024)] = 64 << 20

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        for why in wrong_keys(self.config_keys or ()):
            yield Wrong("config_keys", why, is_shown=False)
        prefix = self.response_prefix
        if prefix is not None and (prefix in ("", "/") or not prefix.endswith("/") or set(prefix) & set("+#\0")):
            yield Wrong("response_prefix", 'must end with "/" and be without + and #, such as "answers/"')


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """How often `store.gateway.health` is told, in seconds."""

    every: Annotated[float, Quantity("duration", 1.0)] = 300.0

    def __post_init__(self) -> None:
        refuse(self.wrong())

    def wrong(self) -> Iterator[Wrong]:
        """Yield every rule that is broken."""
        if self.every < 1:
            yield Wrong("every", "must be at least 1 s")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is in force. `sensors` are in the files' order; `sha256` is of the document as the files together give it.

    `document` is that document, for `config show` and support; `origins` says where each of its keys stands.
    """

    site: SiteSettings
    broker: BrokerSettings
    outbox: OutboxSettings
    privacy: PrivacySettings
    commands: CommandsSettings
    health: HealthSettings
    sensors: tuple[Sensor[Any], ...]
    sha256: str
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)
    origins: Mapping[Location, Origin] = field(repr=False, default_factory=dict)


SECTIONS: Mapping[str, type[Any]] = {
    "site": SiteSettings,
    "broker": BrokerSettings,
    "outbox": OutboxSettings,
    "privacy": PrivacySettings,
    "commands": CommandsSettings,
    "health": HealthSettings,
}


def load(paths: Sequence[Path] = ()) -> Configuration:
    """Read the files, the later overriding the earlier (none: `/etc/gateway/gateway.toml`), into one value.

    What the cloud ordered (`config.overlay`) is laid over them, unless that no longer gives a configuration. Raises
    ConfigurationError, whose message has one line a mistake, where anything in the files is missing or wrong.
    """
    given = _settled(read(tuple(paths) or (DEFAULT_PATH,)))
    overlay = read_ordered(given.outbox.directory).overlay
    if not overlay:
        return given
    try:
        fresh = load_with(paths, overlay)
    except ConfigurationError as error:
        log.warning("what the cloud ordered of the configuration cannot be used any more: %s", error)
        return given
    if forbidden := forbidden_keys(given.document, fresh.document, given.commands.config_keys):
        log.warning("the cloud may not change %s: what it ordered is not used", ", ".join(forbidden))
        return given
    return fresh


def load_with(paths: Sequence[Path], overlay: Mapping[str, Any]) -> Configuration:
    """Read the files with this overlay in the place of the one that is kept. Raises as `load`."""
    document = read(tuple(paths) or (DEFAULT_PATH,))
    lay_over(document, json.loads(json.dumps(overlay, default=str)), OVERLAY_NAME)
    return _settled(document)


def loads(text: str, name: str = "configuration") -> Configuration:
    """Read a configuration from text; `name` stands for the file in messages. Raises as `load`."""
    return _settled(parse(text, name))


def mistakes_of(paths: Sequence[Path]) -> tuple[Mistake, ...]:
    """Return everything wrong with these files, in the order of the files' lines; empty where they can be used."""
    return check(read(tuple(paths) or (DEFAULT_PATH,)))[1]


def require_broker(configuration: Configuration) -> None:
    """Raise ConfigurationError where no broker is configured: `run` and `listen` need one."""
    if not configuration.broker.url:
        raise ConfigurationError(
            "broker.url is missing; this command sends to a broker",
            'add to the configuration: [broker] with url = "mqtts://HOST:8883"',
        )


def _settled(document: Document) -> Configuration:
    configuration, mistakes = check(document)
    if configuration is None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        raise ConfigurationError(f"{count} in the configuration:\n{lines}")
    return configuration


def check(document: Document) -> tuple[Configuration | None, tuple[Mistake, ...]]:
    """Check a document as a whole. Returns the configuration and no mistakes, or None and all of them."""
    if document.mistakes:
        # What a broken file lacks would be told as missing, one wrong line for each: only the breaks are told.
        return None, tuple(document.mistakes)
    mistakes: list[Mistake] = []
    by_table = {kind.table: kind for kind in kinds()}
    known = (*SECTIONS, *by_table)
    mistakes += [
        document.mistake((name,), "is not a known table", "", did_you_mean(name, known))
        for name in document.tables
        if name not in known
    ]
    sections = {name: _section(document, name, settings, mistakes) for name, settings in SECTIONS.items()}
    for kind in by_table.values():
        mistakes += _not_a_list(document, kind.table)
    sensors: list[Sensor[Any]] = []
    pins: list[tuple[str, int, Mapping[str, int]]] = []
    for table, index, entry in document.entries(by_table):
        kind = by_table[table]
        settings = _checked(document, (table, index), kind.settings, entry, mistakes)
        if settings is not None:
            sensors.append(Sensor(kind, settings))
        pins.append((table, index, pins_as_written(entry) if settings is None else kind.pins(settings)))
    if (broker := sections["broker"]) is not None:
        profile = PROFILES[broker.profile]
        if profile.topic_slashes_max is not None:
            mistakes += too_deep(document, broker.topic_prefix, profile.topic_slashes_max + 1, broker.profile)
        if (site := sections["site"]) is not None:
            subject = max((sensor.id for sensor in sensors), key=len, default="gateway")
            topic = f"{broker.topic_prefix}/v1/{site.store}/{site.gateway}/event/gateway/{subject}"
            names: dict[Location, tuple[str, str, int | None]] = {
                ("broker", "client_id"): (
                    "the client id",
                    broker.client_id or f"{site.store}.{site.gateway}",
                    profile.client_id_max,
                ),
                ("broker", "topic_prefix"): ("the longest topic", topic, profile.topic_bytes_max),
            }
            mistakes += too_long(document, names, broker.profile)
    mistakes += repeated_ids(document, by_table)
    mistakes += too_much_to_remember(document, sensors)
    mistakes += shared_pins(document, pins)
    if mistakes:
        return None, tuple(
            sorted(dict.fromkeys(mistakes), key=lambda mistake: (mistake.origin.file, mistake.origin.line or 0))
        )
    canonical = json.dumps(document.tables, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return (
        Configuration(
            **sections,
            sensors=tuple(sensors),
            sha256=hashlib.sha256(canonical.encode()).hexdigest(),
            document=document.tables,
            origins=document.origins,
        ),
        (),
    )


@cache
def _adapter(settings: Any) -> TypeAdapter[Any]:
    # In a list, because pydantic takes a configuration for a plain dataclass only from what stands around it.
    return TypeAdapter(list[settings], config=ConfigDict(extra="forbid", strict=True))


def _section(document: Document, name: str, settings: type[Any], mistakes: list[Mistake]) -> Any:
    table = document.tables.get(name, {})
    if not isinstance(table, dict):
        advice = f"write [{name}]" + (" with single brackets" if isinstance(table, list) else " on a line of its own")
        mistakes.append(document.mistake((name,), f"found {shown(table)}", f"one table [{name}]", advice))
        return None
    if name not in document.tables and any(_is_required(key) for key in dataclasses.fields(settings)):
        needed = ", ".join(key.name for key in dataclasses.fields(settings) if _is_required(key))
        advice = f'add [{name}] with {needed} = "..."'
        mistakes.append(document.mistake((name,), "is missing", f"a table with at least {needed}", advice))
        return None
    return _checked(document, (name,), settings, table, mistakes)


def _is_required(key: dataclasses.Field[Any]) -> bool:
    return key.default is dataclasses.MISSING and key.default_factory is dataclasses.MISSING


def _not_a_list(document: Document, table: str) -> Iterator[Mistake]:
    tables = document.tables.get(table, [])
    if not isinstance(tables, list) or not all(isinstance(entry, dict) for entry in tables):
        advice = f"write [[{table}]] with double brackets above each"
        yield document.mistake((table,), f"found {shown(tables)}", f"one table [[{table}]] a sensor", advice)


def _checked(document: Document, at: Location, settings: Any, table: Mapping[str, Any], mistakes: list[Mistake]) -> Any:
    """Build the settings of one table, or return None with everything that is wrong in `mistakes`.

    The settings' own rules are asked only where every key is of the right form. So what is wrong is left out, or stood
    in for by something right, and the rest is checked again, without complaint of that.
    """
    left_out: dict[str, Any] = {}
    while True:
        given = {key: value for key, value in table.items() if key not in left_out}
        given |= {key: value for key, value in left_out.items() if value is not None}
        try:
            # By way of JSON, where "strict" means TOML's types: a list may become a tuple, a table a dataclass.
            built = _adapter(settings).validate_json(json.dumps([given], default=str))[0]
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)
            found = list(translated(document, at, settings, [{**one, "loc": one["loc"][1:]} for one in wrong]))
        else:
            return None if left_out else built
        new = [one for one in found if not one.keys & left_out.keys()]
        mistakes += [one.mistake for one in new]
        next_out = {str(one.inside[0]) for one in new if one.inside}
        if not next_out:
            return None
        for key in sorted(next_out):
            left_out[key] = stand_in(annotation_at(settings, (key,)), [*given.values(), *left_out.values()])


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file, from the settings' annotations."""
    settings: dict[str, Any] = {**SECTIONS, **{kind.table: kind.settings for kind in kinds()}}
    by_key: dict[str, TypeAdapter[Any]] = {key: _adapter(one) for key, one in settings.items()}
    found, definitions = TypeAdapter.json_schemas([(key, "validation", adapter) for key, adapter in by_key.items()])
    lists = {key: found[(key, "validation")] for key in by_key}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of a store gateway",
        "type": "object",
        "required": ["site"],
        "additionalProperties": False,
        "properties": {key: lists[key]["items"] if key in SECTIONS else lists[key] for key in by_key},
        "$defs": definitions.get("$defs", {}),
    }
