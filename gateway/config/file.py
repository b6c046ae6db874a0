"""Configuration files: read, laid over each other, and every mistake pointed at.

Law: a file is a table of tables; a later file overrides an earlier one key by key. Tables are merged, `[[door]]` and
the like are merged by their `id` (a new id is added at the end), any other list is replaced as a whole. A key cannot be
taken away by a later file. What is wrong becomes a `Mistake` that names file, line and key; nothing stops at the first.
"""

from __future__ import annotations

import errno
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any

from gateway.machine.bounded import read_bounded

Location = tuple[str | int, ...]
"""The way to a value in a document: `("door", 1, "outer_pin")`."""

FILE_BYTES_MAX = 1 << 20
"""A configuration is a few KiB; what is larger is another file given by mistake (a device, a log, an image)."""

INTEGER_MAX = 2**63 - 1
"""TOML's integers have 64 bits."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a key stands: a file and a line of it, as far as known."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a configuration. `found` and `allowed` complete "found ..." and "allowed is ..."."""

    origin: Origin
    key: str
    found: str
    allowed: str = ""
    advice: str = ""

    def __str__(self) -> str:
        allowed = f"; allowed is {self.allowed}" if self.allowed else ""
        advice = f". {self.advice[:1].upper()}{self.advice[1:]}" if self.advice else ""
        key = f" {self.key}:" if self.key else ""
        return f"{self.origin}:{key} {self.found}{allowed}{advice}"


@dataclass(slots=True)
class Document:
    """Files laid over each other: `tables` as one file would have them, where each key stands, mistakes of reading."""

    tables: dict[str, Any] = field(default_factory=dict)
    origins: dict[Location, Origin] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    name: str = ""
    files: list[str] = field(default_factory=list)
    begun: dict[Location, tuple[int, int]] = field(default_factory=dict)

    def origin_of(self, at: Location) -> Origin:
        """Return where `at` stands, or the table around it, or the file."""
        for length in range(len(at), 0, -1):
            if at[:length] in self.origins:
                return self.origins[at[:length]]
        return Origin(self.name)

    def key_of(self, at: Location) -> str:
        """Write a location as a technician finds it: `broker.url`, `[[door]] "entrance".outer_pin`."""
        words, rest = "", at
        if len(at) >= 2 and isinstance(at[1], int):
            table = self.tables.get(str(at[0]))
            entry = table[at[1]] if isinstance(table, list) and at[1] < len(table) else None
            name = entry.get("id") if isinstance(entry, dict) else None
            words = f'[[{at[0]}]] "{name}"' if isinstance(name, str) else f"{at[0]}[{at[1]}]"
            rest = at[2:]
        for part in rest:
            if isinstance(part, int):
                words += f"[{part}]"
            else:
                words += f".{part}" if words else part
        return words

    def at(self, location: Location) -> Any:
        """Return the value at a location that exists."""
        value: Any = self.tables
        for part in location:
            value = value[part]
        return value

    def entries(self, tables: Iterable[str]) -> list[tuple[str, int, Mapping[str, Any]]]:
        """Return every `[[table]]` of these names, its index among its like, and its keys, in the files' order."""
        found = [
            (name, index, entry)
            for name, entries in self.tables.items()
            if name in tables and isinstance(entries, list)
            for index, entry in enumerate(entries)
            if isinstance(entry, dict)
        ]
        return sorted(found, key=lambda one: self.begun.get((one[0], one[1]), (0, 0)))

    def begin(self, at: Location) -> None:
        """Note where a table of a list first stands: what overrides it later does not change the order."""
        origin = self.origin_of(at)
        self.begun.setdefault(at, (len(self.files), origin.line or 0))

    def mistake(self, at: Location, found: str, allowed: str = "", advice: str = "") -> Mistake:
        """Return a mistake about the value at `at`."""
        return Mistake(self.origin_of(at), self.key_of(at), found, allowed, advice)


def read(paths: Sequence[Path]) -> Document:
    """Read the files and lay each over those before it. Never raises: what cannot be read is in `mistakes`."""
    document = Document(name=str(paths[0]) if paths else "")
    for path in paths:
        text = _text_of(path, document.mistakes)
        if text is not None:
            _lay_over(document, text, str(path))
    return document


