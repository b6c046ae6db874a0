"""Quantities as people write them in the configuration: "15 min", "1 GiB", or a number in the key's own unit.

The markers below annotate the fields of settings; pydantic calls `__get_pydantic_core_schema__` on them, so that
settings stay plain dataclasses and only the configuration's room needs pydantic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

from gateway.wrong import NotAllowed

DURATION_UNITS_S = {
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "day": 86_400.0,
    "days": 86_400.0,
    "w": 604_800.0,
}
SIZE_UNITS_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
MOST = {"duration": (10 * 366 * 86_400.0, "10 years (3660 d)"), "size": (2**50, "1 PiB")}
"""What no device outlives or holds. Beyond it clocks and the kernel's timers have no number any more."""
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
"""What pydantic calls bounds behind a validator, and JSON Schema's names for them."""
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")


def _parse(text: str, units: dict[str, Any], example: str) -> float:
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in units:
        raise ValueError(f'write a number and one of {", ".join(units)}, for example "{example}"')
    return float(found[1]) * float(units[found[2]])


def duration_s(text: str) -> float:
    """Read "50 ms", "10s", "15 min", "2 h" or "30 d" as seconds; ValueError says what is allowed."""
    return _parse(text, DURATION_UNITS_S, "15 min")


def size_bytes(text: str) -> int:
    """Read "512 MiB" or "1 GB" as bytes; ValueError says what is allowed."""
    return int(_parse(text, SIZE_UNITS_BYTES, "1 GiB"))


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a number that may be written with a unit; `unit` is the key's own, in seconds or bytes."""

    units: str
    unit: float = 1.0

    def read(self, value: Any) -> float | int:
        """Return the quantity in the key's own unit; ValueError where it is none."""
        if isinstance(value, str):
            number = duration_s(value) / self.unit if self.units == "duration" else size_bytes(value)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("write a number, or a string with a number and a unit")
        else:
            number = value
        most, said = MOST[self.units]
        if not 0 <= number * self.unit <= most:  # also what is no number, and what has no end
            raise ValueError(f"must be a finite number, not negative, at most {said}")
        return number if self.units == "duration" else int(number)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        number = {_BOUNDS.get(key, key): value for key, value in handler(schema).items()}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{_QUANTITY.pattern}$"}]}


@dataclass(frozen=True, slots=True)
class Pattern:
    """Marks a string of a given form; `says` completes the sentence "must be ..."."""

    pattern: str
    says: str

    def read(self, value: Any) -> Any:
        """Return a string of the form; ValueError says which form."""
        if isinstance(value, str) and not re.fullmatch(self.pattern, value):
            raise NotAllowed(f"must be {self.says}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}


Seconds = Annotated[float, Quantity("duration", 1.0)]
Milliseconds = Annotated[float, Quantity("duration", 0.001)]
Bytes = Annotated[int, Quantity("size")]
Identifier = Annotated[str, Pattern(r"[A-Za-z0-9_-]{1,64}", "1 to 64 of the characters A-Z a-z 0-9 _ -")]
Address = Annotated[str, Pattern(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", 'a radio address such as "c4:64:e3:00:00:01"')]
Pin = Annotated[int, Ge(0), Le(27)]
"""BCM number of a pin on the 40-pin header."""
