"""ed25519 for ``v1a`` signatures, from ``cryptography``.

``cryptography`` rather than PyNaCl: it is kept by the Python Cryptographic Authority with releases against
every OpenSSL advisory, and has wheels for every platform that we build for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: RFC 8032, section 5.1.5.
PUBLIC_KEY_BYTES: Final = 32


def signer(key: bytes) -> Callable[[bytes], bytes]:
    """Return a function that signs with this private key: 32 bytes of seed, or 64 with the public key behind it."""
    return Ed25519PrivateKey.from_private_bytes(key[:32]).sign


def public_key(key: bytes) -> bytes:
    """Return the 32 bytes of the public key that belongs to a private one."""
    public = Ed25519PrivateKey.from_private_bytes(key[:32]).public_key()
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def verify(key: bytes, signature: bytes, content: bytes) -> bool:
    """Return whether the signature over ``content`` belongs to this public key."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True
