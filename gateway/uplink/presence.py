"""The gateway's own presence on the broker: the retained state, and the will (contract section 5). Pure.

Law: published at every connect, on a clean stop, at once where the disk's trouble begins or ends, and at most every 60
s where something else changed. A broker that refuses the state topic is asked again at the next connect, one that
closes the connection at it after an hour: events are worth more than presence.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.model import NS_PER_S, STREAMS, Instant, Message, Stream, rfc3339
from gateway.uplink.backlog import Backlog
from gateway.uplink.parcel import Parcel
from gateway.uplink.status import STATE_REFUSED, Reason
from gateway.wire import STATE_CONTENT_TYPE

log = logging.getLogger(__name__)

STATE_NS = 60 * NS_PER_S
CLOSES_MAX = 3
MUTED_NS = 3600 * NS_PER_S
DISK_GIVES_NOTHING = "run gateway doctor there: it says whose file it is, or that the card is at fault"
DISK_TAKES_NOTHING = "run gateway doctor there; a restart of the machine may help; the card may be worn out"


class Presence:
    """Writes the state documents and remembers what was published last."""

    def __init__(
        self,
        outbox: Backlog,
        topic: str,
        describe: Callable[[], Mapping[str, Any]],
        retain_available: bool,
        troubles: Callable[[Instant], Sequence[Mapping[str, str]]],
    ) -> None:
        self._outbox = outbox
        self._describe = describe
        self._troubles = troubles
        self._may_retain = retain_available
        self._told: dict[str, Any] | None = None
        self._disk: tuple[str | None, bool] = None, False  # what the document says of it
        self._closes = 0
        self.topic = topic
        self.retain = retain_available
        self.muted = False
        self.why_muted: str | None = None
        self.due_ns = 0
        self._again_ns = 0

    def will(self, now: Instant) -> Message:
        """Return what the broker is to say where we are lost."""
        document = {**self._outset("lost"), "time": rfc3339(now.wall_ns)}
        return Message(0, self.topic, _dump(document), self.retain, STATE_CONTENT_TYPE)

    def connected(self, now: Instant, retain_available: bool) -> None:
        """A connection stands: the state is due."""
        self.retain = self._may_retain and retain_available
        self._told = None
        self.due_ns = now.boot_ns
        if self._closes <= CLOSES_MAX:
            self.muted = False
        self.wake(now)

    def wake(self, now: Instant) -> None:
        """Make the state due where the disk's trouble has begun or ended, and an hour after it was refused."""
        if self._told is not None and self._disk != self._disk_now():
            self.due_ns = min(self.due_ns, now.boot_ns)
        if self.muted and now.boot_ns >= self._again_ns:
            self.muted, self._closes = False, 0
            self.due_ns = now.boot_ns

    def online(self, now: Instant) -> Parcel | None:
        """Return the state if it changed since it was published, or None; the next is due in 60 s."""
        self.due_ns = now.boot_ns + STATE_NS
        return self._parcel("online", now)

    def stopped(self, now: Instant) -> Parcel:
        """Return the state of a clean stop."""
        parcel = self._parcel("stopped", now)
        assert parcel is not None, "the state `stopped` is told once"
        return parcel

    @property
    def has_told_stop(self) -> bool:
        return self._told is not None and self._told["state"] == "stopped"

    def acknowledged(self) -> None:
        """The broker took the state."""
        self._closes = 0
        self.why_muted = None

    def refused(self, why: str, now: Instant) -> None:
        """The broker refused the state for good."""
        self.muted, self.why_muted, self._again_ns = True, why, now.boot_ns + MUTED_NS
        log.error("state refused topic=%s why=%s", self.topic, why)

    def put_off(self, why: str) -> None:
        """The broker refused the state for now: it is published again when it is due."""
        self.why_muted = why
        if not self.has_told_stop:
            self._told = None

    def notes(self) -> tuple[Reason, ...]:
        """Return why the state is not published, for a person; empty where it is."""
        if self.why_muted is None:
            return ()
        return (Reason("state.refused", f"the state topic is not told: {self.why_muted}", STATE_REFUSED),)

    def closed_at(self, now: Instant) -> None:
        """The broker closed the connection at the state."""
        self._closes += 1
        if self._closes > CLOSES_MAX:
            self.refused("the broker closes the connection at it", now)

    def _outset(self, state: str) -> dict[str, Any]:
        return {"state": state, "outbox": self._outbox.id, "epoch": str(self._outbox.epoch)}

    def _parcel(self, state: str, now: Instant) -> Parcel | None:
        document = self._outset(state)
        document["streams"] = {stream: self._position(stream) for stream in STREAMS}
        document.update(self._describe())
        troubles = list(self._troubles(now))
        if (trouble := self._outbox.trouble) is not None:
            troubles.append({"code": "outbox.degraded", "detail": trouble, "advice": DISK_TAKES_NOTHING})
        if (unreadable := self._outbox.unreadable) is not None:
            troubles.append({"code": "outbox.unreadable", "detail": unreadable, "advice": DISK_GIVES_NOTHING})
        if (lost := self._outbox.not_kept) is not None:
            detail = f"the outbox does not outlast a power cut: {lost}"
            troubles.append({"code": "outbox.not_kept", "detail": detail, "advice": "gateway doctor says what to do"})
        if troubles:
            document["troubles"] = troubles
        self._disk = self._disk_now()
        if document == self._told:
            return None
        self._told = document
        payload = _dump({**document, "time": rfc3339(now.wall_ns)})
        return Parcel("control", self.topic, payload, STATE_CONTENT_TYPE, retain=self.retain)

    def _disk_now(self) -> tuple[str | None, bool]:
        return self._outbox.trouble, self._outbox.unreadable is not None

    def _position(self, stream: Stream) -> dict[str, int]:
        at = self._outbox.positions(stream)
        return {
            "recorded_through": at.recorded_through,
            "acknowledged_through": at.acknowledged_through,
            "backlog": at.backlog,
        }


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
