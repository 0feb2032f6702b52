"""The two vendor signatures, and the plain HMAC of other senders: what they cover, and how they are compared.

Only signed bytes make an event. :func:`verify` returns the part of the request that the signature covers
(:func:`gateway.callbacks.request.signed_part`), and that part alone is decoded:

========  ==============================================  =========================================================
scheme    covered                                         text that is hashed
========  ==============================================  =========================================================
general   ``accessKey action bizType ts``, body           ``accessKey=…&action=…&bizType=…&ts=…&body=…&accessSecret=…``
callbot   body, ``createTs requestID uuid``               ``<secret>&body=…&createTs=…&requestID=…&uuid=…``
hmac      body                                            the body
========  ==============================================  =========================================================

Not covered, and therefore without effect on the event: method, path, query, every other header
(``Content-Type``, ``Content-Encoding`` and ``algorithm`` included), the sender's address.

Invariants

1. A body that is decoded is always in the text. The vendor's page leaves it out for ``multipart/form-data``; that
   would let anyone put any body under a captured signature, so a multipart body must be in the text as any other.
2. One text has one reading. The vendor joins without escaping, so a header that holds the beginning of another member,
   such as ``ts: 1&body=…``, would move bytes from one member to another: ``ts`` and ``createTs`` are digits, and no
   header holds ``&<member>=``. Then the members are found again from the text alone: from the left in the general
   scheme, where the body comes last, and from the right in Callbot's, where it comes first.
3. The body is signed as it is read: after ``Content-Encoding`` was undone. A header cannot change which bytes are
   read, as other bytes have another signature. A sender that signs compressed bytes is refused.
4. The text of Callbot begins with the secret, so MD5 and SHA-256 can be continued without knowing it (length
   extension). The padding that this leaves in the text holds NUL bytes, which neither JSON nor a header has: a text
   with one is refused.

Sources: "API Interface Invocation Convention" / "API接口调用约定" (general, protocol.md part A), "whatsapp callback
verify" (the vendor's own verifier: ``algorithm`` is SHA-256 in any letter case, any other word is MD5, and letter case
of ``sign`` does not matter), "Callbot API authorization" (part B). MD5 is the vendor's choice.

All secrets are tried, without stopping at the first that fits, and compared in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from gateway.callbacks.request import CallbackRequest, signed_part
from gateway.errors import Unauthenticated

Scheme = Literal["general", "callbot", "hmac"]
Algorithm = Literal["md5", "sha256"]
HmacDigest = Literal["md5", "sha1", "sha256", "sha512"]

#: The headers that each scheme covers, in lower case.
SIGNED_HEADERS: Final[Mapping[Scheme, tuple[str, ...]]] = {
    "general": ("accesskey", "action", "biztype", "ts"),
    "callbot": ("requestid", "uuid", "createts"),
    "hmac": (),
}
_HASHES: Final[Mapping[Algorithm, Callable[[bytes], hashlib._Hash]]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "sha256": hashlib.sha256,
}
#: The beginning of a member of either text. A header that holds one could be read in two ways.
_MEMBER: Final = re.compile(r"&(?:accessKey|action|bizType|ts|body|accessSecret|createTs|requestID|uuid)=")
#: Hex digits of a SHA-256; MD5 has 32.
_SHA256_DIGITS: Final = 64
#: More digits than any time stamp has; int() of a hostile header stays cheap.
_MOST_TIME_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """How the signature of one path is checked.

    Args:
        scheme: ``general`` (part A), ``callbot`` (part B), or ``hmac`` for other senders.
        secrets: any of them may have signed; several while one is being rotated. At least one, none empty.
        algorithm: pins the hash of a vendor scheme, whatever the request says. None: see :func:`algorithm_of`.
        access_key: the only ``accessKey`` accepted; None accepts any.
        window_s: how far the signed time may be from arrival, in seconds. None accepts any time: no page promises a
            window on callbacks, and a redelivery may carry its first time.
        header: ``hmac`` only: name of the header with the signature.
        digest: ``hmac`` only.
        encoding: ``hmac`` only.
        prefix: ``hmac`` only: the text before the signature in the header, such as ``sha256=``.
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

    def __post_init__(self) -> None:
        if not self.secrets or not all(self.secrets):
            raise ValueError("a signature needs at least one secret, and none may be empty")

    @property
    def signature_header(self) -> str:
        """The header with the signature itself, in lower case."""
        return self.header.lower() if self.scheme == "hmac" else "sign"

    @property
    def signed_headers(self) -> tuple[str, ...]:
        """The headers that the signature covers, in lower case."""
        return SIGNED_HEADERS[self.scheme]


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
    """Signature 1 in lower-case hex. An empty body is left out of the text."""
    text = f"accessKey={access_key}&action={action}&bizType={biz_type}&ts={ts}"
    tail = b"&body=" + body if body else b""
    return _HASHES[algorithm](_bytes(text) + tail + _bytes(f"&accessSecret={secret}")).hexdigest()


