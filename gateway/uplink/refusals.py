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
"""Codes after which a message is never sent again; all others pass (quota, busy, unspecified, unknown ones)."""


def is_final_refusal(code: int) -> bool:
    """True if a PUBACK with this code will be the same however often the message is sent."""
    return code in _FINAL


def refusal_sentence(code: int) -> str:
    """Say why the broker refused a message."""
    return f"the broker refused it: {_FINAL.get(code, 'for now')} (0x{code:02x})"
