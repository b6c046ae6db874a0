"""Signed commands (contract section 5): what is signed, and whether it may be believed now. Pure but for the file.

Law: the bytes that were signed are the bytes that are read; nothing is written anew to be compared. A statement names
the topic (so this gateway and this verb), its time and a number used once. It is believed once: what was believed is
kept on the disk before it is carried out, and no clock that is set back, and no restart, makes it new. Memory is
bounded: of what is forgotten the newest time stays, and nothing as old as that is believed any more.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.commands.verbs import CommandRefused
from gateway.machine.bounded import json_object, read_object
from gateway.machine.owner import beside, put
from gateway.model import NS_PER_MS, CommandVerb, Instant

SIGNED_VERBS: tuple[CommandVerb, ...] = ("config", "restart")
"""What needs a signature where `[commands] key_file` is set: what changes the gateway itself."""
CONTEXT = b"store-gateway command v1\n"
"""Stands before what is signed, so that no signature made for something else is one of a command."""
WINDOW_MS = 120_000
KEPT_MAX = 64
NONCE_CHARACTERS = (16, 64)
SIGNATURE_BYTES = 64
TIME_MS_MAX = 1 << 53
FILE_BYTES_MAX = 64 * 1024

Verify = Callable[[bytes, bytes], bool]
"""Whether the second is the key's signature of the first."""


@dataclass(frozen=True, slots=True)
class Believed:
    """Which statements were believed: the last ones by time and nonce, and the time up to which nothing is any more."""

    floor_ms: int = 0
    last: tuple[tuple[int, str], ...] = ()


def statement_of(topic: str, arguments: Mapping[str, Any], time_ms: int, nonce: str) -> bytes:
    """Return the bytes to sign, after `CONTEXT`."""
    return json.dumps({"topic": topic, "time_ms": time_ms, "nonce": nonce, "arguments": arguments}).encode()


def payload_of(statement: bytes, signature: bytes) -> bytes:
    """Return a signed command's payload."""
    fields = {"signed": base64.b64encode(statement).decode(), "signature": base64.b64encode(signature).decode()}
    return json.dumps(fields).encode()


def opened(
    outer: Mapping[str, Any], topic: str, verify: Verify, now: Instant, believed: Believed
) -> tuple[Mapping[str, Any], Believed]:
    """Return the arguments that were signed, and what is believed now; raises CommandRefused (`not_signed`).

    `outer` is the payload, `topic` where it came. Nothing of the statement is read before its signature is good.
    """
    if set(outer) != {"signed", "signature"}:
        raise _refused('this gateway takes it only signed: an object of "signed" and "signature", nothing else')
    statement, signature = _bytes(outer, "signed"), _bytes(outer, "signature")
    if len(signature) != SIGNATURE_BYTES or not verify(CONTEXT + statement, signature):
        raise _refused("the signature is not one of the key in [commands] key_file over these bytes")
    try:
        said = json_object(statement)
    except ValueError as error:
        raise _refused(f"what is signed cannot be used: {error}") from None
    if set(said) != {"topic", "time_ms", "nonce", "arguments"} or not isinstance(said["arguments"], dict):
        raise _refused('what is signed must have "topic", "time_ms", "nonce" and the object "arguments", nothing else')
    if said["topic"] != topic:
        raise _refused(f"it was signed for another gateway or another command; this one is {topic}")
    return said["arguments"], _believed(said["time_ms"], said["nonce"], now, believed)


def _believed(time_ms: Any, nonce: Any, now: Instant, believed: Believed) -> Believed:
    if type(time_ms) is not int or not 0 < time_ms < TIME_MS_MAX:
        raise _refused('"time_ms" must be a whole number of milliseconds since 1970')
    least, most = NONCE_CHARACTERS
    if not isinstance(nonce, str) or not (nonce.isascii() and nonce.isalnum() and least <= len(nonce) <= most):
        raise _refused(f'"nonce" must be {least} to {most} letters and digits, never used before')
    if now.clock != "synced":
        raise _refused(
            "this gateway's clock is not synchronised yet, so nobody knows how old it is; send it anew later"
        )
    age_ms = now.wall_ns // NS_PER_MS - time_ms
    if abs(age_ms) > WINDOW_MS:
        when = "old" if age_ms > 0 else "ahead of this gateway's clock"
        raise _refused(f"it is {abs(age_ms) // 1000} s {when}; {WINDOW_MS // 1000} s are allowed: sign it anew")
    if time_ms <= believed.floor_ms or any(nonce == one for _, one in believed.last):
        raise _refused("it was carried out before, or is older than what was: sign it anew, with a new nonce")
    last = sorted([*believed.last, (time_ms, nonce)])
    gone = last[:-KEPT_MAX]
    return Believed(max([believed.floor_ms, *(when_ms for when_ms, _ in gone)]), tuple(last[-KEPT_MAX:]))


def _bytes(outer: Mapping[str, Any], key: str) -> bytes:
    value = outer[key]
    try:
        if not isinstance(value, str):
            raise ValueError
        return base64.b64decode(value.encode("ascii"), validate=True)
    except ValueError:
        raise _refused(f'"{key}" must be base64 text') from None


def _refused(detail: str) -> CommandRefused:
    return CommandRefused("not_signed", detail)


def path_of(outbox_directory: Path | str) -> Path:
    """Return where it is kept what was believed: beside the outbox."""
    return beside(outbox_directory, "signed.json")


def read_believed(outbox_directory: Path | str, now: Instant) -> Believed:
    """Return what was believed. Of a file that cannot be used nothing is known: then nothing up to now is believed.

    That is kept at once, where the clock is set: what is signed from then on is believed. Raises OSError.
    """
    try:
        kept = read_object(path_of(outbox_directory), FILE_BYTES_MAX)
        floor_ms, last = kept["floor_ms"], tuple((when_ms, nonce) for when_ms, nonce in kept["last"])
        if not all(type(number) is int for number in (floor_ms, *(when_ms for when_ms, _ in last))):
            raise ValueError
        if not all(isinstance(nonce, str) for _, nonce in last):
            raise ValueError
        return Believed(floor_ms, last[-KEPT_MAX:])
    except FileNotFoundError:
        return Believed()
    except (OSError, ValueError, KeyError, TypeError):
        believed = Believed(now.wall_ns // NS_PER_MS)
        if now.clock == "synced":
            write_believed(outbox_directory, believed)
        return believed


def write_believed(outbox_directory: Path | str, believed: Believed) -> None:
    """Keep it; it survives a power cut on return. Raises OSError."""
    put(path_of(outbox_directory), json.dumps(dataclasses.asdict(believed)).encode() + b"\n")
