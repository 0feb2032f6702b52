"""Call records and live events of the call-centre products (protocol.md, sections 5 to 8)."""

from __future__ import annotations

from typing import Final

from gateway.callbacks.fields import duration, flag, identifier, integer, millis, money, phone, text, texts, words
from gateway.callbacks.plan import Field, coded
from gateway.callbacks.shape import Shape

DIRECTION: Final = {"0": "inbound", "1": "outbound", "2": "outbound"}
HANGUP_BY: Final = {"0": "agent", "1": "user", "2": "unknown"}

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
        Field("answered", "answered", flag),
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
        Field("intents", "intent", texts, "Names"),
        Field("recording_url", "recordUrl", text),
        Field("voicemail_url", "leaveMsgUrl", text),
        Field("price.amount", "totalCustomerPrice", money),
        Field("ext", "other", text),
    ),
)
