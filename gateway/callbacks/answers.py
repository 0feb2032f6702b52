"""What each vendor family is told, on success and on refusal (protocol.md, part C).

Only HTTP 200 is named anywhere as success, so success is always exactly 200. The constant answers are made
once; Callbot's is signed and echoes headers, so it is made for each request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import orjson

from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.shape import MISSING
from gateway.callbacks.signature import SignaturePolicy, algorithm_of, callbot_signature

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"

#: Letters of a request header that are sent back; a longer value is no id.
_ECHOED_LETTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, ready to be written."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Answers(Protocol):
    """One family's way of answering."""

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """The vendor's own word for "accepted"; a repeat of a request gets the same."""
        ...

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """The vendor's own word for "refused".

        Args:
            status: the HTTP status, from ``status_hint`` of the error.
            reason: one sentence without payload text; told where the vendor's form has room for it.
            request: what is answered.
            signing: the path's signature policy, for families that sign answers; None for a request that is not
                known to be authentic: a signature over values that it chose would pass as its own.
            now: for families that date answers.
        """
        ...


@dataclass(frozen=True, slots=True)
class TextAnswers:
    """One word of plain text: SMS, DID, voice, OTA (``success``/``error``) and email (``success``/``failure``)."""

    accepted: str
    refused: str
    _success: Answer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_success", Answer(200, _TEXT, self.accepted.encode()))

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """The constant word."""
        return self._success

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """The constant word; the vendor's form has no room for a reason."""
        return Answer(status, _TEXT, self.refused.encode())


@dataclass(frozen=True, slots=True)
class CodeAnswers:
    """``{"code":0,"message":"success"}``: the families whose vendor looks at the status alone, or says nothing."""

    _success: Answer = field(init=False, repr=False, default=Answer(200, _JSON, b'{"code":0,"message":"success"}'))

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """The constant body."""
        return self._success

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """The status as code, the reason as message."""
        return Answer(status, _JSON, orjson.dumps({"code": status, "message": _printable(reason)}))


@dataclass(frozen=True, slots=True)
class CallbotAnswers:
    """Callbot's JSON ``retCode``, signed as its requests are (inferred from the request side of the same API).

    ``responseID`` is a random id for tracing on the vendor's side; here it is made from the request, so that a
    repeat gets the same answer and the function stays pure.
    """

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """``retCode`` 0."""
        return self._answer(200, 0, "success", request, signing, now)

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """The API's code for this status: 2 parameter missing, 3 format error, 6 bad signature, 7 busy, …"""
        code = _MISSING_CODE if reason.endswith(MISSING) else _RET_CODES.get(status, _GENERAL_ERROR)
        return self._answer(status, code, _printable(reason), request, signing, now)

    def _answer(
        self,
        status: int,
        code: int,
        message: str,
        request: CallbackRequest,
        signing: SignaturePolicy | None,
        now: datetime,
    ) -> Answer:
        received = request.headers
        request_id = _printable(received.get("requestid", ""))[:_ECHOED_LETTERS]
        uuid = _printable(received.get("uuid", ""))[:_ECHOED_LETTERS]
        trace = hashlib.blake2b(request_id.encode() + b"\0" + request.body, digest_size=16).hexdigest()
        body = orjson.dumps({"retCode": code, "retMsg": message, "responseID": trace})
        create_ts = str(int(now.timestamp()))
        headers = [("requestID", request_id), ("uuid", uuid), ("createTs", create_ts)]
        if signing is not None and signing.scheme == "callbot":
            sign = callbot_signature(
                signing.secrets[0],
                request_id=request_id,
                uuid=uuid,
                create_ts=create_ts,
                body=body,
                algorithm=algorithm_of(signing, received),
            )
            headers.append(("sign", sign))
        if received.get("algorithm"):
            headers.append(("algorithm", _printable(received["algorithm"])[:_ECHOED_LETTERS]))
        return Answer(status, _JSON, body, tuple(headers))


#: ``retCode`` values of the Callbot API (protocol.md, section 11) by our HTTP status.
_RET_CODES: Final[Mapping[int, int]] = {400: 3, 401: 6, 403: 6003, 413: 4001, 429: 7, 500: 5001, 503: 7}
_MISSING_CODE: Final = 2
_GENERAL_ERROR: Final = 1

TEXT_ANSWERS: Final = TextAnswers("success", "error")
EMAIL_ANSWERS: Final = TextAnswers("success", "failure")
CODE_ANSWERS: Final = CodeAnswers()
CALLBOT_ANSWERS: Final = CallbotAnswers()


def _printable(text: str) -> str:
    """Fit for a header and for UTF-8: no line ends, no surrogates."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter.isprintable())
