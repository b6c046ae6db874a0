"""Which secrets this gateway has: what its configuration names, what stands in those files, and the key of the day.

Law: they are read to be taken out of what is shown (`redaction`), and go nowhere else. A file that cannot be read has
nothing to be taken out: who may not read it cannot show it either.
"""

from __future__ import annotations

import binascii
import dataclasses
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.config import Configuration
from gateway.machine.bounded import read_bounded, read_object
from gateway.redaction import Redactor

BYTES_MAX = 64 * 1024
PUBLIC = ("ca_file", "cert_file")
CREDENTIALS, SECRETS = Path("/run/credentials/gateway.service"), Path("/etc/gateway/secrets")
NOT_SECRET = re.compile("user.*|.*_file")
SECRET_FIELD = re.compile("(?i).*(password|passphrase|secret|token|bindkey|irk|psk)|key")
ARMOUR_LEAST = 16
"""Characters of a line of a PEM file, from which on it is taken out by itself."""
KEY_LEAST_BYTES = 8


def redactor_of(configuration: Configuration) -> Redactor:
    """Return what takes out this gateway's secrets and every address, but addresses that a rule names."""
    named = [address for sensor in configuration.sensors for address in sensor.kind.describe(sensor.settings).addresses]
    return Redactor(known_secrets(configuration), named)


def known_secrets(configuration: Configuration) -> set[bytes]:
    """Return every secret that is configured, as it stands and as the bytes that it writes down."""
    found: set[bytes] = set()
    for _, path in secret_files(configuration):
        with suppress(OSError):
            found.update(_written(read_bounded(path, BYTES_MAX)))
    for name, value in _fields(configuration):
        if SECRET_FIELD.fullmatch(name) and not NOT_SECRET.fullmatch(name):
            found.update(_written(value.encode()))
    with suppress(OSError, ValueError, KeyError):
        day = read_object(Path(configuration.outbox.directory) / "privacy.key", BYTES_MAX, follow=False)
        found.update(_written(str(day["key"]).encode()))
    return found


def secret_files(configuration: Configuration) -> Iterator[tuple[str, Path]]:
    """Yield the name and place of every file with a secret in it that the configuration names."""
    for name, value in dict.fromkeys(_fields(configuration)):  # a sensor's keys are there twice: as written, and built
        if name.endswith("_file") and name not in PUBLIC:
            yield name, readable(Path(value).expanduser())


def readable(path: Path) -> Path:
    """Return where a secret lies for who is not the service: what the unit hands over, only the service sees."""
    if path.exists() or path.parent != CREDENTIALS:
        return path
    return SECRETS / path.name.removeprefix("secrets_")


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and text of every field below a value of the configuration."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # a kind names its classes
        for field in dataclasses.fields(value):
            yield from _fields(getattr(value, field.name), field.name)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _fields(inner, str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _fields(inner, name)
    elif isinstance(value, str | Path) and str(value):
        yield name, str(value)


def _written(content: bytes) -> Iterator[bytes]:
    content = content.strip()
    if b"-----BEGIN" in content:
        yield from (line for line in content.split() if len(line) >= ARMOUR_LEAST and not line.startswith(b"-----"))
        return
    if not content:
        return
    yield content
    with suppress(binascii.Error, ValueError):
        octets = bytes.fromhex(content.decode("ascii").replace(":", "").replace("-", ""))
        if len(octets) >= KEY_LEAST_BYTES:
            yield from (octets, content.lower(), content.upper())