def callbot_signature(
    secret: str, *, request_id: str, uuid: str, create_ts: str, body: bytes, algorithm: Algorithm = "md5"
) -> str:
    """Signature 2 in upper-case hex. The text begins with the bare secret; nothing is left out."""
    tail = f"&createTs={create_ts}&requestID={request_id}&uuid={uuid}"
    return _HASHES[algorithm](_bytes(secret) + b"&body=" + body + _bytes(tail)).hexdigest().upper()


def verify(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    """Return the part of a rightly signed request that its signature covers.

    Raises:
        Unauthenticated: a header is missing or could be read in two ways, the signature is wrong, or its time is out
            of the window.
    """
    return _CHECKS[policy.scheme](policy, request, now)


def algorithm_of(policy: SignaturePolicy, headers: Mapping[str, str]) -> Algorithm:
    """Return the hash that a vendor request is signed with: pinned, else announced, else by the signature's length.

    The announcement is no part of the text. ``sha256`` in any letter case means SHA-256, any other word MD5, as in the
    vendor's own verifier. As 64 hex digits cannot be an MD5, they are a SHA-256 whatever is announced.
    """
    if policy.algorithm is not None:
        return policy.algorithm
    if headers.get("algorithm", "").strip().lower() == "sha256":
        return "sha256"
    return "sha256" if len(headers.get("sign", "").strip()) == _SHA256_DIGITS else "md5"


def _check_general(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    signed = signed_part(request, policy.signed_headers)
    access_key, action, biz_type, ts = _members(signed, policy.signed_headers, time="ts")
    if policy.access_key is not None and not _equal(policy.access_key, access_key):
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
    _refuse_unless_any(made, _given(policy, request).lower())
    _refuse_outside_window(policy, ts, 1000, now)
    return signed


def _check_callbot(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    signed = signed_part(request, policy.signed_headers)
    request_id, uuid, create_ts = _members(signed, policy.signed_headers, time="createts")
    if policy.access_key is not None and not _equal(policy.access_key, uuid):
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
    _refuse_unless_any((one.lower() for one in made), _given(policy, request).lower())
    _refuse_outside_window(policy, create_ts, 1, now)
    return signed


def _check_hmac(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> CallbackRequest:
    given = _given(policy, request)
    if not given.startswith(policy.prefix):
        raise Unauthenticated(f"{policy.header} does not begin as configured")
    given = given.removeprefix(policy.prefix).strip()
    digests = [hmac.digest(_bytes(secret), request.body, policy.digest) for secret in policy.secrets]
    if policy.encoding == "base64":
        _refuse_unless_any([base64.b64encode(digest).decode() for digest in digests], given)
    else:
        _refuse_unless_any([digest.hex() for digest in digests], given.lower())
    return signed_part(request, policy.signed_headers)


_CHECKS: Final[Mapping[Scheme, Callable[[SignaturePolicy, CallbackRequest, datetime], CallbackRequest]]] = {
    "general": _check_general,
    "callbot": _check_callbot,
    "hmac": _check_hmac,
}


def _given(policy: SignaturePolicy, request: CallbackRequest) -> str:
    """The signature that the request carries."""
    given = request.headers.get(policy.signature_header, "").strip()
    if not given:
        raise Unauthenticated(f"header {policy.signature_header} is missing")
    return given


def _members(signed: CallbackRequest, names: Iterable[str], *, time: str) -> list[str]:
    """The values of headers that are joined into the text, such that the text can be read in one way only."""
    values = []
    for name in names:
        value = signed.headers.get(name)
        if value is None:
            raise Unauthenticated(f"header {name} is missing")
        if "&" in value and _MEMBER.search(value):
            raise Unauthenticated(f"header {name} holds the beginning of another member of the signed text")
        if name == time and not (value.isascii() and value.isdigit()):
            raise Unauthenticated(f"header {name} is not a number")
        values.append(value)
    return values


def _refuse_unless_any(made: Iterable[str], given: str) -> None:
    fits = False
    for one in made:
        fits |= _equal(one, given)
    if not fits:
        raise Unauthenticated("the signature is wrong")


def _refuse_outside_window(policy: SignaturePolicy, text: str, per_second: int, now: datetime) -> None:
    """Checked last: only a time that was signed says anything."""
    if policy.window_s is None:
        return
    if len(text) > _MOST_TIME_DIGITS or abs(now.timestamp() - int(text) / per_second) > policy.window_s:
        raise Unauthenticated("the signed time is out of the window")


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    """As on the wire: a header byte that is not UTF-8 arrives as a surrogate escape."""
    return text.encode("utf-8", "surrogateescape")
