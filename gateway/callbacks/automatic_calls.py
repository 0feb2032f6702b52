"""Automatic calls, and their orders and tasks: NXLink AI Agent and Callbot (protocol.md, sections 9 to 13).

AI Agent: only parts of both pages were available. The lists of ``callStatus`` and ``callResult`` are unknown, so their
codes are passed on unchanged. The name ``taskStatus`` for a task's status is inferred from "AI Agent Task List".

Callbot: ``callbackType`` has different meanings on different pages and is ignored: ``taskStat`` or ``taskStatus`` means
a task; otherwise the item is a call, or an order on the path of orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks.callback import Classify, EventSchema, VendorPage, one_item
from gateway.callbacks.field_mapping import Field, coded, objects, phone_number
from gateway.callbacks.fields import (
    Scope,
    code,
    duration,
    flag,
    identifier,
    integer,
    is_time,
    money,
    seconds,
    text,
    words,
    written,
)
from gateway.callbacks.hangups import OUTCOME_LINE, hangup, settle_record
from gateway.callbacks.payload import Payload
from gateway.callbacks.phones import uncertain
from gateway.callbacks.vocabulary import TASK_STATUS

#: "AI Agent Task List".
_AI_AGENT_TASK_STATUS: Final = {
    "1": "waiting",
    "2": "running",
    "3": "completed",
    "4": "failed",
    "5": "paused",
    "6": "paused_no_balance",
}


def _real_number(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set ``to`` from ``realPhone``, which has the country code, if present; ``calleePhone`` is a national number."""
    if "to_real" in data:
        data["to"] = data["to_real"]
        data.pop("to_national", None)
        if "to_real_national" in data:
            data["to_national"] = True


AI_AGENT_CALL: Final = EventSchema(
    "nxcloud.ai-agent.call",
    "call.event",
    "AI Agent call record",
    page=VendorPage("AI Agent Task ‐ Call Record Callback", "9", "partial"),
    required="call_id",
    time=("ended_at", "answered_at", "started_at", "updated_at"),
    constants={"channel": "voice", "product": "ai-agent-call", "state": "ended", "direction": "outbound"},
    post_process=(_real_number, settle_record),
    fields=(
        Field("call_id", "callId", identifier),
        Field("task_id", "taskId", identifier, "The vendor's task id"),
        Field("external_task_id", "userTaskId", identifier, "The customer's task id"),
        Field("contact_id", "contactId", identifier),
        Field("agent.id", "autoFlowId", identifier, "The AI Agent"),
        *phone_number("from", "callerPhone", read=uncertain),
        *phone_number("to", "calleePhone", "`realPhone` where it is there, with its country code", uncertain),
        *phone_number("to_real", "realPhone"),
        Field("status_code", "callStatus", code, "The vendor's list is not known"),
        Field("result_code", "callResult", code, "The vendor's list is not known"),
        Field("first_of_contact", "orderHead", flag),
        Field("last_of_contact", "orderTail", flag),
        Field("created_at", "createTs", seconds),
        Field("updated_at", "opTs", seconds),
        Field("started_at", "callStart", seconds),
        Field("answered_at", "callAnswer", seconds),
        Field("ended_at", "callEnd", seconds),
        Field("answered", "callAnswer", is_time, "Whether it names the time of an answer"),
        Field("ring_duration_s", "callRingTime", duration),
        Field("ext", "other", text),
        OUTCOME_LINE,
    ),
)

AI_AGENT_TASK: Final = EventSchema(
    "nxcloud.ai-agent.task",
    "task.status",
    "AI Agent task status",
    page=VendorPage("AI Agent Task Callback", "10", "partial"),
    required="task_id",
    constants={"product": "ai-agent-task"},
    fields=(
        Field("task_id", "taskId", identifier, "The vendor's task id"),
        Field("external_task_id", "userTaskId", identifier, "The customer's task id"),
        Field("name", "taskName", text),
        Field("agent.id", "autoFlowId", identifier, "The AI Agent"),
        Field("agent.name", "autoFlowName", text),
        *coded("status", "status_code", "taskStatus", words(_AI_AGENT_TASK_STATUS, TASK_STATUS)),
        Field("ext", "other", text),
    ),
)


def classify_ai_agent(declared: EventSchema) -> Classify:
    """Return a classification by the first present field: of a call, of a task, or a call's contact, else ``declared``.

    Both kinds arrive at one URL if only the console's address is configured.

    Args:
        declared: schema of the path.
    """

    def select(payload: Payload) -> EventSchema:
        if payload.has("callId"):
            return AI_AGENT_CALL
        if payload.has("taskStatus") or payload.has("taskName"):
            return AI_AGENT_TASK
        return AI_AGENT_CALL if payload.has("contactId") else declared

    return one_item(select)


#: "Callbot API taskList". The end of the page's table is unknown.
_CALLBOT_TASK_STATUS: Final = {"1": "waiting", "2": "running", "3": "completed", "4": "failed", "5": "paused"}

_IDS: Final = (
    Field("order_id", "orderID", identifier),
    Field("task_id", "taskID", identifier, "The vendor's task id"),
    Field("external_task_id", "userTaskID", identifier, "The customer's task id"),
    Field("scene_id", "sceneID", identifier),
)

