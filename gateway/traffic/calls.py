"""Calls: sections 5 to 10, 26 and 27 of protocol.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from gateway.traffic.random_values import Draw, local, micros, millis, unix
from gateway.traffic.request import JSON, TrafficRequest

_CAUSES: Final = ((16, "NORMAL_CLEARING"), (17, "USER_BUSY"), (19, "NO_ANSWER"), (487, "ORIGINATOR_CANCEL"))
_DIAL_WORDS: Final = {1: "Phone calling", 3: "Phone answer", 4: "Phone hungup"}
_STATE_WORDS: Final = {1: "start calling", 2: "connected", 3: "in call", 4: "hung up"}


def webcall_cdr(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield records of agents' calls; numbers are JSON numbers or strings, because the pages differ."""
    while True:
        started = draw.seconds_ago(600)
        answered = draw.later(started, 20)
        duration, direction = draw.number(0, 300), draw.number(0, 1)
        is_text = draw.chance(0.2)
        session = draw.uuid()
        fields: dict[str, Any] = {
            "sessionid": session,
            "sipid": draw.digits(7),
            "username": draw.phone(),
            "mobile_name": f"desk {draw.number(1, 40)}",
            "orderid": f"ord-{draw.number(1, 99999)}",
            "code": "1",
            "phone": draw.phone(),
            "show_phone": draw.phone(),
            "duration": str(duration) if is_text else duration,
            "direction": str(direction) if is_text else direction,
            "record": 1,
            "record_url": f"https://records.example.com/r/{session[:8]}",
            "start_time": str(unix(started)),
            "answer_time": str(unix(answered)) if duration else "",
            "end_time": str(unix(answered) + duration),
            "hangup_cause": draw.one(_CAUSES)[1],
        }
        if draw.chance(0.5):
            fields["effective_called_number"] = fields["phone"]
        yield _json("webcall-cdr", fields)


