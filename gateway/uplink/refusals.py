"""PUBACK codes: which refusals are for good, and what they say. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_FINAL: Mapping[int, str] = {
    0x87: "not authorized for this topic",
    0x90: "topic name invalid",
    0x95: "packet too large",
    0x99: "payload format invalid",
    0x9B: "QoS 1 not supported",
}
_PASSING: Mapping[int, str] = {
    0x80: "without a reason",
    0x83: "by a rule of its own",
    0x91: "it takes our packet identifier for one in use",
    0x97: "its quota is used up",
}
"""Codes after which a message is never sent again; all others pass (quota, busy, unspecified, unknown ones)."""


def is_final_refusal(code: int) -> bool:
    """True if a PUBACK with this code will be the same however often the message is sent."""
    return code in _FINAL


def refusal_sentence(code: int) -> str:
    """Say why the broker refused a message."""
    return f"the broker refused it: {_FINAL.get(code) or _PASSING.get(code, 'for now')} (0x{code:02x})"
