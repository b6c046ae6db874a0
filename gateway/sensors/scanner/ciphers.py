"""AES, borrowed: `cryptography` is imported only when a key is first used.

Nothing here raises on what a radio says; ImportError where the library is not installed.
"""

from __future__ import annotations

from collections.abc import Callable

Decrypt = Callable[[bytes, bytes], bytes | None]
"""(nonce, ciphertext with tag) to plaintext; None where it does not verify."""
Encrypt = Callable[[bytes], bytes]
"""One block of 16 bytes under one key."""

KEY_BYTES = 16


def aes_ccm(key: bytes, tag_bytes: int) -> Decrypt:
    """Return the decryption of a 16-byte key with a tag of so many bytes."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM

    cipher = AESCCM(key, tag_length=tag_bytes)

    def decrypt(nonce: bytes, sealed: bytes) -> bytes | None:
        try:
            return cipher.decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError):
            return None

    return decrypt


def aes_block(key: bytes) -> Encrypt:
    """Return AES-128 of single blocks under a 16-byte key."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    # One context for all blocks: in ECB each block is for itself.
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update
