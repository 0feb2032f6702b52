"""Encryption of what is stored of subscribers that are added at run time: Fernet, of ``cryptography``.

Fernet is AES-128-CBC with HMAC-SHA256 (its specification: github.com/fernet/spec): a text that was changed, or made
without a key, is refused. A record is sealed as a whole, with its name, so that a program that can write to the log
cannot move the secrets of one subscriber to another address.

The keys are ``admin.secrets_key``: the first encrypts, all decrypt. What another key than the first one sealed is
written again (:mod:`gateway.fanout.subscriber_store`), so that an old key can go after a day.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from gateway.errors import GatewayError

_KEY_BYTES: Final = 32
HOW_TO_MAKE: Final = "`openssl rand -base64 32` makes one; keep it in the environment, and set admin.secrets_key"


class CannotOpen(GatewayError):
    """A stored subscriber was sealed with a key that is not in ``admin.secrets_key``, or its record was changed."""


def problem(key: str) -> str | None:
    """Return what is wrong with a key, without showing it; None when it is good."""
    raw = _raw(key)
    if raw is None or len(raw) != _KEY_BYTES:
        return "a key is base64 of 32 bytes; `openssl rand -base64 32` makes one"
    return None


def fingerprint(secret: str) -> str:
    """Return what a secret for signing is called where it is not shown: the beginning of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


class Sealer:
    """Seals and opens texts.

    Args:
        keys: as :func:`problem` accepts them; none: nothing can be sealed or opened.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [Fernet(base64.urlsafe_b64encode(raw)) for key in keys if (raw := _raw(key)) is not None]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def seal(self, text: bytes) -> str:
        """Return the text, readable with the first key only. Needs a key."""
        return self._keys[0].encrypt(text).decode()

    def open(self, sealed: str) -> tuple[bytes, bool]:
        """Return the text, and whether the first key sealed it.

        Raises:
            CannotOpen: none of the keys did.
        """
        for position, key in enumerate(self._keys):
            try:
                return key.decrypt(sealed), position == 0
            except InvalidToken:
                continue
        raise CannotOpen("it is sealed with a key that is not in admin.secrets_key; add that key behind the first one")


def _raw(key: str) -> bytes | None:
    """Read base64 of either alphabet: tools that make keys differ."""
    try:
        return base64.b64decode(key.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
