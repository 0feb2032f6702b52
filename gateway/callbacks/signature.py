"""The two vendor signatures, and the plain HMAC of other senders; always over the raw bytes of the body.

Sources: "API Interface Invocation Convention" / "API接口调用约定" (the general signature, protocol.md part A),
"Callbot API authorization" (part B). Both hash with MD5 unless told otherwise; MD5 is the vendor's choice.

A signature is compared letter by letter: lower-case hex in the general scheme, upper-case in Callbot's. All
secrets are tried, without stopping at the first that fits, and compared in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from gateway.callbacks.request import CallbackRequest
from gateway.errors import Unauthenticated

Scheme = Literal["general", "callbot", "hmac"]
Algorithm = Literal["md5", "sha256"]
HmacDigest = Literal["md5", "sha1", "sha256", "sha512"]

#: As the pages spell them (lower case in A, upper case in B). Nothing else is an algorithm.
_ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "md5": "md5",
    "MD5": "md5",
    "sha256": "sha256",
    "SHA256": "sha256",
    "SHA-256": "sha256",
}
_HASHES: Final[Mapping[Algorithm, Callable[[bytes], hashlib._Hash]]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "sha256": hashlib.sha256,
}
#: Hex digits of a SHA-256; MD5 has 32.
_SHA256_LETTERS: Final = 64
#: More digits than any time stamp has; int() of a hostile header stays cheap.
_MOST_TIME_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """How the signature of one path is checked.

    Args:
        scheme: ``general`` (part A), ``callbot`` (part B), or ``hmac`` for other senders.
        secrets: any of them may have signed; several while one is being rotated. At least one, none empty.
        algorithm: pins the hash of a vendor scheme. None takes the ``algorithm`` header, else what the length
            of the signature says (32 hex digits can only be MD5, 64 only SHA-256).
        access_key: the only ``accessKey`` accepted; None accepts any.
        window_s: how far the signed time may be from arrival. None does not look at it: no page promises a
            window on callbacks, and a redelivery may carry its first time.
        header: ``hmac`` only: name of the header with the signature.
        digest: ``hmac`` only.
        encoding: ``hmac`` only.
        prefix: ``hmac`` only: what stands before the signature in the header, such as ``sha256=``.
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
    """Signature 1 in lower-case hex. An empty body (or ``b""`` for multipart) is left out of the text."""
    text = f"accessKey={access_key}&action={action}&bizType={biz_type}&ts={ts}"
    tail = b"&body=" + body if body else b""
    return _HASHES[algorithm](_bytes(text) + tail + _bytes(f"&accessSecret={secret}")).hexdigest()


def callbot_signature(
    secret: str, *, request_id: str, uuid: str, create_ts: str, body: bytes, algorithm: Algorithm = "md5"
) -> str:
    """Signature 2 in upper-case hex. The text begins with the bare secret; nothing is left out."""
    tail = f"&createTs={create_ts}&requestID={request_id}&uuid={uuid}"
    return _HASHES[algorithm](_bytes(secret) + b"&body=" + body + _bytes(tail)).hexdigest().upper()


def verify(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> None:
    """Let a rightly signed request pass.

    Raises:
        Unauthenticated: a signature header is missing, the signature is wrong, or its time is out of the window.
    """
    _CHECKS[policy.scheme](policy, request, now)


def algorithm_of(policy: SignaturePolicy, headers: Mapping[str, str]) -> Algorithm:
    """The hash that a vendor request is signed with: pinned, announced, or told by the signature's length.

    Raises:
        Unauthenticated: the header names none of the documented ones.
    """
    if policy.algorithm is not None:
        return policy.algorithm
    announced = headers.get("algorithm")
    if announced:
        try:
            return _ALGORITHMS[announced]
        except KeyError:
            raise Unauthenticated("the algorithm header names no hash that is documented") from None
    return "sha256" if len(headers.get("sign", "")) == _SHA256_LETTERS else "md5"


def _check_general(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> None:
    headers = request.headers
    access_key, action, biz_type, ts, sign = _required(headers, "accesskey", "action", "biztype", "ts", "sign")
    if policy.access_key is not None and not _equal(policy.access_key, access_key):
        raise Unauthenticated("accessKey is not the one configured")
    body = b"" if headers.get("content-type", "").lower().startswith("multipart/form-data") else request.body
    algorithm = algorithm_of(policy, headers)
    made = (
        general_signature(
            secret, access_key=access_key, action=action, biz_type=biz_type, ts=ts, body=body, algorithm=algorithm
        )
        for secret in policy.secrets
    )
    _refuse_unless_any(made, sign)
    _refuse_outside_window(policy, ts, 1000, now)


def _check_callbot(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> None:
    headers = request.headers
    request_id, uuid, create_ts, sign = _required(headers, "requestid", "uuid", "createts", "sign")
    if policy.access_key is not None and not _equal(policy.access_key, uuid):
        raise Unauthenticated("uuid is not the one configured")
    algorithm = algorithm_of(policy, headers)
    made = (
        callbot_signature(
            secret, request_id=request_id, uuid=uuid, create_ts=create_ts, body=request.body, algorithm=algorithm
        )
        for secret in policy.secrets
    )
    _refuse_unless_any(made, sign)
    _refuse_outside_window(policy, create_ts, 1, now)


def _check_hmac(policy: SignaturePolicy, request: CallbackRequest, now: datetime) -> None:
    (given,) = _required(request.headers, policy.header.lower())
    if not given.startswith(policy.prefix):
        raise Unauthenticated(f"{policy.header} does not begin as configured")
    given = given.removeprefix(policy.prefix)
    digests = [hmac.digest(_bytes(secret), request.body, policy.digest) for secret in policy.secrets]
    if policy.encoding == "base64":
        made = [base64.b64encode(digest).decode() for digest in digests]
    else:
        made = [text for digest in digests for text in (digest.hex(), digest.hex().upper())]
    _refuse_unless_any(made, given)


_CHECKS: Final[Mapping[Scheme, Callable[[SignaturePolicy, CallbackRequest, datetime], None]]] = {
    "general": _check_general,
    "callbot": _check_callbot,
    "hmac": _check_hmac,
}


def _required(headers: Mapping[str, str], *names: str) -> list[str]:
    values = [headers.get(name, "") for name in names]
    for name, value in zip(names, values, strict=True):
        if not value:
            raise Unauthenticated(f"header {name} is missing")
    return values


def _refuse_unless_any(made: Iterable[str], given: str) -> None:
    fits = False
    for one in made:
        fits |= _equal(one, given)
    if not fits:
        raise Unauthenticated("the signature is wrong")


def _refuse_outside_window(policy: SignaturePolicy, text: str, per_second: int, now: datetime) -> None:
    """Looked at last: only a time that was signed says anything."""
    if policy.window_s is None:
        return
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_TIME_DIGITS):
        raise Unauthenticated("the signed time is not a number")
    if abs(now.timestamp() - int(text) / per_second) > policy.window_s:
        raise Unauthenticated("the signed time is out of the window")


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    """As on the wire: a header byte that is not UTF-8 arrives as a surrogate escape."""
    return text.encode("utf-8", "surrogateescape")
