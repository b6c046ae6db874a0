"""Takes the pictures of the README from the real programs: the demonstration with its line cut, and `gateway watch`.

.venv/bin/python scripts/pictures.py        # a minute and a half; writes .github/pictures/*.svg
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.app import App
from textual.pilot import Pilot

from gateway.cli.watch_view import WatchView
from gateway.demo.stage import Stage
from gateway.demo.view import DemoView
from gateway.engine.assembly import interpretation_of
from gateway.machine.clock import SystemClock
from gateway.technician.feed import Feed
from gateway.technician.watching import Watch

PICTURES = Path(__file__).resolve().parent.parent / ".github" / "pictures"
SIZE = (112, 30)
RUNS_S, CUT_S, WATCHES_S = 25.0, 7.0, 50.0
WATCHED_SEED = "54"


def photograph(app: App[None], title: str, act: Callable[[Pilot[None]], Awaitable[None]]) -> str:
    """Run the program without a terminal, let `act` use it, and return what is on its screen as SVG."""

    async def run() -> str:
        async with app.run_test(size=SIZE) as pilot:
            await act(pilot)
            return app.export_screenshot(title=title)

    drawn = asyncio.run(run())
    # Names of styles carry a number drawn by chance: without it a picture changes only where the screen does.
    return re.sub(r"terminal-\d+", "terminal-0", drawn)


async def cut_the_line(pilot: Pilot[None]) -> None:
    """Let the shop run, cut its line, and wait until events have piled up."""
    await asyncio.sleep(RUNS_S)
    await pilot.press("b")
    await asyncio.sleep(CUT_S)


async def look(pilot: Pilot[None]) -> None:
    """Wait until the plots have something to show."""
    await asyncio.sleep(WATCHES_S)


def main() -> None:
    """Take both pictures of one running shop."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Stage("auto", WATCHED_SEED, ()) as stage:
        drawn = photograph(DemoView(stage), "gateway demo", cut_the_line)
        (PICTURES / "demo.svg").write_text(drawn, encoding="utf-8")
        stage.mend()
        configuration = stage.configuration
        clock = SystemClock()
        feed = Feed(configuration, clock, {sensor.id for sensor in configuration.sensors})
        feed.start()
        try:
            interpretation = interpretation_of(configuration, lambda identity, at: None, {})
            view = Watch(configuration.sensors, interpretation, clock.now().boot_ns)
            drawn = photograph(WatchView(view, feed, clock), "gateway watch", look)
        finally:
            feed.close()
        (PICTURES / "watch.svg").write_text(drawn, encoding="utf-8")
    for path in sorted(PICTURES.glob("*.svg")):
        print(path.name)


if __name__ == "__main__":
    main()
