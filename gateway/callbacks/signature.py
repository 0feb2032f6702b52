"""Signatures: the policy of a path, the common checks of all schemes, and the two vendor signatures.

:mod:`gateway.callbacks.sender_signatures` has those of other senders, and ``verify``, which checks all.

Only signed bytes become an event. A check returns the part of the request that the signature covers
(:func:`signed_part`), and only this part is decoded:

========  ==============================================  =========================================================
scheme    covered                                         text that is hashed
========  ==============================================  =========================================================
general   ``accessKey action bizType ts``, body           ``accessKey=…&action=…&bizType=…&ts=…&body=…&accessSecret=…``
callbot   body, ``createTs requestID uuid``               ``<secret>&body=…&createTs=…&requestID=…&uuid=…``
========  ==============================================  =========================================================

Not covered, and therefore without effect on the event: method, path, query, every other header
(``Content-Type``, ``Content-Encoding`` and ``algorithm`` included), the sender's address.

Invariants

1. A decoded body is always part of the text. The vendor's page omits it for ``multipart/form-data``; any body could
   then be sent with a captured signature, so a multipart body has to be part of the text like any other.
2. Each text is unambiguous. The vendor joins without escaping, so a header with the beginning of another member, such
   as ``ts: 1&body=…``, would move bytes from one member to another. Therefore ``ts`` and ``createTs`` are digits, and
   no header contains ``&<member>=``. The members can then be recovered from the text: from the left in the general
   scheme, where the body is last, and from the right in Callbot's, where it is first.
3. The body is signed as it is decoded: after decompression. A header cannot change the decoded bytes, because other
   bytes have another signature. A sender that signs compressed bytes is refused.
4. The text of Callbot begins with the secret, so MD5 and SHA-256 can be extended without the secret (length extension).
   The padding of an extended text contains NUL bytes, which neither JSON nor a header has: a text with NUL is refused.

Sources: "API Interface Invocation Convention" / "API接口调用约定" (general, protocol.md part A), "whatsapp callback
verify" (the vendor's own verifier: ``algorithm`` is SHA-256 in any letter case, any other word is MD5, and letter case
of ``sign`` is ignored), "Callbot API authorization" (part B). MD5 is the vendor's choice.

All secrets are tried, also after a match, and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from gateway.callbacks.payload import CallbackRequest
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
_HASHES: Final[Mapping[Algorithm, Callable[[bytes], hashlib._Hash]]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "sha256": hashlib.sha256,
}
#: Begin of a member in either text. A header that contains one is ambiguous.
_MEMBER: Final = re.compile(r"&(?:accessKey|action|bizType|ts|body|accessSecret|createTs|requestID|uuid)=")
#: Hex digits of a SHA-256; MD5 has 32.
_SHA256_DIGITS: Final = 64


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


def signed_part(request: CallbackRequest, signed_headers: Iterable[str]) -> CallbackRequest:
    """Return the part of a request that a signature over its body and some headers covers.

    Method, path, query, the other headers and the address are replaced by constants, so a decoder of the result cannot
    depend on unauthenticated bytes.

    Args:
        request: as received.
        signed_headers: names in lower case; missing headers are omitted.
    """
    received = request.headers
    headers = {name: received[name].strip(" \t") for name in signed_headers if name in received}
    return CallbackRequest("POST", "", b"", headers, request.body, request.received_at)


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


Check = Callable[[SignaturePolicy, CallbackRequest, datetime], CallbackRequest]


def general_signature(
    secret: str,
    *,
    access_key: str,
    action: str,
    biz_type: str,
    ts: str,
    body: bytes,
    algorithm: Algorithm = "md5",
) -> str:
    """Return signature 1 in lower-case hex. An empty body is omitted from the text."""
    text = f"accessKey={access_key}&action={action}&bizType={biz_type}&ts={ts}"
    tail = b"&body=" + body if body else b""
    return _HASHES[algorithm](encoded(text) + tail + encoded(f"&accessSecret={secret}")).hexdigest()


def callbot_signature(
    secret: str, *, request_id: str, uuid: str, create_ts: str, body: bytes, algorithm: Algorithm = "md5"
) -> str:
    """Return signature 2 in upper-case hex. The text begins with the secret; empty parts are included."""
    tail = f"&createTs={create_ts}&requestID={request_id}&uuid={uuid}"
    return _HASHES[algorithm](encoded(secret) + b"&body=" + body + encoded(tail)).hexdigest().upper()


def algorithm_of(policy: SignaturePolicy, headers: Mapping[str, str]) -> Algorithm:
    """Return the hash of a vendor's signature: the configured one, the declared one, or by the signature's length.

    The declaration is not signed. ``sha256`` in any case means SHA-256, any other word MD5, as in the vendor's
    verifier. 64 hex digits cannot be an MD5 and are a SHA-256, whatever is declared.

    Args:
        policy: of the path.
        headers: names in lower case.
    """
    if policy.algorithm is not None:
        return policy.algorithm
    if headers.get("algorithm", "").strip().lower() == "sha256":
        return "sha256"
    return "sha256" if len(headers.get("sign", "").strip()) == _SHA256_DIGITS else "md5"


def _check_general(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    signed = signed_part(request, policy.signed_headers)
    access_key, action, biz_type, ts = _members(signed, policy.signed_headers, time="ts")
    if policy.access_key is not None and not equal(policy.access_key, access_key):
        raise Unauthenticated("accessKey is not the one configured")
    algorithm = algorithm_of(policy, request.headers)
    made = (
        general_signature(
            secret,
            access_key=access_key,
            action=action,
            biz_type=biz_type,
            ts=ts,
            body=signed.body,
            algorithm=algorithm,
        )
        for secret in policy.secrets
    )
    refuse_unless_any(made, [given_signature(policy, request).lower()])
    refuse_outside_window(policy, ts, 1000, now)
    return signed


def _check_callbot(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    signed = signed_part(request, policy.signed_headers)
    request_id, uuid, create_ts = _members(signed, policy.signed_headers, time="createts")
    if policy.access_key is not None and not equal(policy.access_key, uuid):
        raise Unauthenticated("uuid is not the one configured")
    if b"\0" in signed.body or "\0" in request_id + uuid:
        raise Unauthenticated("a NUL byte in a signed request")
    algorithm = algorithm_of(policy, request.headers)
    made = (
        callbot_signature(
            secret, request_id=request_id, uuid=uuid, create_ts=create_ts, body=signed.body, algorithm=algorithm
        )
        for secret in policy.secrets
    )
    refuse_unless_any((one.lower() for one in made), [given_signature(policy, request).lower()])
    refuse_outside_window(policy, create_ts, 1, now)
    return signed


#: Checks of the vendor's schemes.
CHECKS: Final[Mapping[Scheme, Check]] = {"general": _check_general, "callbot": _check_callbot}


def _members(signed: CallbackRequest, names: Iterable[str], *, time: str) -> list[str]:
    """Return the values of the headers in the text, if the text is unambiguous."""
    values = []
    for name in names:
        value = signed.headers.get(name)
        if value is None:
            raise Unauthenticated(f"header {name} is missing")
        if "&" in value and _MEMBER.search(value):
            raise Unauthenticated(f"header {name} holds the beginning of another member of the signed text")
        if name == time and not is_number(value):
            raise Unauthenticated(f"header {name} is not a number")
        values.append(value)
    return values
