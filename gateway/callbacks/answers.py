"""Answers of each vendor family, on success and on refusal (protocol.md, part C).

The vendor documents only HTTP 200 as success, so a success answer is always 200. Constant answers are created once;
Callbot's answer is signed and echoes headers, so it is created for each request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from gateway.callbacks import form
from gateway.callbacks.payload import CallbackRequest
from gateway.callbacks.signature import SignaturePolicy, algorithm_of, callbot_signature

#: Default reason of a rejection.
MISSING: Final = "the identifying field is missing or empty"
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


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one vendor family.

    Args:
        success: returns the vendor's success answer. Its arguments are the answered request, the path's signature
            policy, for families that sign answers, and the time, timezone-aware UTC, for those that date them. A repeat
            of a request gets the same answer.
        failure: returns the vendor's failure answer. Its first arguments are the HTTP status, from ``status_hint`` of
            the error, and the reason: one sentence without text of the payload, included if the vendor's format has a
            field for it. The others are those of ``success``; the policy is None for a request that is not known to be
            authentic, because its sender could reuse a signature over values that it chose.
        texts: success and failure, if they are constant texts; for documents.
    """

    success: Callable[[CallbackRequest, SignaturePolicy | None, datetime], Answer]
    failure: Callable[[int, str, CallbackRequest, SignaturePolicy | None, datetime], Answer]
    texts: tuple[str, ...] = ()


def text_answers(accepted: str, refused: str, content_type: str = _TEXT) -> Answers:
    """Return answers with one constant text each; the vendor's format has no field for a reason."""
    success = Answer(200, content_type, accepted.encode())

    def failure(
        status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
    ) -> Answer:
        return Answer(status, content_type, refused.encode())

    return Answers(lambda request, signing, now: success, failure, (accepted, refused))


def _code_failure(
    status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
) -> Answer:
    """Return the status as code and the reason as message."""
    return Answer(status, _JSON, orjson.dumps({"code": status, "message": _printable(reason)}))


def _slack_failure(
    status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
) -> Answer:
    """Return the challenge of Slack's URL verification, a signed request without an event; otherwise the usual failure.

    Source: Slack, "url_verification event". The request has no key, so it is rejected and stored once. A request that
    is not authentic never has status 400 here.
    """
    if status == _REJECTED and _URL_VERIFICATION in request.body:
        try:
            fields = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            fields = None
        if isinstance(fields, dict) and fields.get("type") == _URL_VERIFICATION.decode():
            return Answer(200, _TEXT, _printable(str(fields.get("challenge", "")))[:_ECHOED_LETTERS].encode())
    return _code_failure(status, reason, request, signing, now)


#: ``retCode`` values of the Callbot API (protocol.md, section 11) by HTTP status.
_RET_CODES: Final[Mapping[int, int]] = {400: 3, 401: 6, 403: 6003, 413: 4001, 429: 7, 500: 5001, 503: 7}
_MISSING_CODE: Final = 2
_UNSIGNED_CODE: Final = 6001
_GENERAL_ERROR: Final = 1


def _callbot_failure(
    status: int, reason: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
) -> Answer:
    """Return the API's code for the status: 2 parameter missing, 3 format error, 6 bad signature, 7 busy, …"""
    code = _RET_CODES.get(status, _GENERAL_ERROR)
    if MISSING in reason:
        code = _MISSING_CODE
    elif status == _UNAUTHENTICATED and not request.headers.get("sign"):
        code = _UNSIGNED_CODE
    return _callbot_answer(status, code, _printable(reason), request, signing, now)


def _callbot_answer(
    status: int, code: int, message: str, request: CallbackRequest, signing: SignaturePolicy | None, now: datetime
) -> Answer:
    """Return Callbot's JSON, signed as its requests are (inferred from the request side of the same API).

    ``responseID`` is an id for tracing on the vendor's side. It is derived from the request, so a repeat gets the same
    answer and the function is pure.
    """
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


_CODE_SUCCESS: Final = Answer(200, _JSON, b'{"code":0,"message":"success"}')

#: SMS, DID, voice and OTA; email.
TEXT_ANSWERS: Final = text_answers("success", "error")
EMAIL_ANSWERS: Final = text_answers("success", "failure")
#: Families whose vendor reads only the status, or documents no body.
CODE_ANSWERS: Final = Answers(lambda request, signing, now: _CODE_SUCCESS, _code_failure)
SLACK_ANSWERS: Final = Answers(CODE_ANSWERS.success, _slack_failure)
#: Twilio executes the answer as TwiML, and reports other types as an error (12300): empty instructions.
TWILIO_ANSWERS: Final = text_answers("<Response/>", "<Response/>", "text/xml; charset=utf-8")
CALLBOT_ANSWERS: Final = Answers(
    lambda request, signing, now: _callbot_answer(200, 0, "success", request, signing, now), _callbot_failure
)


def _printable(text: str) -> str:
    """Return a text without line ends and surrogates, for headers and UTF-8."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter.isprintable())


#: Form of a challenge; Meta's is a number. An echoed challenge must not be markup.
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9._\-]{1,256}")
_ORIGIN: Final = re.compile(r"[A-Za-z0-9.:_\-]{1,255}")
_NO_SNIFFING: Final = ("X-Content-Type-Options", "nosniff")


@dataclass(frozen=True, slots=True)
class Handshake:
    """Handshakes of one path.

    Args:
        verify_token: token of Meta's verification request; empty: the request is not answered.
        allowed_origins: names of accepted CloudEvents senders in lower case, or ``*``; empty: OPTIONS is not answered.
    """

    verify_token: str = ""
    allowed_origins: frozenset[str] = frozenset()

    @property
    def methods(self) -> frozenset[str]:
        """HTTP methods of the answered handshakes."""
        asked = {"GET": self.verify_token, "OPTIONS": self.allowed_origins}
        return frozenset(method for method, setting in asked.items() if setting)

    def answer(self, method: str, query: bytes, headers: Mapping[str, str]) -> Answer | None:
        """Return the answer to a handshake, 200 or 403; None for another request.

        Args:
            method: method of the request.
            query: raw bytes after ``?``.
            headers: names in lower case.
        """
        if method == "GET" and self.verify_token and b"hub.mode" in query:
            return self._challenge(dict(form.pairs(query)))
        if method == "OPTIONS" and self.allowed_origins and "webhook-request-origin" in headers:
            return self._permission(headers)
        return None

    def _challenge(self, fields: Mapping[str, str]) -> Answer:
        challenge = fields.get("hub.challenge", "")
        is_right = hmac.compare_digest(self.verify_token.encode(), fields.get("hub.verify_token", "").encode())
        if is_right and fields.get("hub.mode") == "subscribe" and _CHALLENGE.fullmatch(challenge):
            return Answer(200, _TEXT, challenge.encode(), (_NO_SNIFFING,))
        return Answer(403, _TEXT, b"error", (_NO_SNIFFING,))

    def _permission(self, headers: Mapping[str, str]) -> Answer:
        origin = headers["webhook-request-origin"].strip()
        is_allowed = "*" in self.allowed_origins or origin.lower() in self.allowed_origins
        if not is_allowed or not _ORIGIN.fullmatch(origin):
            return Answer(403, _TEXT, b"error", (("Allow", "POST"),))
        found = [("Allow", "POST"), ("WebHook-Allowed-Origin", origin)]
        if "webhook-request-rate" in headers:
            found.append(("WebHook-Allowed-Rate", "*"))
        return Answer(200, _TEXT, b"", tuple(found))
