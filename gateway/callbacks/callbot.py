"""Callbot: by call, by order, task status (protocol.md, sections 11 to 13).

``callbackType`` has different meanings on different pages and is ignored: ``taskStat`` or ``taskStatus`` means a task;
otherwise the item is a call, or an order on the path of orders.
"""

from __future__ import annotations

from typing import Final

from gateway.callbacks.callback import Classify, one_item
from gateway.callbacks.event_schema import EventSchema, VendorPage
from gateway.callbacks.fields import (
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
from gateway.callbacks.plan import Field, coded, objects, phone_number
from gateway.callbacks.vocabulary import TASK_STATUS

#: "Callbot API taskList". The end of the page's table is unknown.
_TASK_STATUS: Final = {"1": "waiting", "2": "running", "3": "completed", "4": "failed", "5": "paused"}

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

CALL: Final = EventSchema(
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

ORDER: Final = EventSchema(
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

TASK: Final = EventSchema(
    "nxcloud.callbot.task",
    "task.status",
    "Callbot task status",
    page=VendorPage("Callbot API taskCallback", "13", "partial"),
    required="task_id",
    constants={"product": "callbot-task"},
    known=("callbackType",),
    fields=(
        *_IDS[1:],
        *coded("status", "status_code", "taskStatus", words(_TASK_STATUS, TASK_STATUS)),
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


def classify_by_content(calls: EventSchema) -> Classify:
    """Return a classification that selects a task by its fields, and otherwise ``calls``, the schema of the path."""

    def select(payload: Payload) -> EventSchema:
        if payload.has("callInfoDetail"):
            return CALL if calls is TASK else calls
        return TASK if payload.has("taskStat") or payload.has("taskStatus") else calls

    return one_item(select)
