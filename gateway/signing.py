"""Signatures by the Standard Webhooks specification: ``v1`` (HMAC-SHA256) and ``v1a`` (ed25519).

What is signed is ``<webhook-id>.<webhook-timestamp>.<body>``. Each secret gives one signature;
``webhook-signature`` lists them, separated by spaces, so that a receiver with the old or the new secret accepts the
request during a rotation. Source: standard-webhooks, ``spec/standard-webhooks.md``, "Verifying webhook authenticity".

Forms of a secret:

==============  ==============================  ===============================================
``whsec_…``     base64 of at least 16 bytes     symmetric; the specification advises 24 to 64
no prefix       base64, the same                as the specification's libraries take it
``whsk_…``      base64 of 32 or 64 bytes        ed25519 private key (seed, or seed and public key)
``whpk_…``      base64 of 32 bytes              ed25519 public key: to verify with only
==============  ==============================  ===============================================

Behind a prefix, padding may be missing and the alphabet may be the one for URLs, as tools that make secrets differ.

A secret that is not base64 is refused, with or without prefix, and never taken as raw bytes: no library of
the specification could verify with it, and a text that happens to be base64 would mean two things.

ed25519 is that of ``cryptography`` rather than PyNaCl: it is kept by the Python Cryptographic Authority with releases
against every OpenSSL advisory, and has wheels for every platform that we build for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.errors import ConfigError, Unauthenticated

#: Below this a secret can be guessed; the specification advises 24.
MIN_SECRET_BYTES: Final = 16
#: More digits than any time stamp has: int() of a hostile header stays cheap.
_MOST_TIME_DIGITS: Final = 16
#: Of an ed25519 public key (RFC 8032, section 5.1.5).
_PUBLIC_KEY_BYTES: Final = 32
#: In one header. Senders have two while a secret is rotated; each costs an ed25519 check with a public key.
_MOST_SIGNATURES: Final = 16

_Sign = Callable[[bytes], str]


class Signer:
    """Signs with every secret of a subscriber. No secrets: no signature header.

    Raises:
        ConfigError: a secret cannot be used; see :func:`problem`.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        problems = [f"secrets[{i}]: {found}" for i, secret in enumerate(secrets) if (found := problem(secret))]
        if problems:
            raise ConfigError(problems)
        self._sign: tuple[_Sign, ...] = tuple(_signer(secret) for secret in secrets)

    def __bool__(self) -> bool:
        return bool(self._sign)

    def sign(self, event_id: str, timestamp: int, body: bytes) -> str:
        """Return the value of ``webhook-signature``. ``timestamp`` is Unix seconds, as in ``webhook-timestamp``."""
        content = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
        if len(self._sign) == 1:
            return self._sign[0](content)
        return " ".join([sign(content) for sign in self._sign])


def problem(secret: str) -> str | None:
    """Return a sentence about what is wrong with a signing secret, without showing it; None when it is good."""
    if secret.startswith("whpk_"):
        return "whpk_ is a public key, it cannot sign; give the whsk_ key and hand the whpk_ key to the receiver"
    return _problem(secret)


def problem_of_verifying(secret: str) -> str | None:
    """Return what is wrong with a secret that received webhooks are verified with; None when it is good."""
    if secret.startswith("whpk_"):
        raw = _decode(secret)
        if raw is None or len(raw) != _PUBLIC_KEY_BYTES:
            return "whpk_ must be followed by base64 of an ed25519 public key of 32 bytes"
        return None
    return _problem(secret)


