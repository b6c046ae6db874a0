"""What the verbs share: their options, an example in their help, JSON and tables on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.config import Configuration

PIPE_WIDTH = 10_000
"""Columns of a table that is not shown on a terminal: a line there is never folded or cut."""

F = TypeVar("F", bound=Callable[..., Any])


class Verb(click.Command):
    """A command whose help ends with an example."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_example(self.example, formatter)


class VerbGroup(click.Group):
    """A verb of verbs (`gateway config ...`); its help lists them and ends with an example."""

    command_class = Verb

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_example(self.example, formatter)


def write_example(example: str, formatter: click.HelpFormatter) -> None:
    """Write the lines of an example below a verb's help, as they are: no wrapping of what is to be copied."""
    if example:
        with formatter.section("Example"):
            for line in example.strip().splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


def configured(function: F) -> F:
    """Give a verb `--config FILE` (repeatable), as `config: tuple[Path, ...]`."""
    return click.option(
        "--config",
        multiple=True,
        type=click.Path(path_type=Path, readable=False),
        metavar="FILE",
        help="Configuration; a second one overrides the first key by key. Default: /etc/gateway/gateway.toml",
    )(function)


def printing(function: F) -> F:
    """Give a verb `--json`, as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def load(paths: Sequence[Path]) -> Configuration:
    """Load the configuration of `--config`; raises ConfigurationError."""
    from gateway.config import load as load_configuration

    return load_configuration(paths)


def say_json(value: Any) -> None:
    """Print one JSON value, for programs and for people who use jq."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def console() -> Console:
    """Return what prints tables and colours on standard output: no colour and room enough where it is no terminal."""
    from rich.console import Console as RichConsole

    class Piped(RichConsole):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the command line knows it; rich would end with 1

    on_terminal = sys.stdout.isatty()
    return Piped(
        highlight=False,
        soft_wrap=not on_terminal,
        force_terminal=None if on_terminal else False,
        width=None if on_terminal else PIPE_WIDTH,
    )


def table(headings: Iterable[str], rows: Iterable[Iterable[Any]]) -> Any:
    """Return a table for `console().print`: plain, left-aligned, no frame, nothing of it read as markup."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        shown.add_column(heading, overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row))
    return shown


def ago(ms: float | None) -> str:
    """Write a length of time as a person reads it: "350 ms", "12 s", "5 min", "3 h", "2 d"."""
    if ms is None:
        return "-"
    for unit, unit_ms, below in (("ms", 1, 1000), ("s", 1000, 120), ("min", 60_000, 120), ("h", 3_600_000, 48)):
        if ms < unit_ms * below:
            return f"{ms / unit_ms:.0f} {unit}"
    return f"{ms / 86_400_000:.0f} d"


def size(count: float | None) -> str:
    """Write a number of bytes as a person reads it: "17 B", "4.2 MiB"."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""
