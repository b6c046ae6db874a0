"""The keys of tags in memory: of encrypted telemetry, and of who hides behind a changing address.

Law: no part of a key stands in a `repr`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.sensors.scanner.ciphers import Decrypt


@dataclass(slots=True, repr=False)
class TagKeys:
    """Decryptions and identity keys by the rule's index, and a sentence for each that cannot be used."""

    bind: dict[int, Decrypt] = field(default_factory=dict)
    identity: dict[int, bytes] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
