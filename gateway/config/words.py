"""What a key may hold, in a person's words, taken from the annotations of the settings' dataclasses.

`allowed` of "found 99, allowed is a whole number from 0 to 27" comes from `Annotated[int, Ge(0), Le(27)]`; so the words
cannot differ from the check.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt

from gateway.config.file import Location
from gateway.outbox.settings import PerStream
from gateway.units import Pattern, Quantity

_UNIT_WORDS = {0.001: "milliseconds", 1.0: "seconds", 60.0: "minutes", 3600.0: "hours", 86_400.0: "days"}
_KEYS_LISTED_MAX = 24


def keys_of(annotation: Any) -> dict[str, Any]:
    """Return the keys of a dataclass (of all dataclasses of a union; of a mapping by literals) with annotations."""
    named = {
        str(key): get_args(_bare(member)[0])[1]
        for member in _members(annotation)
        if get_origin(_bare(member)[0]) in (dict, Mapping)
        for key in get_args(get_args(_bare(member)[0])[0])
    }
    return named | {
        name: hint
        for member in _members(annotation)
        if dataclasses.is_dataclass(member) and isinstance(member, type)
        for name, hint in get_type_hints(member, include_extras=True).items()
        if name in {field.name for field in dataclasses.fields(member)}
    }


def annotation_at(annotation: Any, location: Location) -> Any:
    """Return the annotation of the value at `location` below `annotation`, or None where nothing is known there."""
    for part in location:
        annotation = _step(annotation, part)
        if annotation is None:
            return None
    return annotation


def allowed(annotation: Any) -> str:
    """Say what a value of this annotation may be: "a whole number from 0 to 27"."""
    words: list[str] = []
    for member in _members(annotation):
        if (said := _said(member)) and said not in words:
            words.append(said)
    return " or ".join(words)


def did_you_mean(key: str, known: Sequence[str]) -> str:
    """Advise on an unknown key: the nearest known one, or the list of them."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if near:
        return f"did you mean {near[0]}?"
    if len(known) > _KEYS_LISTED_MAX:
        return ""
    return f"known here: {', '.join(known)}"


def advice(annotation: Any, value: Any) -> str:
    """Advise on a value of the wrong form: the nearest choice, or quotation marks that are missing or too many."""
    members = [_bare(member) for member in _members(annotation)]
    kinds = {bare for bare, _ in members}
    if isinstance(value, str):
        choices = [str(one) for bare in kinds if get_origin(bare) is Literal for one in get_args(bare)]
        if near := difflib.get_close_matches(value.strip().lower(), choices, n=1, cutoff=0.6):
            return f'did you mean "{near[0]}"?'
        is_number = bool(kinds & {int, float}) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value.strip())
        if is_number or (bool in kinds and value.lower() in ("true", "false")):
            return "write it without quotation marks"
    elif isinstance(value, int | float) and not isinstance(value, bool) and members == [(str, ())]:
        return f'write it in quotation marks: "{value}"'
    return ""


def stand_in(annotation: Any, taken: Iterable[Any]) -> Any:
    """Return a value that is right for a number or an identifier and not `taken`; None for anything else."""
    numbers = [value for value in taken if isinstance(value, int)]
    for member in _members(annotation):
        bare, markers = _bare(member)
        if bare is int:
            least = next((marker.ge for marker in markers if isinstance(marker, Ge)), 0)
            return next(number for number in range(int(str(least)), 1 << 62) if number not in numbers)
        if bare is str and any(isinstance(marker, Pattern) and re.fullmatch(marker.pattern, "x") for marker in markers):
            return "x"
    return None


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, `None` left out, markers of an Annotated kept on each."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner = get_args(annotation)[0]
        if get_origin(inner) in (Union, types.UnionType):
            yield from _members(inner)
        else:
            yield annotation
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif annotation is not type(None):
        yield annotation


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(annotation) is Annotated:
        inner, *markers = get_args(annotation)
        return inner, tuple(markers)
    return annotation, ()


def _step(annotation: Any, part: str | int) -> Any:
    for member in _members(annotation):
        bare, _ = _bare(member)
        origin = get_origin(bare)
        if isinstance(part, int) and origin in (list, tuple, Sequence) and get_args(bare):
            return get_args(bare)[0]
        if isinstance(part, str) and origin in (dict, Mapping) and len(get_args(bare)) == 2:
            return get_args(bare)[1]
        if isinstance(part, str) and part in (keys := keys_of(bare)):
            return keys[part]
    return None


def _said(member: Any) -> str:
    bare, markers = _bare(member)
    origin = get_origin(bare)
    for marker in markers:
        if isinstance(marker, Quantity):
            if marker.units == "duration":
                unit = _UNIT_WORDS.get(marker.unit, f"{marker.unit} s")
                return f'a duration such as "15 min", or a number of {unit}{_range(markers)}'
            return f'a size such as "512 MiB", or a number of bytes{_range(markers)}'
        if says := getattr(marker, "says", ""):
            return str(says)
    if origin is Literal:
        return " or ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in get_args(bare))
    if origin in (list, tuple, Sequence):
        inner = allowed(get_args(bare)[0]) if get_args(bare) else ""
        return f"a list of which each is {inner}" if inner else "a list"
    if origin in (dict, Mapping):
        inner = allowed(get_args(bare)[1]) if len(get_args(bare)) == 2 else ""
        keys = ", ".join(keys_of(bare)) or "key"
        words = f"a table {{ {keys} = ... }}, each {inner}" if inner else f"a table {{ {keys} = ... }}"
        return f"{words}; or one for all" if any(isinstance(marker, PerStream) for marker in markers) else words
    if dataclasses.is_dataclass(bare):
        return f"a table with the keys {', '.join(keys_of(bare))}"
    if bare is bool:
        return "true or false"
    if bare is int:
        return f"a whole number{_range(markers)}"
    if bare is float:
        return f"a number{_range(markers)}"
    if isinstance(bare, type) and issubclass(bare, Path):
        return "the path of a file in quotation marks"
    if bare is str:
        return "a text in quotation marks"
    return ""


def _range(markers: tuple[Any, ...]) -> str:
    limits = [limit for marker in markers for limit in (marker if isinstance(marker, Interval) else (marker,))]
    least = next((f"from {limit.ge}" for limit in limits if isinstance(limit, Ge)), "")
    above = next((f"above {limit.gt}" for limit in limits if isinstance(limit, Gt)), "")
    most = next((f"to {limit.le}" for limit in limits if isinstance(limit, Le)), "")
    below = next((f"below {limit.lt}" for limit in limits if isinstance(limit, Lt)), "")
    if most and not (least or above):
        most = f"up {most}"
    words = " ".join(word for word in (least or above, most or below) if word)
    if least and not (most or below):
        words = words.replace("from", "of at least")
    return f" {words}" if words else ""
