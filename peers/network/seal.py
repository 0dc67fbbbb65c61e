"""Sealed bytes: a payload as it was signed, behind its signature (docs/security.md C-5). Pure.

Each kind of signature has a prefix of its own, so that none can stand for another; they are listed here. The base of
an HTTP signature starts with `"@`, which none of them does.
"""

from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Prefix = Literal[b"masa-member-v1\0", b"masa-deny-v1\0", b"masa-secret-v1\0"]
MEMBER: Prefix = b"masa-member-v1\0"
DENY: Prefix = b"masa-deny-v1\0"
ROTATION: Prefix = b"masa-secret-v1\0"

SIGNATURE = 64


class Forged(ValueError):
    """Not sealed by this key, or changed since."""


def seal(prefix: Prefix, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature, then the payload. Nobody writes the payload anew to verify it: these bytes travel."""
    return key.sign(prefix + payload) + payload


def payload_of(sealed: bytes) -> bytes:
    """What it says, unproven: enough to know whose key to unseal it with."""
    return sealed[SIGNATURE:]


def unseal(prefix: Prefix, sealed: bytes, key: Ed25519PublicKey) -> bytes:
    """The payload, proven. Raises Forged."""
    payload = payload_of(sealed)
    try:
        key.verify(sealed[:SIGNATURE], prefix + payload)
    except InvalidSignature:
        raise Forged("the signature does not fit") from None
    return payload
