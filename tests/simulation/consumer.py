"""A consumer that asks again, when all has arrived: for the gaps it sees, and for what it is not sure of.

Law: it knows what a consumer knows, the ledger and the answers. What the gateway says it sends again must reach the
broker again, also over a link that breaks meanwhile; what it has not sent at all yet must not come out of turn.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from gateway.model import NS_PER_S, STREAMS, Stream
from tests.simulation.broker import Broker
from tests.simulation.clock import Agenda
from tests.simulation.lives import Violation
from tests.simulation.world import Machine

ANSWER_NS = 60 * NS_PER_S
AGAIN_NS = 900 * NS_PER_S
BACK_NS = 1800 * NS_PER_S  # a link that was cut while it was young may wait five minutes, and again
SPAN_MAX = 40
ROUNDS = 4


class Consumer:
    """See the module. Draws from a `random` of its own, so that histories are the same with and without it."""

    def __init__(self, random: Random, agenda: Agenda, machine: Machine, broker: Broker) -> None:
        self._random, self._agenda, self._machine, self._broker = random, agenda, machine, broker
        self._checker = broker.checker

    def asks_again(self) -> None:
        """Ask, perhaps with the link broken in between, until all that was promised has come or is no longer kept."""
        if self._broker.nature.no_backfill:
            return
        promised, hated = self._checker.promised_again, self._checker.hated
        wanted = [*self._gaps(), *self._doubts()]
        for _ in range(ROUNDS):
            self._wait_for_link()
            unanswered = [asked for asked in wanted if not self._ask(*asked)]
            if self._random.random() < 0.5:
                self._broker.reset()
            arrived = self._machine.run_until(self._agenda.now_ns + AGAIN_NS, lambda: not promised - hated)
            if arrived and not unanswered:
                return
            left, wanted = sorted(promised - hated), unanswered
            promised.clear()  # its time to be kept may have passed: then the next answer says so
            wanted += [(stream, number, number) for _, stream, number in left]
        raise Violation(f"asked for {ROUNDS} times, answered as sent again, and not there: {wanted[:4]}")

    def _wait_for_link(self) -> None:
        if not self._machine.run_until(self._agenda.now_ns + BACK_NS, self._broker.has_gateway):
            raise Violation("half an hour of fair weather, and the link is not up")

    def _gaps(self) -> list[tuple[Stream, int, int]]:
        streams = [told for told in self._checker.ledger.report().streams if told.outbox == self._checker.outbox]
        return [(told.stream, *gap) for told in streams for gap in told.gaps]

    def _doubts(self) -> list[tuple[Stream, int, int]]:
        """Ranges about the end of each stream: what came, what is under way, what is not yet recorded."""
        doubts = []
        for stream in STREAMS:
            first = max(1, self._checker.recorded(stream) - self._random.randint(0, SPAN_MAX))
            doubts.append((stream, first, first + self._random.randint(0, SPAN_MAX)))
        return doubts

    def _ask(self, stream: Stream, first: int, last: int) -> bool:
        """Send the command; return whether it was answered (the link may break)."""
        answers = self._broker.answers
        asked = {"stream": stream, "first_sequence": first, "last_sequence": last}
        before = len(answers)
        self._checker.arrived_since_asked.clear()
        if not self._broker.command("resend", json.dumps(asked).encode()):
            return False
        if not self._machine.run_until(self._agenda.now_ns + ANSWER_NS, lambda: len(answers) > before):
            return False
        answer: dict[str, Any] = json.loads(answers[before])
        for kept in answer["result"]["resent"] if answer["ok"] else ():
            self._checker.promise_again(stream, kept["first_sequence"], kept["last_sequence"])
        return True