_CALL_FIELDS: Final = (
    Field("call_id", "callInfoDetail.callID", identifier),
    *_IDS,
    *phone_number("from", "callInfoDetail.callingNumber", read=uncertain),
    *phone_number("to", "userPhone", read=uncertain),
    Field("to_name", "userName", text),
    Field("status_code", "callInfoDetail.callStatus", code, "The vendor's list is not known"),
    Field("started_at", "callInfoDetail.callStartTs", seconds),
    Field("answered_at", "callInfoDetail.callAnswerTs", seconds),
    Field("ended_at", "callInfoDetail.callEndTs", seconds),
    Field("answered", "callInfoDetail.callAnswerTs", is_time, "Whether it names the time of an answer"),
    Field("duration_s", "callInfoDetail.callDuration", duration),
    Field("recording_url", "callInfoDetail.callAudioUrl", text),
    *hangup("callInfoDetail.hangupCause", sip="callInfoDetail.termSipCode"),
    OUTCOME_LINE,
    Field("line_address", "callInfoDetail.lineAddress", text),
    Field(
        "intents",
        "callInfoDetail.intents",
        objects(
            Field("id", "intentID", identifier, "Id of the intent"),
            Field("tag", "intentTag", text, "Tag of the intent"),
            Field("name", "intentName", text, "Name of the intent"),
            Field("level", "intentLevel", integer, "Level of the intent"),
        ),
    ),
    Field(
        "sms",
        "callInfoDetail.sms",
        objects(
            Field("message_id", "sysMessageID", identifier),
            Field("text", "smsContent", written, "Text of the message"),
            Field("sent_at", "smsSendTs", seconds),
        ),
    ),
    Field("agent.name", "callInfoDetail.agent.agentName", text),
    Field("agent.group", "callInfoDetail.agent.agentGroup", text),
    Field("agent.label", "callInfoDetail.agent.agentLabel", text),
    Field("agent.status_code", "callInfoDetail.agent.agentCallStatus", code, "The vendor's list is not known"),
    Field("agent.elapsed_s", "callInfoDetail.agent.agentCallElapsed", duration),
    Field("agent.started_at", "callInfoDetail.agent.manualCallStart", seconds),
    Field("agent.answered_at", "callInfoDetail.agent.manualCallAnswer", seconds),
    Field("agent.ended_at", "callInfoDetail.agent.manualCallEnd", seconds),
    Field("agent.hangup_by_code", "callInfoDetail.agent.manualHangupBy", code, "The vendor's list is not known"),
    Field(
        "params",
        "callInfoDetail.params",
        objects(Field("name", "name", text, "Name of the parameter"), Field("value", "value", written, "Its value")),
    ),
    Field("order_finished", "finish", flag),
    Field("ext", "other", text),
)

CALLBOT_CALL: Final = EventSchema(
    "nxcloud.callbot.call",
    "call.event",
    "Callbot call",
    page=VendorPage("Callbot API callCallback", "11", "partial"),
    required="call_id",
    time=("ended_at", "answered_at", "started_at"),
    constants={"channel": "voice", "product": "callbot-call", "state": "ended", "direction": "outbound"},
    known=("callbackType",),
    post_process=(settle_record,),
    fields=_CALL_FIELDS,
)

CALLBOT_ORDER: Final = EventSchema(
    "nxcloud.callbot.order",
    "order.status",
    "Callbot order",
    page=VendorPage("Callbot API orderCallback", "12", "partial"),
    required="order_id",
    time=("ended_at", "answered_at", "started_at"),
    # Its last call is also pushed by call: a separate topic prevents that sums over calls count it twice.
    constants={
        "channel": "voice",
        "product": "callbot-order",
        "state": "ended",
        "direction": "outbound",
        "summary_of": "nxcloud.callbot.call",
    },
    known=("callbackType",),
    post_process=(settle_record,),
    fields=_CALL_FIELDS,
)

CALLBOT_TASK: Final = EventSchema(
    "nxcloud.callbot.task",
    "task.status",
    "Callbot task status",
    page=VendorPage("Callbot API taskCallback", "13", "partial"),
    required="task_id",
    constants={"product": "callbot-task"},
    known=("callbackType",),
    fields=(
        *_IDS[1:],
        *coded("status", "status_code", "taskStatus", words(_CALLBOT_TASK_STATUS, TASK_STATUS)),
        Field("counters.total_orders", "taskStat.totalOrderCount", integer),
        Field("counters.finished_orders", "taskStat.finishOrderCount", integer),
        Field("counters.answered_orders", "taskStat.answerOrderCount", integer),
        Field("counters.finish_rate", "taskStat.finishRate", money, "Finished of all orders, 0 to 1"),
        Field("counters.total_calls", "taskStat.totalCall", integer),
        Field("counters.answered_calls", "taskStat.totalAnswerCall", integer),
        Field("counters.answer_rate", "taskStat.answerRate", money, "Answered of all calls, 0 to 1"),
        Field("created_at", "createTs", seconds),
        Field("ext", "other", text),
    ),
)


def classify_callbot(calls: EventSchema) -> Classify:
    """Return a classification that selects a task by its fields, and otherwise ``calls``, the schema of the path."""

    def select(payload: Payload) -> EventSchema:
        if payload.has("callInfoDetail"):
            return CALLBOT_CALL if calls is CALLBOT_TASK else calls
        return CALLBOT_TASK if payload.has("taskStat") or payload.has("taskStatus") else calls

    return one_item(select)
