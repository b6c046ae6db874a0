"""An asyncio loop in a thread of its own: for amqtt and the line, which know no other way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent import futures
from typing import Any, TypeVar

T = TypeVar("T")

CALL_WITHIN_S = 10.0


class LoopThread:
    """Runs coroutines in its thread; `close` cancels what still runs there."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T], within_s: float = CALL_WITHIN_S) -> T:
        """Run a coroutine to its end and return what it returns; TimeoutError where it takes too long."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(within_s)

    def attempt(self, coroutine: Coroutine[Any, Any, object], within_s: float) -> None:
        """Run a coroutine, however it ends, and wait for it no longer than `within_s`."""
        futures.wait([asyncio.run_coroutine_threadsafe(coroutine, self.loop)], within_s)

    def close(self) -> None:
        """Stop the loop and end the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda loop, context: None)  # a cut line's last words are no news
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()
