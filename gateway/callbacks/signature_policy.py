"""How the signature of one path is checked, and what all schemes share: the header, the comparison, the window."""

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
#: Their window in seconds where none is configured: what Standard Webhooks, Stripe and Slack advise.
DEFAULT_WINDOW_S: Final = 300.0

#: The header with the signature, in lower case. That of ``hmac`` is configured, that of Standard Webhooks can be.
_SIGNATURE_HEADERS: Final[Mapping[Scheme, str]] = {
    "general": "sign",
    "callbot": "sign",
    "stripe": "stripe-signature",
    "slack": "x-slack-signature",
    "twilio": "x-twilio-signature",
}
#: The headers that each scheme covers and a decoder sees, in lower case. The time of an attempt is not among those of
#: other senders: it says nothing about the event, and each attempt of a kept request would be another one.
_SIGNED_HEADERS: Final[Mapping[Scheme, tuple[str, ...]]] = {
    "general": ("accesskey", "action", "biztype", "ts"),
    "callbot": ("requestid", "uuid", "createts"),
}
#: More digits than any time stamp has; int() of a hostile header stays cheap.
_MOST_TIME_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """How the signature of one path is checked.

    Args:
        scheme: ``general`` (part A), ``callbot`` (part B), or one of other senders
            (:mod:`gateway.callbacks.sender_signatures`).
        secrets: any of them may have signed; several while one is being rotated. At least one, none empty.
        algorithm: pins the hash of a vendor scheme, whatever the request says. None: see
            :func:`gateway.callbacks.signature.algorithm_of`.
        access_key: the only ``accessKey`` accepted; None accepts any.
        window_s: how far the signed time may be from arrival, in seconds. None accepts any time: no page of the vendor
            promises a window on callbacks, and a redelivery may carry its first time.
        header: ``hmac``: name of the header with the signature. ``standard-webhooks``: what the names of its three
            headers begin with, ``webhook`` or ``svix``.
        digest: ``hmac`` only.
        encoding: ``hmac`` only.
        prefix: ``hmac`` only: the text before the signature in the header, such as ``sha256=``.
        url: ``twilio`` only: the address as the sender knows it, with its query.
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
        """The header with the signature itself, in lower case."""
        if self.scheme == "standard-webhooks":
            return f"{self.header}-signature".lower()
        return _SIGNATURE_HEADERS.get(self.scheme) or self.header.lower()

    @property
    def signed_headers(self) -> tuple[str, ...]:
        """The headers that the signature covers and a decoder sees, in lower case."""
        if self.scheme == "standard-webhooks":
            return (f"{self.header}-id".lower(),)
        return _SIGNED_HEADERS.get(self.scheme, ())


def given_signature(policy: SignaturePolicy, request: CallbackRequest) -> str:
    """Return the signature that the request carries.

    Raises:
        Unauthenticated: it carries none.
    """
    given = request.headers.get(policy.signature_header, "").strip()
    if not given:
        raise Unauthenticated(f"header {policy.signature_header} is missing")
    return given


def refuse_unless_any(made: Iterable[str], given: Iterable[str]) -> None:
    """Refuse unless one of the right signatures was given. The time does not depend on which one.

    Args:
        made: the right signatures, one for each secret.
        given: those of the request.

    Raises:
        Unauthenticated: none of them is right.
    """
    given = tuple(given)
    fits = False
    for one in made:
        for other in given:
            fits |= equal(one, other)
    if not fits:
        raise Unauthenticated("the signature is wrong")


def refuse_outside_window(policy: SignaturePolicy, text: str, per_second: int, now: datetime) -> None:
    """Refuse a signed time that is too far from now. Call it last: only a time that was signed says anything.

    Args:
        policy: with the window; without one any time is accepted.
        text: the time, digits.
        per_second: units of the time in a second.
        now: arrival.

    Raises:
        Unauthenticated: it is too far from now.
    """
    if policy.window_s is None:
        return
    if len(text) > _MOST_TIME_DIGITS or abs(now.timestamp() - int(text) / per_second) > policy.window_s:
        raise Unauthenticated("the signed time is out of the window")


def is_number(text: str) -> bool:
    """Whether this is digits and nothing else."""
    return text.isascii() and text.isdigit()


def equal(one: str, other: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(encoded(one), encoded(other))


def encoded(text: str) -> bytes:
    """Return a text's bytes as on the wire: a header byte that is not UTF-8 arrives as a surrogate escape."""
    return text.encode("utf-8", "surrogateescape")