def predictive_dial(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield the events of calls, each twice as the platform sends them: for the call and for the agent."""
    while True:
        call, queue, phone = draw.uuid(), draw.digits(6), draw.phone()
        agent = {"sipid": draw.digits(7), "username": f"agent {draw.number(1, 40)}", "agentid": draw.uuid()}
        moment = draw.seconds_ago(120)
        yield _json(
            "predictive-dial",
            {"info": "Seats ready", "time": str(micros(moment)), "callid": queue, "type": 1, "state": 2, **agent},
        )
        for state, word in _DIAL_WORDS.items():
            moment = draw.later(moment, 15)
            event = {"info": word, "time": str(micros(moment)), "callphone": phone, "callid": queue, "uuid": call}
            yield _json("predictive-dial", {**event, "type": 2, "state": state})
            if state == 3:
                yield _json("predictive-dial", {**event, **agent, "type": 1, "state": state})


def call_status(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield four states of each call, with fractional seconds."""
    while True:
        session, moment = draw.uuid(), draw.seconds_ago(120)
        for state, word in _STATE_WORDS.items():
            moment = draw.later(moment, 15)
            yield _json(
                "call-status",
                {"sessionid": session, "state": state, "time": f"{moment.timestamp():.5f}", "info": word},
            )


def nxlink_call(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield call-centre records: milliseconds, SIP addresses, Chinese intents, few fields or all."""
    while True:
        started = draw.seconds_ago(600)
        answered = draw.chance(0.7)
        duration, direction = draw.number(1, 300) if answered else 0, draw.number(0, 2)
        fields: dict[str, Any] = {
            "callId": draw.uuid(),
            "orderId": f"ord-{draw.number(1, 99999)}",
            "direction": direction,
            "caller": draw.often(draw.phone(), "1001@203.0.113.9:5060"),
            "callee": draw.phone(),
            "agentName": draw.often("agent1@example.com", ""),
            "answered": answered,
            "startTime": millis(started),
            "endTime": millis(started) + (12 + duration) * 1000,
            "callDuration": duration,
            "hangupBy": draw.number(0, 2),
            "other": draw.one(("", "x", "row-7")),
        }
        if answered:
            fields["answerTime"] = millis(started) + 12_000
        if direction == 2:
            fields["taskId"] = f"t-{draw.number(1, 50)}"
        if draw.chance(0.5):
            fields |= {
                "agentNickName": draw.person(),
                "callStatus": "Normal termination" if answered else "Missed call",
                "ringTime": millis(started) + 2000,
                "ringDuration": 10,
                "inQueueTime": millis(started),
                "outQueueTime": millis(started) + 1500,
                "queueDuration": 1,
                "hangupCode": draw.one((1001, 1103)),
                "hangupReason": "agent hung up",
                "dtmfKeys": draw.one(("", "1", "1,2,#")),
                "intent": draw.one(("interested", "有意向", "")),
                "recordUrl": f"https://records.example.com/{draw.hex_id()}.wav",
                "leaveMsgUrl": "",
                "totalCustomerPrice": draw.number(1, 900) / 1000,
            }
        yield _json("nxlink-call", fields)


def ai_agent_call(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield a record for each call of an AI agent."""
    while True:
        created = unix(draw.seconds_ago(600))
        yield _json(
            "ai-agent-call",
            {
                "taskId": f"t-{draw.number(1, 50)}",
                "userTaskId": f"EXT-{draw.number(1, 50)}",
                "contactId": f"c-{draw.number(1, 99999)}",
                "other": draw.one(("", "row-7")),
                "autoFlowId": 197,
                "orderHead": draw.number(0, 1),
                "orderTail": draw.number(0, 1),
                "callerPhone": draw.phone(),
                "calleePhone": (callee := draw.phone()),
                "realPhone": callee,
                "callId": f"call-{draw.hex_id()}",
                "callStatus": draw.number(1, 4),
                "callResult": draw.one((1, 3, 17, 21)),
                "createTs": created,
                "opTs": created + 20,
                "callStart": created + 1,
                "callAnswer": created + 8,
                "callEnd": created + 19,
                "callRingTime": 7,
            },
            "nxai",
            "100",
        )


def ai_agent_task(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield the states of tasks in order."""
    while True:
        task = draw.count()
        for status in (1, 2, draw.often(3, draw.one((4, 5, 6)), 0.3)):
            yield _json(
                "ai-agent-task",
                {
                    "taskId": f"t-{draw.hex_id()[:12]}-{task}",
                    "userTaskId": f"EXT-{task}",
                    "other": "batch-7",
                    "autoFlowId": 197,
                    "autoFlowName": "survey",
                    "taskName": draw.one(("January survey", "回访")),
                    "taskStatus": status,
                },
                "nxai",
                "100",
            )


def pns(draw: Draw) -> Iterator[TrafficRequest]:
    """Yield records of privacy numbers: the older flat one, the newer one with legs, and errors."""
    while True:
        yield draw.one((_pns_flat, _pns_legs, _pns_legs, _pns_error))(draw)


def _pns_flat(draw: Draw) -> TrafficRequest:
    started, (code, cause) = unix(draw.seconds_ago(600)), draw.one(_CAUSES)
    return _json(
        "pns",
        {
            "id": draw.number(2**53, 2**62),
            "businessId": "b-1",
            "customerBindId": f"cb-{draw.number(1, 999)}",
            "bindId": f"b-{draw.number(1, 999)}",
            "callId": draw.uuid(),
            "did": "15550100001",
            "caller": draw.phone(),
            "callee": draw.phone(),
            "callStatus": draw.number(0, 2),
            "callStatusMsg": "Call Connected",
            "duration": 53,
            "startAt": started,
            "answerAt": started + 1,
            "hangupAt": started + 54,
            "hangupCause": cause,
            "hangupCode": code,
            "hangup": draw.number(0, 1),
            "recordFile": "",
        },
    )


def _pns_legs(draw: Draw) -> TrafficRequest:
    started, (code, cause) = unix(draw.seconds_ago(600)), draw.one(_CAUSES)
    caller = f"+{draw.phone()}"
    legs = [
        {
            "callType": leg,
            "caller": caller,
            "callee": draw.phone(),
            "callStartAt": started,
            "callRingAt": draw.often(started, 0),
            "callAnswerAt": started + leg,
            "callFinishAt": started + 54,
            "duration": 54 - leg,
            "callRecordFile": "",
            "hangupType": 0,
            "hangupCause": cause,
            "hangupCode": code,
            "uuid": draw.uuid(),
            "ringDuration": 1,
            "fsCallStatus": 1,
            "fsCallStatusMsg": "Call Connected",
            "vosCallId": f"v-{draw.digits(6)}",
            "allExtension": "",
        }
        for leg in range(1, draw.number(1, 2) + 1)
    ]
    return _json(
        "pns",
        {
            "bindId": f"b-{draw.number(1, 999)}",
            "customerBindId": f"cb-{draw.number(1, 999)}",
            "callId": draw.uuid(),
            "caller": caller,
            "did": "15550100001",
            "didX": "15550100001",
            "didY": "15550100002",
            "extensionX": "0193",
            "callee": draw.phone(),
            "pnsType": "axeyb",
            "callStatus": str(draw.number(0, 2)),
            "callStatusMsg": "Call Connected",
            "ext": "x",
            "legList": legs,
        },
    )


def _pns_error(draw: Draw) -> TrafficRequest:
    return _json(
        "pns",
        {
            "code": 10013,
            "msg": "binding not exist",
            "requestId": draw.digits(19),
            "data": {
                "action": "queryAXB",
                "requestParams": {"caller": draw.phone(), "did": "15550100001"},
                "occurrenceTime": local(draw.seconds_ago(60)),
            },
        },
    )


def _json(callback: str, fields: dict[str, Any], action: str = "", biz_type: str = "") -> TrafficRequest:
    return TrafficRequest(callback, b"", JSON, orjson.dumps(fields), action, biz_type)
