"""What two beams see of one body: its trunk, the hands beside it, and the order in which the beams see it. Pure.

Law: a body is one thing in space, hands included: whoever goes through reaches the near beam first and leaves the far
beam last; who leaves the near beam last has turned back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.model import NS_PER_MS
from gateway.sensors.door.beams import Blockage

Way = Literal["in", "out"]

JITTER_NS = 10 * NS_PER_MS
"""Shifts below are none: 5 cm between the beams at 2.5 m/s are 20 ms."""
ALIKE = 0.4
"""One person's speed between the beams and away from them differs by less than this factor."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one beam saw of one person: the trunk, and a hand ahead of it and one behind it that it saw apart."""

    trunk: Blockage
    ahead: Blockage | None = None
    behind: Blockage | None = None

    @property
    def broke_ns(self) -> int:
        return (self.ahead or self.trunk).broke.boot_ns

    @property
    def cleared_ns(self) -> int:
        return (self.behind or self.trunk).cleared.boot_ns

    @property
    def parts(self) -> tuple[Blockage, ...]:
        return tuple(part for part in (self.ahead, self.trunk, self.behind) if part is not None)


def sights(blockages: Sequence[Blockage]) -> Iterator[Sight]:
    """Yield what one person may have made of the first of `blockages`: a trunk, a hand ahead, a hand behind."""
    for count in range(1, min(3, len(blockages)) + 1):
        parts = blockages[:count]
        trunk = max(range(count), key=lambda n: parts[n].ns)
        if count < 3 or trunk == 1:
            yield Sight(parts[trunk], parts[0] if trunk else None, parts[count - 1] if trunk < count - 1 else None)


def direction_of(begin_shift_ns: int, end_shift_ns: int) -> Way | None:
    """Return the direction that both ends agree on (one may be too close to tell), else None: turned back.

    The shifts are inner minus outer. Both too close: their sum decides, since 2 ms twice is still an order.
    """
    both = _sign(begin_shift_ns) + _sign(end_shift_ns)
    if both == 0 and _sign(begin_shift_ns) == 0 and begin_shift_ns * end_shift_ns >= 0:
        both = begin_shift_ns + end_shift_ns
    if both == 0:
        return None
    return "in" if both > 0 else "out"


def _sign(shift_ns: int) -> int:
    return 0 if abs(shift_ns) <= JITTER_NS else (1 if shift_ns > 0 else -1)


def order_of(outer: Sight, inner: Sight) -> tuple[Way | None, tuple[int, int]]:
    """Return the direction of one person whom both beams saw so (None: turned back), and the shifts that tell it.

    The order of the whole decides. It fails where one beam sees an arm that the other does not (a sleeve, a bag on a
    strap): there the trunks' own ends decide, where they are shifted alike.
    """
    whole = inner.broke_ns - outer.broke_ns, inner.cleared_ns - outer.cleared_ns
    trunks = inner.trunk.begin_ns - outer.trunk.begin_ns, inner.trunk.end_ns - outer.trunk.end_ns
    way, own = direction_of(*whole), direction_of(*trunks)
    if way is None and own is not None:
        less, more = sorted(map(abs, trunks))
        return (own, trunks) if less >= ALIKE * more else (None, whole)
    return way, trunks if own == way else whole


def unlike(one: Blockage, other: Blockage) -> float:
    """Return how differently long both are, as the logarithm of a factor."""
    return abs(math.log(one.ns / other.ns))


def from_trunk_ns(hand: Blockage, trunk: Blockage) -> tuple[int, int]:
    """Return the time between the trunk and the near end of the hand, and its far end."""
    if hand.broke.boot_ns < trunk.broke.boot_ns:
        return trunk.broke.boot_ns - hand.cleared.boot_ns, trunk.broke.boot_ns - hand.broke.boot_ns
    return hand.broke.boot_ns - trunk.cleared.boot_ns, hand.cleared.boot_ns - trunk.cleared.boot_ns
