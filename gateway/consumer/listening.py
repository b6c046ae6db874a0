"""`gateway listen`: takes in what arrives, gives out events in order, and knows when it has heard enough.

Law: an event that waits for a predecessor waits no longer than `HELD_S` without any of its kind moving; then the gap is
passed over, and the report tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event

from gateway.consumer.ledger import Ledger, Report
from gateway.consumer.messages import Delivery, Invalid, named_losses
from gateway.consumer.order import InOrder
from gateway.consumer.subscription import Subscription
from gateway.machine.clock import Clock
from gateway.model import NS_PER_S

TAKEN_EVERY_S = 0.2
QUIET_S = 2.0
"""Complete, and nothing has come for this long: there is nothing under way."""
HELD_S = 30.0


@dataclass(frozen=True, slots=True)
class Until:
    """When listening ends: after `for_s`, or when all is complete; else when it is told to."""

    for_s: float | None = None
    complete: bool = False


class Listening:
    """One listening. `say` takes each event, `told` each change of a gateway's state."""

    def __init__(
        self,
        ledger: Ledger,
        say: Callable[[Delivery], object],
        told: Callable[[str, str], object],
        in_order: bool = True,
    ) -> None:
        self.ledger = ledger
        self._say = say
        self._told = told
        self._order = InOrder() if in_order else None
        self._states: dict[str, str] = {}
        self._moved_s = 0.0

    def run(self, subscription: Subscription, until: Until, clock: Clock, stopping: Event) -> Report:
        """Listen until it is over, then give out what is still held and return the report."""
        began_s = arrived_s = self._moved_s = clock.now().boot_ns / NS_PER_S
        while not stopping.is_set():
            arrived = subscription.next(TAKEN_EVERY_S)
            now_s = clock.now().boot_ns / NS_PER_S
            if arrived is not None:
                arrived_s = now_s
                self.take(arrived.topic, arrived.payload, arrived.retained, now_s)
            self.pass_time(now_s)
            if until.for_s is not None and now_s - began_s >= until.for_s:
                break
            if until.complete and now_s - arrived_s >= QUIET_S and self.ledger.report().is_complete:
                break
        self.flush()
        return self.ledger.report()

    def take(self, topic: str, payload: bytes, retained: bool, now_s: float) -> None:
        """Account for a message and give out what is in order."""
        for delivery in self.ledger.take(topic, payload, retained):
            for ready in self._ordered(delivery):
                self._moved_s = now_s
                self._say(ready)
        for source, state in self.ledger.states.items():
            if self._states.get(source) != state:
                self._states[source] = state
                self._told(source, state)

    def pass_time(self, now_s: float) -> None:
        """Give out what has been held for too long."""
        if self._order is None or not self._order.held:
            self._moved_s = now_s
        elif now_s - self._moved_s >= HELD_S:
            self.flush()
            self._moved_s = now_s

    def flush(self) -> None:
        """Give out everything that is held."""
        if self._order is not None:
            for delivery in self._order.flush():
                self._say(delivery)

    def _ordered(self, delivery: Delivery) -> Iterator[Delivery]:
        if self._order is None:
            yield delivery
            return
        yield from self._order.push(delivery, self.ledger.begins(delivery))
        try:
            for loss in named_losses(delivery):
                yield from self._order.pass_over(delivery.source, loss.outbox, loss.stream, loss.first, loss.last)
        except Invalid:
            return  # the ledger has counted it
