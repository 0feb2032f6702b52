"""The two vendor signatures: the covered parts, and their checks.

:mod:`gateway.callbacks.sender_signatures` has those of other senders; :func:`verify` checks all.

Only signed bytes become an event. :func:`verify` returns the part of the request that the signature covers
(:func:`gateway.callbacks.request.signed_part`), and only this part is decoded:

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
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

from gateway.callbacks.request import CallbackRequest, signed_part
from gateway.callbacks.sender_signatures import CHECKS, Check
from gateway.callbacks.signature_policy import (
    Algorithm,
    Scheme,
    SignaturePolicy,
    encoded,
    equal,
    given_signature,
    is_number,
    refuse_outside_window,
    refuse_unless_any,
)
from gateway.errors import Unauthenticated

__all__ = ["Algorithm", "SignaturePolicy", "algorithm_of", "callbot_signature", "general_signature", "verify"]

_HASHES: Final[Mapping[Algorithm, Callable[[bytes], hashlib._Hash]]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "sha256": hashlib.sha256,
}
#: Begin of a member in either text. A header that contains one is ambiguous.
_MEMBER: Final = re.compile(r"&(?:accessKey|action|bizType|ts|body|accessSecret|createTs|requestID|uuid)=")
#: Hex digits of a SHA-256; MD5 has 32.
_SHA256_DIGITS: Final = 64


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


_CHECKS: Final[Mapping[Scheme, Check]] = {"general": _check_general, "callbot": _check_callbot, **CHECKS}


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
