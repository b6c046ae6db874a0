"""Which MQTT to speak: 5, and 3.1.1 where the broker refuses 5 (contract section 5). Pure.

Law: version 5 is refused by CONNACK 0x84, by 3.1.1's code 1, or, at an address that never spoke 5 with us, by two
attempts that the broker closed, left unanswered or answered with what is no CONNACK of version 5. What was learnt is
remembered over restarts, once 3.1.1 has really been accepted, and 5 is tried again at the first connect after a day.
Bad credentials and lost links teach nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Literal

from gateway.model import LinkDown
from gateway.outbox.memory import CHECK_LENGTH, LinkMemory, Memory

Protocol = Literal["5", "3.1.1"]
Asked = Literal["auto", "5", "3.1.1"]
NO_ANSWER_TO_5 = ("connack.closed", "connack.timeout", "link.garbage")
"""How a broker that does not know version 5 answers its CONNECT: not at all, or in the form of an earlier version."""
REFUSALS = (0x84, 0x01)
MALFORMED = 0x81
CLOSES = 2


def versions(asked: Asked) -> tuple[Protocol, ...]:
    """Return what to try for a single connection, in order."""
    return ("5", "3.1.1") if asked == "auto" else (asked,)


def may_be_version(signal: LinkDown) -> bool:
    """Return whether a connection may have failed because the broker does not speak its version."""
    if signal.had_connack or signal.connack is not None:
        return signal.connack in (*REFUSALS, MALFORMED)
    return signal.code in NO_ANSWER_TO_5


RETRY_MS = 24 * 3600 * 1000


class ProtocolChoice:
    """The protocol of the next connect. What is learnt stands in `memory.link`; `save` asks for it to be kept."""

    def __init__(self, asked: Asked, url: str, memory: Memory, save: Callable[[], None]) -> None:
        self._fixed: Protocol | None = None if asked == "auto" else asked
        self._save = save
        self._closes = 0
        self._trying: Protocol | None = None
        self._memory = memory
        broker = sha256(url.encode()).hexdigest()[:CHECK_LENGTH]
        if memory.link.broker != broker:
            memory.link = LinkMemory(broker)

    def protocol(self, wall_ms: int) -> Protocol:
        """Return what to speak at a connect made at `wall_ms` of UTC."""
        if self._fixed is not None:
            return self._fixed
        if self._trying is not None:
            return self._trying
        fell_back_ms = self._memory.link.fallback_ms
        if fell_back_ms is None:
            return "5"
        return "3.1.1" if abs(wall_ms - fell_back_ms) < RETRY_MS else "5"

    def up(self, protocol: Protocol, wall_ms: int) -> None:
        """A connection was accepted."""
        self._closes = 0
        if self._fixed is not None:
            return
        known = learnt = self._memory.link
        if protocol == "5":
            learnt = replace(known, spoke_5=True, fallback_ms=None)
        elif self._trying == "3.1.1":
            learnt = replace(known, fallback_ms=wall_ms)
        self._trying = None
        if learnt != known:
            self._memory.link = learnt
            self._save()

    def down(self, signal: LinkDown, protocol: Protocol) -> bool:
        """A connect failed. True: the other protocol is to be tried at once."""
        if self._fixed is not None:
            return False
        if protocol == "5" and signal.connack in REFUSALS:
            return self._turn("3.1.1")
        if signal.had_connack or signal.code not in NO_ANSWER_TO_5:
            return False
        if protocol == "5" and self._memory.link.spoke_5:
            return False
        if protocol == "3.1.1" and self._trying is None:
            return False
        self._closes += 1
        return self._closes >= CLOSES and self._turn("3.1.1" if protocol == "5" else "5")

    def _turn(self, protocol: Protocol) -> bool:
        """Try the other one. Back to 5 is no haste: then the broker closes on both, and it is not the version."""
        self._closes = 0
        self._trying = protocol
        return protocol == "3.1.1"
