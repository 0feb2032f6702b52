"""Calls: voice receipts, and records and live events of the call-centre products (protocol.md, sections 4 to 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from gateway.callbacks import money as _money
from gateway.callbacks import phones
from gateway.callbacks.callback import EventSchema, PostProcess, VendorPage
from gateway.callbacks.field_mapping import Field, coded, phone_number
from gateway.callbacks.fields import (
    NULL_WORDS,
    Converter,
    Scope,
    duration,
    flag,
    identifier,
    integer,
    is_time,
    local_time,
    micros,
    millis,
    money,
    seconds,
    text,
    words,
)
from gateway.callbacks.hangups import DIRECTION_LINE, OUTCOME_LINE, hangup, settle, settle_record
from gateway.callbacks.jsontext import as_text
from gateway.callbacks.phones import uncertain
from gateway.callbacks.vocabulary import CALL_STATE, DIRECTION, HANGUP_BY, LEG, PURPOSE


def _answered(value: Any, scope: Scope) -> bool | None:
    """Return whether the call was answered. ``result`` is a text: English on one page, Chinese on its original."""
    said = as_text(value).strip().lower()
    if said in _ANSWERED:
        return _ANSWERED[said]
    if said in NULL_WORDS:
        return None
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
#: The callback's page defines 1 as "verification code or notification"; the query API of the product also has 2.
PURPOSES: Final = {"0": "broadcast", "1": "verification_or_notification", "2": "notification"}


def prefixed(number_field: str, code_field: str, *, is_stated: bool = False) -> PostProcess:
    """Return a ``post_process`` that adds the country code to ``to``, which the vendor sends in a separate field.

    Args:
        number_field: the vendor's name of the number.
        code_field: the vendor's name of the country code.
        is_stated: whether the page states that the number includes its code.
    """

    def post_process(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
        number, code = source.get(number_field), source.get(code_field)
        if number and code and "to" in data:
            try:
                text, prefix = as_text(number), as_text(code)
            except ValueError:  # an object or a list
                scope.note("value", code_field)
                return
            if text in NULL_WORDS:  # `to` is of another field
                return
            read = phones.with_country(text, prefix, is_stated=is_stated)
            data["to"] = read.text
            if read.is_national:
                data["to_national"] = True
            else:
                data.pop("to_national", None)

    return post_process


def _add_total(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Add the total price; the vendor's price is that of one cycle. An unconnected call may have a separate price."""
    if data.get("answered") and "price" in data:
        _money.add_total(data["price"], data.get("billing", {}).get("cycles"))


VOICE_DR: Final = EventSchema(
    "nxcloud.voice.dr",
    "call.event",
    "Voice receipt (broadcast, notification, verification code)",
    page=VendorPage("Voice Receipt Callback", "4"),
    required="call_id",
    time=("ended_at", "started_at"),
    constants={"channel": "voice", "product": "voice-dr", "state": "ended", "direction": "outbound"},
    known=("countryCode",),
    post_process=(prefixed("phone", "countryCode", is_stated=True), settle, _add_total),
    fields=(
        Field("call_id", "messageid", identifier, "As returned by the send call"),
        *coded("purpose", "purpose_code", "voice_type", words(PURPOSES, PURPOSE)),
        *phone_number("from", "show_phone", "Displayed number", phones.uncertain),
        *phone_number("to", "phone"),
        Field("started_at", "start_time", local_time),
        Field("ended_at", "end_time", local_time),
        Field("duration_s", "duration", duration, "Connected time"),
        Field("answered", "result", Converter("connected or not", _answered, {"type": "boolean"})),
        Field("result", "result", text),
        *hangup("hangup_cause"),
        *coded("hangup.by", "hangup.by_code", "hangup_disposition", words(DISPOSITION, HANGUP_BY)),
        Field("recording_url", "record_url", text),
        Field("dtmf", "ivr_result", text),
        Field("price.unit", "customer_price", money, "Of one cycle"),
        Field("price.total", "", money, "Unit price times cycles, of a call that was connected"),
        Field("price.not_connected", "basic_price", money),
        Field("billing.seconds", "second", duration),
        Field("billing.cycle_s", "cycle", duration),
        Field("billing.cycles", "size", integer),
        Field("ext", "ext", text),
        OUTCOME_LINE,
    ),
)


