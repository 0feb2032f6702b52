"""NXLink AI Agent: call record and task status (protocol.md, sections 9 and 10).

Only parts of both pages were available. The lists of ``callStatus`` and ``callResult`` are unknown, so their codes are
passed on unchanged. The name ``taskStatus`` for a task's status is inferred from "AI Agent Task List".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks.callback import Classify, one_item
from gateway.callbacks.event_schema import EventSchema, VendorPage
from gateway.callbacks.fields import (
    Scope,
    code,
    duration,
    flag,
    identifier,
    is_time,
    seconds,
    text,
    words,
)
from gateway.callbacks.hangups import OUTCOME_LINE, settle_record
from gateway.callbacks.payload import Payload
from gateway.callbacks.phones import uncertain
from gateway.callbacks.plan import Field, coded, phone_number
from gateway.callbacks.vocabulary import TASK_STATUS

#: "AI Agent Task List".
_TASK_STATUS: Final = {
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


CALL: Final = EventSchema(
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

TASK: Final = EventSchema(
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
        *coded("status", "status_code", "taskStatus", words(_TASK_STATUS, TASK_STATUS)),
        Field("ext", "other", text),
    ),
)


def classify_by_content(declared: EventSchema) -> Classify:
    """Return a classification by the first present field: of a call, of a task, or a call's contact, else ``declared``.

    Both kinds arrive at one URL if only the console's address is configured.

    Args:
        declared: schema of the path.
    """

    def select(payload: Payload) -> EventSchema:
        if payload.has("callId"):
            return CALL
        if payload.has("taskStatus") or payload.has("taskName"):
            return TASK
        return CALL if payload.has("contactId") else declared

    return one_item(select)