def parse(text: str, name: str) -> Document:
    """Read one file's text; `name` stands for the file in messages."""
    document = Document(name=name)
    _lay_over(document, text, name)
    return document


def lay_over(document: Document, tables: Mapping[str, Any], name: str) -> None:
    """Lay tables, as one more file of that name would have them, over a document."""
    document.files.append(name)
    _merge(document, document.tables, tables, (), (), name, {})
    for at, found, allowed in _unfit(document.tables, ()):
        document.mistakes.append(document.mistake(at, found, allowed))


def _text_of(path: Path, mistakes: list[Mistake]) -> str | None:
    origin = Origin(str(path))
    try:
        raw = read_bounded(path, FILE_BYTES_MAX)
    except FileNotFoundError:
        advice = f"make one with: gateway config example > {path}; or name another with --config"
        mistakes.append(Mistake(origin, "", "there is no such file", "", advice))
        return None
    except IsADirectoryError:
        mistakes.append(Mistake(origin, "", "this is a directory", "a file", f"try --config {path / 'gateway.toml'}"))
        return None
    except PermissionError:
        advice = (
            "run as the gateway's user or a member of its group, or ask for the right to read it: ls -l shows who may"
        )
        mistakes.append(Mistake(origin, "", "this file may not be read by this user", "", advice))
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            found, allowed = f"this file is larger than {FILE_BYTES_MAX >> 20} MiB", "a TOML file"
        else:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            found, allowed = f"this file cannot be read: {why}", ""
        mistakes.append(Mistake(origin, "", found, allowed))
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        mistakes.append(
            Mistake(Origin(str(path), line), "", found, "UTF-8 text", "save the file with the encoding UTF-8")
        )
        return None


def _lay_over(document: Document, text: str, file: str) -> None:
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        document.mistakes.append(Mistake(Origin(file), "", "lists or tables stand too deep in each other"))
        return
    except ValueError as error:
        document.mistakes.append(_syntax_mistake(text, file, str(error)))
        return
    lines = _lines_of(text)
    document.files.append(file)
    try:
        _merge(document, document.tables, tables, (), (), file, lines)
        for at, found, allowed in _unfit(document.tables, ()):
            document.mistakes.append(document.mistake(at, found, allowed))
    except RecursionError:
        document.mistakes.append(Mistake(Origin(file), "", "tables stand too deep in each other"))
        document.tables = {}


def _merge(
    document: Document,
    target: dict[str, Any],
    source: Mapping[str, Any],
    at: Location,
    in_file: Location,
    file: str,
    lines: Mapping[Location, int],
) -> None:
    for key, value in source.items():
        here, there = (*at, key), (*in_file, key)
        known = target.get(key)
        if isinstance(value, dict):
            if not isinstance(known, dict):
                _forget(document, here)
                target[key] = known = {}
            _note(document, here, there, file, lines)
            _merge(document, known, value, here, there, file, lines)
        elif not at and _are_tables(value):
            entries: list[Any] = known if isinstance(known, list) and _are_tables(known) else []
            if entries is not known:
                _forget(document, here)
                target[key] = entries
            _note(document, here, there, file, lines)
            _merge_by_id(document, entries, value, here, there, file, lines)
        else:
            _forget(document, here)
            _note(document, here, there, file, lines)
            target[key] = value


def _merge_by_id(
    document: Document,
    known: list[Any],
    source: Sequence[Mapping[str, Any]],
    at: Location,
    in_file: Location,
    file: str,
    lines: Mapping[Location, int],
) -> None:
    # Only tables of earlier files are overridden: the same id twice in one file stays twice, and is a mistake.
    earlier = {repr(entry.get("id")): index for index, entry in reversed(list(enumerate(known))) if "id" in entry}
    for number, entry in enumerate(source):
        index = earlier.pop(repr(entry.get("id")), None)
        if index is None:
            index = len(known)
            known.append({})
        _note(document, (*at, index), (*in_file, number), file, lines)
        document.begin((*at, index))
        _merge(document, known[index], entry, (*at, index), (*in_file, number), file, lines)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _note(document: Document, at: Location, in_file: Location, file: str, lines: Mapping[Location, int]) -> None:
    line = next((lines[in_file[:n]] for n in range(len(in_file), 0, -1) if in_file[:n] in lines), None)
    document.origins[at] = Origin(file, line)


