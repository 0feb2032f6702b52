"""The signature policy of a path, and the common checks of all schemes: header, comparison, time window."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from gateway.callbacks.request import CallbackRequest
from gateway.errors import Unauthenticated

Scheme = Literal["general", "callbot", "hmac", "standard-webhooks", "stripe", "slack", "twilio"]
Algorithm = Literal["md5", "sha256"]
HmacDigest = Literal["md5", "sha1", "sha256", "sha512"]

#: Schemes of other senders that sign the time of each attempt.
TIMED_SCHEMES: Final[frozenset[Scheme]] = frozenset({"standard-webhooks", "stripe", "slack"})
#: Default window in seconds: the advice of Standard Webhooks, Stripe and Slack.
DEFAULT_WINDOW_S: Final = 300.0

#: Header with the signature, in lower case. For ``hmac`` it is configured; for Standard Webhooks it may be.
_SIGNATURE_HEADERS: Final[Mapping[Scheme, str]] = {
    "general": "sign",
    "callbot": "sign",
    "stripe": "stripe-signature",
    "slack": "x-slack-signature",
    "twilio": "x-twilio-signature",
}
#: Headers that each scheme covers and a decoder may read, in lower case. The time of an attempt is excluded for other
#: senders: it is no part of the event, and would make each attempt of a stored request a different one.
_SIGNED_HEADERS: Final[Mapping[Scheme, tuple[str, ...]]] = {
    "general": ("accesskey", "action", "biztype", "ts"),
    "callbot": ("requestid", "uuid", "createts"),
}
#: Digits of a timestamp, at most; the limit keeps int() of a hostile header cheap.
_MOST_TIME_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Signature policy of one path.

    Args:
        scheme: ``general`` (part A), ``callbot`` (part B), or one of other senders
            (:mod:`gateway.callbacks.sender_signatures`).
        secrets: accepted secrets, several during a rotation; at least one, none empty.
        algorithm: fixed hash of a vendor scheme, whatever the request declares. None: see
            :func:`gateway.callbacks.signature.algorithm_of`.
        access_key: the only accepted ``accessKey``; None accepts any.
        window_s: largest difference between signed time and arrival, seconds. None accepts any time: the vendor does
            not document a window for callbacks, and a redelivery may have its original time.
        header: ``hmac``: name of the header with the signature. ``standard-webhooks``: prefix of the names of its three
            headers, ``webhook`` or ``svix``.
        digest: hash function; ``hmac`` only.
        encoding: of the signature; ``hmac`` only.
        prefix: text before the signature in the header, such as ``sha256=``; ``hmac`` only.
        url: address as configured at the sender, with its query; ``twilio`` only.
    """

    scheme: Scheme
    secrets: tuple[str, ...]
    algorithm: Algorithm | None = None
    access_key: str | None = None
    window_s: float | None = None
    header: str = "x-signature"
    digest: HmacDigest = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        if not self.secrets or not all(self.secrets):
            raise ValueError("a signature needs at least one secret, and none may be empty")

    @property
    def signature_header(self) -> str:
        """Name of the header with the signature, in lower case."""
        if self.scheme == "standard-webhooks":
            return f"{self.header}-signature".lower()
        return _SIGNATURE_HEADERS.get(self.scheme) or self.header.lower()

    @property
    def signed_headers(self) -> tuple[str, ...]:
        """Names of the headers that the signature covers and a decoder may read, in lower case."""
        if self.scheme == "standard-webhooks":
            return (f"{self.header}-id".lower(),)
        return _SIGNED_HEADERS.get(self.scheme, ())


def given_signature(policy: SignaturePolicy, request: CallbackRequest) -> str:
    """Return the signature of a request.

    Args:
        policy: names the header.
        request: as received.

    Raises:
        Unauthenticated: the request has no signature.
    """
    given = request.headers.get(policy.signature_header, "").strip()
    if not given:
        raise Unauthenticated(f"header {policy.signature_header} is missing")
    return given


def refuse_unless_any(made: Iterable[str], given: Iterable[str]) -> None:
    """Refuse a request without a valid signature, in constant time.

    Args:
        made: the valid signatures, one for each secret.
        given: signatures of the request.

    Raises:
        Unauthenticated: no signature of the request is valid.
    """
    given = tuple(given)
    fits = False
    for one in made:
        for other in given:
            fits |= equal(one, other)
    if not fits:
        raise Unauthenticated("the signature is wrong")


def refuse_outside_window(policy: SignaturePolicy, text: str, per_second: int, now: datetime) -> None:
    """Refuse a signed time outside the window. Call it after the signature check, which authenticates the time.

    Args:
        policy: has the window; without one any time is accepted.
        text: the time, digits.
        per_second: units of the time in a second.
        now: time of arrival, timezone-aware UTC.

    Raises:
        Unauthenticated: the time is outside the window.
    """
    if policy.window_s is None:
        return
    if len(text) > _MOST_TIME_DIGITS or abs(now.timestamp() - int(text) / per_second) > policy.window_s:
        raise Unauthenticated("the signed time is out of the window")


def is_number(text: str) -> bool:
    """Return whether a text consists of ASCII digits."""
    return text.isascii() and text.isdigit()


def equal(one: str, other: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(encoded(one), encoded(other))


def encoded(text: str) -> bytes:
    """Return the received bytes of a text; header bytes that are not UTF-8 are surrogate escapes in it."""
    return text.encode("utf-8", "surrogateescape")
