"""The keys of tags, read from their files at the rim: of encrypted telemetry, and of who hides behind what changes.

Law: no part of a key stands in a sentence, a log line or an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.machine.bounded import read_text
from gateway.sensors.ciphers import KEY_BYTES, Decrypt, aes_block, aes_ccm
from gateway.sensors.tags import TagRule
from gateway.sensors.telemetry import BTHOME_TAG_BYTES

KEY_FILE_BYTES_MAX = 4096


@dataclass(slots=True, repr=False)
class TagKeys:
    """Decryptions and identity keys by the rule's index, and a sentence for each that cannot be used."""

    bind: dict[int, Decrypt] = field(default_factory=dict)
    identity: dict[int, bytes] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


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


def keys_of(settings: object) -> TagKeys:
    """Read the keys of any sensor's settings; only a scanner has some. Never raises."""
    return opened_keys(getattr(settings, "tags", ()))


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