def _problem(secret: str) -> str | None:
    raw = _decode(secret)
    if secret.startswith("whsk_"):
        if raw is None or len(raw) not in {32, 64}:
            return "whsk_ must be followed by base64 of an ed25519 key of 32 or 64 bytes"
        return None
    if raw is None:
        return "a secret is whsec_ followed by base64; `openssl rand -base64 32` makes one"
    if len(raw) < MIN_SECRET_BYTES:
        return f"the secret holds {len(raw)} bytes and must hold at least {MIN_SECRET_BYTES}, better 24 to 64"
    return None


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float, tolerance_s: float) -> None:
    """Check a received webhook against any of the secrets.

    Args:
        secrets: ``whsec_…``, ``whpk_…`` or ``whsk_…``; one match is enough.
        headers: with lower-case names, or a case-insensitive mapping.
        now: Unix seconds.
        tolerance_s: how far ``webhook-timestamp`` may be off, either way; against replayed requests.

    Raises:
        Unauthenticated: a header is missing, the time is off or no signature matches; says which.
    """
    event_id, stamp, given = (headers.get(f"webhook-{part}") for part in ("id", "timestamp", "signature"))
    if not event_id or not stamp or not given:
        raise Unauthenticated("webhook-id, webhook-timestamp or webhook-signature is missing")
    if "." in event_id:
        raise Unauthenticated("webhook-id holds a full stop, so the signed text could be read in two ways")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _MOST_TIME_DIGITS):
        raise Unauthenticated("webhook-timestamp is not a number of seconds")
    if abs(now - int(stamp)) > tolerance_s:
        raise Unauthenticated(f"webhook-timestamp is off by more than {tolerance_s:g} s")
    content = b"%s.%s.%s" % (event_id.encode("utf-8", "surrogateescape"), stamp.encode(), body)
    signatures = given.split()[:_MOST_SIGNATURES]
    if not any(_matches(secret, content, signatures) for secret in secrets):
        raise Unauthenticated("no signature matches")


def public_key(key: bytes) -> bytes:
    """Return the 32 bytes of the ed25519 public key of a private one: its seed, or seed and public key."""
    public = Ed25519PrivateKey.from_private_bytes(key[:32]).public_key()
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _matches(secret: str, content: bytes, signatures: list[str]) -> bool:
    raw = _decode(secret)
    if raw is None:
        return False
    if secret.startswith(("whsk_", "whpk_")):
        public = raw if secret.startswith("whpk_") else public_key(raw)
        offered = [_base64(one[4:]) for one in signatures if one.startswith("v1a,")]
        return any(one is not None and _is_signed(public, one, content) for one in offered)
    expected = _hmac_signer(raw)(content).encode()
    return any(hmac.compare_digest(expected, one.encode("utf-8", "surrogateescape")) for one in signatures)


def _is_signed(key: bytes, signature: bytes, content: bytes) -> bool:
    """Return whether an ed25519 signature over ``content`` belongs to this public key."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _signer(secret: str) -> _Sign:
    raw = _decode(secret)
    assert raw is not None
    if secret.startswith("whsk_"):
        sign = Ed25519PrivateKey.from_private_bytes(raw[:32]).sign
        return lambda content: "v1a," + base64.b64encode(sign(content)).decode()
    return _hmac_signer(raw)


def _hmac_signer(raw: bytes) -> _Sign:
    """Return an HMAC signer (RFC 2104) that hashes both padded keys once: half the time of ``hmac.digest`` on 1 KiB."""
    key = hashlib.sha256(raw).digest() if len(raw) > 64 else raw
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key.ljust(64, b"\0")))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key.ljust(64, b"\0")))

    def sign(content: bytes) -> str:
        first, second = inner.copy(), outer.copy()
        first.update(content)
        second.update(first.digest())
        return "v1," + binascii.b2a_base64(second.digest(), newline=False).decode()

    return sign


def _decode(secret: str) -> bytes | None:
    for prefix in ("whsec_", "whsk_", "whpk_"):
        if secret.startswith(prefix):
            return _base64(_padded(secret[len(prefix) :]))
    return _base64(secret)


def _padded(text: str) -> str:
    """Spell base64 of either alphabet, with or without padding, in the standard way (RFC 4648, sections 3.2 and 5)."""
    text = text.replace("-", "+").replace("_", "/")
    return text if "=" in text else text + "=" * (-len(text) % 4)


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
