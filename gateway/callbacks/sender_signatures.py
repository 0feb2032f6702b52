"""Signatures of other senders: the covered parts, and their checks. :func:`verify` checks all, the vendor's included.

As for the vendor's signatures, only signed bytes become an event (:mod:`gateway.callbacks.signature`):

=====================  ========================  ================================================================
scheme                 input of a decoder        text under the HMAC
=====================  ========================  ================================================================
``hmac``               body                      the body
``standard-webhooks``  body, ``webhook-id``      ``<webhook-id>.<webhook-timestamp>.<body>``
``stripe``             body                      ``<t>.<body>``
``slack``              body                      ``v0:<x-slack-request-timestamp>:<body>``
``twilio``, a form     body                      the address, then each name and value, sorted by name, no separators
``twilio``, JSON       body                      the address with ``bodySHA256=<hex>`` at the end of its query
=====================  ========================  ================================================================

``github``, ``meta`` and ``shopify`` are ``hmac`` with fixed header names (:data:`PRESETS`).

Each text is unambiguous:

* times are digits and ids have no full stop, so the first separators end them;
* Twilio's address is the complete configured one; path and query of the request are ignored. Its fields are those of
  the body, and the first byte of the body selects the text. A name consists of ASCII letters, digits, ``_``, ``.``
  and ``-`` and occurs once, so the body can only be a form.

Twilio joins names and values without separators. This is the only limit: an attacker with a captured signed request can
move the border between a name and its value, such as ``Body=hello`` to ``Bodyhel=lo``. Bytes cannot be added, removed
or reordered.

Sources: Standard Webhooks, ``spec/standard-webhooks.md``; Stripe, "Verify webhook signatures manually"; Slack,
"Verifying requests from Slack"; Twilio, "Webhooks security"; Meta, "Webhooks: getting started" and GitHub, "Validating
webhook deliveries" (``X-Hub-Signature-256``); Shopify, "Verify webhooks" (``X-Shopify-Hmac-SHA256``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, NamedTuple

from gateway import signing
from gateway.callbacks import form
from gateway.callbacks.payload import CallbackRequest
from gateway.callbacks.signature import (
    CHECKS,
    Check,
    HmacDigest,
    Scheme,
    SignaturePolicy,
    encoded,
    given_signature,
    is_number,
    refuse_outside_window,
    refuse_unless_any,
    signed_part,
)
from gateway.errors import Unauthenticated


class HmacHeader(NamedTuple):
    """Header and notation of a sender's HMAC of the body."""

    header: str
    digest: HmacDigest = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""


#: Senders whose signature is an HMAC of the body.
PRESETS: Final[Mapping[str, HmacHeader]] = {
    "github": HmacHeader("x-hub-signature-256", prefix="sha256="),
    "meta": HmacHeader("x-hub-signature-256", prefix="sha256="),
    "shopify": HmacHeader("x-shopify-hmac-sha256", encoding="base64"),
}

SLACK_TIME: Final = "x-slack-request-timestamp"
#: Parts of Stripe's header; it has two signatures during a rotation of the secret.
_MOST_PARTS: Final = 16
_TWILIO_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")


def hmac_signature(policy: SignaturePolicy, secret: str, body: bytes) -> str:
    """Return the HMAC of a body in the notation of the header, without the prefix.

    Args:
        policy: has hash and encoding.
        secret: of the sender.
        body: the raw body.
    """
    digest = hmac.digest(encoded(secret), body, policy.digest)
    return base64.b64encode(digest).decode() if policy.encoding == "base64" else digest.hex()


def stripe_signature(secret: str, time: str, body: bytes) -> str:
    """Return the value of ``v1`` in ``Stripe-Signature``."""
    return hmac.digest(encoded(secret), b"%s.%s" % (time.encode(), body), "sha256").hex()


def slack_signature(secret: str, time: str, body: bytes) -> str:
    """Return the value of ``X-Slack-Signature``."""
    return "v0=" + hmac.digest(encoded(secret), b"v0:%s:%s" % (time.encode(), body), "sha256").hex()


def twilio_signature(secret: str, url: str, body: bytes) -> str:
    """Return the value of ``X-Twilio-Signature`` for a POST.

    Raises:
        Unauthenticated: the form is ambiguous.
    """
    return base64.b64encode(hmac.digest(encoded(secret), _twilio_text(url, body), "sha1")).decode()


def verify(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    """Verify a signature, and return the part of the request that it covers.

    Args:
        policy: of the path.
        request: as received.
        now: time of arrival, timezone-aware UTC.

    Raises:
        Unauthenticated: a header is missing or ambiguous, the signature is wrong, or its time is outside the window.
    """
    return _CHECKS[policy.scheme](policy, request, now)


def _check_hmac(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    given = given_signature(policy, request)
    if not given.startswith(policy.prefix):
        raise Unauthenticated(f"{policy.header} does not begin as configured")
    given = given.removeprefix(policy.prefix).strip()
    made = [hmac_signature(policy, secret, request.body) for secret in policy.secrets]
    refuse_unless_any(made, [given if policy.encoding == "base64" else given.lower()])
    return signed_part(request, policy.signed_headers)


def _check_standard_webhooks(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    given_signature(policy, request)
    received = request.headers
    headers = {
        f"webhook-{part}": received.get(f"{policy.header}-{part}".lower(), "").strip(" \t")
        for part in ("id", "timestamp", "signature")
    }
    window_s = float("inf") if policy.window_s is None else policy.window_s
    signing.verify(policy.secrets, headers, request.body, now.timestamp(), window_s)
    return signed_part(request, policy.signed_headers)


def _check_stripe(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    parts = [part.strip().partition("=") for part in given_signature(policy, request).split(",", _MOST_PARTS)]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1 or not is_number(times[0]):
        raise Unauthenticated(f"{policy.signature_header} holds no time, or more than one")
    made = [stripe_signature(secret, times[0], request.body) for secret in policy.secrets]
    refuse_unless_any(made, [value for name, _, value in parts if name == "v1"])
    refuse_outside_window(policy, times[0], 1, now)
    return signed_part(request, policy.signed_headers)


def _check_slack(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    given, time = given_signature(policy, request), request.headers.get(SLACK_TIME, "").strip()
    if not is_number(time):
        raise Unauthenticated(f"header {SLACK_TIME} is not a number")
    refuse_unless_any([slack_signature(secret, time, request.body) for secret in policy.secrets], [given])
    refuse_outside_window(policy, time, 1, now)
    return signed_part(request, policy.signed_headers)


def _check_twilio(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    given = given_signature(policy, request)
    refuse_unless_any([twilio_signature(secret, policy.url, request.body) for secret in policy.secrets], [given])
    return signed_part(request, policy.signed_headers)


def _twilio_text(url: str, body: bytes) -> bytes:
    """Return the text that Twilio signs."""
    if body[:1] in (b"{", b"["):
        separator = "&" if "?" in url else "?"
        return f"{url}{separator}bodySHA256={hashlib.sha256(body).hexdigest()}".encode()
    pairs = sorted(form.pairs(body))
    names = {name for name, _ in pairs}
    if len(names) != len(pairs) or not all(map(_TWILIO_NAME.fullmatch, names)):
        raise Unauthenticated("the body is not a form as Twilio sends it, each name once")
    return (url + "".join(name + value for name, value in pairs)).encode()


_CHECKS: Final[Mapping[Scheme, Check]] = {
    **CHECKS,
    "hmac": _check_hmac,
    "standard-webhooks": _check_standard_webhooks,
    "stripe": _check_stripe,
    "slack": _check_slack,
    "twilio": _check_twilio,
}
