"""One beam alone: which of its blockages are people, and which a hand of the one before or after. Pure.

Law: a hand is swung ahead of or behind its own trunk, which moves on meanwhile: from the hand's far end to the trunk
less than a trunk's length goes by, at whatever speed, and the hand itself is seen for less than half as long. A second
person so near would be half as deep and touch the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.model import NS_PER_MS
from gateway.sensors.door.beams import ARM_NS, Blockage, Contact

LEAD_NS = 200 * NS_PER_MS
"""How long a short blockage waits for the trunk that it may belong to: 0.25 m at 1.2 m/s."""
LEAD_MAX_NS = 160 * NS_PER_MS
"""A longer one that comes first is somebody: a hand of 8 cm takes as long at half a metre a second."""


def is_hand(one: Blockage, trunk: Blockage) -> bool:
    """Return whether one beam saw in `one` a hand of the person whom it saw in `trunk`."""
    gap_ns = max(trunk.broke.boot_ns - one.cleared.boot_ns, one.broke.boot_ns - trunk.cleared.boot_ns)
    if one.ns < ARM_NS and 2 * trunk.ns >= 3 * one.ns:
        return gap_ns <= LEAD_NS
    return 2 * one.ns <= trunk.ns and gap_ns + one.ns <= trunk.ns


class Hands:
    """Blockages of one beam in, people out. What may be a hand of the next one waits for it (`due_ns`)."""

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self._waiting: Blockage | None = None
        self._trunk: Blockage | None = None  # the last who was told

    def take(self, blockage: Blockage) -> Iterator[Blockage]:
        """Take a blockage; yield who is known to be somebody by now."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not is_hand(waiting, blockage):
            yield self._told(waiting)
        if self._trunk is not None and self.contact.arm_ns and is_hand(blockage, self._trunk):
            return
        if self.contact.arm_ns and blockage.ns <= LEAD_MAX_NS:
            self._waiting = blockage
        else:
            yield self._told(blockage)

    def due_ns(self, broken: bool) -> int | None:
        """Return when what waits is somebody; while the beam is `broken`, it waits on."""
        return None if self._waiting is None or broken else self._waiting.cleared.boot_ns + LEAD_NS

    def advance(self, now_ns: int, broken: bool) -> Iterator[Blockage]:
        """Tell who has waited for long enough."""
        due_ns = self.due_ns(broken)
        if due_ns is not None and due_ns <= now_ns:
            yield from self.finish()

    def finish(self) -> Iterator[Blockage]:
        """Tell who waits."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            yield self._told(waiting)

    def undecided_ns(self) -> int | None:
        """Return the clearing of who waits."""
        return None if self._waiting is None else self._waiting.cleared.boot_ns

    def forget(self) -> None:
        """Pass over what waits: the beam cannot be believed."""
        self._waiting = None

    def _told(self, blockage: Blockage) -> Blockage:
        self._trunk = blockage
        return blockage
