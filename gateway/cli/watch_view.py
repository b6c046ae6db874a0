"""The full-screen view of `gateway watch`: a panel a sensor, the events it would make, the daemon's state below.

It only shows what `watching.Watch` knows and what the feed brings. `q` ends it, `p` holds the picture still.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from gateway.errors import GatewayError
from gateway.machine.clock import Clock
from gateway.model import NS_PER_S, Reading
from gateway.sensors.fault import Known
from gateway.sensors.gauge import Gauge, Tone
from gateway.technician.watching import Watch, daemon_words, event_words

REFRESH_S = 0.2
PLOT_HEIGHT, PLOT_HEIGHT_ALONE = 5, 14
EVENTS_SHOWN = 6
GOOD, WAITING, BAD, QUIET = "#9ece6a", "#e0af68", "#f7768e", "#737aa2"
COLOURS: Mapping[Tone, str] = {"quiet": QUIET, "bad": BAD, "series": "#e0af68", "strip": "#7dcfff", "tag": "#bb9af7"}


class Feeding(Protocol):
    """What the view needs of a feed."""

    origin: str
    known: Mapping[str, Known]
    error: GatewayError | None

    @property
    def status(self) -> Mapping[str, Any] | None: ...

    def drain(self) -> list[tuple[int, Reading]]: ...


class WatchView(App[None]):
    """Shows a watch until `q`, for `for_s`, or until the feed fails."""

    CSS = """
    Screen { background: #16161e; color: #c0caf5; }
    #title { height: 1; padding: 0 2; background: #1f2335; color: #a9b1d6; }
    .panel { border: round #2f3549; border-title-color: #7aa2f7; padding: 0 1; height: auto; }
    #panels { height: 1fr; scrollbar-size-vertical: 1; }
    #events { border: round #2f3549; border-title-color: #7aa2f7; padding: 0 1; height: 8;
              text-wrap: nowrap; text-overflow: ellipsis; }
    Footer { background: #1f2335; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("p", "hold", "hold still / go on"), ("q", "quit", "end")]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, watch: Watch, feed: Feeding, clock: Clock, for_s: float | None = None) -> None:
        super().__init__()
        self.watch_ = watch
        self.feed = feed
        self.clock = clock
        self.is_held = False
        self._for_s = for_s

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        with VerticalScroll(id="panels"):
            for sensor in self.watch_.gauges:
                yield Static(id=f"gauge-{sensor}", classes="panel")
        yield Static(id="events")
        yield Footer()

    def on_mount(self) -> None:
        for sensor in self.watch_.gauges:
            self.query_one(f"#gauge-{sensor}", Static).border_title = f"{sensor} ({self.watch_.tables[sensor]})"
        self.query_one("#events", Static).border_title = "what these readings would tell"
        self.set_interval(REFRESH_S, self.refresh_view)
        self.call_after_refresh(self.refresh_view)

    def refresh_view(self) -> None:
        """Take in what has come, and show everything as it is now."""
        for arrived_ns, reading in self.feed.drain():
            self.watch_.take(reading, arrived_ns)
        self.watch_.known = self.feed.known
        now_ns = self.clock.now().boot_ns
        watched_s = (now_ns - self.watch_.began_ns) / NS_PER_S
        if self.feed.error is not None or (self._for_s is not None and watched_s >= self._for_s):
            self.exit()
            return
        if self.is_held:
            return
        self.query_one("#title", Static).update(title_line(self.feed.status, self.feed.origin))
        alone = len(self.watch_.gauges) == 1
        for sensor, gauge in self.watch_.gauges.items():
            panel = self.query_one(f"#gauge-{sensor}", Static)
            width = max(30, (panel.content_size.width or self.size.width - 4))
            height = PLOT_HEIGHT_ALONE if alone else PLOT_HEIGHT
            panel.update(gauge_text(self.watch_, gauge, now_ns, width, height))
        told = list(self.watch_.events)[-EVENTS_SHOWN:]
        words = "\n".join(event_words(event) for event in told) or "nothing yet"
        self.query_one("#events", Static).update(Text(words, "" if told else QUIET, no_wrap=True, overflow="ellipsis"))

    def action_hold(self) -> None:
        """Hold the picture still, or go on; readings are taken in all the same."""
        self.is_held = not self.is_held


def title_line(status: Mapping[str, Any] | None, origin: str) -> Text:
    """Say where the readings come from, and how the daemon stands."""
    line = Text(f"readings of the {origin}   ", no_wrap=True, overflow="ellipsis")
    if status is None:
        return line.append("no daemon runs", WAITING)
    is_well = status["link"]["up"] and not status["outbox"].get("degraded")
    return line.append(daemon_words(status), GOOD if is_well else BAD)


def gauge_text(watch: Watch, gauge: Gauge, now_ns: int, width: int, height: int) -> Text:
    """Return one sensor's panel: its words, its rate, its plot."""
    rate_hz = watch.rate_hz(gauge, now_ns)
    age_s = gauge.age_s(now_ns)
    text = Text(no_wrap=True, overflow="crop")
    text.append(f"{rate_hz:6.1f}/s  ", GOOD if rate_hz else QUIET)
    text.append("never   " if age_s is None else f"{age_s:.0f} s ago  ", QUIET)
    text.append(watch.words(gauge, now_ns), "bold")
    for piece, tone in gauge.picture(now_ns, width, height):
        text.append(piece, COLOURS[tone])
    return text
