"""Order restored: events are held until what stands before them in their stream has come. Pure.

After an outage live events arrive before the backlog; who needs them in order waits here. Law: an event is given out
once its predecessor was, or at `flush`, or when more than `held_max` wait, then the oldest gap is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.consumer.messages import Delivery, Stream

_Key = tuple[str, str, Stream]


class InOrder:
    """Gives out each stream's events by ascending sequence."""

    def __init__(self, held_max: int = 100_000) -> None:
        self.held_max = held_max
        self._held: dict[_Key, dict[int, Delivery]] = {}
        self._next: dict[_Key, int] = {}
        self._count = 0

    @property
    def held(self) -> int:
        """How many events wait for a predecessor."""
        return self._count

    def push(self, delivery: Delivery, begins: int | None = None) -> Iterator[Delivery]:
        """Take an event; yield those that are in order now. `begins`: its stream's first number (None: its own)."""
        key = (delivery.source, delivery.outbox, delivery.stream)
        expected = self._next.setdefault(key, delivery.sequence if begins is None else begins)
        if delivery.sequence < expected:
            yield delivery  # sent again, or older than the listening: nothing waits for it
            return
        self._count += delivery.sequence not in self._held.setdefault(key, {})
        self._held[key][delivery.sequence] = delivery
        yield from self._run(key)
        while self._count > self.held_max:
            fullest = max(self._held, key=lambda one: len(self._held[one]))
            self._next[fullest] = min(self._held[fullest])
            yield from self._run(fullest)

    def pass_over(self, source: str, outbox: str, stream: Stream, first: int, last: int) -> Iterator[Delivery]:
        """A range will not come (it was named as lost): yield what waited behind it."""
        key = (source, outbox, stream)
        if first <= self._next.get(key, 1) <= last:
            self._next[key] = last + 1
            yield from self._run(key)

    def flush(self) -> Iterator[Delivery]:
        """Yield all that is held, each stream ascending, over its gaps."""
        for key, held in self._held.items():
            for sequence in sorted(held):
                yield held[sequence]
                self._next[key] = sequence + 1
            held.clear()
        self._count = 0

    def _run(self, key: _Key) -> Iterator[Delivery]:
        held = self._held.get(key, {})
        while (delivery := held.pop(self._next[key], None)) is not None:
            self._next[key] += 1
            self._count -= 1
            yield delivery
