"""Voice receipts, and the hang-up causes of all voice products (protocol.md, sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks import phones
from gateway.callbacks.fields import (
    Converter,
    Odd,
    Scope,
    duration,
    identifier,
    integer,
    local_time,
    money,
    phone,
    text,
    words,
    written,
)
from gateway.callbacks.plan import Field, coded
from gateway.callbacks.shape import Finish, Shape

#: "Explanation of Call Hangup Reasons": FreeSWITCH name to Q.850 code. The vendor's list is an open one.
Q850: Final[Mapping[str, int]] = {
    "UNSPECIFIED": 0,
    "UNALLOCATED_NUMBER": 1,
    "NO_ROUTE_TRANSIT_NET": 2,
    "NO_ROUTE_DESTINATION": 3,
    "CHANNEL_UNACCEPTABLE": 6,
    "CALL_AWARDED_DELIVERED": 7,
    "NORMAL_CLEARING": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "SUBSCRIBER_ABSENT": 20,
    "CALL_REJECTED": 21,
    "NUMBER_CHANGED": 22,
    "REDIRECTION_TO_NEW_DESTINATION": 23,
    "EXCHANGE_ROUTING_ERROR": 25,
    "DESTINATION_OUT_OF_ORDER": 27,
    "INVALID_NUMBER_FORMAT": 28,
    "FACILITY_REJECTED": 29,
    "RESPONSE_TO_STATUS_ENQUIRY": 30,
    "NORMAL_UNSPECIFIED": 31,
    "NORMAL_CIRCUIT_CONGESTION": 34,
    "NETWORK_OUT_OF_ORDER": 38,
    "NORMAL_TEMPORARY_FAILURE": 41,
    "SWITCH_CONGESTION": 42,
    "ACCESS_INFO_DISCARDED": 43,
    "REQUESTED_CHAN_UNAVAIL": 44,
    "PRE_EMPTED": 45,
    "FACILITY_NOT_SUBSCRIBED": 50,
    "OUTGOING_CALL_BARRED": 52,
    "INCOMING_CALL_BARRED": 54,
    "BEARERCAPABILITY_NOTAUTH": 57,
    "BEARERCAPABILITY_NOTAVAIL": 58,
    "SERVICE_UNAVAILABLE": 63,
    "BEARERCAPABILITY_NOTIMPL": 65,
    "CHAN_NOT_IMPLEMENTED": 66,
    "FACILITY_NOT_IMPLEMENTED": 69,
    "SERVICE_NOT_IMPLEMENTED": 79,
    "INVALID_CALL_REFERENCE": 81,
    "INCOMPATIBLE_DESTINATION": 88,
    "INVALID_MSG_UNSPECIFIED": 95,
    "MANDATORY_IE_MISSING": 96,
    "MESSAGE_TYPE_NONEXIST": 97,
    "WRONG_MESSAGE": 98,
    "IE_NONEXIST": 99,
    "INVALID_IE_CONTENTS": 100,
    "WRONG_CALL_STATE": 101,
    "RECOVERY_ON_TIMER_EXPIRE": 102,
    "MANDATORY_IE_LENGTH_ERROR": 103,
    "PROTOCOL_ERROR": 111,
    "INTERWORKING": 127,
    "ORIGINATOR_CANCEL": 487,
    "CRASH": 500,
    "SYSTEM_SHUTDOWN": 501,
    "LOSE_RACE": 502,
    "MANAGER_REQUEST": 503,
    "BLIND_TRANSFER": 600,
    "ATTENDED_TRANSFER": 601,
    "ALLOTTED_TIMEOUT": 602,
    "USER_CHALLENGE": 603,
    "MEDIA_TIMEOUT": 604,
    "PICKED_OFF": 605,
    "USER_NOT_REGISTERED": 606,
    "PROGRESS_TIMEOUT": 607,
    "GATEWAY_DOWN": 609,
}


def _q850(value: Any, scope: Scope) -> int | None:
    if type(value) is str and value in Q850:
        return Q850[value]
    cause = written(value).strip().upper()
    if cause not in Q850:
        raise Odd(None, cause)
    return Q850[cause]


q850_code: Final = Converter("Q.850 code of a cause", _q850, {"type": "integer"})


def _answered(value: Any, scope: Scope) -> bool:
    """``result`` is a text: English by one page, Chinese by its original, which is the likelier wire value."""
    said = written(value).strip().lower()
    if said in _ANSWERED:
        return _ANSWERED[said]
    raise ValueError("neither connected nor not connected")


_ANSWERED: Final = {
    "successful connection": True,
    "unsuccessful connection": False,
    "成功接通": True,
    "接通": True,
    "未接通": False,
}

#: ``hangup_disposition`` of section 4: who ended the call.
DISPOSITION: Final = {
    "send_cancel": "caller",
    "recv_refuse": "callee",
    "recv_bye": "callee",
    "send_bye": "caller",
    "other": "unknown",
}
KIND: Final = {"0": "broadcast", "1": "notification"}


def prefixed(number_field: str, code_field: str) -> Finish:
    """A finish that gives ``to`` its country code, which the vendor sends in a field of its own.

    The pages say that the number has it already; where it does not, the code makes the number whole.
    """

    def finish(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
        number, code = source.get(number_field), source.get(code_field)
        if number and code and "to" in data:
            data["to"] = phones.with_country(str(number), str(code))

    return finish


VOICE_DR: Final = Shape(
    "nxcloud.voice.dr",
    "call.event",
    "Voice receipt (broadcast, notification, verification code)",
    page="Voice Receipt Callback",
    section="4",
    certainty="confirmed",
    required="call_id",
    key=("call_id",),
    time=("ended_at", "started_at"),
    constants={"product": "voice-dr", "state": "ended", "direction": "outbound"},
    known=("countryCode",),
    finish=prefixed("phone", "countryCode"),
    fields=(
        Field("call_id", "messageid", identifier, "As returned by the send call"),
        *coded("kind", "kind_code", "voice_type", words(KIND), text),
        Field("from", "show_phone", phone, "Displayed number"),
        Field("to", "phone", phone),
        Field("started_at", "start_time", local_time),
        Field("ended_at", "end_time", local_time),
        Field("duration_s", "duration", duration, "Connected time"),
        Field("answered", "result", Converter("connected or not", _answered, {"type": "boolean"})),
        Field("result", "result", text),
        Field("hangup.cause", "hangup_cause", text),
        Field("hangup.code", "hangup_cause", q850_code),
        *coded("hangup.by", "hangup.disposition", "hangup_disposition", words(DISPOSITION), text),
        Field("recording_url", "record_url", text),
        Field("dtmf", "ivr_result", text),
        Field("price.amount", "customer_price", money),
        Field("price.not_connected", "basic_price", money, "Base charge when not connected"),
        Field("billing.seconds", "second", duration),
        Field("billing.cycle_s", "cycle", duration),
        Field("billing.cycles", "size", integer),
        Field("ext", "ext", text),
    ),
)
