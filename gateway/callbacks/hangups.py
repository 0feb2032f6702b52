"""Hang-up causes and outcomes of calls, each with one vocabulary and one table (design.md 6).

Products express the same end of a call differently: a FreeSWITCH name, a Q.850 number, a SIP code, a text such as
``Busy Here``, the time of an answer, a flag. :func:`settle` combines them: a ``post_process`` of every call schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks.field_mapping import Field
from gateway.callbacks.fields import Converter, Scope, code, integer, open_enum, text, words
from gateway.callbacks.vocabulary import DIRECTION, OUTCOME

#: "Explanation of Call Hangup Reasons": name, code, and outcome of an unanswered call; None if the cause does not
#: decide it. Codes from 128 on are the platform's, not Q.850. The list is open.
CAUSES: Final[Mapping[str, tuple[int, str | None]]] = {
    "UNSPECIFIED": (0, None),
    "UNALLOCATED_NUMBER": (1, "failed"),
    "NO_ROUTE_TRANSIT_NET": (2, "failed"),
    "NO_ROUTE_DESTINATION": (3, "failed"),
    "CHANNEL_UNACCEPTABLE": (6, "failed"),
    "CALL_AWARDED_DELIVERED": (7, None),
    "NORMAL_CLEARING": (16, None),
    "USER_BUSY": (17, "busy"),
    "NO_USER_RESPONSE": (18, "no_answer"),
    "NO_ANSWER": (19, "no_answer"),
    "SUBSCRIBER_ABSENT": (20, "failed"),
    "CALL_REJECTED": (21, "rejected"),
    "NUMBER_CHANGED": (22, "failed"),
    "REDIRECTION_TO_NEW_DESTINATION": (23, "failed"),
    "EXCHANGE_ROUTING_ERROR": (25, "failed"),
    "DESTINATION_OUT_OF_ORDER": (27, "failed"),
    "INVALID_NUMBER_FORMAT": (28, "failed"),
    "FACILITY_REJECTED": (29, "failed"),
    "RESPONSE_TO_STATUS_ENQUIRY": (30, None),
    "NORMAL_UNSPECIFIED": (31, None),
    "NORMAL_CIRCUIT_CONGESTION": (34, "failed"),
    "NETWORK_OUT_OF_ORDER": (38, "failed"),
    "NORMAL_TEMPORARY_FAILURE": (41, "failed"),
    "SWITCH_CONGESTION": (42, "failed"),
    "ACCESS_INFO_DISCARDED": (43, "failed"),
    "REQUESTED_CHAN_UNAVAIL": (44, "failed"),
    "PRE_EMPTED": (45, "failed"),
    "FACILITY_NOT_SUBSCRIBED": (50, "failed"),
    "OUTGOING_CALL_BARRED": (52, "failed"),
    "INCOMING_CALL_BARRED": (54, "failed"),
    "BEARERCAPABILITY_NOTAUTH": (57, "failed"),
    "BEARERCAPABILITY_NOTAVAIL": (58, "failed"),
    "SERVICE_UNAVAILABLE": (63, "failed"),
    "BEARERCAPABILITY_NOTIMPL": (65, "failed"),
    "CHAN_NOT_IMPLEMENTED": (66, "failed"),
    "FACILITY_NOT_IMPLEMENTED": (69, "failed"),
    "SERVICE_NOT_IMPLEMENTED": (79, "failed"),
    "INVALID_CALL_REFERENCE": (81, "failed"),
    "INCOMPATIBLE_DESTINATION": (88, "failed"),
    "INVALID_MSG_UNSPECIFIED": (95, "failed"),
    "MANDATORY_IE_MISSING": (96, "failed"),
    "MESSAGE_TYPE_NONEXIST": (97, "failed"),
    "WRONG_MESSAGE": (98, "failed"),
    "IE_NONEXIST": (99, "failed"),
    "INVALID_IE_CONTENTS": (100, "failed"),
    "WRONG_CALL_STATE": (101, "failed"),
    "RECOVERY_ON_TIMER_EXPIRE": (102, "failed"),
    "MANDATORY_IE_LENGTH_ERROR": (103, "failed"),
    "PROTOCOL_ERROR": (111, "failed"),
    "INTERWORKING": (127, None),
    "ORIGINATOR_CANCEL": (487, "cancelled"),
    "CRASH": (500, "failed"),
    "SYSTEM_SHUTDOWN": (501, "failed"),
    "LOSE_RACE": (502, None),
    "MANAGER_REQUEST": (503, None),
    "BLIND_TRANSFER": (600, None),
    "ATTENDED_TRANSFER": (601, None),
    "ALLOTTED_TIMEOUT": (602, "no_answer"),
    "USER_CHALLENGE": (603, "failed"),
    "MEDIA_TIMEOUT": (604, None),
    "PICKED_OFF": (605, None),
    "USER_NOT_REGISTERED": (606, "failed"),
    "PROGRESS_TIMEOUT": (607, "no_answer"),
    "GATEWAY_DOWN": (609, "failed"),
}
_HIGHEST_Q850: Final = 127
_BY_Q850: Final = {code: name for name, (code, _) in CAUSES.items() if code <= _HIGHEST_Q850}

#: SIP status → cause by RFC 3398, section 7.2.6.1, if it is unambiguous, and outcome.
_SIP: Final[Mapping[int, tuple[str | None, str]]] = {
    403: (None, "failed"),
    404: ("UNALLOCATED_NUMBER", "failed"),
    408: (None, "no_answer"),
    410: ("NUMBER_CHANGED", "failed"),
    480: (None, "no_answer"),
    484: ("INVALID_NUMBER_FORMAT", "failed"),
    486: ("USER_BUSY", "busy"),
    487: ("ORIGINATOR_CANCEL", "cancelled"),
    488: (None, "failed"),
    500: (None, "failed"),
    502: (None, "failed"),
    503: (None, "failed"),
    504: (None, "failed"),
    600: ("USER_BUSY", "busy"),
    603: ("CALL_REJECTED", "rejected"),
    604: ("UNALLOCATED_NUMBER", "failed"),
}

#: Texts in lower case: the reason phrases of RFC 3261, with their SIP status.
_PHRASES: Final[Mapping[str, int]] = {
    "forbidden": 403,
    "not found": 404,
    "request timeout": 408,
    "gone": 410,
    "temporarily unavailable": 480,
    "temporarily not available": 480,
    "address incomplete": 484,
    "busy here": 486,
    "request terminated": 487,
    "request cancelled": 487,
    "not acceptable here": 488,
    "server internal error": 500,
    "internal server error": 500,
    "bad gateway": 502,
    "service unavailable": 503,
    "server time-out": 504,
    "busy everywhere": 600,
    "decline": 603,
    "declined": 603,
    "does not exist anywhere": 604,
}

#: Other texts and codes of the vendor that mean an outcome (sections 4 and 8 of protocol.md).
_OUTCOMES: Final[Mapping[str, str]] = {
    "missed call": "no_answer",
    "busy": "busy",
    "user busy": "busy",
    "no answer": "no_answer",
    "call rejected": "rejected",
    "send_cancel": "no_answer",
    "recv_refuse": "rejected",
}


def settle(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Complete the end of a call: a ``post_process`` of its schema.

    It sets ``hangup.cause`` with its codes, ``answered`` if the cause excludes an answer, ``outcome`` of an ended call,
    and ``direction: unknown`` if the direction is missing.

    Args:
        data: of the event; changed in place.
        source: the vendor's fields.
        scope: of the callback.
    """
    said = _said(data, scope)
    if said is not None and "answered" not in data and not data.get("duration_s"):
        data["answered"] = False
    _set_outcome(data, said)


