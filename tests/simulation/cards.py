"""What people do with a card: copy it, put a copy in, put the other one back; and start a second gateway on its outbox.

Law: a copy is what the card holds at some moment while the gateway runs. An older one put in is a restored card; two
that take turns are a cloned one. A second writer is refused before it has changed anything. Draws from a `random` of
its own. (The wall clock mostly stands before what was recorded last when the machine starts: `SimulatedClock.boot`.)
"""

from __future__ import annotations

from random import Random

from gateway.errors import OutboxUnusable
from gateway.outbox.outbox import Outbox
from gateway.outbox.writing import InlineWriter
from tests.simulation.checker import Checker
from tests.simulation.clock import Trace
from tests.simulation.disk import ModelDisk
from tests.simulation.lives import Violation
from tests.simulation.world import Machine

ONE_IN = 4
"""Of the histories, in which cards are copied."""
DRAWER_MAX = 4


def _chance(seed: int) -> tuple[Random, bool]:
    random = Random(f"cards {seed}")
    return random, random.randrange(ONE_IN) == 0


def are_copied(seed: int) -> bool:
    """Tell whether cards are copied in the history of this seed."""
    return _chance(seed)[1]


class Cards:
    """See the module."""

    def __init__(self, seed: int, machine: Machine, checker: Checker, trace: Trace) -> None:
        self._machine, self._checker, self._trace = machine, checker, trace
        self._random, self._are_copied = _chance(seed)
        self._drawer: list[tuple[int, ModelDisk]] = []

    def perhaps(self) -> None:
        """Do one of these now and then, while the gateway runs."""
        dice = self._random.random()
        if self._machine.engine is None:
            return
        if dice > 0.96:
            self._second_writer()
        elif self._are_copied and dice < 0.12 and len(self._drawer) < DRAWER_MAX:
            self._copy()
        elif self._are_copied and dice < 0.4 and self._drawer:
            self._exchange()

    def _copy(self) -> None:
        number = self._checker.lives.copied()
        self._trace.say(f"the card is copied: {number}")
        self._drawer.append((number, self._machine.disk.image(Random(self._random.getrandbits(32)))))

    def _exchange(self) -> None:
        """Put another card in; the one that was in is kept, or was a broken one."""
        self._machine.die("power cut")
        old, disk = self._checker.lives.card, self._machine.disk
        number, card = self._drawer.pop(self._random.randrange(len(self._drawer)))
        self._trace.say(f"card {number} is put in for {old}")
        disk.heal()
        if self._random.random() < 0.7:
            self._drawer.append((old, disk))
        self._checker.exchanged(number)
        self._machine.swap_card(card)

    def _second_writer(self) -> None:
        """Somebody starts a second gateway by hand."""
        self._trace.say("a second writer")
        disk, outbox = self._machine.disk, self._machine.configuration.outbox
        calls, disk.cut_at, cut_at = disk.calls, None, disk.cut_at
        try:
            now = self._machine.clock.now()
            Outbox.open(outbox.directory, outbox, disk, InlineWriter(disk), now, lambda outbox, loss, at: b"{}")
        except OutboxUnusable:
            if disk.calls != calls:
                raise Violation("a second writer was refused, and has changed the disk") from None
        else:
            raise Violation("a second writer was let in")
        finally:
            disk.cut_at = cut_at