def _forget(document: Document, at: Location) -> None:
    for begun in [begun for begun in document.begun if begun[: len(at)] == at]:
        del document.begun[begun]
    for known in [known for known in document.origins if known[: len(at)] == at]:
        del document.origins[known]


def _unfit(value: Any, at: Location) -> Iterator[tuple[Location, str, str]]:
    """Yield what TOML can say and no key means: dates, and numbers that are not of this world."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _unfit(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unfit(inner, (*at, index))
    elif isinstance(value, date | time):  # a datetime is a date
        yield at, f"found {shown(value)}", "a text in quotation marks: no key takes a date"
    elif isinstance(value, int) and abs(value) > INTEGER_MAX:
        yield at, f"found a number of {len(f'{value:x}')} hexadecimal digits", "a whole number of 64 bits"


_TUPLE = re.compile(r"\('[^()]*\)")
_UNQUOTED = re.compile(r"([A-Za-z0-9_-]+)\s*=\s*([^\"'\[{#\s][^\"'#]*)")
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def _syntax_mistake(text: str, file: str, message: str) -> Mistake:
    place = _PLACE.search(message)
    what = _PLACE.sub("", message)
    what = _TUPLE.sub(
        lambda found: "[" + ".".join(re.findall(r"'([^']*)'", found[0])) + "]", what[:1].lower() + what[1:]
    )
    text_lines = text.splitlines() or [""]
    if place is None:
        return Mistake(Origin(file), "", f"this is not TOML: {what}")
    line = int(place[1]) if place[1] else len(text_lines)
    column = f", column {place[2]}" if place[2] else ", at its end"
    written = text_lines[line - 1].strip()[:60] if line <= len(text_lines) else ""
    if bare := _UNQUOTED.fullmatch(written):
        advice = f'texts stand in quotation marks: {bare[1]} = "{bare[2].strip()}"'
    else:
        # Only what looks like a key's line is repeated: a password file given by mistake must not reach a log.
        advice = f"the line reads: {written}" if re.match(r"\s*(\[|[A-Za-z0-9_-]+\s*[= ])", written) else ""
    return Mistake(Origin(file, line), "", f"this is not TOML: {what} (line {line}{column})", "", advice)


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")


def _lines_of(text: str) -> dict[Location, int]:
    """Find the line of each table and key that begins a line: good enough to point at, never needed to be right."""
    lines: dict[Location, int] = {}
    counts: dict[Location, int] = {}
    table: Location = ()
    quoted = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not quoted:
            if header := _HEADER.match(line):
                table = _table_of(_parts_of(header[2]), header[1] == "[[", counts)
                lines.setdefault(table, number)
            elif key := _KEY.match(line):
                lines.setdefault((*table, *_parts_of(key[1])), number)
        if (line.count('"""') + line.count("'''")) % 2:
            quoted = not quoted
    return lines


def _parts_of(dotted: str) -> tuple[str, ...]:
    return tuple(next(part for part in found.groups() if part is not None) for found in _PART.finditer(dotted))


def _table_of(parts: tuple[str, ...], is_list: bool, counts: dict[Location, int]) -> Location:
    at: Location = ()
    for number, part in enumerate(parts, start=1):
        at = (*at, part)
        if is_list and number == len(parts):
            counts[at] = counts.get(at, -1) + 1
        if at in counts:
            at = (*at, counts[at])
    return at


def shown(value: Any) -> str:
    """Write a value as it stands in TOML, with its type in a person's words where that is not plain to see."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        short = value if len(value) <= 60 else value[:57] + "..."
        return '"' + short.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, dict):
        return "a table { ... }"
    if isinstance(value, list):
        return "a list [ ... ]" if value else "an empty list []"
    if isinstance(value, date | time):
        return f"the {'time' if isinstance(value, time) else 'date'} {value.isoformat()}"
    return str(value)