def settle_record(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Complete the end of a call whose schema has ``answered_at``, which shows whether it was answered.

    A call with a time of answer was answered. A call without it was not, if the record has its end: the vendor sends
    the time as empty, null, absent or 0. A call with a duration and no time contradicts itself (in the pages' examples
    the duration is that of the conversation), so ``answered`` is not set for it, nor for an incomplete record.

    Do not use it for schemas without this time: each of their calls would be "not answered". Arguments as of
    :func:`settle`.
    """
    said = _said(data, scope)
    if "answered" not in data:
        if "answered_at" in data:
            data["answered"] = True
        elif not data.get("duration_s") and ("duration_s" in data or "ended_at" in data or said is not None):
            data["answered"] = False
    _set_outcome(data, said)


def settle_leg(hangup: dict[str, Any], scope: Scope) -> None:
    """Complete the ``hangup`` of one leg of a call, with its cause and codes. A leg has no outcome.

    Args:
        hangup: changed in place.
        scope: of the callback.
    """
    _settle_hangup(hangup, scope, is_answered=True)


def outcome_of(text: str) -> str | None:
    """Return the outcome that a free text of the vendor means, or None."""
    return _by_text(text)[1]


def _said(data: Mapping[str, Any], scope: Scope) -> str | None:
    """Return the outcome of an unanswered call by hang-up and status, or None."""
    hangup = data.get("hangup")
    said = None if hangup is None else _settle_hangup(hangup, scope, is_answered=bool(data.get("answered")))
    return _by_text(data["status_text"])[1] if said is None and "status_text" in data else said


def _set_outcome(data: dict[str, Any], said: str | None) -> None:
    if "direction" not in data:
        data["direction"] = "unknown"
    if data.get("state") != "ended":
        return
    if data.get("answered"):
        data["outcome"] = "answered"
    elif "voicemail_url" in data:
        data["outcome"] = "voicemail"
    else:
        data["outcome"] = said or "unknown"


def _settle_hangup(hangup: dict[str, Any], scope: Scope, *, is_answered: bool) -> str | None:
    """Combine the parts of ``hangup``; return the outcome that they mean, or None.

    Args:
        hangup: changed in place.
        scope: of the callback.
        is_answered: the outcome is known, so it is not searched if the cause is complete.
    """
    cause = hangup.get("cause")
    known = None
    if cause is not None:
        known = CAUSES.get(cause)
        if known is not None and (is_answered or known[1] is not None) and known[0] <= _HIGHEST_Q850:  # nearly all
            hangup.setdefault("q850", known[0])
            return known[1]
        if known is None:
            cause, known = _understood(hangup, cause, scope)
    outcome = None if known is None else known[1]
    if known is None and hangup.get("q850") in _BY_Q850:
        cause = _BY_Q850[hangup["q850"]]
        known = CAUSES[cause]
        outcome = known[1]
    if outcome is None:
        named, outcome = _by_other_words(hangup)
        if known is None and named is not None:
            cause, known = named, CAUSES[named]
    if known is not None:
        hangup["cause"] = cause
        if known[0] <= _HIGHEST_Q850:
            hangup.setdefault("q850", known[0])
        else:
            hangup.setdefault("vendor_code", str(known[0]))
    return outcome


def _understood(hangup: dict[str, Any], said: str, scope: Scope) -> tuple[str | None, tuple[int, str | None] | None]:
    """Return the cause that a text means; a text that is not a cause becomes the ``reason``."""
    cause = said.strip().upper().replace(" ", "_")
    if cause in CAUSES:
        return cause, CAUSES[cause]
    del hangup["cause"]
    hangup.setdefault("reason", said)
    named, outcome = _by_text(said)
    if outcome is None:
        scope.note("hangup.cause", said)
    return (named, CAUSES[named]) if named is not None else (None, None)


def _by_other_words(hangup: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return cause and outcome by the SIP code, the reason or the vendor's code of the party that hung up."""
    cause, outcome = _SIP.get(hangup.get("sip", 0), (None, None))
    for name in ("reason", "by_code"):
        if outcome is None and name in hangup:
            cause, outcome = _by_text(hangup[name])
    return cause, outcome


def _by_text(text: str) -> tuple[str | None, str | None]:
    """Return the cause and the outcome that a free text means."""
    said = text.strip().lower()
    cause, outcome = _SIP.get(_PHRASES.get(said, 0), (None, None))
    return cause, outcome or _OUTCOMES.get(said)


def _as_sent(value: Any, scope: Scope) -> str | None:
    """Return the cause as received; :func:`settle` maps it to the vocabulary."""
    said = text.convert(value, scope)
    return said if said and said.strip() else None


_CAUSE: Final = Converter("hang-up cause", _as_sent, open_enum(frozenset(CAUSES)))

#: Set by :func:`settle`.
OUTCOME_LINE: Final = Field("outcome", "", words({}, OUTCOME), "Derived from answer, cause and reason")
DIRECTION_LINE: Final = Field("direction", "", words({}, DIRECTION), "The page does not say")


def hangup(
    cause: str = "", reason: str = "", q850: str = "", sip: str = "", vendor_code: str = ""
) -> tuple[Field, ...]:
    """Return the lines of ``hangup``; the arguments are vendor names, empty for fields that the product does not send.

    Args:
        cause: field with a name of the list of causes; other text in it becomes the reason.
        reason: field with free text.
        q850: field with a Q.850 number.
        sip: field with a SIP status.
        vendor_code: field with a code of the vendor.
    """
    return (
        Field("hangup.cause", cause, _CAUSE),
        Field("hangup.reason", reason, text, "" if reason else "A cause that is not in the list"),
        Field("hangup.q850", q850, integer, "" if q850 else "By the cause"),
        Field("hangup.sip", sip, integer),
        Field("hangup.vendor_code", vendor_code, code, "" if vendor_code else "Of a cause that Q.850 does not have"),
    )
