"""Number check, PNS (privacy numbers), OTA one-click login (protocol.md, sections 25 to 28)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from gateway.callbacks import phones
from gateway.callbacks.callback import EventSchema, VendorPage
from gateway.callbacks.field_mapping import Field, coded, objects, phone_number
from gateway.callbacks.fields import (
    Scope,
    code,
    duration,
    facts,
    identifier,
    is_time,
    local_time,
    money,
    seconds,
    text,
    unchanged,
    words,
)
from gateway.callbacks.hangups import OUTCOME_LINE, hangup, settle_leg, settle_record
from gateway.callbacks.jsontext import as_text
from gateway.callbacks.payload import Payload
from gateway.callbacks.phones import uncertain
from gateway.callbacks.vocabulary import CALL_STATUS, HANGUP_BY, NUMBER_TYPE, VERIFY_STATUS, YES_NO
from gateway.callbacks.vocabulary import CHECK_STATUS as CHECK_WORDS

#: ``code`` of section 25, and the failure on the newer page.
CHECK_STATUS: Final = {
    "0": "ok",
    "103": "internal_error",
    "108": "bad_value",
    "112": "backend_error",
    "114": "bad_number_format",
    "120": "not_mobile",
    "121": "unknown",
    "122": "not_found",
    "266": "not_charged",
}
#: ``numberType``: codes on the older page, words on the newer one.
NUMBER_TYPES: Final = {
    "0": "other",
    "1": "fixed",
    "2": "mobile",
    "3": "toll_free",
    "4": "voip",
    "5": "organisation",
    "6": "special_private",
    "7": "voicemail",
    "8": "special_restricted",
    "mobile": "mobile",
    "others": "other",
    "invalid": "invalid",
}
_YES_NO: Final = words(unchanged("yes no unknown"), YES_NO)


def _with_country(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Add the country code of the answer to the checked number."""
    code = data.get("basic", {}).get("country_code")
    if code and "phone_national" in data:
        number = phones.with_country(as_text(source["phone"]), code)
        data["phone"] = number.text
        if not number.is_national:
            del data["phone_national"]


#: Two layouts. The older has ``messageId`` and parts ``basic``, ``live`` and ``dial`` in ``data``; the newer one
#: (page "Number Check API callback" in Chinese, 12 June 2024) has ``requestId`` and says the same in ``data`` itself.
#: Only a revision of 25 September 2023 documents its call version.
NUMBER_CHECK: Final = EventSchema(
    "nxcloud.number.check",
    "number.check",
    "Number check result",
    page=VendorPage("Number Check API callback", "25"),
    required="message_id",
    constants={"product": "number-check"},
    post_process=(_with_country,),
    fields=(
        Field("message_id", ("messageId", "requestId"), identifier, "As returned by the submission"),
        Field("batch_id", "batchNo", identifier),
        *phone_number("phone", "phone", read=uncertain),
        *coded("status", "status_code", "code", words(CHECK_STATUS, CHECK_WORDS)),
        Field("result", ("msg", "message"), text),
        Field("basic.valid", "data.basic.preCheck", facts({"YES": True, "NO": False})),
        Field("basic.region", ("data.basic.regionCode", "data.country"), text),
        Field("basic.country_code", "data.basic.countryCode", code),
        Field("basic.national_number", "data.basic.nationalNumber", identifier),
        *phone_number("basic.number", "data.basic.standNumber"),
        Field("basic.number_type", ("data.basic.numberType", "data.numberType"), words(NUMBER_TYPES, NUMBER_TYPE)),
        Field("basic.number_type_code", "data.basic.numberType", code, "The newer layout has words"),
        Field("basic.carrier", ("data.basic.carrier", "data.operator"), text),
        Field("live.valid", "data.live.validity", _YES_NO),
        Field("live.reachable", "data.live.reachable", _YES_NO),
        Field("live.roaming", "data.live.roaming", _YES_NO),
        Field("live.active", "data.active", _YES_NO),
        Field("live.ported", "data.ported", _YES_NO, "To another carrier"),
        Field("live.mcc", "data.mcc", code, "Mobile country code"),
        Field("live.mnc", "data.mnc", code, "Mobile network code"),
        Field("dial.early", ("data.dial.early", "data.ring"), _YES_NO, "Whether it rang"),
        Field("dial.answered", ("data.dial.answered", "data.answer"), _YES_NO),
        Field(
            "dial.response",
            ("data.dial.response", "data.response"),
            text,
            "Such as bell, busy, power_off, voicemail",
        ),
        Field("price.total", "cost.price", money),
        Field("price.currency", "cost.currency", code),
    ),
)

