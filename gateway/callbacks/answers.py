"""Answers of each vendor family, on success and on refusal (protocol.md, part C).

The vendor documents only HTTP 200 as success, so a success answer is always 200. Constant answers are created once;
Callbot's answer is signed and echoes headers, so it is created for each request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import orjson

from gateway.callbacks.event_schema import MISSING
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.signature import SignaturePolicy, algorithm_of, callbot_signature

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"

#: Characters of a request header that are echoed; a longer value is not an id.
_ECHOED_LETTERS: Final = 200
_REJECTED: Final = 400
_UNAUTHENTICATED: Final = 401
_URL_VERIFICATION: Final = b"url_verification"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, ready to be serialised."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Answers(Protocol):
    """Creates the answers of one vendor family."""

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """Return the vendor's success answer; a repeat of a request gets the same answer.

        Args:
            request: the answered request.
            signing: the path's signature policy, for families that sign answers.
            now: time for families that date answers, timezone-aware UTC.
        """
        ...

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """Return the vendor's failure answer.

        Args:
            status: HTTP status, from ``status_hint`` of the error.
            reason: one sentence without text of the payload; included if the vendor's format has a field for it.
            request: the answered request.
            signing: the path's signature policy, for families that sign answers; None for a request that is not known
                to be authentic: its sender could reuse a signature over values that it chose.
            now: time for families that date answers, timezone-aware UTC.
        """
        ...


@dataclass(frozen=True, slots=True)
class TextAnswers:
    """One constant text: SMS, DID, voice, OTA (``success``/``error``), email (``success``/``failure``), and Twilio."""

    accepted: str
    refused: str
    content_type: str = _TEXT
    _success: Answer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_success", Answer(200, self.content_type, self.accepted.encode()))

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """Return the constant success text."""
        return self._success

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """Return the constant failure text; the vendor's format has no field for a reason."""
        return Answer(status, self.content_type, self.refused.encode())


@dataclass(frozen=True, slots=True)
class CodeAnswers:
    """``{"code":0,"message":"success"}``: for families whose vendor reads only the status, or documents no body."""

    _success: Answer = field(init=False, repr=False, default=Answer(200, _JSON, b'{"code":0,"message":"success"}'))

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """Return the constant body."""
        return self._success

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """Return the status as code and the reason as message."""
        return Answer(status, _JSON, orjson.dumps({"code": status, "message": _printable(reason)}))


@dataclass(frozen=True, slots=True)
class SlackAnswers(CodeAnswers):
    """As for other senders, and the challenge of Slack's URL verification, a signed request without an event.

    Source: Slack, "url_verification event". The request has no key, so it is rejected and stored once. A request that
    is not authentic never has status 400 here.
    """

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """Return the challenge of a URL verification; otherwise the usual failure."""
        if status == _REJECTED and _URL_VERIFICATION in request.body:
            try:
                fields = orjson.loads(request.body)
            except orjson.JSONDecodeError:
                fields = None
            if isinstance(fields, dict) and fields.get("type") == _URL_VERIFICATION.decode():
                return Answer(200, _TEXT, _printable(str(fields.get("challenge", "")))[:_ECHOED_LETTERS].encode())
        return CodeAnswers.failure(self, status, reason, request, signing, now)


@dataclass(frozen=True, slots=True)
class CallbotAnswers:
    """Callbot's JSON ``retCode``, signed as its requests are (inferred from the request side of the same API).

    ``responseID`` is an id for tracing on the vendor's side. It is derived from the request, so a repeat gets the same
    answer and the function is pure.
    """

    def success(self, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime) -> Answer:
        """Return ``retCode`` 0."""
        return self._answer(200, 0, "success", request, signing, now)

    def failure(
        self, status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        """Return the API's code for the status: 2 parameter missing, 3 format error, 6 bad signature, 7 busy, …"""
        code = _RET_CODES.get(status, _GENERAL_ERROR)
        if MISSING in reason:
            code = _MISSING_CODE
        elif status == _UNAUTHENTICATED and not request.headers.get("sign"):
            code = _UNSIGNED_CODE
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


#: ``retCode`` values of the Callbot API (protocol.md, section 11) by HTTP status.
_RET_CODES: Final[Mapping[int, int]] = {400: 3, 401: 6, 403: 6003, 413: 4001, 429: 7, 500: 5001, 503: 7}
_MISSING_CODE: Final = 2
_UNSIGNED_CODE: Final = 6001
_GENERAL_ERROR: Final = 1

TEXT_ANSWERS: Final = TextAnswers("success", "error")
EMAIL_ANSWERS: Final = TextAnswers("success", "failure")
CODE_ANSWERS: Final = CodeAnswers()
SLACK_ANSWERS: Final = SlackAnswers()
#: Twilio executes the answer as TwiML, and reports other types as an error (12300): empty instructions.
TWILIO_ANSWERS: Final = TextAnswers("<Response/>", "<Response/>", "text/xml; charset=utf-8")
CALLBOT_ANSWERS: Final = CallbotAnswers()


def _printable(text: str) -> str:
    """Return a text without line ends and surrogates, for headers and UTF-8."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter.isprintable())
