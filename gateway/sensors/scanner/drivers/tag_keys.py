"""The keys of tags, read from their files at the rim: of encrypted telemetry, and of who hides behind what changes.

Law: no part of a key stands in a sentence, a log line or an exception.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.machine.bounded import read_text
from gateway.sensors.scanner.ciphers import KEY_BYTES, aes_block, aes_ccm
from gateway.sensors.scanner.keys import TagKeys
from gateway.sensors.scanner.tags import TagRule
from gateway.sensors.scanner.telemetry import BTHOME_TAG_BYTES

KEY_FILE_BYTES_MAX = 4096


def opened_keys(rules: Sequence[TagRule]) -> TagKeys:
    """Read the keys that the rules name. Never raises."""
    keys = TagKeys()
    for index, rule in enumerate(rules):
        eid_file = rule.eddystone_eid.key_file if rule.eddystone_eid is not None else None
        if rule.bindkey_file is not None:
            _open(keys, index, rule, rule.bindkey_file, "bind key", "the telemetry")
        elif (path := rule.irk_file or eid_file) is not None:
            _open(keys, index, rule, path, "identity key", "the name")
    return keys


def _open(keys: TagKeys, index: int, rule: TagRule, path: str, what: str, sealed: str) -> None:
    try:
        key = bytes.fromhex(read_text(path, KEY_FILE_BYTES_MAX).strip())
        if len(key) != KEY_BYTES:
            raise ValueError
        if rule.bindkey_file is not None:
            keys.bind[index] = aes_ccm(key, BTHOME_TAG_BYTES)
        else:
            aes_block(key)
            keys.identity[index] = key
    except ImportError:
        keys.troubles.append(
            f"{sealed} of tag {rule.tag} is encrypted, and the package cryptography is not installed "
            "(install it: pip install cryptography)"
        )
    except OSError as error:
        keys.troubles.append(f"the {what} of tag {rule.tag} cannot be read: {error.strerror} ({path})")
    except ValueError:
        keys.troubles.append(f"the {what} of tag {rule.tag} must be 32 hex digits ({path})")