_PNS_STATUS: Final = {"0": "unknown", "1": "ended", "2": "ended_abnormally"}

#: A leg of the newer version; the meanings of its codes are unknown, so they are passed on as codes.
_LEG: Final = objects(
    Field("leg_code", "callType", code),
    *phone_number("from", "caller", read=uncertain),
    *phone_number("to", "callee", read=uncertain),
    Field("started_at", "callStartAt", seconds),
    Field("ringing_at", "callRingAt", seconds),
    Field("answered_at", "callAnswerAt", seconds),
    Field("ended_at", "callFinishAt", seconds),
    Field("duration_s", "duration", duration),
    Field("ring_duration_s", "ringDuration", duration),
    Field("recording_url", "callRecordFile", text),
    Field("hangup.by_code", "hangupType", code),
    *hangup("hangupCause", q850="hangupCode"),
    Field("uuid", "uuid", identifier, "Id of the leg"),
    Field("status_code", "fsCallStatus", code),
    Field("status_text", "fsCallStatusMsg", text),
    Field("vos_call_id", "vosCallId", identifier),
    Field("extension", "allExtension", text),
)


def _from_legs(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Derive the call from its legs, which have the times in the newer version: one leg to each phone or the platform.

    The page does not define the call by its legs; this function does. The caller's leg is answered first, often by the
    platform, while the other phone still rings. The conversation begins when every leg was answered, so the call was
    answered at the latest of these times. Its duration and recording are those of the leg that was answered last, or of
    the one before it if that leg has none. A call with an unanswered leg has the duration of this leg and no answer. In
    each case the call lasts from the first start to the last end. A single leg is the call.

    The hang-up is the common one of all legs, or that of the only unanswered leg. The page does not define which leg
    ended the call, so no leg is selected by its position.
    """
    legs = data.get("legs")
    if not legs:
        return
    unanswered = [leg for leg in legs if "answered_at" not in leg]
    # Of legs answered in the same second, the later in the list: the examples list them in the order of dialling.
    telling = unanswered or sorted(legs, key=itemgetter("answered_at"))[::-1]
    for leg in legs:
        if "hangup" in leg:
            settle_leg(leg["hangup"], scope)
    told = {
        "started_at": min((leg["started_at"] for leg in legs if "started_at" in leg), default=None),
        "answered_at": None if unanswered else telling[0]["answered_at"],
        "ended_at": max((leg["ended_at"] for leg in legs if "ended_at" in leg), default=None),
        "duration_s": _first(telling, "duration_s"),
        "recording_url": _first(telling, "recording_url"),
        "hangup": _agreed(unanswered or legs),
        "answered": not unanswered,
    }
    for name, value in told.items():
        if value is not None:
            data.setdefault(name, value)


def _first(legs: Sequence[Mapping[str, Any]], name: str) -> Any:
    return next((leg[name] for leg in legs if name in leg), None)


def _agreed(legs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the hang-up that all legs have in common, without the party that hung up, which is specific to a leg."""
    if len(legs) == 1:
        return {name: value for name, value in legs[0].get("hangup", {}).items() if name != "by_code"} or None
    said = [{name: value for name, value in leg.get("hangup", {}).items() if name != "by_code"} for leg in legs]
    return said[0] if said[0] and all(one == said[0] for one in said) else None


PNS_CALL: Final = EventSchema(
    "nxcloud.pns.call",
    "call.event",
    "Privacy number call record",
    page=VendorPage("PNS API webhook", "26"),
    required="call_id",
    time=("ended_at", "answered_at", "started_at"),
    # The caller dials the privacy number, which the platform connects to the callee.
    constants={"channel": "voice", "product": "pns", "state": "ended", "direction": "inbound"},
    known=("businessId", "pnsType", "id"),
    post_process=(_from_legs, settle_record),
    fields=(
        Field("call_id", ("callId", "id"), identifier),
        Field("record_id", "id", identifier, "Older version"),
        Field("business_id", "businessId", identifier),
        Field("bind_id", "bindId", identifier),
        Field("external_bind_id", "customerBindId", identifier, "The customer's id of the binding"),
        *phone_number("from", "caller", read=uncertain),
        *phone_number("to", "callee", read=uncertain),
        *phone_number("did", "did", read=uncertain),
        *phone_number("did_x", "didX", read=uncertain),
        *phone_number("did_y", "didY", read=uncertain),
        Field("extension", "extensionX", identifier),
        Field("extension_from", "extensionCaller", identifier),
        Field("extension_to", "extensionCallee", identifier),
        Field("binding_type", "pnsType", text, "Such as axeyb"),
        *coded("status", "status_code", "callStatus", words(_PNS_STATUS, CALL_STATUS)),
        Field("status_text", "callStatusMsg", text),
        Field("started_at", "startAt", seconds),
        Field("answered_at", "answerAt", seconds),
        Field("ended_at", "hangupAt", seconds),
        Field("answered", "answerAt", is_time, "Whether it names the time of an answer, and all of its legs do"),
        Field("duration_s", "duration", duration),
        *hangup("hangupCause", q850="hangupCode"),
        *coded("hangup.by", "hangup.by_code", "hangup", words({"0": "caller", "1": "callee"}, HANGUP_BY)),
        OUTCOME_LINE,
        Field("recording_url", "recordFile", text),
        Field("legs", "legList", _LEG, "Newer version"),
        Field("ext", "ext", text),
    ),
)

PNS_ERROR: Final = EventSchema(
    "nxcloud.pns.error",
    "call.event",
    "Privacy number error: a call without a binding",
    page=VendorPage("PNS API Error Webhook", "27"),
    required="request_id",
    time=("at",),
    constants={
        "channel": "voice",
        "product": "pns",
        "state": "ended",
        "outcome": "failed",
        "direction": "inbound",
        "answered": False,
    },
    fields=(
        Field("request_id", "requestId", identifier),
        Field("error.code", "code", code, "10013: the binding does not exist"),
        Field("error.title", "msg", text),
        Field("action", "data.action", text),
        *phone_number("from", "data.requestParams.caller", read=uncertain),
        *phone_number("to", "data.requestParams.did", read=uncertain),
        Field("at", "data.occurrenceTime", local_time),
    ),
)


def pns_schema(payload: Payload) -> EventSchema:
    """Select call or error: an error has a request and no call."""
    is_call = payload.has("callId") or payload.has("callStatus") or payload.has("legList")
    return PNS_ERROR if payload.has("requestId") and not is_call else PNS_CALL


_VERIFY_STATUS: Final = unchanged("success pending mismatch failure unknown")

OTA: Final = EventSchema(
    "nxcloud.ota.status",
    "verify.status",
    "OTA one-click login verification",
    page=VendorPage("OTA API callback", "28"),
    required="request_id",
    time=("at",),
    constants={"product": "ota"},
    fields=(
        Field("request_id", "requestId", identifier),
        *phone_number("phone", "phone", read=uncertain),
        *coded("status", "status_code", "status", words(_VERIFY_STATUS, VERIFY_STATUS)),
        Field("verified", "status", facts({"SUCCESS": True, "MISMATCH": False, "FAILURE": False})),
        Field("final", "status", facts({"SUCCESS": True, "MISMATCH": True, "FAILURE": True, "PENDING": False})),
        Field("at", ("drTime", "drtime"), local_time),
    ),
)
