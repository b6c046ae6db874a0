"""What is lost, from the moment it is known until its record is durable; and a record of a loss, read back.

Law: the record of a loss goes to stream `gateway` next, and only when that is durable does a lost number count as
settled. What cannot be handed out any more is not read from the first moment on (`named`); what must leave for want of
room or age is read until then, for a power cut may take the record back. Losses that touch are named in one record; a
flood is named at its end. A record that is damaged before anybody acknowledged it is written again. Where no record can
be written the state carries what never came to the disk (`unwritten`); all else is found again at the next opening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from gateway.machine.bounded import json_object
from gateway.model import STREAMS, Instant, Loss, Stream
from gateway.outbox.intervals import NUMBER_MAX, Intervals, Run
from gateway.outbox.record import check_payload
from gateway.outbox.stream import StreamLog

DescribeLoss = Callable[[str, Loss, Instant], bytes]
"""Turns a loss of the outbox with this id into the payload of its record."""

MARK = b"events_dropped"
TOLD_MAX = 32  # records on the disk that are remembered; older ones that rot as well leave a gap without a name
Reason = Literal["full", "expired", "corrupt", "refused", "overflow"]
PUSHED_OUT = ("full", "expired")


class Losses:
    """Losses of `logs`: `owed` have no record yet, `losing` one that is not durable yet (with its sequence).

    `told` have one that is durable and, as far as is known, not received.
    """

    def __init__(
        self,
        outbox: str,
        logs: Mapping[Stream, StreamLog],
        describe: DescribeLoss,
        told: Iterable[tuple[int, Loss]] = (),
    ) -> None:
        self._outbox, self._logs, self._describe = outbox, logs, describe
        self.owed: list[Loss] = []
        self.losing: list[tuple[int, Loss]] = []
        self._told = list(told)

    @property
    def told(self) -> tuple[tuple[int, Loss], ...]:
        """The newest `TOLD_MAX` losses whose records wait to be acknowledged, by the records' sequences."""
        settled = self._logs["gateway"].settled
        self._told = [(sequence, loss) for sequence, loss in self._told if sequence not in settled][-TOLD_MAX:]
        return tuple(self._told)

    @property
    def is_due(self) -> bool:
        """Return whether a record is to be written now: what overflows memory waits for the end of the flood."""
        return any(loss.reason != "overflow" for loss in self.owed)

    def lose(self, log: StreamLog, first: int, last: int, reason: Reason, count: int) -> None:
        """Take note of a loss of `first..last`, of which `count` were not delivered."""
        if reason not in PUSHED_OUT:
            log.named.add(first, last)
        if log.name == "gateway" and reason == "corrupt":
            for sequence, loss in self.told:
                if first <= sequence <= last:
                    self.owe(loss)
        self.owe(Loss(log.name, reason, first, last, count))

    def owe(self, loss: Loss) -> None:
        """Name a loss with the next commit, in one record with its neighbours.

        What had to leave for want of room or age joins others, too, between which nothing waits.
        """
        log = self._logs[loss.stream]
        for other in self.owed:
            if (other.stream, other.reason) != (loss.stream, loss.reason):
                continue
            between = min(loss.last, other.last) + 1, max(loss.first, other.first) - 1
            if between[0] > between[1] or (loss.reason in PUSHED_OUT and log.settled.covers(*between)):
                first, last = min(loss.first, other.first), max(loss.last, other.last)
                count = min(last - first + 1, other.count + loss.count + log.lost.count(*between))
                self.owed.remove(other)
                self.owe(Loss(loss.stream, loss.reason, first, last, count))  # it may fill what lay between two
                return
        self.owed.append(loss)

    def record(self, now: Instant, is_flooded: bool) -> None:
        """Let the records of what is owed wait in stream `gateway`, urgently; while memory is flooded not of that."""
        log = self._logs["gateway"]
        owed = [loss for loss in self.owed if loss.reason != "overflow" or not is_flooded]
        self.owed = [loss for loss in self.owed if loss.reason == "overflow" and is_flooded]
        # What a file of `gateway` recorded goes before the word that lets the file go: a power cut may come between.
        owed.sort(key=lambda loss: (loss.stream == "gateway", loss.last))
        for loss in owed:
            payload = self._describe(self._outbox, loss, now)
            check_payload(payload)
            log.naming_through = log.push(log.sealed(self._outbox, payload), now.boot_ns)
            self.losing.append((log.naming_through, loss))

    def unwritten(self, is_end: bool) -> dict[Stream, tuple[Run, ...]]:
        """Return the numbers that were given and that nothing on the disk names: what overflowed the memory.

        At the end of the process (`is_end`) all that waits is among them, but for records of losses that nothing
        follows: what those name is here itself, and their numbers are free.
        """
        found = {name: Intervals() for name in self._logs}
        for loss in (*self.owed, *(loss for _, loss in self.losing)):
            if loss.reason == "overflow":
                found[loss.stream].add(loss.first, loss.last)
        records = {("gateway", sequence) for sequence, _ in self.losing}
        for name, log in self._logs.items() if is_end else ():
            waiting = [sequence for sequence, _ in log.pending]
            events = [sequence for sequence in waiting if (name, sequence) not in records]
            through = max([found[name].highest, *events])
            for sequence in waiting:
                if sequence <= through:
                    found[name].add(sequence, sequence)
        return {name: tuple(numbers.within(1, NUMBER_MAX)) for name, numbers in found.items()}

    def settle(self) -> list[StreamLog]:
        """Settle what is named durably; return the streams of which something was."""
        if not self.losing:
            return []
        durable = self._logs["gateway"].durable
        settled = []
        while self.losing and self.losing[0][0] <= durable:
            self._told.append(self.losing.pop(0))
            loss = self._told[-1][1]
            log = self._logs[loss.stream]
            log.settle(loss.first, loss.last)
            settled.append(log)
        if not self.losing and not self.owed:
            for log in self._logs.values():
                log.named = type(log.named)()
        return settled


def told_loss(payload: bytes, outbox: str) -> Loss | None:
    """Return the loss of this outbox that a recorded payload names; None where none is, or none that makes sense.

    When the record is shed itself, what it named must be named again.
    """
    if MARK not in payload:
        return None
    try:
        said = json_object(payload)
        if said["type"] != "store.gateway.events_dropped" or said["data"]["outbox"] != outbox:
            return None
        data = said["data"]
        loss = Loss(data["stream"], data["reason"], data["first_sequence"], data["last_sequence"], data["count"])
        is_range = 0 < loss.first <= loss.last and loss.count > 0
    except (ValueError, KeyError, TypeError):
        return None
    return loss if loss.stream in STREAMS and is_range else None
