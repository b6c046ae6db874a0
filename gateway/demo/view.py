"""The live view of a demonstration: events as they arrive, the outbox filling and draining, the consumer's ledger.

It only shows: every number is the daemon's own (its status) or the ledger's. `b` cuts the line and mends it, `q` ends.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Protocol

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.widgets import Footer, RichLog, Sparkline, Static

from gateway.consumer.ledger import Ledger, Report
from gateway.consumer.messages import Delivery
from gateway.consumer.words import printable, words_of
from gateway.errors import GatewayError
from gateway.model import STREAMS

REFRESH_S = 0.2
DEPTHS_KEPT = 300
"""A minute of the outbox's depth at five a second."""
EVENTS_KEPT = 1_000
GAPS_SHOWN = 3

COLOURS = ("#7dcfff", "#e0af68", "#bb9af7", "#9ece6a", "#f7768e")
COLOUR_OF_STREAM = dict(zip(STREAMS, itertools.cycle(COLOURS), strict=False))
GOOD, WAITING, BAD, QUIET = "#9ece6a", "#e0af68", "#f7768e", "#737aa2"


class Playing(Protocol):
    """What the view needs of a stage."""

    ledger: Ledger
    status: Mapping[str, Any]

    @property
    def title(self) -> str: ...
    @property
    def backlog(self) -> int: ...
    @property
    def recorded(self) -> int: ...
    @property
    def is_up(self) -> bool: ...
    @property
    def is_cut(self) -> bool: ...
    def pump(self, wait_s: float = 0.0) -> list[Delivery]: ...
    def cut(self) -> None: ...
    def mend(self) -> None: ...
    def check(self) -> None: ...
    def now_s(self) -> float: ...


class DemoView(App[None]):
    """Shows a stage until `q`, or for `length_s`; leaves stopping it to the caller."""

    CSS = """
    Screen { background: #16161e; color: #c0caf5; }
    #title { height: 1; padding: 0 2; background: #1f2335; color: #a9b1d6; }
    #events { width: 1fr; border: round #2f3549; border-title-color: #7aa2f7; padding: 0 1; background: #16161e;
              scrollbar-size-vertical: 1; scrollbar-background: #16161e; scrollbar-color: #2f3549; }
    #side { width: 42; }
    .-narrow #side { width: 30; }
    .panel { border: round #2f3549; border-title-color: #7aa2f7; padding: 0 1; height: auto; }
    #outbox { height: 9; }
    #depth { height: 4; margin-top: 1; }
    #depth > .sparkline--min-color { color: #3b4261; }
    #depth > .sparkline--max-color { color: #e0af68; }
    #sensors { height: 1fr; }
    Footer { background: #1f2335; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("b", "line", "cut / mend the line to the broker"),
        ("q", "quit", "end, and sum up"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012, textual's own form

    def __init__(self, stage: Playing, length_s: float | None = None) -> None:
        super().__init__()
        self.stage = stage
        self.error: GatewayError | None = None
        self._length_s = length_s
        self._began_s = stage.now_s()
        self._depths: deque[float] = deque([0.0], DEPTHS_KEPT)
        self._deepest = 0

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        with Horizontal():
            yield RichLog(id="events", max_lines=EVENTS_KEPT, wrap=False, min_width=20)
            with Vertical(id="side"):
                yield Static(id="link", classes="panel")
                with Vertical(id="outbox", classes="panel"):
                    yield Static(id="waiting")
                    yield Sparkline(self._depths, id="depth", summary_function=max)
                yield Static(id="ledger", classes="panel")
                yield Static(id="sensors", classes="panel")
        yield Footer()

    def on_mount(self) -> None:
        for name, title in (
            ("events", "events as the consumer receives them"),
            ("link", "link"),
            ("outbox", "outbox"),
            ("ledger", "the consumer's ledger"),
            ("sensors", "sensors and their readings"),
        ):
            self.query_one(f"#{name}").border_title = title
        self.set_interval(REFRESH_S, self.refresh_view)
        self.refresh_view()

    def refresh_view(self) -> None:
        """Take in what has arrived and show everything as it is now."""
        stage = self.stage
        try:
            stage.check()
        except GatewayError as error:
            self.error = error
            self.exit()
            return
        with suppress(NoMatches):  # the last turn of the timer may find the screen half taken down
            self._show(stage.pump())

    def _show(self, deliveries: Sequence[Delivery]) -> None:
        stage = self.stage
        log = self.query_one("#events", RichLog)
        for delivery in deliveries:
            log.write(event_line(delivery))
        depth = stage.backlog
        self._deepest = max(self._deepest, depth)
        self._depths.append(float(depth))
        left_s = None if self._length_s is None else self._began_s + self._length_s - stage.now_s()
        self.query_one("#title", Static).update(title_line(stage.title, left_s))
        self.query_one("#link", Static).update(link_text(stage))
        self.query_one("#waiting", Static).update(waiting_text(depth, self._deepest))
        self.query_one("#depth", Sparkline).data = list(self._depths)
        self.query_one("#ledger", Static).update(ledger_text(stage.ledger.report(), stage.recorded))
        self.query_one("#sensors", Static).update(sensors_table(stage.status.get("sensors", {})))
        if left_s is not None and left_s <= 0:
            self.exit()

    def action_line(self) -> None:
        """Cut the line, or mend it."""
        if self.stage.is_cut:
            self.stage.mend()
        else:
            self.stage.cut()
        self.refresh_view()


def title_line(title: str, left_s: float | None) -> Text:
    line = Text(title, no_wrap=True)
    if left_s is not None:
        line.append(f"   {max(left_s, 0.0):.0f} s left", QUIET)
    return line


def event_line(delivery: Delivery) -> Text:
    """Write an event with its stream's colour; what was recorded while the line was cut is marked."""
    late = delivery.lane == "backfill"
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{printable(str(delivery.envelope.get('time')))[11:19]}  ", QUIET)
    line.append("● " if not late else "○ ", COLOUR_OF_STREAM[delivery.stream])
    line.append(f"{printable(delivery.subject):<10} ", COLOUR_OF_STREAM[delivery.stream])
    line.append(words_of(delivery), QUIET if late else "")
    if late:
        line.append("  late", WAITING)
    return line


