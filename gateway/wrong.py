"""What is wrong with a table of settings, as values: each rule of a settings class yields one, and stands there once.

A class of settings has a method `wrong` that yields them and a `__post_init__` that calls `refuse(self.wrong())`. So a
table cannot be built wrong, and whoever reads the configuration gets everything that is wrong with it at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wrong:
    """One rule that is broken at `key`, or by the table as a whole where that is empty.

    A person reads "found 0: must lie between 1 s and 1 h; allowed is ...", then the advice: `why` is the part after the
    value. `also` are other keys that the rule looks at: where one of those is wrong itself, this says nothing new.
    `instead` is shown in place of the value (one that holds a password); without `is_shown` the value is not repeated.
    """

    key: str
    why: str = ""
    allowed: str = ""
    advice: str = ""
    also: tuple[str, ...] = ()
    instead: str | None = None
    is_shown: bool = True

    def __str__(self) -> str:
        return " ".join(part for part in (self.key, self.why or f"must be {self.allowed}") if part)


class WrongSettings(ValueError):
    """Settings that cannot be: `wrongs` says all of it."""

    def __init__(self, wrongs: tuple[Wrong, ...]) -> None:
        super().__init__("; ".join(map(str, wrongs)))
        self.wrongs = wrongs


class NotAllowed(ValueError):
    """A value that its key does not allow; the key's annotation says what is allowed."""


def refuse(wrongs: Iterable[Wrong]) -> None:
    """Raise WrongSettings where anything is wrong."""
    if found := tuple(wrongs):
        raise WrongSettings(found)
