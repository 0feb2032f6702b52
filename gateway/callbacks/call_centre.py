"""Call records and live events of the call-centre products (protocol.md, sections 5 to 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks.call_records import tell_answered
from gateway.callbacks.fields import (
    Converter,
    Scope,
    duration,
    flag,
    identifier,
    integer,
    is_set,
    micros,
    millis,
    money,
    phone,
    seconds,
    text,
    words,
    written,
)
from gateway.callbacks.plan import Field, coded
from gateway.callbacks.shape import Shape, in_turn
from gateway.callbacks.voice import prefixed, q850_code

DIRECTION: Final = {"0": "inbound", "1": "outbound", "2": "outbound"}
_STATE_TIME: Final = {"ringing": "started_at", "created": "started_at", "answered": "answered_at", "ended": "ended_at"}


def _time_of_state(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """A live event has one time: that of the state it tells."""
    name = _STATE_TIME.get(data.get("state", ""))
    if name is not None and "at" in data:
        data[name] = data["at"]


WEBCALL_CDR: Final = Shape(
    "nxcloud.webcall.cdr",
    "call.event",
    "WebCall call detail record",
    page="WebCall CDR Webbook",
    section="5",
    certainty="confirmed",
    required="call_id",
    key=("call_id",),
    time=("ended_at", "answered_at", "started_at"),
    constants={"product": "webcall-cdr", "state": "ended"},
    known=("code",),
    finish=in_turn(prefixed("phone", "code"), tell_answered),
    fields=(
        Field("call_id", "sessionid", identifier),
        Field("order_id", "orderid", identifier, "As passed when the call was started"),
        *coded("direction", "direction_code", "direction", words({"0": "inbound", "1": "outbound"}), integer),
        Field("from", "show_phone", phone, "Displayed number"),
        Field("to", ("phone", "effective_called_number"), phone),
        Field("to_formatted", "effective_called_number", text, "Callee after formatting"),
        Field("agent.name", "username", text),
        Field("agent.nickname", "mobile_name", text),
        Field("agent.sip_id", "sipid", identifier),
        Field("started_at", "start_time", seconds),
        Field("answered_at", "answer_time", seconds),
        Field("ended_at", "end_time", seconds),
        Field("answered", "answer_time", is_set, "Whether it names the time of an answer"),
        Field("duration_s", "duration", duration),
        Field("hangup.cause", "hangup_cause", text),
        Field("hangup.code", "hangup_cause", q850_code),
        Field("recorded", "record", flag),
        Field("recording_url", "record_url", text, "Answers with a redirect to the file"),
    ),
)

PREDICTIVE: Final = Shape(
    "nxcloud.predictive.dial",
    "call.event",
    "Predictive dial event",
    page="Pre-test Outbound Call Receipt Callback",
    section="6",
    certainty="confirmed",
    # Agent-ready events have no uuid: the agent is what they are about.
    required=("call_id", "agent.id", "agent.sip_id", "queue"),
    key=("call_id", "agent.id", "agent.sip_id", "queue"),
    time=("at",),
    constants={"product": "predictive-dial", "direction": "outbound"},
    finish=_time_of_state,
    fields=(
        Field("call_id", "uuid", identifier),
        *coded("leg", "leg_code", "type", words({"1": "agent", "2": "call"}), integer),
        *coded(
            "state",
            "state_code",
            "state",
            words({"0": "agent_ended", "1": "created", "2": "agent_waiting", "3": "answered", "4": "ended"}),
            integer,
        ),
        Field("to", "callphone", phone),
        Field("queue", "callid", identifier, "Access number of the queue"),
        Field("agent.id", "agentid", identifier),
        Field("agent.sip_id", "sipid", identifier),
        Field("agent.name", "username", text),
        Field("info", "info", text, "The vendor's text for the state; its wording varies"),
        Field("at", "time", micros),
        Field("started_at", "", micros, "Where the state says so"),
        Field("answered_at", "", micros, "Where the state says so"),
        Field("ended_at", "", micros, "Where the state says so"),
    ),
)

CALL_STATUS: Final = Shape(
    "nxcloud.call.status",
    "call.event",
    "Call status push V1.0",
    page="Call Status Callback Push Interface (V1.0)",
    section="7",
    certainty="confirmed",
    required="call_id",
    key=("call_id",),
    time=("at",),
    constants={"product": "call-status"},
    finish=_time_of_state,
    fields=(
        Field("call_id", "sessionid", identifier),
        *coded(
            "state",
            "state_code",
            "state",
            words({"1": "ringing", "2": "answered", "3": "in_call", "4": "ended"}),
            integer,
        ),
        Field("info", "info", text),
        Field("at", "time", seconds),
        Field("started_at", "", seconds, "Where the state says so"),
        Field("answered_at", "", seconds, "Where the state says so"),
        Field("ended_at", "", seconds, "Where the state says so"),
    ),
)

HANGUP_BY: Final = {"0": "agent", "1": "user", "2": "unknown"}

#: Callbot sends a list of intents with ids and tags; here there is the name of one.
_INTENT: Final = Converter(
    "list of intents",
    lambda value, scope: [{"name": written(value)}],
    {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
)

NXLINK_CALL: Final = Shape(
    "nxcloud.nxlink.call",
    "call.event",
    "NXLink call record",
    page="NXCC API Webhook",
    section="8",
    certainty="confirmed",
    required="call_id",
    key=("call_id",),
    time=("ended_at", "answered_at", "started_at"),
    constants={"product": "nxlink-call", "state": "ended"},
    finish=tell_answered,
    fields=(
        Field("call_id", "callId", identifier),
        Field("order_id", "orderId", identifier),
        Field("task_id", "taskId", identifier, "Of automatic dialling"),
        Field("direction", "direction", words(DIRECTION), "Automatic dialling (2) is outbound"),
        Field("direction_code", "direction", integer, "0 inbound, 1 outbound, 2 automatic dialling"),
        Field("from", "caller", phone),
        Field("to", "callee", phone),
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
        *coded("hangup.by", "hangup.by_code", "hangupBy", words(HANGUP_BY), integer),
        Field("hangup.code", "hangupCode", integer, "The vendor's own code"),
        Field("hangup.cause", "hangupReason", text),
        Field("dtmf", "dtmfKeys", text, "Keys, comma separated"),
        Field("intents", "intent", _INTENT, "One, by its name"),
        Field("recording_url", "recordUrl", text),
        Field("voicemail_url", "leaveMsgUrl", text),
        Field("price.amount", "totalCustomerPrice", money),
        Field("ext", "other", text),
    ),
)