DIRECTIONS: Final = {"0": "inbound", "1": "outbound", "2": "outbound"}
#: Limit between seconds and milliseconds of a queue's duration.
_SURE_SECONDS: Final = 100
_DIAL_STATES: Final = {"0": "agent_ended", "1": "created", "2": "agent_waiting", "3": "answered", "4": "ended"}
_STATE_TIME: Final = {"created": "started_at", "answered": "answered_at", "ended": "ended_at"}


def _time_of_state(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set the time of a live event's state, which is its only time."""
    name = _STATE_TIME.get(data.get("state", ""))
    if name is not None and "at" in data:
        data[name] = data["at"]


WEBCALL_CDR: Final = EventSchema(
    "nxcloud.webcall.cdr",
    "call.event",
    "WebCall call detail record",
    page=VendorPage("WebCall CDR Webbook", "5"),
    required="call_id",
    time=("ended_at", "answered_at", "started_at"),
    constants={"channel": "voice", "product": "webcall-cdr", "state": "ended"},
    known=("code",),
    post_process=(prefixed("phone", "code"), settle_record),
    fields=(
        Field("call_id", "sessionid", identifier),
        Field("order_id", "orderid", identifier, "As passed when the call was started"),
        *coded("direction", "direction_code", "direction", words({"0": "inbound", "1": "outbound"}, DIRECTION)),
        *phone_number("from", "show_phone", "Displayed number", uncertain),
        *phone_number("to", ("phone", "effective_called_number"), read=uncertain),
        Field("to_formatted", "effective_called_number", text, "Callee after formatting"),
        Field("agent.name", "username", text),
        Field("agent.nickname", "mobile_name", text),
        Field("agent.sip_id", "sipid", identifier),
        Field("started_at", "start_time", seconds),
        Field("answered_at", "answer_time", seconds),
        Field("ended_at", "end_time", seconds),
        Field("answered", "answer_time", is_time, "Whether it names the time of an answer"),
        Field("duration_s", "duration", duration),
        *hangup("hangup_cause"),
        OUTCOME_LINE,
        Field("recorded", "record", flag),
        Field("recording_url", "record_url", text, "Answers with a redirect to the file"),
    ),
)

PREDICTIVE: Final = EventSchema(
    "nxcloud.predictive.dial",
    "call.event",
    "Predictive dial event",
    page=VendorPage("Pre-test Outbound Call Receipt Callback", "6"),
    # Agent-ready events have no uuid: their subject is the agent.
    required=("call_id", "agent.id", "agent.sip_id", "queue"),
    time=("at",),
    constants={"channel": "voice", "product": "predictive-dial", "direction": "outbound"},
    post_process=(_time_of_state, settle),
    fields=(
        Field("call_id", "uuid", identifier),
        *coded("leg", "leg_code", "type", words({"1": "agent", "2": "call"}, LEG)),
        *coded("state", "state_code", "state", words(_DIAL_STATES, CALL_STATE)),
        *phone_number("to", "callphone", read=uncertain),
        Field("queue", "callid", identifier, "Access number of the queue"),
        Field("agent.id", "agentid", identifier),
        Field("agent.sip_id", "sipid", identifier),
        Field("agent.name", "username", text),
        Field("info", "info", text, "The vendor's text for the state; its wording varies"),
        Field("at", "time", micros),
        Field("started_at", "", micros, "If the state reports it"),
        Field("answered_at", "", micros, "If the state reports it"),
        Field("ended_at", "", micros, "If the state reports it"),
        OUTCOME_LINE,
    ),
)

CALL_STATUS: Final = EventSchema(
    "nxcloud.call.status",
    "call.event",
    "Call status push V1.0",
    page=VendorPage("Call Status Callback Push Interface (V1.0)", "7"),
    required="call_id",
    time=("at",),
    constants={"channel": "voice", "product": "call-status"},
    post_process=(_time_of_state, settle),
    fields=(
        Field("call_id", "sessionid", identifier),
        *coded(
            "state",
            "state_code",
            "state",
            words({"1": "created", "2": "answered", "3": "in_call", "4": "ended"}, CALL_STATE),
        ),
        Field("info", "info", text),
        Field("at", "time", seconds),
        Field("started_at", "", seconds, "If the state reports it"),
        Field("answered_at", "", seconds, "If the state reports it"),
        Field("ended_at", "", seconds, "If the state reports it"),
        DIRECTION_LINE,
        OUTCOME_LINE,
    ),
)

_HANGUP_BY: Final = {"0": "agent", "1": "customer", "2": "unknown"}

#: Callbot sends a list of intents with ids and tags; this product sends the name of one.
_INTENT: Final = Converter(
    "list of intents",
    lambda value, scope: [{"name": as_text(value)}] if value not in NULL_WORDS else None,
    {
        "type": "array",
        "items": {"type": "object", "properties": {"name": {"type": "string", "description": "Name of the intent"}}},
    },
)


def _queue_seconds(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Convert the queue's duration to seconds, by comparison with the two times of the queue.

    The page's table declares seconds, and its example has milliseconds. Without both times, or if they contradict both
    units, the unit is uncertain. A value below :data:`_SURE_SECONDS` is too small for milliseconds.
    """
    sent = data.get("queue_duration_s")
    if not sent:
        return
    lasted = None
    if "queued_at" in data and "dequeued_at" in data:
        left, entered = (datetime.fromisoformat(data[name]) for name in ("dequeued_at", "queued_at"))
        lasted = (left - entered).total_seconds()
    if lasted is None:
        if sent < _SURE_SECONDS:
            return
    elif abs(sent - lasted) <= 1:
        return
    elif abs(sent / 1000 - lasted) <= 1:
        data["queue_duration_s"] = sent / 1000
        return
    del data["queue_duration_s"]
    scope.note("value", "queueDuration")


NXLINK_CALL: Final = EventSchema(
    "nxcloud.nxlink.call",
    "call.event",
    "NXLink call record",
    page=VendorPage("NXCC API Webhook", "8"),
    required="call_id",
    time=("ended_at", "answered_at", "started_at"),
    constants={"channel": "voice", "product": "nxlink-call", "state": "ended"},
    post_process=(_queue_seconds, settle_record),
    fields=(
        Field("call_id", "callId", identifier),
        Field("order_id", "orderId", identifier),
        Field("task_id", "taskId", identifier, "Of automatic dialling"),
        *coded("direction", "direction_code", "direction", words(DIRECTIONS, DIRECTION)),
        *phone_number("from", "caller", "Or a SIP address", uncertain),
        *phone_number("to", "callee", "Or a SIP address", uncertain),
        Field("agent.name", "agentName", text),
        Field("agent.nickname", "agentNickName", text),
        Field("answered", "answered", flag, "Without this flag: whether it names the time of an answer"),
        Field("status_text", "callStatus", text, "Free text, its language varies"),
        Field("started_at", "startTime", millis),
        Field("ringing_at", "ringTime", millis),
        Field("answered_at", "answerTime", millis),
        Field("ended_at", "endTime", millis),
        Field("queued_at", "inQueueTime", millis),
        Field("dequeued_at", "outQueueTime", millis),
        Field("duration_s", "callDuration", duration),
        Field("ring_duration_s", "ringDuration", duration),
        Field("queue_duration_s", "queueDuration", duration),
        *coded("hangup.by", "hangup.by_code", "hangupBy", words(_HANGUP_BY, HANGUP_BY)),
        *hangup(reason="hangupReason", vendor_code="hangupCode"),
        OUTCOME_LINE,
        Field("dtmf", "dtmfKeys", text, "Keys, comma separated"),
        Field("intents", "intent", _INTENT, "One, by its name"),
        Field("recording_url", "recordUrl", text),
        Field("voicemail_url", "leaveMsgUrl", text),
        Field("price.total", "totalCustomerPrice", money),
        Field("ext", "other", text),
    ),
)
