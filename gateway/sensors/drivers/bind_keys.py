"""The bind keys of encrypted tags, read from their files at the rim.

Law: no part of a key stands in a sentence, a log line or an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.sensors.tags import TagRule
from gateway.sensors.telemetry import Decrypt, aes_ccm

BIND_KEY_BYTES = 16


def opened_keys(rules: Sequence[TagRule]) -> tuple[dict[int, Decrypt], list[str]]:
    """Read the bind keys of the rules; return decryptions by the rule's index, and a sentence for each that failed.

    No sentence has a part of a key in it.
    """
    keys: dict[int, Decrypt] = {}
    troubles: list[str] = []
    for index, rule in enumerate(rules):
        if rule.bindkey_file is None:
            continue
        try:
            key = bytes.fromhex(Path(rule.bindkey_file).read_text(encoding="ascii").strip())
            if len(key) != BIND_KEY_BYTES:
                raise ValueError
            keys[index] = aes_ccm(key)
        except ImportError:
            troubles.append(
                f"the telemetry of tag {rule.tag} is encrypted, and the package cryptography is not installed "
                "(install it: pip install cryptography)"
            )
        except OSError as error:
            troubles.append(f"the bind key of tag {rule.tag} cannot be read: {error.strerror} ({rule.bindkey_file})")
        except ValueError:
            troubles.append(f"the bind key of tag {rule.tag} must be 32 hex digits ({rule.bindkey_file})")
    return keys, troubles
