"""Commands from the cloud (contract section 5): understood, allowed, answered. Pure.

Law: whatever arrives is answered or ignored, and what is not understood changes nothing. A retained command is ignored:
it was meant for another day. Every answer has `ok` and either `result` or `error` with `code` and `detail`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.model import NS_PER_S, STREAMS, VERBS
from gateway.wire import no_constant

PAYLOAD_BYTES_MAX = 16 * 1024
SEQUENCE_MAX = 10**16 - 1
PROVE_WITHIN_S = 120.0
EVENT_BYTES = 512
"""What an event sent again counts as: some 500 bytes are usual."""


class CommandRefused(Exception):
    """A command that is not carried out: `code` of the contract's list, `str(error)` a sentence."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    def answer(self) -> dict[str, Any]:
        return {"ok": False, "error": {"code": self.code, "detail": str(self)}}


@dataclass(frozen=True, slots=True)
class Resend:
    """Deliver `first..last` (inclusive) of a stream again."""

    stream: Any
    first: int
    last: int


def understood(verb: str, payload: bytes, allow: Sequence[str]) -> Mapping[str, Any]:
    """Return the arguments of a command that may run; raises CommandRefused for any other."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise CommandRefused("too_large", f"{len(payload)} bytes; a command has {PAYLOAD_BYTES_MAX} at most")
    if verb not in VERBS:
        raise CommandRefused("unknown", f"no such command; there are {', '.join(VERBS)}")
    if verb not in allow:
        raise CommandRefused("not_allowed", f'"{verb}" is not in [commands] allow of this gateway')
    try:
        arguments = json.loads(payload.decode(), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise CommandRefused("malformed", f"not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise CommandRefused("malformed", "not a JSON object; where there is nothing to say, send {}")
    return arguments


def resend_of(arguments: Mapping[str, Any]) -> Resend:
    """Return what `resend` asks for; raises CommandRefused where a key is missing or of the wrong form."""
    stream = arguments.get("stream")
    if stream not in STREAMS:
        raise CommandRefused("invalid", f'"stream" must be one of {", ".join(STREAMS)}')
    first, last = (_sequence(arguments, key) for key in ("first_sequence", "last_sequence"))
    if last < first:
        raise CommandRefused("invalid", '"last_sequence" must not be below "first_sequence"')
    return Resend(stream, first, last)


def overlay_of(arguments: Mapping[str, Any]) -> tuple[Mapping[str, Any], float]:
    """Return what `config` is to lay over the local files, and the seconds in which it must prove itself.

    `config` is a JSON object of the file's tables, or TOML text; empty: back to the local files alone. `within_s` is
    120 unless given. Raises CommandRefused.
    """
    unknown = set(arguments) - {"config", "within_s"}
    if unknown or "config" not in arguments:
        raise CommandRefused("invalid", '"config" must be there, an object or TOML text; beside it only "within_s"')
    overlay = arguments["config"]
    if isinstance(overlay, str):
        try:
            overlay = tomllib.loads(overlay)
        except (ValueError, RecursionError) as error:
            raise CommandRefused("invalid", f'"config" is not TOML: {error}') from None
    if not isinstance(overlay, dict) or _has_null(overlay):
        raise CommandRefused("invalid", '"config" must be an object of tables without null, or TOML text')
    within_s = arguments.get("within_s", PROVE_WITHIN_S)
    if isinstance(within_s, bool) or not isinstance(within_s, int | float) or not 1 <= within_s <= PROVE_WITHIN_S:
        raise CommandRefused("invalid", f'"within_s" must be a number from 1 to {PROVE_WITHIN_S:g}')
    return overlay, float(within_s)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_null(inner) for inner in value.values())
    return value is None or (isinstance(value, list) and any(_has_null(inner) for inner in value))


def _sequence(arguments: Mapping[str, Any], key: str) -> int:
    value = arguments.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)  # as the envelope writes it
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= SEQUENCE_MAX:
        raise CommandRefused("invalid", f'"{key}" must be a whole number from 1')
    return value


@dataclass(slots=True)
class ResendBudget:
    """How much may be sent again: `bytes_per_hour`, an hour's worth at once; an event counts as `EVENT_BYTES`."""

    bytes_per_hour: int
    _spent: float = 0.0
    _at_ns: int = 0

    def through(self, kept: Sequence[tuple[int, int]], boot_ns: int) -> int:
        """Return the last number of these ranges (one at least) that may be sent; raises CommandRefused (`busy`)."""
        back = (boot_ns - self._at_ns) * self.bytes_per_hour / (3600 * NS_PER_S)
        self._spent, self._at_ns = max(0.0, self._spent - back), boot_ns
        room = int((self.bytes_per_hour - self._spent) // EVENT_BYTES)
        if room < 1:
            detail = f"[commands] resend_bytes_per_hour ({self.bytes_per_hour} bytes) are spent; ask again later"
            raise CommandRefused("busy", detail)
        last = 0
        for first, last in kept:
            if last - first >= room:
                return first + room - 1
            room -= last - first + 1
            if room == 0:
                break
        return last

    def spend(self, taken: Sequence[tuple[int, int]]) -> None:
        """Take away what is sent again."""
        self._spent += EVENT_BYTES * sum(last - first + 1 for first, last in taken)


def resent(asked: Resend, kept: Sequence[tuple[int, int]], through: int | None = None) -> dict[str, Any]:
    """Return the answer of `resend`: what is sent again, what is no longer kept, what is to be asked for again later.

    `kept` is what there is, `through` the last number of it that is sent now; None: all of it.
    """
    if not kept:
        detail = f"nothing of {asked.stream} {asked.first} to {asked.last} is kept any more"
        raise CommandRefused("not_kept", detail)
    gone, after = [], asked.first
    for first, last in kept:
        if first > after:
            gone.append((after, first - 1))
        after = last + 1
    if after <= asked.last:
        gone.append((after, asked.last))
    through = kept[-1][1] if through is None else through
    now = [(first, min(last, through)) for first, last in kept if first <= through]
    later = [(max(first, through + 1), last) for first, last in kept if last > through]
    answer = {"stream": asked.stream, "resent": _ranges(now), "not_kept": _ranges(gone)}
    return {**answer, "later": _ranges(later)} if later else answer


def _ranges(pairs: Sequence[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"first_sequence": first, "last_sequence": last} for first, last in pairs]
