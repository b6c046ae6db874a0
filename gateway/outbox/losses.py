"""A record of a loss, read back: when it is shed itself, what it named must be named again."""

from __future__ import annotations

import json

from gateway.model import STREAMS, Loss

MARK = b"events_dropped"


def told_loss(payload: bytes) -> Loss | None:
    """Return the loss that a recorded payload tells of; None where it tells of none, or of none that makes sense."""
    if MARK not in payload:
        return None
    try:
        data = json.loads(payload)["data"]
        loss = Loss(data["stream"], data["reason"], data["first_sequence"], data["last_sequence"], data["count"])
        is_range = 0 < loss.first <= loss.last and loss.count > 0
    except (ValueError, KeyError, TypeError):
        return None
    return loss if loss.stream in STREAMS and is_range else None