def link_text(stage: Playing) -> Text:
    """Say how the gateway is connected, and why not."""
    link: Mapping[str, Any] = stage.status.get("link", {})
    if stage.is_cut:
        return Text.assemble(("● ", BAD), "cut: recording goes on")
    if stage.is_up:
        return Text.assemble(("● ", GOOD), "up", (f"   since {str(link.get('since'))[11:19]}", QUIET))
    if not stage.status:
        return Text.assemble(("● ", QUIET), "the daemon is starting")
    return Text.assemble(("● ", WAITING), "connecting", (f"   {printable(str(link.get('reason') or ''))}", QUIET))


def waiting_text(depth: int, deepest: int) -> Text:
    colour = GOOD if depth == 0 else WAITING
    return Text.assemble((f"{depth:>3}", f"bold {colour}"), " waiting", (f"   at most {deepest}", QUIET))


def ledger_text(report: Report, recorded: int) -> Group:
    """Show what was recorded and what came, and the verdict."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1)
    table.add_column(justify="right")
    waiting = max(recorded - report.delivered - report.lost, 0)
    missing = max(report.missing, waiting)
    table.add_row(Text("recorded"), str(recorded))
    table.add_row(Text("delivered"), str(report.delivered))
    table.add_row(Text("duplicates"), str(report.duplicates))
    table.add_row(Text("named lost"), str(report.lost))
    table.add_row(Text("missing"), Text(str(missing), WAITING if missing else ""))
    if report.missing:
        shown = [f"{s.stream} {first}..{last}" for s in report.streams for first, last in s.gaps]
        table.add_row(Text(", ".join(shown[:GAPS_SHOWN]), QUIET, no_wrap=True, overflow="ellipsis"), "")
    if report.verdict == "nothing":
        verdict = Text("nothing yet", QUIET)
    elif report.is_complete and not waiting:
        verdict = Text("complete", f"bold {GOOD}")
    else:
        verdict = Text("not yet complete", f"bold {WAITING}")
    return Group(table, verdict)


def sensors_table(sensors: Mapping[str, Mapping[str, Any]]) -> Table:
    """Show each sensor's readings and faults."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1)
    table.add_column(justify="right")
    for name, sensor in sensors.items():
        faults: Sequence[str] = list(sensor.get("faults", {}))
        table.add_row(
            Text.assemble(("● ", BAD if faults else GOOD), name, (f"  {sensor.get('kind', '')}", QUIET)),
            Text(", ".join(faults), BAD) if faults else Text(str(sensor.get("readings", 0))),
        )
    return table
