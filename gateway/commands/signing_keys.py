"""Ed25519, borrowed: the keys of signed commands, read from their files; `cryptography` is imported when one is used.

Law: no part of a key stands in a sentence. What is wrong is a ConfigurationError that says what to do.
"""

from __future__ import annotations

from pathlib import Path

from gateway.commands.signed import CONTEXT, Verify
from gateway.errors import ConfigurationError
from gateway.machine.bounded import read_bounded

BYTES_MAX = 16 * 1024
PUBLIC, PRIVATE = b"-----BEGIN PUBLIC KEY-----", b"-----BEGIN PRIVATE KEY-----"
MAKE_PUBLIC = "openssl pkey -in command.key -pubout -out command.pub"
INSTALL = "pip install 'store-gateway[signed-commands]'"


def verifier(path: Path) -> Verify:
    """Return what checks signatures by the public key in a PEM file. Raises ConfigurationError."""
    content = _content(path)
    if b"PRIVATE KEY" in content:
        raise ConfigurationError(
            f"{path} holds a private key, which must never be on a gateway",
            f"take it away from here, make a new pair, and put only the public key there: {MAKE_PUBLIC}",
        )
    if content.startswith((b"ssh-", b"ecdsa-", b"-----BEGIN SSH2", b"-----BEGIN OPENSSH")):
        raise _no_key(path, "is in the form of OpenSSH")
    if not content.startswith(PUBLIC):
        raise _no_key(path, "is in DER, not in PEM" if content.startswith(b"0") else "is no public key in PEM")
    if content.count(b"-----BEGIN ") != 1:
        raise _no_key(path, "holds more than one key")
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise ConfigurationError("signed commands need the package cryptography", INSTALL) from None
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise _no_key(path, "is damaged") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "is a key of another kind")

    def verify(signed: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return verify


def sign(path: Path, statement: bytes) -> bytes:
    """Return the signature of a statement by the private key in a PEM file. Raises ConfigurationError."""
    content = _content(path)
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise ConfigurationError("signed commands need the package cryptography", INSTALL) from None
    advice = "make one: openssl genpkey -algorithm ed25519 -out command.key"
    try:
        key = load_pem_private_key(content, None) if content.startswith(PRIVATE) else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is no Ed25519 private key in PEM without a passphrase", advice)
    return key.sign(CONTEXT + statement)


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, BYTES_MAX).strip()
    except OSError as error:
        advice = "check the path, and that this user may read it: chgrp gateway FILE && chmod g+r FILE"
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}", advice) from None


def _no_key(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path} {what}", f"an Ed25519 public key in PEM is needed: {MAKE_PUBLIC}")
