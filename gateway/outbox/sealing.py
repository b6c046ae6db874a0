"""The outbox at rest: payloads sealed under a key that does not lie on the card, and opened when they are read.

    {"_e":"<base64 of nonce, ciphertext, tag>"}

Law: pure but for chance. A sealed payload is a JSON object like any other, so that checksums, recovery, repair and
retention know nothing of it and stock TinyDB opens the file. Each is bound to its place (outbox, stream, sequence) and
opens nowhere else. What is not sealed is opened as it is: an outbox may hold both. No key stands in a sentence or a
representation; its check value, from which no key follows, does.

ChaCha20-Poly1305 (RFC 8439), for a Raspberry Pi 4 has no AES in its processor. The nonce is 96 random bits, never a
count: a card that is restored or copied would count again. 2^32 events under one key meet by a chance of 2^-33.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.model import Stream

KEY_BYTES = 32
KEY_VALUES_MIN = 16
"""Different bytes in a key. Of 32 random ones some 30 differ; fewer than this by a chance below 10^-14."""
NONCE_BYTES, TAG_BYTES = 12, 16
BEFORE, AFTER = b'{"_e":"', b'"}'
_HEX = re.compile(rb"[0-9A-Fa-f]{64}")
_TEXT = re.compile(rb"[\t-\r -~]+")


class Cipher(Protocol):
    """Authenticated encryption under one key."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class Sealing:
    """The keys of an outbox: the one that seals, if any, and those that open. Raises ImportError without cryptography.

    `seals_with` is the check value of the first, `opens` are those of all; without keys everything stays as it is.
    """

    def __init__(
        self, key: bytes | None = None, old_keys: Sequence[bytes] = (), chance: Callable[[int], bytes] = os.urandom
    ) -> None:
        keys = [key, *old_keys] if key is not None else list(old_keys)
        self.seals_with = check_value(key) if key is not None else None
        self.opens = frozenset(map(check_value, keys))
        self._ciphers = [_cipher(one) for one in keys]
        self._chance = chance

    @property
    def used(self) -> frozenset[str]:
        """The check values of what is sealed from now on: of one key, or none."""
        return frozenset((self.seals_with,) if self.seals_with is not None else ())

    def seal(self, payload: bytes, place: bytes) -> bytes:
        """Return a compact JSON object as one that nobody reads without the key, nor at another place."""
        if self.seals_with is None:
            return payload
        nonce = self._chance(NONCE_BYTES)
        sealed = nonce + self._ciphers[0].encrypt(nonce, payload, place)
        return BEFORE + binascii.b2a_base64(sealed, newline=False) + AFTER

    def open(self, payload: bytes, place: bytes) -> bytes | None:
        """Return what was sealed at this place, and what is not sealed as it is; None where no key opens it."""
        if not payload.startswith(BEFORE):
            return payload
        try:
            sealed = binascii.a2b_base64(payload[len(BEFORE) : -len(AFTER)])  # lax: the tag shows what was changed
        except binascii.Error:
            return None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
            except (_no_tag(), ValueError):
                continue
        return None


def place_of(outbox: str, stream: Stream, sequence: int) -> bytes:
    """Return what an entry's seal is bound to."""
    return b"%b:%b:%d" % (outbox.encode(), stream.encode(), sequence)


def memory_place(outbox: str) -> bytes:
    """Return what the seal of the engine's memory is bound to."""
    return b"%b:memory" % outbox.encode()


def refused_place(event_id: str) -> bytes:
    """Return what the seal of a refused event is bound to."""
    return b"refused:%b" % event_id.encode()


def check_value(key: bytes) -> str:
    """Return 16 hex digits by which a key is known, and from which it cannot be had."""
    return hashlib.blake2b(key=key, digest_size=8, person=b"gateway outbox").hexdigest()


def key_of(content: bytes) -> bytes:
    """Return the key that a file holds: 32 bytes, or they as hex or base64. ValueError where it is none.

    Bytes that chance does not make are none: text in the place of the 32 bytes (half of a key as hex, a password),
    and what a power cut leaves of a file (zeros).
    """
    text = content.strip()
    if len(content) == KEY_BYTES and not _TEXT.fullmatch(content):
        key = content
    elif _HEX.fullmatch(text):
        key = bytes.fromhex(text.decode())
    else:
        key = binascii.a2b_base64(text, strict_mode=True)  # its error is a ValueError
    if len(key) != KEY_BYTES or len(set(key)) < KEY_VALUES_MIN:
        raise ValueError("not 32 random bytes")
    return key


def _cipher(key: bytes) -> Cipher:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)


def _no_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag


PLAIN = Sealing()
"""No key: nothing is sealed, and only what is not sealed is read."""
