"""Expressions of a technician, as TinyDB queries: `data.direction == "in" and not data.duration_ms > 500`.

Law: no eval. A field is a dotted path into the event; a value is a JSON number, string, true, false or null. `and`,
`or`, `not` and parentheses combine; a field alone asks whether it is there. A comparison with what is absent, or of
another kind, is false; a string of digits is a number where it is compared with one. What cannot be read is reported
with its position.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from tinydb.queries import QueryInstance, where

from gateway.errors import GatewayError

DEPTH_MAX = 50  # of parentheses and nots; nobody types more
NUMBER_CHARACTERS_MAX = 60
TOKENS_MAX = 500  # each `and` nests tinydb's query once more
_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
    r"|(?P<sign>==|!=|<=|>=|<|>|\(|\))|(?P<word>[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DECIMAL = re.compile(r"[0-9]{1,20}")
_CONSTANTS = {"true": True, "false": False, "null": None}


class QueryError(GatewayError):
    """An expression cannot be read; the message says where and what was expected."""

    exit_code = 2


def parse_query(text: str) -> QueryInstance:
    """Return the TinyDB query that an expression means; QueryError where it cannot be read."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise self._error(at, "a field, a value, a comparison or a parenthesis")
            kind = found.lastgroup or ""
            self._tokens.append((kind, found[kind], found.start(kind)))
            at = found.end()
            if len(self._tokens) > TOKENS_MAX:
                raise self._error(at, f"at most {TOKENS_MAX} words and signs")
        self._next = 0
        self._depth = 0

    def parse(self) -> QueryInstance:
        query = self._any()
        if self._next < len(self._tokens):
            raise self._error(self._tokens[self._next][2], '"and", "or" or the end')
        return query

    def _error(self, at: int, expected: str) -> QueryError:
        found = repr(self._text[at : at + 20]) if self._text[at:].strip() else "the end"
        return QueryError(
            f"query: expected {expected} at character {at + 1}, found {found}",
            """write for example: data.direction == "in" and data.duration_ms > 500""",
        )

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "", len(self._text))

    def _take(self, *words: str) -> bool:
        kind, text, _ = self._peek()
        if kind in ("word", "sign") and text in words:
            self._next += 1
            return True
        return False

    def _any(self) -> QueryInstance:
        query = self._all()
        while self._take("or"):
            query = query | self._all()
        return query

    def _all(self) -> QueryInstance:
        query = self._one()
        while self._take("and"):
            query = query & self._one()
        return query

    def _one(self) -> QueryInstance:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._error(self._peek()[2], f"at most {DEPTH_MAX} parentheses and nots within each other")
        try:
            if self._take("not"):
                return ~self._one()
            if self._take("("):
                query = self._any()
                if not self._take(")"):
                    raise self._error(self._peek()[2], '")"')
                return query
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> QueryInstance:
        kind, path, at = self._peek()
        if kind != "word" or path in ("and", "or", "not", *_CONSTANTS):
            raise self._error(at, "a field such as data.direction")
        self._next += 1
        first, *rest = path.split(".")
        field = where(first)
        for name in rest:
            field = field[name]
        kind, sign, _ = self._peek()
        if kind != "sign" or sign not in _COMPARE:
            return field.exists()
        self._next += 1
        value = self._value()
        compare = _COMPARE[sign]

        def holds(found: Any) -> bool:
            if isinstance(found, str) and isinstance(value, int | float) and _DECIMAL.fullmatch(found):
                found = int(found)  # CloudEvents has no large numbers: sequence, epoch and uptimems are decimal strings
            if isinstance(found, bool) != isinstance(value, bool) and sign not in ("==", "!="):
                return False
            try:
                return bool(compare(found, value))
            except (TypeError, ValueError):
                return False

        return field.test(holds)

    def _value(self) -> Any:
        kind, text, at = self._peek()
        self._next += 1
        if kind == "number":
            if len(text) > NUMBER_CHARACTERS_MAX or not math.isfinite(number := float(text)):
                raise self._error(at, "a number that an event can have")
            return int(text) if re.fullmatch(r"-?\d+", text) else number
        if kind == "text":
            inner = text[1:-1]
            try:
                return json.loads(
                    '"' + (inner if text[0] == '"' else inner.replace("\\'", "'").replace('"', '\\"')) + '"'
                )
            except ValueError:
                raise self._error(at, "a string as in JSON") from None
        if kind == "word" and text in _CONSTANTS:
            return _CONSTANTS[text]
        raise self._error(at, 'a number, a string in quotes, true, false or null (write == "in", not == in)')
